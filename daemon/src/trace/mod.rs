//! Traces of requests: which blocks each prompt is made of.

pub mod generated;
pub mod mooncake;
pub mod payload;

use bettong_wire::BlockHash;
use std::collections::BTreeSet;

/// Tokens in one block of a trace.
pub const BLOCK_TOKENS: u32 = 512;

/// One request of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// Arrival, in milliseconds from the start of the trace.
    pub timestamp_ms: u64,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// The prompt's blocks in order. Equal ids are the same block.
    pub ids: Vec<u64>,
}

impl TraceRequest {
    /// The hash of every block: each names its whole prefix.
    pub fn chain(&self) -> Vec<BlockHash> {
        self.ids
            .iter()
            .scan(BlockHash(*blake3::hash(b"bettong trace").as_bytes()), |parent, id| {
                *parent = parent.child(&id.to_le_bytes());
                Some(*parent)
            })
            .collect()
    }
}

/// What a cache that keeps everything would do with a trace, one request after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ideal {
    /// Block references in all.
    pub blocks: u64,
    /// Of these, blocks of a prefix that is there already.
    pub hits: u64,
    /// Different blocks.
    pub distinct: u64,
}

/// Computes the ideal.
pub fn ideal(requests: &[TraceRequest]) -> Ideal {
    let mut seen = BTreeSet::new();
    let mut ideal = Ideal::default();
    for request in requests {
        let chain = request.chain();
        ideal.blocks += chain.len() as u64;
        ideal.hits += chain.iter().take_while(|hash| seen.contains(*hash)).count() as u64;
        seen.extend(chain);
    }
    ideal.distinct = seen.len() as u64;
    ideal
}
