//! `bettong demo`: a replay, a SIGKILL half-way, how warm the restart is, a ledger, attacks, and a table.

use super::replay::trace;
use crate::cli::{DemoArgs, PutLevel};
use crate::demo::child::{Daemon, Setup};
use crate::demo::report::Report;
use crate::demo::{attacks, ledger};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::Remote;
use crate::render;
use crate::replay::early::Early;
use crate::replay::tally::Tally;
use crate::replay::{self, Ledger, Settings, Shared};
use crate::trace::TraceRequest;
use bettong_wire::request::Level;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACE: &str = "demo";
/// Sessions of the replay, so that puts are under way when the daemon is killed.
const CONCURRENCY: usize = 4;
/// Blocks that are read again where reading all of a long ledger would only repeat itself.
const SAMPLE: usize = 200;

fn say(text: &str) {
    eprintln!("demo: {text}");
}

pub async fn run(args: &DemoArgs) -> Outcome {
    let block_bytes = usize::try_from(args.block_bytes.0).or_exit(Exit::Usage, "--block-bytes")?;
    if block_bytes == 0 || args.block_bytes.0 > bettong_wire::limits::BLOCK_BYTES_MAX {
        let block_max = bettong_wire::limits::BLOCK_BYTES_MAX;
        let message = format!("--block-bytes is {block_bytes}, it must be from 1 to {block_max}");
        return Err(Failure::new(Exit::Usage, message));
    }
    if args.level == PutLevel::Memory {
        return Err(Failure::new(Exit::Usage, "--level memory promises nothing that a kill could break"));
    }
    let requests = trace(args.trace.as_deref())?;
    let temporary =
        tempfile::Builder::new().prefix("bettong-demo-").tempdir().or_exit(Exit::DataDir, "a temporary folder")?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    if args.dir.is_some() && dir.join("objects").exists() {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} holds a store already; the demo wants a fresh folder", dir.display()),
        ));
    }
    let program = std::env::current_exe().or_exit(Exit::Failed, "this program's path")?;
    let report = Demo { program, dir, block_bytes, level: args.level.into() }.play(requests).await?;
    render::line(&report.table())?;
    match report.held() {
        true => Ok(()),
        false => Err(Failure::new(Exit::CheckFailed, "a promise did not hold; the table says which")),
    }
}

struct Demo {
    program: PathBuf,
    dir: PathBuf,
    block_bytes: usize,
    level: Level,
}

impl Demo {
    fn setup(&self, node: &str) -> Setup {
        self.setup_on(node, &self.objects())
    }

    fn setup_on(&self, node: &str, objects: &Path) -> Setup {
        let objects = std::path::absolute(objects).unwrap_or_else(|_| objects.to_owned());
        Setup {
            program: self.program.clone(),
            data_dir: self.dir.join(node),
            store: format!("file://{}", objects.display()),
            values: vec!["peer_refresh_ms=500ms".to_owned(), "disk_bytes=1GiB".to_owned()],
        }
    }

    fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    fn shared(&self, requests: Arc<[TraceRequest]>, what: &str, ledger: &Ledger) -> Arc<Shared> {
        let settings = Settings {
            block_bytes: self.block_bytes as u64,
            capacity: None,
            concurrency: CONCURRENCY,
            speed: None,
            level: self.level,
        };
        Shared::new(requests, settings, what, Some(ledger.clone()))
    }

