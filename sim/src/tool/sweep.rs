//! Many runs over many plans, in worker processes.
#![expect(clippy::disallowed_methods, reason = "outside any simulation: real time and threads")]

use super::pool::Worker;
use super::{End, plans, table};
use crate::plan::Plan;
use crate::run::Report;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs of a plan from which on every fault of it must have struck.
pub const COVERAGE_RUNS_MIN: u64 = 10;
/// Without a terminal, a line of progress this often.
const PLAIN_PROGRESS: Duration = Duration::from_secs(15);

pub fn run(
    seeds: u64,
    names: &[String],
    jobs: Option<usize>,
    time: Option<Duration>,
    base: Option<String>,
    json: bool,
) -> anyhow::Result<End> {
    let plans = plans::all(names)?;
    anyhow::ensure!(!plans.is_empty(), "there are no plans in fault_plans/");
    let base = plans::base(base)?;
    let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    eprintln!("sweep: {seeds} seeds over {} plans, {jobs} workers, --base {base}", plans.len());
    let started = Instant::now();
    let reports = work(seeds, names, &plans, jobs, time, &base)?;
    let wall = started.elapsed();
    if json {
        println!("{}", serde_json::json!({ "base": base, "wall_s": wall.as_secs_f64(), "runs": reports }));
    } else {
        println!("{}", table::sweep(&reports, wall));
    }
    let mut uncovered = table::uncovered(&reports, COVERAGE_RUNS_MIN);
    uncovered.extend(table::unreached(&reports, &plans, COVERAGE_RUNS_MIN));
    let unjudged = table::unjudged(&reports, &plans, COVERAGE_RUNS_MIN);
    // Asked for enough runs and out of time before: what was not judged is not covered.
    if seeds >= COVERAGE_RUNS_MIN * plans.len() as u64 {
        uncovered.extend(unjudged);
    } else if !unjudged.is_empty() {
        let (few, all) = (unjudged.len(), plans.len());
        eprintln!("coverage of {few} of {all} plans is not judged: fewer than {COVERAGE_RUNS_MIN} runs of each");
    }
    for line in &uncovered {
        eprintln!("coverage: {line}");
    }
    match End::of(&reports) {
        End::Green if !uncovered.is_empty() => Ok(End::Coverage),
        end => Ok(end),
    }
}

fn work(
    seeds: u64,
    names: &[String],
    plans: &[Plan],
    jobs: usize,
    time: Option<Duration>,
    base: &str,
) -> anyhow::Result<Vec<Report>> {
    let progress = Progress::new(seeds);
    let (next, reports) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (program, dir) = (std::env::current_exe()?, std::env::current_dir()?);
    let started = Instant::now();
    let serve = || -> anyhow::Result<()> {
        let mut worker = Worker::start(&program, &dir)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds || time.is_some_and(|limit| started.elapsed() >= limit) {
                return Ok(());
            }
            let at = usize::try_from(index)? % plans.len();
            let Some(plan) = plans.get(at) else { return Ok(()) };
            // Plans that were named are found again under that name, which may be a file.
            let name = names.get(at).unwrap_or(&plan.name);
            let report = worker.run(plans::seed(base, index), name)?;
            progress.done(&report);
            if let Ok(mut reports) = reports.lock() {
                reports.push(report);
            }
        }
    };
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..jobs).map(|_| scope.spawn(serve)).collect();
        servers.into_iter().try_for_each(|server| {
            server.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the sweep panicked")))
        })
    })?;
    progress.finish();
    let mut reports = reports.into_inner().unwrap_or_default();
    reports.sort_by(|a, b| (&a.plan, a.seed).cmp(&(&b.plan, b.seed)));
    Ok(reports)
}

/// A bar on a terminal, a line now and then elsewhere; a failure at once on both.
pub struct Progress {
    bar: ProgressBar,
    /// Says nothing of failures: they are what is looked for.
    quiet: bool,
    plain: Option<Mutex<Instant>>,
}

impl Progress {
    /// For runs of which some are meant to fail.
    pub fn quiet(seeds: u64) -> Self {
        Self { quiet: true, ..Self::new(seeds) }
    }

    fn new(seeds: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left  {msg}");
        let bar = ProgressBar::new(seeds).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, quiet: false, plain: (!terminal).then(|| Mutex::new(Instant::now())) }
    }

    pub fn done(&self, report: &Report) {
        self.bar.inc(1);
        if !self.quiet && !report.verdict.is_green() {
            let line = format!("{}\n    {}", report.verdict, super::replay_line(report));
            if self.plain.is_some() { eprintln!("{line}") } else { self.bar.println(line) }
        }
        if let Some(Ok(mut last)) = self.plain.as_ref().map(Mutex::lock)
            && last.elapsed() >= PLAIN_PROGRESS
        {
            *last = Instant::now();
            eprintln!("{}/{} seeds", self.bar.position(), self.bar.length().unwrap_or(0));
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
