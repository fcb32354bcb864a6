//! `bettong scrub`, `bettong prefetch` and `bettong node retire`: upkeep of a running daemon, slice by slice. Stopped at any
//! time, it has done what it said so far, and begins again where there is something left to do.

use crate::cli::Global;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::Remote;
use crate::render::progress::Ticker;
use crate::render::table::Table;
use crate::render::{self, units};
use bettong_wire::request::{Maintain, Task};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Length of one slice: short enough that the daemon's other clients hardly notice, and that progress is seen.
const SLICE_MS: u32 = 2000;
/// Notes and items that are kept of a whole run.
const KEPT_MAX: usize = 1000;

/// What one slice did, as the daemon says it.
#[derive(Deserialize)]
struct Slice {
    stage: String,
    counts: BTreeMap<String, u64>,
    notes: Vec<String>,
    items: Vec<Value>,
}

/// What all slices did together.
#[derive(Default)]
struct Sum {
    counts: BTreeMap<String, u64>,
    notes: Vec<String>,
    items: Vec<Value>,
}

impl Sum {
    fn add(&mut self, slice: Slice) {
        for (what, count) in slice.counts {
            let sum = self.counts.entry(what).or_default();
            *sum = sum.saturating_add(count);
        }
        let room = |held: usize| KEPT_MAX.saturating_sub(held);
        self.notes.extend(slice.notes.into_iter().take(room(self.notes.len())));
        self.items.extend(slice.items.into_iter().take(room(self.items.len())));
    }

    fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Fails where a scrub leaves something that is damaged.
    fn verdict(&self) -> Outcome {
        let damaged = self.count("damaged") + self.count("quarantined_before");
        match damaged.saturating_sub(self.count("healed")) {
            0 => Ok(()),
            left => {
                let left = units::count(left);
                let what =
                    format!("{left} values are damaged and not healed: a get answers a miss until they are put again");
                Err(Failure::new(Exit::CheckFailed, what))
            }
        }
    }

    fn said(&self) -> String {
        let counts = self.counts.iter().filter(|(what, _)| !what.ends_with("bytes"));
        counts.map(|(what, count)| format!("{} {what}", units::count(*count))).collect::<Vec<_>>().join(", ")
    }
}

/// Runs a task to its end. `argument` is the node to retire, else empty.
pub async fn run(task: Task, argument: &str, dry_run: bool, global: &Global) -> Outcome {
    let remote = Remote::open(&global.access()?, None).await?;
    let mut sum = Sum::default();
    let mut cursor = Vec::new();
    let mut ticker = Ticker::new(task.as_str());
    loop {
        let argument = argument.to_owned();
        let (next, document) =
            remote.maintain(Maintain { task, dry_run, cursor, argument, bound_ms: SLICE_MS }).await?;
        let slice: Slice = serde_json::from_value(document).or_exit(Exit::Failed, "the daemon's report")?;
        let stage = slice.stage.clone();
        sum.add(slice);
        ticker.tick(&format!("{stage}: {}", sum.said()));
        if next.is_empty() {
            break;
        }
        cursor = next;
    }
    drop(ticker);
    if global.json {
        let Sum { counts, notes, items } = &sum;
        let task = task.as_str();
        let document = json!({ "task": task, "dry_run": dry_run, "counts": counts, "notes": notes, "items": items });
        render::line(&document.to_string())?;
    } else {
        render::line(&shown(&sum, dry_run))?;
    }
    sum.verdict()
}

fn shown(sum: &Sum, dry_run: bool) -> String {
    let mut text = String::new();
    if !sum.items.is_empty() {
        let columns: Vec<&str> = match sum.items.first() {
            Some(Value::Object(fields)) => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let mut table = Table::new(&columns);
        for item in &sum.items {
            table.row(&columns.iter().map(|column| cell(&item[*column])).collect::<Vec<_>>());
        }
        text += &format!("{table}\n");
    }
    let mut table = Table::new(&[if dry_run { "dry run: nothing was changed" } else { "what" }, "count"]);
    for (what, count) in &sum.counts {
        let count = if what.ends_with("bytes") { units::bytes(*count) } else { units::count(*count) };
        table.row(&[what.replace('_', " "), count]);
    }
    text += &table.to_string();
    sum.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(orphans: u64) -> Slice {
        let document = json!({
            "task": "scrub", "dry_run": true, "stage": "objects", "notes": ["mind this"],
            "counts": { "orphans": orphans, "object_bytes": 2048 },
            "items": [{ "block": "ab", "score": 1.2 }],
        });
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn slices_add_up() {
        let mut sum = Sum::default();
        sum.add(slice(1200));
        sum.add(slice(34));
        let text = shown(&sum, true);
        for word in ["1,234", "4.0 KiB", "dry run", "note: mind this", "1.2", "object bytes"] {
            assert!(text.contains(word), "{text} has no {word}");
        }
        assert_eq!(sum.said(), "1,234 orphans");
    }

    #[test]
    fn damage_that_is_left_is_a_failure() {
        let exit = |counts: &[(&str, u64)]| {
            let counts = counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
            Sum { counts, ..Sum::default() }.verdict().map_err(|failure| failure.exit)
        };
        assert_eq!(exit(&[("verified", 3), ("orphans", 1)]), Ok(()));
        assert_eq!(exit(&[("damaged", 1), ("quarantined_before", 1), ("healed", 2)]), Ok(()));
        assert_eq!(exit(&[("damaged", 1)]), Err(Exit::CheckFailed));
        assert_eq!(exit(&[("damaged", 1), ("quarantined_before", 1), ("healed", 1)]), Err(Exit::CheckFailed));
    }
}
