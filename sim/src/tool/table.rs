//! Reports as text.

use crate::faults::{Activation, FaultKind};
use crate::plan::Plan;
use crate::run::{Reached, Report};
use bettong_core::observe::State;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Simulated seconds for each CPU second.
fn speed(simulated_ns: u64, cpu_ns: u64) -> f64 {
    simulated_ns as f64 / cpu_ns.max(1) as f64
}

/// One run.
pub fn one(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(text, "{}", report.verdict);
    for line in &report.tail {
        let _ = writeln!(text, "  | {line}");
    }
    let _ = writeln!(
        text,
        "plan {}  seed {}  trace {} ({} events)  operations {}  kills {}  {:.1} simulated s  {:.2} CPU s",
        report.plan,
        report.seed,
        report.trace_hash,
        report.trace_events,
        report.operations,
        report.kills,
        seconds(report.simulated_ns),
        seconds(report.cpu_ns),
    );
    faults(&mut text, &report.faults);
    reached(&mut text, &report.reached, false);
    if !report.verdict.is_green() {
        let _ = writeln!(text, "again: {}", super::replay_line(report));
    }
    text
}

#[derive(Default)]
struct Row {
    runs: u64,
    red: u64,
    simulated_ns: u64,
    cpu_ns: u64,
    operations: u64,
    kills: u64,
    faults: BTreeMap<String, Activation>,
}

fn by_plan(reports: &[Report]) -> BTreeMap<&str, Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for report in reports {
        let row = rows.entry(&report.plan).or_default();
        row.runs += 1;
        row.red += u64::from(!report.verdict.is_green());
        row.simulated_ns += report.simulated_ns;
        row.cpu_ns += report.cpu_ns;
        row.operations += report.operations;
        row.kills += report.kills;
        add(&mut row.faults, &report.faults);
    }
    rows
}

fn add(sum: &mut BTreeMap<String, Activation>, more: &BTreeMap<String, Activation>) {
    for (key, activation) in more {
        let total = sum.entry(key.clone()).or_default();
        total.could += activation.could;
        total.did += activation.did;
        total.changed += activation.changed;
    }
}

/// All runs of a sweep: by plan, then faults, states and failures.
pub fn sweep(reports: &[Report], wall: Duration) -> String {
    let mut text = String::new();
    let rows = by_plan(reports);
    let width = rows.keys().map(|plan| plan.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "{:width$}  {:>5}  {:>4}  {:>9}  {:>8}  {:>10}  {:>6}  {:>7}",
        "plan", "seeds", "red", "sim s", "sim/CPU", "operations", "kills", "struck"
    );
    let mut total = Row::default();
    let mut line = |name: &str, row: &Row| {
        let struck: u64 = row.faults.values().map(|activation| activation.did).sum();
        let _ = writeln!(
            text,
            "{name:width$}  {:>5}  {:>4}  {:>9.0}  {:>8.0}  {:>10}  {:>6}  {struck:>7}",
            row.runs,
            row.red,
            seconds(row.simulated_ns),
            speed(row.simulated_ns, row.cpu_ns),
            row.operations,
            row.kills,
        );
    };
    for (plan, row) in &rows {
        line(plan, row);
        total.runs += row.runs;
        total.red += row.red;
        total.simulated_ns += row.simulated_ns;
        total.cpu_ns += row.cpu_ns;
        total.operations += row.operations;
        total.kills += row.kills;
        add(&mut total.faults, &row.faults);
    }
    line("all", &total);
    let _ =
        writeln!(text, "{:.2} seeds a second on the wall clock\n", total.runs as f64 / wall.as_secs_f64().max(1e-9));
    faults(&mut text, &total.faults);
    let mut states: BTreeMap<String, Reached> = BTreeMap::new();
    for report in reports {
        for (state, count) in &report.reached {
            states.entry(state.clone()).or_default().add(*count);
        }
    }
    reached(&mut text, &states, true);
    failures(&mut text, reports);
    text
}

fn faults(text: &mut String, faults: &BTreeMap<String, Activation>) {
    if faults.is_empty() {
        return;
    }
    let _ = writeln!(text, "{:32}  {:>9}  {:>9}  {:>9}", "fault", "could", "did", "changed");
    for (key, count) in faults {
        let _ = writeln!(text, "{key:32}  {:>9}  {:>9}  {:>9}", count.could, count.did, count.changed);
    }
    text.push('\n');
}

fn reached(text: &mut String, reached: &BTreeMap<String, Reached>, with_missing: bool) {
    if reached.is_empty() {
        return;
    }
    let _ =
        writeln!(text, "{:44}  {:>9}  {:>9}  {:>10}  {:>9}", "state reached", "times", "serving", "recovering", "calm");
    for (state, count) in reached {
        let Reached { serving, recovering, calm } = count;
        let _ = writeln!(text, "{state:44}  {:>9}  {serving:>9}  {recovering:>10}  {calm:>9}", count.times());
    }
    let missing = State::ALL.iter().map(|state| state.as_str()).filter(|state| !reached.contains_key(*state));
    for state in missing.filter(|_| with_missing) {
        let _ = writeln!(text, "{state:44}  {:>9}", "never");
    }
    text.push('\n');
}

fn failures(text: &mut String, reports: &[Report]) {
    let red: Vec<_> = reports.iter().filter(|report| !report.verdict.is_green()).collect();
    if red.is_empty() {
        let _ = writeln!(text, "no failures");
    }
    for report in red {
        let _ = writeln!(text, "{}\n    {}", report.verdict, super::replay_line(report));
    }
}

/// Faults of a plan that never struck, or never changed anything, where it ran at least `runs_min` times.
pub fn uncovered(reports: &[Report], runs_min: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for (plan, row) in by_plan(reports).iter().filter(|(_, row)| row.runs >= runs_min) {
        for (key, count) in &row.faults {
            let Some(kind) = FaultKind::parse(key.split(['/', '@']).next().unwrap_or(key)) else { continue };
            let how = match count {
                Activation { did: 0, .. } => "struck",
                Activation { changed: 0, .. } if kind.shows() => "changed anything",
                _ => continue,
            };
            lines.push(format!("{plan}: {key} never {how} in {} runs", row.runs));
        }
    }
    lines
}

/// States that a plan asks for and no run of it met, where it ran at least `runs_min` times.
pub fn unreached(reports: &[Report], plans: &[Plan], runs_min: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for plan in plans {
        let own: Vec<_> = reports.iter().filter(|report| report.plan == plan.name).collect();
        if (own.len() as u64) < runs_min {
            continue;
        }
        let never = |state: &&String| !own.iter().any(|report| report.reached.contains_key(*state));
        let missing = plan.reaches.iter().filter(never);
        lines.extend(missing.map(|state| format!("{}: never `{state}` in {} runs", plan.name, own.len())));
    }
    lines
}

/// Plans that ran too rarely to be judged by `uncovered`.
pub fn unjudged(reports: &[Report], plans: &[Plan], runs_min: u64) -> Vec<String> {
    let ran = by_plan(reports);
    let runs = |plan: &Plan| ran.get(plan.name.as_str()).map_or(0, |row| row.runs);
    let few = plans.iter().filter(|plan| runs(plan) < runs_min);
    few.map(|plan| format!("{}: {} runs, {runs_min} are needed to judge its faults", plan.name, runs(plan))).collect()
}
