//! What a bench prints: medians of interleaved runs, with their spread.

use super::Plan;
use super::load::Run;
use crate::render::table::Table;
use crate::render::units;
use serde_json::{Value, json};

/// The runs of one target.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: &'static str,
    pub runs: Vec<Run>,
}

/// Median and extremes of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` where there are no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => *sorted.get(middle)?,
            _ => (sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0,
        };
        Some(Self { median, min, max })
    }

    fn scaled(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    fn text(self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.median, self.min, self.max)
    }
}

fn rate(run: &Run) -> f64 {
    run.ops as f64 / run.took.as_secs_f64().max(1e-9)
}

fn cpu_us(run: &Run) -> Option<f64> {
    run.cpu.filter(|_| run.ops > 0).map(|cpu| cpu.as_secs_f64() * 1e6 / run.ops as f64)
}

impl Series {
    fn rate(&self) -> Spread {
        Spread::of(self.runs.iter().map(rate)).unwrap_or_default()
    }

    fn cpu(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(cpu_us))
    }

    fn quantile_us(&self, q: f64) -> f64 {
        Spread::of(self.runs.iter().map(|run| run.latency.quantile(q).as_secs_f64() * 1e6)).unwrap_or_default().median
    }
}

/// Ratios of ours to the other's, run by run.
fn ratios(ours: &Series, other: &Series, number: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    let pairs = ours.runs.iter().zip(&other.runs);
    Spread::of(pairs.filter_map(|(a, b)| Some(number(a)? / number(b).filter(|b| *b > 0.0)?)))
}

/// The report as text.
pub fn table(plan: &Plan, series: &[Series]) -> String {
    let runs = series.first().map_or(0, |first| first.runs.len());
    let items = plan.items();
    let a_second = items.map_or_else(|| "-".to_owned(), |(name, _)| format!("{name}/s"));
    let mut table = Table::new(&["target", "ops/s", "spread", &a_second, "MiB/s", "p50", "p99", "server CPU us/op"]);
    for one in series {
        let rate = one.rate();
        let time = |q| units::duration(std::time::Duration::from_secs_f64(one.quantile_us(q) / 1e6));
        table.row(&[
            one.name.to_owned(),
            format!("{:.0}", rate.median),
            format!("{:.0} to {:.0}", rate.min, rate.max),
            items.map_or_else(|| "-".to_owned(), |(_, count)| units::count((rate.median * count as f64) as u64)),
            match plan.request_bytes() {
                0 => "-".to_owned(),
                bytes => format!("{:.1}", rate.median * bytes as f64 / f64::from(1 << 20)),
            },
            time(0.5),
            time(0.99),
            one.cpu().map_or_else(|| "-".to_owned(), Spread::text),
        ]);
    }
    let mut text = format!(
        "{} of {}{}, {} connections, median of {runs} interleaved runs of {}\n{table}",
        plan.op.name(),
        items.map_or_else(String::new, |(name, count)| format!("{count} {name}, blocks of ")),
        units::bytes(plan.size as u64),
        plan.concurrency,
        units::duration(plan.duration),
    );
    if let [ours, other] = series {
        if let Some(ratio) = ratios(ours, other, |run| Some(rate(run))) {
            text += &format!("\nops/s, {} to {}: {}", ours.name, other.name, ratio.text());
        }
        if let Some(ratio) = ratios(ours, other, cpu_us) {
            text += &format!("\nserver CPU for each operation, {} to {}: {}", ours.name, other.name, ratio.text());
        }
    }
    text
}

/// Ratios of the 99th percentile beside other work to that alone, run by run.
fn p99_ratio(alone: &Series, beside: &Series) -> Option<Spread> {
    ratios(beside, alone, |run| Some(run.latency.quantile(0.99).as_secs_f64()))
}

/// What is added where the first series is alone and the second beside other work.
pub fn beside_line(series: &[Series]) -> String {
    match series {
        [alone, beside] => p99_ratio(alone, beside)
            .map_or_else(String::new, |ratio| format!("\np99, {} to {}: {}", beside.name, alone.name, ratio.text())),
        _ => String::new(),
    }
}

/// The same as JSON.
pub fn beside_document(series: &[Series]) -> Value {
    match series {
        [alone, beside] => json!({ "p99_ratio": p99_ratio(alone, beside).map(Spread::to_json) }),
        _ => Value::Null,
    }
}

/// The report as JSON.
pub fn document(plan: &Plan, series: &[Series]) -> Value {
    let targets: Vec<Value> = series
        .iter()
        .map(|one| {
            json!({
                "target": one.name,
                "ops_per_second": one.rate().to_json(),
                "items_per_second": plan.items().map(|(_, count)| one.rate().scaled(count as f64).to_json()),
                "p50_us": one.quantile_us(0.5),
                "p99_us": one.quantile_us(0.99),
                "server_cpu_us_per_op": one.cpu().map(Spread::to_json),
            })
        })
        .collect();
    let compared = match series {
        [ours, other] => json!({
            "ops_ratio": ratios(ours, other, |run| Some(rate(run))).map(Spread::to_json),
            "cpu_ratio": ratios(ours, other, cpu_us).map(Spread::to_json),
        }),
        _ => Value::Null,
    };
    json!({
        "op": plan.op.name(),
        "size": plan.size,
        "batch": plan.items().map(|(_, count)| count),
        "concurrency": plan.concurrency,
        "run_seconds": plan.duration.as_secs_f64(),
        "targets": targets,
        "compared": compared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(ops: u64, cpu_ms: u64) -> Run {
        Run { ops, took: Duration::from_secs(1), cpu: Some(Duration::from_millis(cpu_ms)), ..Run::default() }
    }

    #[test]
    fn medians_and_ratios_are_taken_run_by_run() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        let ours = Series { name: "bettong", runs: vec![run(100, 10), run(300, 30)] };
        let other = Series { name: "redis", runs: vec![run(200, 10), run(100, 10)] };
        let ratio = ratios(&ours, &other, |run| Some(rate(run))).unwrap();
        assert_eq!((ratio.min, ratio.max), (0.5, 3.0));
        assert_eq!(ratios(&ours, &other, cpu_us).unwrap().median, 1.5);
        assert_eq!(ratios(&ours, &Series { name: "none", runs: vec![run(0, 0)] }, cpu_us), None);
    }
}
