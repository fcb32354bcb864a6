//! One run: a seed, a plan, and everything that is recorded about them.

mod cache;
mod cluster;
mod execute;
mod report;

pub use cluster::{Cluster, Life};
pub use execute::{Options, execute};
pub use report::{Phase, Reached, Report, Verdict};

use crate::faults::{Activation, FaultKind, Faults, Strike};
use crate::model::Forgotten;
use crate::plan::{Configuration, Operation, Plan};
use crate::trace::Trace;
use crate::world::elapsed;
use bettong_core::observe::{Forgetting, Point, Reason, Step};
use bettong_wire::PutId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

/// What a fault asks of whoever runs the nodes.
#[derive(Debug, Clone)]
pub enum Command {
    /// The node is dead already; it wants burying, and a new life after this time, where it returns at all.
    Killed { node: String, life: u64, restart_after: Option<Duration> },
    /// The node stands still already, for this time.
    Paused { node: String, lasts: Duration },
}

/// The record of one run; cheap to clone, all clones are the same run.
#[derive(Clone)]
pub struct Run(Arc<Inner>);

struct Inner {
    seed: u64,
    plan: Plan,
    trace: Mutex<Trace>,
    faults: Mutex<Faults>,
    reached: Mutex<BTreeMap<String, Reached>>,
    recovering: Mutex<BTreeSet<String>>,
    disturbed: Mutex<BTreeMap<String, Duration>>,
    failure: Mutex<Option<Verdict>>,
    failed: Notify,
    commands: mpsc::UnboundedSender<Command>,
    counters: Mutex<Counters>,
    damaged: Mutex<BTreeSet<String>>,
    index_lost: Mutex<BTreeMap<String, Vec<Duration>>>,
    rolled_back: Mutex<BTreeMap<String, Vec<Duration>>>,
    refreshes: Mutex<BTreeMap<String, Refreshes>>,
    counts_steps: bool,
    forgotten: Mutex<Arc<BTreeMap<PutId, Vec<Forgotten>>>>,
    left_open: Mutex<Vec<TcpStream>>,
    redrawn: Mutex<BTreeMap<String, u64>>,
    diskless: Mutex<BTreeSet<String>>,
    lives: Mutex<BTreeMap<String, u64>>,
}

/// When a node's present life began, and read all dead marks of the others.
#[derive(Debug, Default)]
struct Refreshes {
    life: Duration,
    /// The look that is under way began then.
    began: Duration,
    /// Looks that ended well: when they ended, and when they had begun.
    ended: Vec<(Duration, Duration)>,
}

/// A fault may be felt so long after it struck: a request is tried again after pauses, a breaker stays open for a while,
/// and what waited meanwhile is done first.
const AFTERMATH: Duration = Duration::from_secs(30);

/// Totals of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Client operations that were answered.
    pub operations: u64,
    pub kills: u64,
}

