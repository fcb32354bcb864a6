//! The daemon's own counters of a replay, and whether they agree with the replay's.

use super::tally::{TIERS, Tally};
use crate::render::table::Table;
use crate::render::units;
use serde_json::Value;

/// What the daemon counted between two of its STATS documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hits by tier, in the order of `TIERS`.
    pub hits: [u64; 3],
    pub lookup_found: u64,
    pub stored: u64,
    pub already: u64,
}

/// A counter of a STATS document by its path.
pub fn number(stats: &Value, path: &[&str]) -> u64 {
    path.iter().try_fold(stats, |value, key| value.get(key)).and_then(Value::as_u64).unwrap_or(0)
}

impl Counters {
    pub fn between(before: &Value, after: &Value) -> Self {
        let rise = |path: &[&str]| number(after, path).saturating_sub(number(before, path));
        Self {
            hits: TIERS.map(|tier| rise(&["hits", tier, "count"])),
            lookup_found: rise(&["events", "lookup_blocks_found"]),
            stored: rise(&["events", "puts_stored"]),
            already: rise(&["events", "puts_already_stored"]),
        }
    }

    /// Every number that the daemon and the replay do not agree on: (name, the daemon's, the replay's).
    pub fn disagreements(&self, tally: &Tally) -> Vec<(String, u64, u64)> {
        let tiers = TIERS
            .iter()
            .zip(self.hits)
            .zip(tally.by_tier)
            .map(|((tier, daemon), replay)| (format!("hits from {tier}"), daemon, replay));
        let others = [
            ("blocks found by look-ups".to_owned(), self.lookup_found, tally.found),
            ("blocks put".to_owned(), self.stored, tally.put),
            ("puts already there".to_owned(), self.already, tally.already),
        ];
        tiers.chain(others).filter(|(_, daemon, replay)| daemon != replay).collect()
    }
}

/// The daemon's latencies by operation and tier, and its requests to the object store.
pub fn daemon_table(stats: &Value) -> Table {
    let mut table = Table::new(&["daemon", "count", "p50", "p99"]);
    let us = |value: &Value, key: &str| {
        let number = value.get(key).and_then(Value::as_u64);
        number.map_or_else(|| "-".to_owned(), |us| units::duration(std::time::Duration::from_micros(us)))
    };
    for (name, latency) in stats.get("latency").and_then(Value::as_object).into_iter().flatten() {
        let count = number(latency, &["count"]);
        if count > 0 {
            table.row(&[name.clone(), units::count(count), us(latency, "p50_us"), us(latency, "p99_us")]);
        }
    }
    for (kind, count) in stats.get("requests").and_then(Value::as_object).into_iter().flatten() {
        table.row(&[format!("object store: {kind}"), units::count(count.as_u64().unwrap_or(0))]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_disagree_are_named() {
        let stats = |memory: u64, stored: u64| json!({ "hits": { "memory": { "count": memory } }, "events": { "puts_stored": stored } });
        let counters = Counters::between(&stats(5, 1), &stats(15, 4));
        assert_eq!((counters.hits, counters.stored), ([10, 0, 0], 3));
        let mut tally = Tally { by_tier: [10, 0, 0], put: 3, ..Tally::default() };
        assert_eq!(counters.disagreements(&tally), []);
        tally.put = 4;
        assert_eq!(counters.disagreements(&tally), [("blocks put".to_owned(), 3, 4)]);
        assert_eq!(Counters::between(&json!([]), &json!("nonsense")), Counters::default());
    }
}
