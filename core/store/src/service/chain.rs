//! RESTORE_CHAIN: look-up, blocks and sidecar of a prompt in one round trip; of a long prompt as much as is asked for at once.

use super::handler::{Answered, StoreService, hit, invalid};
use super::{Deadline, Peer};
use crate::keys::Key;
use crate::store::ReadOutcome;
use crate::world::World;
use bettong_wire::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use bettong_wire::request::{PartAsk, RestoreChain, Target};
use bettong_wire::response::{Answer, Chain, Hit, ItemOutcome};
use bettong_wire::{BlockHash, BlockKey, MissReason, Payload, Response, ServiceError};

/// Payload bytes that one answer brings where its caller sets no limit.
const BYTES_DEFAULT: u64 = 64 << 20;

/// What one answer is to bring.
struct Plan {
    /// Leading blocks that are present.
    blocks: usize,
    /// The values, each with its block.
    values: Vec<(usize, Key)>,
    /// The first block that is not among them.
    end: usize,
    sidecar: Option<Key>,
    /// Whether a prefix that turns out to be shorter needs other values than these.
    has_windows: bool,
    bytes: u64,
}

/// Payload bytes that the answer may bring.
fn bytes_max(restore: &RestoreChain) -> u64 {
    match restore.bytes_max {
        0 => BYTES_DEFAULT,
        asked => asked.min(BATCH_BYTES_MAX),
    }
}

impl<W: World> StoreService<W> {
    /// What the answer brings at most, without a look-up.
    pub(super) fn weigh_chain(&self, peer: &Peer, restore: &RestoreChain) -> Result<u64, ServiceError> {
        let (ns, parts) = self.blocks(peer, restore.ns)?;
        let asked = self.asked_parts(&parts, &restore.parts, restore.hashes.len())?;
        let bytes_max = bytes_max(restore);
        let weight = |hash: &BlockHash| -> u64 {
            let key = |ask: &PartAsk| Key::block(ns, BlockKey { hash: *hash, part: ask.part });
            asked.iter().map(|ask| self.store().weight(&key(ask))).sum()
        };
        let mut blocks = restore.hashes.iter().skip(restore.from as usize).take(BATCH_ITEMS_MAX).map(weight);
        let sidecar = restore.sidecar.map_or(0, |key| self.store().weight(&Key::of(ns, &Target::Sidecar(key))));
        let first = blocks.next().unwrap_or(sidecar);
        let sum = |sum: u64, bytes: u64| sum.checked_add(bytes).filter(|sum| *sum < bytes_max);
        Ok(blocks.chain([sidecar]).try_fold(first, sum).unwrap_or(bytes_max).max(first))
    }

    fn plan_chain(&self, peer: &Peer, restore: &RestoreChain) -> Result<Plan, ServiceError> {
        let (ns, parts) = self.blocks(peer, restore.ns)?;
        let hashes = &restore.hashes;
        let asked = self.asked_parts(&parts, &restore.parts, hashes.len())?;
        let from = restore.from as usize;
        if from > hashes.len() {
            return Err(invalid(format!("block {from} of a chain of {} is asked for", hashes.len())));
        }
        let bytes_max = bytes_max(restore);
        let blocks = self.store().longest_prefix(ns, hashes, &asked);
        let counts = |ask: &&PartAsk, at: usize| ask.last_n == 0 || at + ask.last_n as usize >= blocks;
        let mut plan = Plan {
            blocks,
            values: Vec::new(),
            end: from,
            sidecar: None,
            has_windows: asked.iter().any(|ask| ask.last_n > 0),
            bytes: 0,
        };
        for (at, hash) in hashes.iter().enumerate().take(blocks).skip(from) {
            let values = asked.iter().filter(|ask| counts(ask, at));
            let values: Vec<Key> = values.map(|ask| Key::block(ns, BlockKey { hash: *hash, part: ask.part })).collect();
            let bytes: u64 = values.iter().map(|key| self.store().weight(key)).sum();
            let fits = plan.values.len() + values.len() <= BATCH_ITEMS_MAX && plan.bytes + bytes <= bytes_max;
            if at > from && !fits {
                break;
            }
            plan.values.extend(values.into_iter().map(|key| (at, key)));
            plan.bytes += bytes;
            plan.end = at + 1;
        }
        if let Some(sidecar) = restore.sidecar.filter(|_| plan.end == hashes.len() && blocks == hashes.len()) {
            let key = Key::of(ns, &Target::Sidecar(sidecar));
            let bytes = self.store().weight(&key);
            let fits = plan.values.len() < BATCH_ITEMS_MAX && plan.bytes + bytes <= bytes_max.max(plan.bytes);
            if plan.values.is_empty() || fits {
                plan.sidecar = Some(key);
                plan.bytes += bytes;
            }
        }
        Ok(plan)
    }

    pub(super) async fn restore_chain(&self, peer: &Peer, restore: RestoreChain, deadline: Deadline) -> Answered {
        let plan = self.plan_chain(peer, &restore)?;
        let keys = plan.values.iter().map(|(_, key)| *key).chain(plan.sidecar).map(Some).collect();
        let mut read = self.read_all(keys, self.patience(restore.limits, deadline)).await;
        let sidecar = plan.sidecar.and_then(|_| read.pop());
        let miss = plan.values.iter().zip(&read).enumerate().find_map(|(at, ((block, _), outcome))| match outcome {
            ReadOutcome::Miss(reason) => Some((at, *block, *reason)),
            ReadOutcome::Hit { .. } => None,
        });
        let (mut blocks, mut end) = (plan.blocks, plan.end);
        if let Some((at, block, reason)) = miss {
            let begin = plan.values[..at].iter().rposition(|(of, _)| *of < block).map_or(0, |before| before + 1);
            read.truncate(begin);
            end = block;
            if !is_passing(reason) {
                blocks = block;
                if plan.has_windows {
                    read.clear();
                    end = restore.from as usize;
                }
            } else if read.is_empty() {
                return Ok(Response::miss(reason));
            }
        }
        let sidecar = sidecar.filter(|_| miss.is_none());
        Ok(answer(blocks, end, read, sidecar))
    }
}

/// Whether what is missed for this reason may be read in a moment: it counts as present.
fn is_passing(reason: MissReason) -> bool {
    matches!(reason, MissReason::Deadline | MissReason::Declined | MissReason::TierDown | MissReason::NoRoom)
}

fn answer(blocks: usize, end: usize, read: Vec<ReadOutcome>, sidecar: Option<ReadOutcome>) -> Response {
    let mut payloads = Vec::with_capacity(read.len() + 1);
    let hits = read.into_iter().filter_map(|outcome| took(outcome, &mut payloads).ok()).collect();
    let sidecar = sidecar.map(|outcome| took(outcome, &mut payloads).map_or_else(ItemOutcome::Miss, ItemOutcome::Hit));
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let chain = Chain { blocks: number(blocks), end: number(end), hits, sidecar };
    Response::with_payloads(Answer::Chain(chain), payloads)
}

fn took(outcome: ReadOutcome, payloads: &mut Vec<Payload>) -> Result<Hit, MissReason> {
    match outcome {
        ReadOutcome::Hit { payload, entry, tier } => {
            payloads.push(payload);
            Ok(hit(&entry, tier))
        }
        ReadOutcome::Miss(reason) => Err(reason),
    }
}
