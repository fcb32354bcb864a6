//! One session of a replay.

use super::Shared;
use super::tally::Tally;
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::Remote;
use crate::trace::{TraceRequest, payload};
use bettong_wire::limits::BATCH_ITEMS_MAX;
use bettong_wire::request::BlockPut;
use bettong_wire::{BlockHash, BlockKey, Part};
use bytes::Bytes;
use std::time::Instant;

/// Payload bytes of one batch, so that a long prompt of big blocks does not fill a daemon's memory at once.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// Takes requests until there are none.
pub async fn work(remote: &Remote, shared: &Shared) -> Outcome {
    while let Some(request) = shared.take().await {
        let mut tally = Tally::default();
        one(remote, shared, request, &mut tally).await?;
        shared.finished(&tally);
    }
    Ok(())
}

async fn one(remote: &Remote, shared: &Shared, request: &TraceRequest, tally: &mut Tally) -> Outcome {
    let chain = request.chain();
    tally.requests += 1;
    tally.blocks += chain.len() as u64;
    shared.early.lock().asked(chain.len() as u64, shared.began.elapsed());
    let began = Instant::now();
    let found = remote.lookup(&chain).await?.min(chain.len());
    tally.lookup.record(began.elapsed());
    tally.found += found as u64;

    let began = Instant::now();
    let got = get(remote, shared, request, chain.get(..found).unwrap_or_default(), tally).await?;
    if found > 0 {
        tally.get.record(began.elapsed());
    }
    tally.vanished += (found - got) as u64;
    tally.first_blocks += u64::from(got > 0);

    let began = Instant::now();
    put(remote, shared, request, &chain, got, tally).await?;
    if got < chain.len() {
        tally.save.record(began.elapsed());
    }
    let evicted = shared.capacity.as_ref().map_or_else(Vec::new, |capacity| capacity.lock().used(&chain));
    for hash in evicted {
        remote.delete_block(BlockKey { hash, part: Part(0) }).await?;
    }
    Ok(())
}

/// Blocks of one batch.
fn batch_len(block_bytes: u64) -> usize {
    usize::try_from(BATCH_BYTES_MAX / block_bytes.max(1)).unwrap_or(BATCH_ITEMS_MAX).clamp(1, BATCH_ITEMS_MAX)
}

/// Gets the found blocks and verifies each; answers how many leading ones there were.
async fn get(
    remote: &Remote,
    shared: &Shared,
    request: &TraceRequest,
    found: &[BlockHash],
    tally: &mut Tally,
) -> Outcome<usize> {
    let len = shared.settings.block_bytes;
    let mut got = 0;
    for batch in found.chunks(batch_len(len)) {
        let keys: Vec<BlockKey> = batch.iter().map(|hash| BlockKey { hash: *hash, part: Part(0) }).collect();
        let blocks = remote.get_blocks(keys).await?;
        let whole = blocks.len() == batch.len();
        for (bytes, tier) in blocks {
            let Some(id) = request.ids.get(got) else { break };
            got += 1;
            let got_len = bytes.as_ref().len() as u64;
            if got_len != len {
                let text = format!(
                    "block {id} has {got_len} bytes and --block-bytes is {len}: where an earlier replay filled this namespace with blocks of that size, take its --block-bytes or another --namespace"
                );
                return Err(Failure::new(Exit::CheckFailed, text));
            }
            if payload::is_block(*id, len_of(len)?, bytes.as_ref()) {
                tally.verified += 1;
                shared.early.lock().hit(tier, shared.began.elapsed());
                if let Some(count) = tally.by_tier.get_mut(tier as usize) {
                    *count += 1;
                }
            } else {
                tally.wrong += 1;
            }
        }
        if !whole {
            break;
        }
    }
    Ok(got)
}

/// Puts the blocks from `from` on, with their parents.
async fn put(
    remote: &Remote,
    shared: &Shared,
    request: &TraceRequest,
    chain: &[BlockHash],
    from: usize,
    tally: &mut Tally,
) -> Outcome {
    let len = shared.settings.block_bytes;
    let missing: Vec<usize> = (from..chain.len()).collect();
    for batch in missing.chunks(batch_len(len)) {
        let mut blocks = Vec::with_capacity(batch.len());
        let mut named = Vec::with_capacity(batch.len());
        for &index in batch {
            let (Some(hash), Some(id)) = (chain.get(index), request.ids.get(index)) else { continue };
            let put = BlockPut {
                key: BlockKey { hash: *hash, part: Part(0) },
                parent: index.checked_sub(1).and_then(|before| chain.get(before)).copied(),
                sequence: u32::try_from(index).unwrap_or(u32::MAX),
                len,
            };
            blocks.push((put, Bytes::from(payload::block(*id, len_of(len)?))));
            named.push((*id, *hash));
        }
        let stored = remote.put_blocks(blocks, shared.settings.level).await?;
        tally.put += stored.iter().filter(|stored| !stored.already).count() as u64;
        tally.already += stored.iter().filter(|stored| stored.already).count() as u64;
        if let Some(ledger) = &shared.ledger {
            ledger.lock().extend(named);
        }
    }
    Ok(())
}

fn len_of(len: u64) -> Outcome<usize> {
    usize::try_from(len).map_err(|_| Failure::new(Exit::Usage, format!("a block of {len} bytes does not fit")))
}
