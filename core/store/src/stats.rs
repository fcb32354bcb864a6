//! What the store counts. Every number is of this process, since its start.

use bettong_wire::MissReason;
use bettong_wire::request::Tier;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Operations whose latency is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timed {
    GetMemory,
    GetDisk,
    GetObject,
    GetMiss,
    PutMemory,
    PutJournal,
    PutObject,
    Delete,
    Lookup,
}

impl Timed {
    const ALL: [(Self, &'static str); 9] = [
        (Self::GetMemory, "get_memory"),
        (Self::GetDisk, "get_disk"),
        (Self::GetObject, "get_object"),
        (Self::GetMiss, "get_miss"),
        (Self::PutMemory, "put_memory"),
        (Self::PutJournal, "put_journal"),
        (Self::PutObject, "put_object"),
        (Self::Delete, "delete"),
        (Self::Lookup, "lookup"),
    ];
}

/// Events that are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Payloads whose hash was checked on their way into memory.
    Verified,
    CorruptDisk,
    CorruptObject,
    CorruptJournal,
    StaleDisk,
    Quarantined,
    Healed,
    Deleted,
    PutsStored,
    PutsAlready,
    PutsFailed,
    PutBytes,
    /// Journaled puts that reached the object store.
    Uploaded,
    Evicted,
    EvictedBytes,
    /// Evictions that came to nothing because the value was used after it had been chosen.
    EvictionsRefused,
    /// Values past their time whose bytes were removed.
    ExpiredRemoved,
    Violations,
    HintsDropped,
    LookupBlocksAsked,
    LookupBlocksFound,
    PacksWritten,
    /// Values that were written in packs; again where a pack is rewritten.
    PackedValues,
    /// Times that worn packs were rewritten.
    Repacked,
    PacksRemoved,
}

impl Event {
    const ALL: [(Self, &'static str); 25] = [
        (Self::Verified, "verified"),
        (Self::CorruptDisk, "corrupt_disk_copies"),
        (Self::CorruptObject, "corrupt_object_reads"),
        (Self::CorruptJournal, "corrupt_journal_reads"),
        (Self::StaleDisk, "stale_disk_copies"),
        (Self::Quarantined, "quarantined"),
        (Self::Healed, "healed"),
        (Self::Deleted, "deleted"),
        (Self::PutsStored, "puts_stored"),
        (Self::PutsAlready, "puts_already_stored"),
        (Self::PutsFailed, "puts_failed_or_unknown"),
        (Self::PutBytes, "put_bytes"),
        (Self::Uploaded, "uploaded"),
        (Self::Evicted, "evicted"),
        (Self::EvictedBytes, "evicted_bytes"),
        (Self::EvictionsRefused, "evictions_refused"),
        (Self::ExpiredRemoved, "expired_removed"),
        (Self::Violations, "violated_assertions"),
        (Self::HintsDropped, "peer_hints_dropped"),
        (Self::LookupBlocksAsked, "lookup_blocks_asked"),
        (Self::LookupBlocksFound, "lookup_blocks_found"),
        (Self::PacksWritten, "packs_written"),
        (Self::PackedValues, "packed_values"),
        (Self::Repacked, "repacked"),
        (Self::PacksRemoved, "packs_removed"),
    ];
}

/// Four buckets for each doubling, from 1 us to over an hour.
const BUCKETS: usize = 128;

#[derive(Debug)]
struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Histogram {
    fn bucket(us: u64) -> usize {
        let us = us.max(1);
        let octave = us.ilog2() as usize;
        let quarter = if octave >= 2 { ((us >> (octave - 2)) & 3) as usize } else { 0 };
        (octave * 4 + quarter).min(BUCKETS - 1)
    }

    /// The upper bound of a bucket, in microseconds.
    fn bound(bucket: usize) -> u64 {
        let (octave, quarter) = (bucket / 4, (bucket % 4) as u64);
        if octave >= 2 { (4 + quarter + 1) << (octave - 2) } else { 1 << (octave + 1) }
    }

    fn add(&self, elapsed: Duration) {
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0[Self::bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    fn summary(&self) -> Value {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let quantile = |share: f64| {
            let wanted = (total as f64 * share).ceil().max(1.0) as u64;
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= wanted
            });
            found.filter(|_| total > 0).map(Self::bound)
        };
        let buckets: Vec<(u64, u64)> =
            (0..).map(Self::bound).zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect();
        json!({
            "count": total,
            "p50_us": quantile(0.5),
            "p99_us": quantile(0.99),
            "p999_us": quantile(0.999),
            "buckets": buckets,
        })
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Stats {
    hits: [AtomicU64; 3],
    hit_bytes: [AtomicU64; 3],
    misses: [AtomicU64; MissReason::ALL.len()],
    events: [AtomicU64; Event::ALL.len()],
    latency: [Histogram; Timed::ALL.len()],
}

impl Stats {
    pub fn hit(&self, tier: Tier, bytes: u64) {
        self.hits[tier as usize].fetch_add(1, Ordering::Relaxed);
        self.hit_bytes[tier as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Hits so far, of all tiers.
    pub fn hits(&self) -> u64 {
        self.hits.iter().map(|hits| hits.load(Ordering::Relaxed)).sum()
    }

    pub fn miss(&self, reason: MissReason) {
        self.misses[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    pub fn add(&self, event: Event, amount: u64) {
        self.events[event as usize].fetch_add(amount, Ordering::Relaxed);
    }

    pub fn timed(&self, what: Timed, elapsed: Duration) {
        self.latency[what as usize].add(elapsed);
    }

    /// The counters as JSON: `hits` and `misses` by tier and reason, `events`, `latency` by operation and tier, there
    /// also as `buckets` of (upper bound in microseconds, count), so that two documents can be told apart.
    pub fn to_json(&self) -> Value {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let hits: serde_json::Map<String, Value> = Tier::ALL
            .iter()
            .map(|tier| {
                let (count, bytes) = (read(&self.hits[*tier as usize]), read(&self.hit_bytes[*tier as usize]));
                (tier.as_str().to_owned(), json!({ "count": count, "bytes": bytes }))
            })
            .collect();
        let misses: serde_json::Map<String, Value> = MissReason::ALL
            .iter()
            .map(|reason| (reason.as_str().to_owned(), read(&self.misses[*reason as usize]).into()))
            .collect();
        let events: serde_json::Map<String, Value> = Event::ALL
            .iter()
            .map(|(event, name)| ((*name).to_owned(), read(&self.events[*event as usize]).into()))
            .collect();
        let latency: serde_json::Map<String, Value> = Timed::ALL
            .iter()
            .map(|(what, name)| ((*name).to_owned(), self.latency[*what as usize].summary()))
            .collect();
        json!({ "hits": hits, "misses": misses, "events": events, "latency": latency })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place() {
        for (n, (event, _)) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, n);
        }
        for (n, (what, _)) in Timed::ALL.iter().enumerate() {
            assert_eq!(*what as usize, n);
        }
        for (n, tier) in Tier::ALL.iter().enumerate() {
            assert_eq!(*tier as usize, n);
        }
        for (n, reason) in MissReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, n);
        }
    }

    #[test]
    fn a_value_lies_below_its_buckets_bound_and_not_below_the_one_before() {
        for us in (1..5000).chain([1 << 20, 1 << 30]) {
            let bucket = Histogram::bucket(us);
            assert!(us < Histogram::bound(bucket), "{us}");
            if bucket > 0 && us >= 4 {
                assert!(us >= Histogram::bound(bucket - 1), "{us}");
            }
        }
    }
}
