//! Looks for one planted bug with the simulator that has it built in.

use super::Outcome;
use super::bug::{Bug, Expected, NONDETERMINISM};
use crate::run::{Report, Verdict};
use crate::tool::pool::Worker;
use crate::tool::sweep::Progress;
use crate::tool::{End, plans};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Hunt<'a> {
    pub program: PathBuf,
    /// The copy in which the program was built: its plans are the ones that run.
    pub dir: PathBuf,
    pub bug: &'a Bug,
    pub budget: u64,
    pub base: &'a str,
}

/// The runs of one bug, by the index of their seed.
#[derive(Default)]
pub struct Swept {
    pub reports: BTreeMap<u64, Report>,
    /// The first run in which an expected oracle objected.
    pub first: Option<(u64, Report)>,
}

impl Swept {
    pub fn red(&self) -> u64 {
        self.reports.values().filter(|report| !report.verdict.is_green()).count() as u64
    }

    /// Who objected, and how often.
    pub fn objections(&self) -> Vec<String> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for name in self.reports.values().filter_map(|report| objection(&report.verdict)) {
            *counts.entry(name).or_default() += 1;
        }
        counts.into_iter().map(|(name, count)| format!("{name} {count} times")).collect()
    }
}

/// Who objected to a run: an oracle, or `crash`.
pub fn objection(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Green => None,
        Verdict::Safety { oracle, .. } => Some(oracle.clone()),
        Verdict::Liveness { .. } => Some("O8".to_owned()),
        Verdict::Crash { .. } => Some("crash".to_owned()),
    }
}

impl Hunt<'_> {
    /// Runs seeds over the bug's plans until an expected oracle objects, or the budget is spent. The seed that is said to
    /// have found it is the first of the base, however many run at once.
    pub fn sweep(&self, jobs: Option<usize>) -> anyhow::Result<Swept> {
        let jobs = jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let (next, found_at) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        let swept = Mutex::new(Swept::default());
        let progress = Progress::quiet(self.budget);
        let serve = || -> anyhow::Result<()> {
            let mut worker = Worker::start(&self.program, &self.dir)?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.budget || index > found_at.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let Some(plan) = self.bug.plans.get(usize::try_from(index)? % self.bug.plans.len()) else {
                    return Ok(());
                };
                let report = worker.run(plans::seed(self.base, index), plan)?;
                progress.done(&report);
                if self.is_expected(&report) {
                    found_at.fetch_min(index, Ordering::Relaxed);
                }
                if let Ok(mut swept) = swept.lock() {
                    swept.reports.insert(index, report);
                }
            }
        };
        std::thread::scope(|scope| {
            let servers: Vec<_> = (0..jobs).map(|_| scope.spawn(serve)).collect();
            servers.into_iter().try_for_each(|server| {
                server.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the search panicked")))
            })
        })?;
        progress.finish();
        let mut swept = swept.into_inner().unwrap_or_default();
        let first = swept.reports.iter().find(|(_, report)| self.is_expected(report));
        swept.first = first.map(|(index, report)| (*index, report.clone()));
        Ok(swept)
    }

    fn is_expected(&self, report: &Report) -> bool {
        let Expected::Objection(names) = &self.bug.expected else { return false };
        objection(&report.verdict).is_some_and(|name| names.contains(&name))
    }

    /// Runs each seed in two processes of the copy's simulator and compares their traces.
    pub fn compare(&self) -> anyhow::Result<Outcome> {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.dir).args(["check-determinism", "--base", self.base, "--seeds"]);
        command.arg(self.budget.to_string());
        for plan in &self.bug.plans {
            command.args(["--plan", plan]);
        }
        let output = command.output()?;
        if output.status.code() != Some(End::Nondeterminism as i32) {
            return Ok(Outcome::NotFound { seeds: self.budget, others: vec![output.status.to_string()] });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let verdicts = text.lines().filter(|line| line.starts_with("seed ")).zip(1..);
        let first = verdicts.into_iter().find(|(line, _)| line.contains("two runs"));
        let (line, seeds) = first.unwrap_or(("the traces differ", self.budget));
        let plan = self.bug.plans.get(seeds as usize % self.bug.plans.len().max(1)).cloned().unwrap_or_default();
        Ok(Outcome::Found { seeds, oracle: NONDETERMINISM.to_owned(), plan, what: line.to_owned() })
    }
}