    async fn play(&self, requests: Vec<TraceRequest>) -> Outcome<Report> {
        let mut report = Report::default();
        let ledger = Ledger::default();
        let requests: Arc<[TraceRequest]> = requests.into();

        say("a daemon on a fresh local store; replaying the trace");
        let daemon = Daemon::start(&self.setup("first"))?;
        let (before, resume_at) = self.replay_until_killed(daemon, &requests, &ledger).await?;
        let killed = Instant::now();
        report.replay.merge(&before);
        let acknowledged = ledger.lock().clone();
        report.acknowledged = acknowledged.len() as u64;
        say(&format!("SIGKILL after request {resume_at}, with {} blocks acknowledged; restarting", acknowledged.len()));

        let daemon = Daemon::start(&self.setup("first"))?;
        let remote = Remote::open(&daemon.access(NAMESPACE), Some(replay::identity("bf16"))).await?;
        report.restart = killed.elapsed();
        say("replaying the rest of the trace on the restarted daemon");
        let rest: Arc<[TraceRequest]> = requests.get(resume_at..).unwrap_or_default().into();
        let shared = self.shared(rest.clone(), "replay", &ledger);
        replay::run(&daemon.access(NAMESPACE), &shared).await?;
        report.replay.merge(&shared.tally());
        report.restarted = shared.early();

        let audit = ledger::audit(&remote, &acknowledged, self.block_bytes, "reading the ledger again").await?;
        report.audits.push(("ledger after SIGKILL", audit));

        say("the same trace on a daemon that is not interrupted");
        report.uninterrupted = self.uninterrupted(&requests, resume_at, rest).await?;

        self.attack(&daemon, &remote, &ledger, &mut report).await?;
        daemon.stop()?;
        Ok(report)
    }

    /// Replays the first half, and kills the daemon while requests are under way. Answers what was counted and the first
    /// request that was not handed out.
    async fn replay_until_killed(
        &self,
        daemon: Daemon,
        requests: &Arc<[TraceRequest]>,
        ledger: &Ledger,
    ) -> Outcome<(Tally, usize)> {
        let shared = self.shared(requests.clone(), "replay", ledger);
        let half = requests.len() / 2;
        let access = daemon.access(NAMESPACE);
        let half_way = async {
            while shared.handed_out() < half {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            biased;
            () = half_way => {}
            replayed = replay::run(&access, &shared) => {
                replayed?;
            }
        }
        // The sessions were dropped with requests under way: killed with the daemon, they count for nothing.
        daemon.kill()?;
        Ok((shared.tally(), shared.handed_out()))
    }

    /// What the same rest of the trace brings where nothing was killed.
    async fn uninterrupted(
        &self,
        requests: &[TraceRequest],
        resume_at: usize,
        rest: Arc<[TraceRequest]>,
    ) -> Outcome<Early> {
        let daemon = Daemon::start(&self.setup_on("uninterrupted", &self.dir.join("uninterrupted-objects")))?;
        let first: Arc<[TraceRequest]> = requests.get(..resume_at).unwrap_or_default().into();
        let ledger = Ledger::default();
        replay::run(&daemon.access(NAMESPACE), &self.shared(first, "first part", &ledger)).await?;
        let shared = self.shared(rest, "the rest", &ledger);
        replay::run(&daemon.access(NAMESPACE), &shared).await?;
        daemon.stop()?;
        Ok(shared.early())
    }

    async fn attack(&self, daemon: &Daemon, remote: &Remote, ledger: &Ledger, report: &mut Report) -> Outcome {
        let blocks = ledger.lock().clone();
        let sample: Vec<_> = blocks.iter().rev().take(SAMPLE).copied().collect();
        let Some(victim) = blocks.get(blocks.len() / 2).copied() else {
            return Err(Failure::new(Exit::CheckFailed, "the ledger is empty"));
        };
        say("attack: one byte of a stored object is flipped");
        let (shown, held) = attacks::flip_one_byte(remote, &self.objects(), victim, self.block_bytes).await?;
        report.attacks.push(("one flipped byte", shown, held));

        say("attack: a client with another kv_dtype");
        let (shown, held) = attacks::other_dtype(&daemon.access(NAMESPACE)).await;
        report.attacks.push(("another kv_dtype", shown, held));

        say("a second daemon on the same objects");
        let setup = self.setup("second");
        let (shown, held) = attacks::second_daemon(&setup, NAMESPACE, &sample, self.block_bytes).await?;
        report.attacks.push(("second daemon", shown, held));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_share_the_objects_and_nothing_else() {
        let demo = Demo { program: "/bettong".into(), dir: "/d".into(), block_bytes: 1, level: Level::Object };
        let (first, second) = (demo.setup("first"), demo.setup("second"));
        assert_eq!((first.store.as_str(), second.store.as_str()), ("file:///d/objects", "file:///d/objects"));
        assert_ne!(first.data_dir, second.data_dir);
    }
}
