//! Executes one run: a fresh thread, a seeded executor, and a check that the standard library is seeded too.

use super::{Cluster, Report, Run, Verdict};
use crate::plan::Plan;
use crate::world::elapsed;
use futures::future::{Either, select};
use parking_lot::Mutex;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep the trace as text.
    pub keep_trace: bool,
    /// Order one thing by what differs from process to process: `check-determinism` must notice.
    pub planted_nondeterminism: bool,
}

/// Virtual time after which a run that still goes on is stuck.
const RUN_TIME_MAX: Duration = Duration::from_secs(3600);
/// Simulated stacks of SlateDB's futures are deep in a build with debug assertions.
const STACK_BYTES: usize = 16 << 20;

/// The last panic of this process: a thread's own result carries no location.
fn last_panic() -> &'static Mutex<Option<String>> {
    static LAST: OnceLock<Mutex<Option<String>>> = OnceLock::new();
    LAST.get_or_init(|| {
        std::panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("a panic without a message");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            last_panic().lock().get_or_insert(format!("{message} at {place}"));
        }));
        Mutex::default()
    })
}

/// What std's hash maps make of this thread: equal for equal seeds, or the run depends on more than its seed.
fn random_state_mark() -> u64 {
    RandomState::new().hash_one("bettong")
}

fn executor(seed: u64) -> madsim::runtime::Runtime {
    madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default())
}

fn fresh_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|error| -> Box<dyn std::any::Any + Send> { Box::new(error.to_string()) })?
        .join()
}

/// Runs `plan` with `seed`; also hands back the trace's text where it was to be kept.
pub fn execute(seed: u64, plan: &Plan, options: Options) -> (Report, Vec<String>) {
    *last_panic().lock() = None;
    let scratch = match scratch_dir() {
        Ok(scratch) => scratch,
        Err(error) => return (Report::crashed(seed, &plan.name, format!("no scratch directory: {error}")), Vec::new()),
    };
    let reference = |seed| {
        fresh_thread(move || {
            let _executor = executor(seed);
            random_state_mark()
        })
        .ok()
    };
    let (expected, other) = (reference(seed), reference(seed.wrapping_add(1)));
    let (thread_plan, path) = (plan.clone(), scratch.path().to_owned());
    let outcome = fresh_thread(move || {
        let executor = executor(seed);
        if Some(random_state_mark()) != expected || expected == other {
            let what = "std's RandomState is not seeded: the run would depend on more than its seed".to_owned();
            return (Report::crashed(seed, &thread_plan.called, what), Vec::new());
        }
        in_thread(&executor, seed, thread_plan, path, options)
    });
    outcome.unwrap_or_else(|_| {
        let what = last_panic().lock().take().unwrap_or_else(|| "the run's thread ended without a word".to_owned());
        (Report::crashed(seed, &plan.called, what), Vec::new())
    })
}

fn in_thread(
    executor: &madsim::runtime::Runtime,
    seed: u64,
    plan: Plan,
    scratch: std::path::PathBuf,
    options: Options,
) -> (Report, Vec<String>) {
    let (name, called) = (plan.name.clone(), plan.called.clone());
    let (run, inbox) = Run::new(seed, plan, options.keep_trace);
    let inner = run.clone();
    let simulated = executor.block_on(async move {
        let cluster = Arc::new(Cluster::new(&inner, scratch, options));
        drop(madsim::task::spawn(cluster.clone().supervise(inbox)));
        let (work, failed) = (pin!(crate::workload::run(cluster)), pin!(inner.failed()));
        let limit = pin!(madsim::time::sleep(RUN_TIME_MAX));
        if let Either::Right(_) = select(select(work, failed), limit).await {
            inner.stuck(format!("the run still goes on after {} virtual seconds", RUN_TIME_MAX.as_secs()));
        }
        elapsed()
    });
    let mut trace = run.0.trace.lock();
    let counters = run.counters();
    let verdict = run.failure().unwrap_or(Verdict::Green);
    let report = Report {
        seed,
        plan: name,
        called,
        tail: if verdict.is_green() { Vec::new() } else { trace.tail() },
        verdict,
        trace_hash: trace.hash(),
        trace_events: trace.events(),
        simulated_ns: u64::try_from(simulated.as_nanos()).unwrap_or(u64::MAX),
        cpu_ns: thread_cpu_ns(),
        operations: counters.operations,
        kills: counters.kills,
        faults: run.activations(),
        reached: run.reached(),
    };
    (report, trace.take_kept())
}

/// Device files of caches live in memory where that is possible.
fn scratch_dir() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("bettong-sim-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())
}

/// Processor time of this thread so far; 0 where the system does not say.
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}
