//! What different orders of eviction would make of a trace: hit rates, simulated without bytes.
//!
//! Every policy holds exactly the same number of blocks, and sees the same: a request is looked up as far as its prefix
//! is there, the blocks found are used, and the others are inserted. A hit counts only where all blocks before it in
//! its request hit as well, since a chain is useless beyond its first gap.

mod clairvoyant;
mod list;
mod lru;
mod ours;
mod report;
mod s3_fifo;
mod segmented_lru;
mod sequence;
mod tiny_lfu;
mod workloads;

pub use report::Report;

use crate::trace::TraceRequest;
use sequence::{BlockRef, Sequence};
use std::time::Instant;

/// Blocks that are held, in percent of the different blocks of the trace.
pub const CAPACITIES_PERCENT: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];

/// A cache of blocks without their bytes.
trait Cache {
    /// Whether the block is there. Looking is no use.
    fn holds(&self, block: u32) -> bool;

    /// A block that is there is used.
    fn hit(&mut self, block: BlockRef);

    /// A block that is not there comes, and what is too much goes.
    fn insert(&mut self, block: BlockRef);

    /// Blocks that are there.
    fn len(&self) -> usize;
}

/// The policies, in the order of the report's columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyName {
    Ours,
    /// The same, evicting as the daemon does: at the budget, down to 90 % of it.
    OursInBatches,
    Lru,
    S3Fifo,
    SegmentedLru,
    TinyLfu,
    /// Knows the future; no policy can do better.
    Clairvoyant,
}

impl PolicyName {
    pub const ALL: [Self; 7] = [
        Self::Ours,
        Self::OursInBatches,
        Self::Lru,
        Self::S3Fifo,
        Self::SegmentedLru,
        Self::TinyLfu,
        Self::Clairvoyant,
    ];

    /// What ours must not fall behind.
    pub const OTHERS: [Self; 4] = [Self::Lru, Self::S3Fifo, Self::SegmentedLru, Self::TinyLfu];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursInBatches => "ours, to 90 %",
            Self::Lru => "LRU",
            Self::S3Fifo => "S3-FIFO",
            Self::SegmentedLru => "segmented LRU",
            Self::TinyLfu => "W-TinyLFU",
            Self::Clairvoyant => "clairvoyant",
        }
    }

    fn cache(self, capacity: usize, sequence: &Sequence) -> Box<dyn Cache> {
        let blocks = sequence.distinct();
        match self {
            Self::Ours => Box::new(ours::Ours::exact(capacity)),
            Self::OursInBatches => Box::new(ours::Ours::in_batches(capacity)),
            Self::Lru => Box::new(lru::Lru::new(capacity, blocks)),
            Self::S3Fifo => Box::new(s3_fifo::S3Fifo::new(capacity, blocks)),
            Self::SegmentedLru => Box::new(segmented_lru::SegmentedLru::new(capacity, blocks)),
            Self::TinyLfu => Box::new(tiny_lfu::TinyLfu::new(capacity, blocks)),
            Self::Clairvoyant => Box::new(clairvoyant::Clairvoyant::new(capacity, sequence)),
        }
    }
}

/// Hits of a policy that holds `capacity` blocks.
fn hits(name: PolicyName, capacity: usize, sequence: &Sequence) -> u64 {
    let mut cache = name.cache(capacity, sequence);
    let mut hits = 0;
    for request in sequence.requests() {
        let found = request.iter().take_while(|block| cache.holds(block.number)).count();
        hits += found as u64;
        for (at, block) in request.iter().enumerate() {
            // Behind the gap a block may be there all the same: it was put again, and that is a use.
            if at < found || cache.holds(block.number) {
                cache.hit(*block);
            } else {
                cache.insert(*block);
            }
        }
        debug_assert!(cache.len() <= capacity, "{name:?} holds {} blocks of {capacity}", cache.len());
    }
    hits
}

/// Runs every policy at every capacity over the trace, and over workloads of other kinds.
pub fn run(what: &str, requests: &[TraceRequest], mut advance: impl FnMut(&str)) -> Vec<Report> {
    let others = workloads::all();
    let all =
        std::iter::once((what, requests)).chain(others.iter().map(|(what, requests)| (*what, requests.as_slice())));
    all.map(|(what, requests)| {
        advance(what);
        one(what, requests)
    })
    .collect()
}

fn one(what: &str, requests: &[TraceRequest]) -> Report {
    let began = Instant::now();
    let sequence = Sequence::of(requests);
    let rows = CAPACITIES_PERCENT.iter().map(|percent| {
        let blocks = ((sequence.distinct() as f64 * percent / 100.0).round() as usize).max(1);
        let hits = PolicyName::ALL.map(|name| hits(name, blocks, &sequence));
        report::Row { percent: *percent, blocks, hits }
    });
    let rows = rows.collect();
    let (references, distinct) = (sequence.references(), sequence.distinct() as u64);
    Report { what: what.to_owned(), requests: requests.len() as u64, references, distinct, rows, took: began.elapsed() }
}

#[cfg(test)]
mod tests;