impl Run {
    /// A run, and the inbox of whoever runs its nodes.
    pub fn new(seed: u64, plan: Plan, keep_trace: bool) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let inner = Inner {
            seed,
            trace: Mutex::new(Trace::new(keep_trace)),
            faults: Mutex::new(Faults::new(seed, &plan)),
            counts_steps: plan.counts_steps(),
            plan,
            reached: Mutex::default(),
            recovering: Mutex::default(),
            disturbed: Mutex::default(),
            failure: Mutex::default(),
            failed: Notify::new(),
            commands,
            counters: Mutex::default(),
            damaged: Mutex::default(),
            index_lost: Mutex::default(),
            rolled_back: Mutex::default(),
            refreshes: Mutex::default(),
            forgotten: Mutex::default(),
            left_open: Mutex::default(),
            redrawn: Mutex::default(),
            diskless: Mutex::default(),
            lives: Mutex::default(),
        };
        (Self(Arc::new(inner)), inbox)
    }

    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    pub fn plan(&self) -> &Plan {
        &self.0.plan
    }

    /// Records an event of the semantic trace.
    pub fn trace(&self, who: &str, what: std::fmt::Arguments<'_>) {
        self.0.trace.lock().event(elapsed(), who, what);
    }

    /// The faults that strike one operation of a seam.
    pub fn fault_operation(
        &self,
        node: &str,
        operation: Operation,
        path: &str,
        wanted: impl Fn(FaultKind) -> bool,
    ) -> Vec<Strike> {
        let strikes = self.0.faults.lock().operation(node, operation, path, elapsed(), wanted);
        for strike in &strikes {
            self.trace(node, format_args!("fault {} strikes {} {path}", strike.key, operation.as_str()));
            self.disturb(node, strike);
        }
        strikes
    }

    /// The fault of this kind that strikes `node` now.
    pub fn fault_event(&self, node: &str, kind: FaultKind) -> Option<Strike> {
        let strike = self.0.faults.lock().event(node, kind, elapsed());
        if let Some(strike) = &strike {
            self.trace(node, format_args!("fault {} strikes", strike.key));
            self.disturb(node, strike);
        }
        strike
    }

    fn disturb(&self, node: &str, strike: &Strike) {
        let Some(stalls) = strike.kind.stalls(strike.delay) else { return };
        let until = elapsed() + stalls;
        let mut disturbed = self.0.disturbed.lock();
        let known = disturbed.entry(node.to_owned()).or_default();
        *known = until.max(*known);
    }

    /// Whether a fault that struck `node` may still be felt there at `then`.
    pub fn is_disturbed(&self, node: &str, then: Duration) -> bool {
        self.0.disturbed.lock().get(node).is_some_and(|until| *until + AFTERMATH >= then)
    }

    /// The struck call's own result differs because of the fault.
    pub fn fault_changed(&self, key: &str) {
        self.0.faults.lock().changed(key);
    }

    /// A fault damages values with these hashes in their names, or a body of theirs on its way.
    pub fn damage(&self, hashes: impl IntoIterator<Item = String>) {
        self.0.damaged.lock().extend(hashes);
    }

    /// The hashes in the names of values that faults have damaged.
    pub fn damaged(&self) -> BTreeSet<String> {
        self.0.damaged.lock().clone()
    }

    /// The index of `node` is gone from the bucket.
    pub fn lose_index(&self, node: &str) {
        self.0.index_lost.lock().entry(node.to_owned()).or_default().push(elapsed());
        self.forgotten_may_return(|_| true);
    }

    /// What was forgotten may be found again: whoever knew of it is gone.
    fn forgotten_may_return(&self, by: impl Fn(&str) -> bool) {
        let mut forgotten = self.0.forgotten.lock();
        let all = Arc::make_mut(&mut forgotten).values_mut().flatten();
        let now = elapsed();
        all.filter(|forgotten| by(&forgotten.daemon)).for_each(|forgotten| {
            let first = forgotten.lost.map_or(now, |(first, _)| first);
            forgotten.lost = Some((first, now));
        });
    }

    /// A salvage lost records of the journal of the daemon `name`: a put whose finished upload was among them is shown
    /// and uploaded again.
    pub fn lose_records(&self, name: &str) {
        self.forgotten_may_return(|by| by == name);
    }

    /// The node forgets a version by itself. Of an eviction also when it was chosen.
    pub fn forgets(&self, node: &str, what: &Forgetting, chosen: Duration) {
        let (now, put_id) = (elapsed(), what.name.put_id);
        let expired = matches!(what.why, Reason::Expired);
        self.trace(node, format_args!("forgets {put_id} {:?} {:?}", what.step, what.name.kind));
        let mut forgotten = self.0.forgotten.lock();
        let known = Arc::make_mut(&mut forgotten).entry(put_id).or_default();
        match what.step {
            Step::Begins => known.push(Forgotten {
                daemon: node.to_owned(),
                name: what.name,
                expired,
                chosen,
                began: now,
                done: None,
                lost: None,
            }),
            Step::Done => known.last_mut().into_iter().for_each(|last| last.done = Some(now)),
        }
    }

    /// Every version that a node forgot, or began to forget, by itself.
    pub fn forgotten(&self) -> Arc<BTreeMap<PutId, Vec<Forgotten>>> {
        self.0.forgotten.lock().clone()
    }

    /// When the index of `node` was lost.
    pub fn index_lost(&self, node: &str) -> Vec<Duration> {
        self.0.index_lost.lock().get(node).cloned().unwrap_or_default()
    }

    /// The data directory of the daemon `name` went back to an older state.
    pub fn roll_back(&self, name: &str) {
        self.0.rolled_back.lock().entry(name.to_owned()).or_default().push(elapsed());
        self.forgotten_may_return(|_| true);
    }

    /// When the data directories of daemons went back to older states, by the daemon's name.
    pub fn rolled_back(&self) -> BTreeMap<String, Vec<Duration>> {
        self.0.rolled_back.lock().clone()
    }

    /// A new life of `node` knows nothing yet of what others deleted.
    pub fn life_begins(&self, node: &str) {
        self.0.faults.lock().life_begins(node);
        self.0.diskless.lock().remove(node);
        *self.0.lives.lock().entry(node.to_owned()).or_default() += 1;
        self.0.refreshes.lock().insert(node.to_owned(), Refreshes { life: elapsed(), ..Refreshes::default() });
    }

    /// The present life of `node` goes without the disk cache that it is configured with.
    pub fn goes_without_disk(&self, node: &str) {
        self.0.diskless.lock().insert(node.to_owned());
    }

    pub fn is_without_disk(&self, node: &str) -> bool {
        self.0.diskless.lock().contains(node)
    }

    pub fn life_began(&self, node: &str) -> Duration {
        self.0.refreshes.lock().get(node).map_or(Duration::MAX, |refreshes| refreshes.life)
    }

    pub fn refresh_began(&self, node: &str) {
        self.0.refreshes.lock().entry(node.to_owned()).or_default().began = elapsed();
    }

    pub fn refresh_ended(&self, node: &str) {
        let mut refreshes = self.0.refreshes.lock();
        let refreshes = refreshes.entry(node.to_owned()).or_default();
        refreshes.ended.push((elapsed(), refreshes.began));
    }

    /// What others deleted before this moment, `node` knew at `then`.
    pub fn knew_of_others(&self, node: &str, then: Duration) -> Duration {
        let refreshes = self.0.refreshes.lock();
        let ended = refreshes.get(node).map(|refreshes| refreshes.ended.as_slice()).unwrap_or_default();
        ended.iter().rev().find(|(ended, _)| *ended < then).map_or(Duration::ZERO, |(_, began)| *began)
    }

    /// From now on nothing strikes.
    pub fn stop_faults(&self) {
        self.0.faults.lock().stop();
        self.trace("run", format_args!("faults stop"));
    }

    pub fn faults_stopped(&self) -> bool {
        self.0.faults.lock().stopped()
    }

    /// Something that happens without a plan asking for it; see `Faults::happens`.
    pub fn happens(&self, key: &str, did: bool) {
        self.0.faults.lock().happens(key, did);
    }

    pub fn activations(&self) -> BTreeMap<String, Activation> {
        self.0.faults.lock().counts().clone()
    }

    /// A protocol point is reached on `node`. True where the node dies of it.
    pub fn point_reached(&self, node: &str, point: Point) -> bool {
        self.state_reached(&format!("point {}", point.as_str()));
        let strikes = self.0.faults.lock().point(node, point, elapsed());
        self.struck(node, strikes, point.as_str())
    }

    /// `node` takes one step: one of its tasks has its turn, or its disk does something. True where it dies of it.
    pub fn step(&self, node: &str) -> bool {
        if !self.0.counts_steps {
            return false;
        }
        let strikes = self.0.faults.lock().step(node);
        self.struck(node, strikes, "a step")
    }

    fn struck(&self, node: &str, strikes: Vec<Strike>, place: &str) -> bool {
        let mut dies = false;
        for strike in strikes {
            self.trace(node, format_args!("fault {} strikes at {place}", strike.key));
            self.fault_changed(&strike.key);
            self.disturb(node, &strike);
            match strike.kind {
                FaultKind::PauseNode => self.pause(node, strike.delay),
                _ => {
                    self.kill(node, &strike);
                    dies = true;
                }
            }
        }
        dies
    }

    /// How often the configuration of `node` was drawn anew.
    pub fn redrawn(&self, node: &str) -> u64 {
        self.0.redrawn.lock().get(node).copied().unwrap_or(0)
    }

    /// The next life of `node` has the configuration again that the run began with.
    pub fn restore_configuration(&self, node: &str) {
        self.0.redrawn.lock().remove(node);
    }

    /// Kills the node at once: none of its tasks is polled again.
    pub fn kill(&self, node: &str, strike: &Strike) {
        let restart_after = strike.restart_after;
        if strike.configuration == Configuration::Redrawn {
            *self.0.redrawn.lock().entry(node.to_owned()).or_default() += 1;
        }
        madsim::runtime::Handle::current().kill(node);
        // The receiver lives as long as the run.
        let life = self.0.lives.lock().get(node).copied().unwrap_or(0);
        let _ = self.0.commands.send(Command::Killed { node: node.to_owned(), life, restart_after });
    }

    pub fn pause(&self, node: &str, lasts: Duration) {
        madsim::runtime::Handle::current().pause(node);
        let _ = self.0.commands.send(Command::Paused { node: node.to_owned(), lasts });
    }

    /// Keeps an end of a connection that nobody uses any more: its peer is never told.
    pub fn leave_open(&self, stream: TcpStream) {
        self.0.left_open.lock().push(stream);
    }

    /// `node` is down, to return.
    pub fn goes_down(&self, node: &str) {
        self.0.recovering.lock().insert(node.to_owned());
    }

    /// `node` serves again, or will not.
    pub fn is_back(&self, node: &str) {
        self.0.recovering.lock().remove(node);
    }

    fn phase(&self) -> Phase {
        match (self.faults_stopped(), self.0.recovering.lock().is_empty()) {
            (true, _) => Phase::Calm,
            (false, true) => Phase::Serving,
            (false, false) => Phase::Recovering,
        }
    }

    /// An interesting state is met.
    pub fn state_reached(&self, name: &str) {
        let phase = self.phase();
        self.0.reached.lock().entry(name.to_owned()).or_default().count(phase);
    }

    pub fn reached(&self) -> BTreeMap<String, Reached> {
        self.0.reached.lock().clone()
    }

    /// An oracle says no. The first failure ends the run.
    pub fn fail(&self, oracle: &str, what: String) {
        self.end(Verdict::Safety { oracle: oracle.to_owned(), what });
    }

    /// What should have finished has not.
    pub fn stuck(&self, what: String) {
        self.end(Verdict::Liveness { what });
    }

    fn end(&self, verdict: Verdict) {
        self.trace("run", format_args!("{verdict}"));
        self.0.failure.lock().get_or_insert(verdict);
        self.0.failed.notify_one();
    }

    pub fn failure(&self) -> Option<Verdict> {
        self.0.failure.lock().clone()
    }

    /// Completes once the run has failed.
    pub async fn failed(&self) {
        while self.failure().is_none() {
            self.0.failed.notified().await;
        }
    }

    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.0.counters.lock());
    }

    pub fn counters(&self) -> Counters {
        *self.0.counters.lock()
    }
}
