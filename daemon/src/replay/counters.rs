//! The daemon's own counters of a replay, and whether they agree with the replay's.

use super::tally::{TIERS, Tally};
use crate::render::table::Table;
use crate::render::units;
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

/// One operation's latency between two STATS documents.
struct Latency {
    name: String,
    count: u64,
    /// (Upper bound in microseconds, count), ascending.
    buckets: Vec<(u64, u64)>,
}

impl Latency {
    /// Of each operation that was there.
    fn all_between(before: &Value, after: &Value) -> Vec<Self> {
        let buckets = |stats: &Value, name: &str| -> BTreeMap<u64, u64> {
            let buckets = stats.get("latency").and_then(|all| all.get(name)).and_then(|one| one.get("buckets"));
            buckets
                .and_then(|buckets| serde_json::from_value::<Vec<(u64, u64)>>(buckets.clone()).ok())
                .into_iter()
                .flatten()
                .collect()
        };
        let names = after.get("latency").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name);
        let between = names.map(|name| {
            let earlier = buckets(before, name);
            let rise = buckets(after, name)
                .into_iter()
                .map(|(bound, count)| (bound, count.saturating_sub(earlier.get(&bound).copied().unwrap_or(0))));
            let buckets: Vec<(u64, u64)> = rise.filter(|(_, count)| *count > 0).collect();
            Self {
                name: name.clone(),
                count: buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
                buckets,
            }
        });
        between.filter(|latency| latency.count > 0).collect()
    }

    /// The upper bound of the bucket that holds this share, in microseconds.
    fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen = count.saturating_add(seen);
            seen >= wanted
        });
        found.map_or(0, |(bound, _)| *bound)
    }
}

/// Requests to the object store by kind, between two STATS documents.
fn requests(before: &Value, after: &Value) -> BTreeMap<String, u64> {
    let kinds = after.get("requests").and_then(Value::as_object).into_iter().flatten().map(|(kind, _)| kind);
    kinds
        .map(|kind| {
            let path = ["requests", kind.as_str()];
            (kind.clone(), number(after, &path).saturating_sub(number(before, &path)))
        })
        .collect()
}

/// The daemon's latencies by operation and tier, and its requests to the object store, between two STATS documents.
pub fn daemon_table(before: &Value, after: &Value) -> Table {
    let mut table = Table::new(&["daemon", "count", "p50", "p99"]);
    let us = |us| units::duration(std::time::Duration::from_micros(us));
    for latency in Latency::all_between(before, after) {
        let (p50, p99) = (us(latency.quantile_us(0.5)), us(latency.quantile_us(0.99)));
        table.row(&[latency.name, units::count(latency.count), p50, p99]);
    }
    for (kind, count) in requests(before, after) {
        table.row(&[format!("object store: {kind}"), units::count(count)]);
    }
    table
}

/// The same as JSON.
pub fn daemon_document(before: &Value, after: &Value) -> Value {
    let latency: serde_json::Map<String, Value> = Latency::all_between(before, after)
        .into_iter()
        .map(|latency| {
            let (p50, p99) = (latency.quantile_us(0.5), latency.quantile_us(0.99));
            (latency.name, json!({ "count": latency.count, "p50_us": p50, "p99_us": p99 }))
        })
        .collect();
    json!({ "latency": latency, "requests": requests(before, after) })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_the_daemon_did_before_is_not_the_replays() {
        let stats = |fast: u64, slow: u64, puts: u64| {
            let latency = json!({ "get_memory": { "count": fast + slow, "buckets": [[4, fast], [1024, slow]] } });
            json!({ "latency": latency, "requests": { "put": puts } })
        };
        let document = daemon_document(&stats(1, 1000, 7), &stats(100, 1001, 9));
        let latency = json!({ "get_memory": { "count": 100, "p50_us": 4, "p99_us": 4 } });
        assert_eq!(document, json!({ "latency": latency, "requests": { "put": 2 } }));
        let idle = daemon_document(&stats(1, 1, 1), &stats(1, 1, 1));
        assert_eq!(idle, json!({ "latency": {}, "requests": { "put": 0 } }));
        assert_eq!(daemon_document(&json!([]), &json!({ "latency": 3 })), json!({ "latency": {}, "requests": {} }));
    }
}
