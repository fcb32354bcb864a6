//! Rows, repetitions, and how they are shown.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// Repetitions of every row.
pub const REPETITIONS: usize = 5;

/// Latencies of one repetition.
#[derive(Debug, Clone, Copy)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

/// Microseconds of each of `count` calls.
pub fn quantiles(count: usize, mut call: impl FnMut(usize)) -> Quantiles {
    let mut each: Vec<Duration> = Vec::with_capacity(count);
    for number in 0..count {
        let began = Instant::now();
        call(number);
        each.push(began.elapsed());
    }
    each.sort_unstable();
    let at = |share: usize| each[(count - 1) * share / 100].as_secs_f64() * 1e6;
    Quantiles { p50: at(50), p99: at(99) }
}

/// One row: what, its repetitions, and what it is held against.
#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    runs: Vec<Quantiles>,
    goal: String,
}

#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

/// The median of the repetitions, with the least and the most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => [f64::NAN; 3],
        all => [all[all.len() / 2], all[0], all[all.len() - 1]],
    }
}

impl Report {
    pub fn latency(&mut self, what: impl Into<String>, runs: Vec<Quantiles>, goal: impl Into<String>) {
        self.rows.push(Row { what: what.into(), unit: "us", runs, goal: goal.into() });
    }

    /// A number that has no p99.
    pub fn number(&mut self, what: impl Into<String>, unit: &'static str, runs: &[f64], goal: impl Into<String>) {
        let runs = runs.iter().map(|value| Quantiles { p50: *value, p99: f64::NAN }).collect();
        self.rows.push(Row { what: what.into(), unit, runs, goal: goal.into() });
    }

    /// The quotient of two rows' repetitions, pair by pair.
    pub fn ratio(&mut self, what: impl Into<String>, ours: &[Quantiles], peer: &[Quantiles], goal: impl Into<String>) {
        let runs: Vec<f64> = ours.iter().zip(peer).map(|(ours, peer)| ours.p50 / peer.p50).collect();
        self.number(what, "x", &runs, goal);
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{:<52} {:>9} {:>19} {:>9}  goal", "", "p50", "(least to most)", "p99");
        for Row { what, unit, runs, goal } in &self.rows {
            let [p50, least, most] = spread(runs.iter().map(|run| run.p50));
            let [p99, ..] = spread(runs.iter().map(|run| run.p99));
            let p99 = if p99.is_nan() { String::new() } else { format!("{p99:.2}") };
            let range = format!("({least:.2} to {most:.2})");
            let _ = writeln!(text, "{what:<52} {p50:>7.2} {unit:<2} {range:>18} {p99:>9}  {goal}");
        }
        text
    }

    pub fn json(&self) -> String {
        let rows = self.rows.iter().map(|Row { what, unit, runs, goal }| {
            let number = |value: f64| if value.is_nan() { serde_json::Value::Null } else { value.into() };
            let runs: Vec<_> =
                runs.iter().map(|run| serde_json::json!({ "p50": number(run.p50), "p99": number(run.p99) })).collect();
            serde_json::json!({ "what": what, "unit": unit, "runs": runs, "goal": goal })
        });
        format!("{}\n", serde_json::Value::Array(rows.collect()))
    }
}
