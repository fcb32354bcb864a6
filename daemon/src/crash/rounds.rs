//! The rounds: start, read again what was acknowledged, load, kill.

use super::dice::Dice;
use super::ledger::{Found, Ledger, Name};
use super::load::Client;
use super::report::{Report, Stage};
use crate::demo::child::{Daemon, Setup};
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::Remote;
use crate::render::progress::Progress;
use crate::replay::identity;
use bettong_wire::MissReason;
use bettong_wire::request::{Level, ListKind};
use bettong_wire::response::ListName;
use futures::future::join_all;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Connections that put and delete at once.
const CONNECTIONS: u64 = 4;
/// The last moment of a kill under load, and of one while the daemon drains.
const LOAD_MAX: Duration = Duration::from_millis(300);
const DRAIN_MAX: Duration = Duration::from_millis(50);
/// Of a hundred rounds, in so many a start is killed before the round, and a drain instead of the load.
const STARTS_IN_100: u64 = 25;
const DRAINS_IN_100: u64 = 15;
/// Rounds whose names are all read again after each restart; of older ones a sample of this size.
const RECENT_ROUNDS: u64 = 2;
const SAMPLE: usize = 60;
/// A daemon that is alive must answer a read within so many attempts.
const READ_ATTEMPTS: u32 = 5;
/// Names of one page of a listing.
const PAGE: u32 = 1000;
/// The namespace of the test.
const NAMESPACE: &str = "crash-test";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    pub setup: Setup,
    pub rounds: u64,
    pub seed: u64,
    pub levels: Vec<Level>,
}

/// One test on one data directory.
pub struct Test {
    plan: Plan,
    dice: Dice,
    ledger: Mutex<Ledger>,
    report: Report,
    /// How long a start takes: kills during a start are drawn within it.
    start: Duration,
}

impl Test {
    pub fn new(plan: Plan) -> Self {
        let dice = Dice::new(plan.seed, 0);
        let report = Report::new(plan.seed);
        Self { plan, dice, ledger: Mutex::default(), report, start: Duration::from_millis(100) }
    }

    /// All rounds, or those up to the first that broke a promise; then, where none did, one reading of everything.
    pub async fn run(mut self) -> Outcome<Report> {
        let mut progress = Progress::new("crash test, rounds", self.plan.rounds);
        for round in 1..=self.plan.rounds {
            if self.dice.below(100) < STARTS_IN_100 {
                self.kill_a_start().await?;
            }
            let (daemon, remote) = self.start().await?;
            self.audit(&remote, round, false).await?;
            self.report.rounds = round;
            if !self.report.held() {
                return Ok(self.finished());
            }
            self.load_and_kill(daemon, round).await?;
            progress.advance(1);
        }
        let (daemon, remote) = self.start().await?;
        self.audit(&remote, self.plan.rounds, true).await?;
        self.strangers(&remote).await?;
        drop(remote);
        daemon.stop()?;
        Ok(self.finished())
    }

    fn finished(mut self) -> Report {
        let ledger = self.ledger.lock();
        (self.report.asked, self.report.acknowledged) = (ledger.asked, ledger.acknowledged);
        self.report.names = ledger.len() as u64;
        self.report.by_level = ledger.by_level().iter().map(|(level, puts)| (*level, *puts)).collect();
        drop(ledger);
        self.report
    }

    /// Kills a daemon somewhere between its first instruction and a little after it is ready.
    async fn kill_a_start(&mut self) -> Outcome {
        let moment = self.dice.moment(self.start.mul_f64(1.3));
        let daemon = Daemon::spawn(&self.plan.setup)?;
        tokio::time::sleep(moment).await;
        daemon.kill()?;
        self.report.killed(Stage::Start);
        Ok(())
    }

    async fn start(&mut self) -> Outcome<(Daemon, Remote)> {
        let began = Instant::now();
        let daemon = Daemon::start(&self.plan.setup)?;
        let took = began.elapsed();
        self.report.restarts.record(took);
        self.start = (self.start * 3 + took) / 4;
        let remote = self.connect(&daemon).await?;
        self.check_recovery(&remote).await?;
        Ok((daemon, remote))
    }

    /// A daemon that has been ready once starts from its index and on its directory. Where it does not, its index was not
    /// durable although it said that it was; a listing of the bucket would hide that. One that takes its directory for
    /// rolled back would drop what only the journal has.
    async fn check_recovery(&mut self, remote: &Remote) -> Outcome {
        let stats = remote.stats().await?;
        let from = stats.pointer("/recovery/from").and_then(serde_json::Value::as_str).unwrap_or("nobody knows what");
        if self.report.restarts.count() > 1 && from != "index" {
            let round = self.report.rounds + 1;
            self.report
                .found(&Found::Wrong, || format!("round {round}: a restart from {from}, and not from the index"));
        }
        if stats.pointer("/recovery/directory_rolled_back") != Some(&false.into()) {
            let round = self.report.rounds + 1;
            self.report.found(&Found::Wrong, || format!("round {round}: the directory passes for rolled back"));
        }
        self.report.replayed += stats.pointer("/recovery/replayed").and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(())
    }

