//! The operations on blocks: look-ups of whole chains, and batches that are put and got.

use super::{Plan, repeat};
use crate::cli::BenchOp;
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::{Access, Remote};
use crate::render::latency::Latency;
use crate::replay;
use crate::trace::payload;
use bettong_wire::limits::BATCH_ITEMS_MAX;
use bettong_wire::request::BlockPut;
use bettong_wire::{BlockHash, BlockKey, Part};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

/// Chains that each connection gets, or takes its bytes from, in turn.
const CHAINS: u64 = 4;
/// Payload bytes of one batch while the chains are stored, so that large blocks do not fill a daemon's memory at once.
const STORED_AT_ONCE_BYTES: usize = 16 << 20;
/// Deletes of one connection under way at a time, once the measurement is over.
const DELETES_AT_ONCE: usize = 32;

/// As many blocks as one request takes, each the parent of the next.
#[derive(Clone, Debug)]
struct Chain {
    hashes: Vec<BlockHash>,
    values: Vec<Bytes>,
}

impl Chain {
    fn new(seed: u64, number: u64, plan: &Plan) -> Self {
        let value = |index: u64| Bytes::from(payload::block(payload::mix(seed ^ number) ^ index, plan.size));
        let values = match plan.op {
            // Their bytes are never read: a long chain needs no memory for them.
            BenchOp::Lookup => vec![value(0); plan.batch],
            _ => (0..plan.batch as u64).map(value).collect(),
        };
        Self { hashes: hashes(seed, number, plan.batch), values }
    }

    /// Whether these are all the blocks of the chain, byte for byte.
    fn is(&self, got: &[impl AsRef<[u8]>]) -> bool {
        got.len() == self.values.len() && got.iter().zip(&self.values).all(|(got, put)| got.as_ref() == put.as_ref())
    }
}

fn hashes(seed: u64, number: u64, len: usize) -> Vec<BlockHash> {
    let root = BlockHash(*blake3::hash(&[seed.to_le_bytes(), number.to_le_bytes()].concat()).as_bytes());
    (0..len as u64)
        .scan(root, |parent, index| {
            *parent = parent.child(&index.to_le_bytes());
            Some(*parent)
        })
        .collect()
}

fn key(hash: BlockHash) -> BlockKey {
    BlockKey { hash, part: Part(0) }
}

/// One connection and what it works on.
pub struct BlockDriver {
    remote: Remote,
    plan: Plan,
    /// No other connection, and no other bench, has blocks of these hashes.
    seed: u64,
    chains: Vec<Arc<Chain>>,
    /// Chains that were put besides.
    fresh: u64,
    /// What this connection has to remove at the end.
    stored: Vec<BlockHash>,
}

impl BlockDriver {
    /// Connects and stores what will be looked up or got. Look-ups only read: one chain serves every connection.
    pub async fn prepare(access: &Access, plan: Plan) -> Outcome<Vec<Self>> {
        let mut drivers: Vec<Self> = Vec::new();
        for index in 0..plan.concurrency {
            let remote = Remote::open(access, Some(replay::identity("bf16"))).await?;
            let seed = RandomState::new().hash_one((std::process::id(), index));
            let shared = drivers.first().filter(|_| plan.op == BenchOp::Lookup).map(|first| first.chains.clone());
            let is_shared = shared.is_some();
            let count = if plan.op == BenchOp::Lookup { 1 } else { CHAINS };
            let chains =
                shared.unwrap_or_else(|| (0..count).map(|number| Arc::new(Chain::new(seed, number, &plan))).collect());
            let mut driver = Self { remote, plan, seed, chains, fresh: 0, stored: Vec::new() };
            if plan.op != BenchOp::PutBatch && !is_shared {
                for chain in driver.chains.clone() {
                    let at_once = (STORED_AT_ONCE_BYTES / plan.size.max(1)).clamp(1, BATCH_ITEMS_MAX);
                    driver.put(&chain.hashes, &chain.values, at_once).await?;
                }
            }
            drivers.push(driver);
        }
        Ok(drivers)
    }

    /// Repeats the operation until the time is over.
    pub async fn drive(&mut self, until: Instant) -> Outcome<Latency> {
        let mut turn = 0_usize;
        repeat(until, async || {
            let Some(chain) = self.chains.get(turn % self.chains.len().max(1)).cloned() else { return Ok(()) };
            turn += 1;
            match self.plan.op {
                BenchOp::Lookup => self.look_up(&chain).await,
                BenchOp::GetBatch => self.get(&chain).await,
                _ => {
                    // A block is immutable: only one that is new is really put.
                    let fresh = hashes(self.seed, CHAINS + self.fresh, self.plan.batch);
                    self.fresh += 1;
                    self.put(&fresh, &chain.values, fresh.len()).await
                }
            }
        })
        .await
    }

    async fn look_up(&self, chain: &Chain) -> Outcome {
        let found = self.remote.lookup(&chain.hashes).await?;
        if found == chain.hashes.len() {
            return Ok(());
        }
        let put = chain.hashes.len();
        Err(Failure::new(Exit::CheckFailed, format!("{put} blocks of a chain were put, {found} are found")))
    }

    /// Gets a whole chain in one request and compares every byte.
    async fn get(&self, chain: &Chain) -> Outcome {
        let got = self.remote.get_blocks(chain.hashes.iter().copied().map(key).collect()).await?;
        let got: Vec<_> = got.into_iter().map(|(bytes, _)| bytes).collect();
        if chain.is(&got) {
            return Ok(());
        }
        let (put, got) = (chain.values.len(), got.len());
        Err(Failure::new(Exit::CheckFailed, format!("a batch of {put} blocks: {got} came, or not the bytes put")))
    }

    async fn put(&mut self, hashes: &[BlockHash], values: &[Bytes], at_once: usize) -> Outcome {
        let parents = std::iter::once(None).chain(hashes.iter().copied().map(Some));
        let mut puts: Vec<(BlockPut, Bytes)> = Vec::with_capacity(hashes.len());
        for (sequence, ((hash, value), parent)) in (0_u32..).zip(hashes.iter().zip(values).zip(parents)) {
            let put = BlockPut { key: key(*hash), parent, sequence, len: value.len() as u64 };
            puts.push((put, value.clone()));
        }
        for batch in puts.chunks(at_once.max(1)) {
            self.stored.extend(batch.iter().map(|(put, _)| put.key.hash));
            self.remote.put_blocks(batch.to_vec(), self.plan.level.into()).await?;
        }
        Ok(())
    }

    /// Removes what was stored.
    pub async fn clean(self) -> Outcome {
        let deletes = self.stored.iter().map(|hash| self.remote.delete_block(key(*hash)));
        stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE).try_for_each(|_| async { Ok(()) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::PutLevel;
    use std::time::Duration;

    #[test]
    fn a_chain_is_known_by_every_byte_and_by_its_order() {
        let duration = Duration::ZERO;
        let plan =
            Plan { op: BenchOp::GetBatch, size: 100, batch: 3, concurrency: 1, duration, level: PutLevel::Object };
        let chain = Chain::new(1, 2, &plan);
        assert!(chain.is(&chain.values));
        let mut flipped: Vec<Vec<u8>> = chain.values.iter().map(|value| value.to_vec()).collect();
        flipped[2][99] ^= 1;
        let mut swapped = chain.values.clone();
        swapped.swap(0, 1);
        assert!(!chain.is(&flipped) && !chain.is(&swapped) && !chain.is(&chain.values[..2]));
        assert!(!chain.is(&Chain::new(1, 3, &plan).values));
        assert_ne!(chain.hashes, Chain::new(1, 3, &plan).hashes);
    }
}