    async fn connect(&self, daemon: &Daemon) -> Outcome<Remote> {
        Remote::open(&daemon.access(NAMESPACE), Some(identity("bf16"))).await
    }

    async fn load_and_kill(&mut self, daemon: Daemon, round: u64) -> Outcome {
        let drains = self.dice.below(100) < DRAINS_IN_100;
        // Half of the kills come early, in the midst of the first operations; the others find work that was acknowledged.
        let under_load = match self.dice.below(2) {
            0 => self.dice.moment(LOAD_MAX),
            _ => LOAD_MAX.mul_f64(self.dice.share()),
        };
        let draining = drains.then(|| self.dice.moment(DRAIN_MAX));
        let remotes: Vec<Remote> = {
            let opening = (0..CONNECTIONS).map(|_| self.connect(&daemon));
            join_all(opening).await.into_iter().collect::<Outcome<_>>()?
        };
        let clients = remotes.iter().zip(0..).map(|(remote, number)| {
            let dice = Dice::new(self.plan.seed, round * CONNECTIONS + number + 1);
            let (ledger, levels) = (&self.ledger, self.plan.levels.as_slice());
            Client { number, round, remote, ledger, levels, dice, mine: Vec::new() }.work()
        });
        let kill = async {
            tokio::time::sleep(under_load).await;
            let Some(draining) = draining else { return daemon.kill().map(|()| Stage::Load) };
            daemon.terminate()?;
            tokio::time::sleep(draining).await;
            daemon.kill().map(|()| Stage::Drain)
        };
        // What the clients had under way is dropped with them, unanswered.
        let load = async {
            let failures = join_all(clients).await;
            std::future::pending::<()>().await;
            failures
        };
        let stage = tokio::select! {
            biased;
            stage = kill => stage?,
            _ = load => return Err(Failure::new(Exit::Failed, "the load ended before the daemon did")),
        };
        self.report.killed(stage);
        Ok(())
    }

    /// Reads names again and judges them: all of the last rounds, and a sample of the others; or everything.
    async fn audit(&mut self, remote: &Remote, round: u64, everything: bool) -> Outcome {
        let names: Vec<(Name, u64)> = self.ledger.lock().names().collect();
        let recent = |touched: u64| everything || touched + RECENT_ROUNDS >= round;
        let (mut due, older): (Vec<_>, Vec<_>) = names.into_iter().partition(|(_, touched)| recent(*touched));
        due.extend((0..SAMPLE).filter_map(|_| self.dice.pick(&older).copied()));
        for (name, touched) in due {
            let read = read(remote, name).await?;
            let read = read.as_ref().map(|payload| payload.as_ref()).map_err(|reason| *reason);
            let found = self.ledger.lock().judge(name, read);
            self.report.found(&found, || format!("round {round}: {name:?}, last touched in round {touched}"));
        }
        let split = self.ledger.lock().split_batches();
        for batch in split {
            self.report.found(&Found::Wrong, || format!("round {round}: only a part is there of {batch:?}"));
        }
        Ok(())
    }

    /// Names that the daemon lists and nobody ever put.
    async fn strangers(&mut self, remote: &Remote) -> Outcome {
        let mut cursor = Vec::new();
        loop {
            let page = remote.list(ListKind::Plain, "", cursor, PAGE).await?;
            for entry in &page.entries {
                let ListName::Plain(key) = &entry.name else { continue };
                let known =
                    Name::of_plain(key).filter(|name| self.ledger.lock().names().any(|(held, _)| held == *name));
                if known.is_none() {
                    self.report.found(&Found::Wrong, || format!("`{key}` is listed, and nobody put it"));
                }
            }
            if page.cursor.is_empty() {
                return Ok(());
            }
            cursor = page.cursor;
        }
    }
}

/// Reads one value. Misses that say nothing of the value are asked again.
async fn read(remote: &Remote, name: Name) -> Outcome<Result<bettong_wire::Payload, MissReason>> {
    let mut read = remote.read(name.target()).await?;
    for _ in 1..READ_ATTEMPTS {
        match read {
            Err(MissReason::TierDown | MissReason::NoRoom | MissReason::Deadline | MissReason::Declined) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                read = remote.read(name.target()).await?;
            }
            _ => break,
        }
    }
    Ok(read)
}
