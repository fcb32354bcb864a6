//! What is there of a prompt. LOOKUP_BLOCK_PREFIX: how many of its blocks. RESTORE_CHAIN: that, blocks and sidecar in one
//! round trip; of a long prompt as much as is asked for at once.

use super::handler::{Answered, LOOKUP_CHECKS_MAX, StoreService, hit, invalid, unknown_part};
use super::{Deadline, Peer};
use crate::keys::Key;
use crate::store::{ReadOutcome, Store};
use crate::world::World;
use bettong_wire::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, LOOKUP_HASHES_MAX};
use bettong_wire::request::{LookupBlockPrefix, PartAsk, RestoreChain, Target};
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
    pub(super) fn lookup(&self, peer: &Peer, lookup: &LookupBlockPrefix) -> Answered {
        let (ns, parts) = self.blocks(peer, lookup.ns)?;
        let asked = self.asked_parts(&parts, &lookup.parts, lookup.hashes.len())?;
        let blocks = self.store().longest_prefix(ns, &lookup.hashes, &asked);
        Ok(Response::ok(Answer::Prefix { blocks: u32::try_from(blocks).unwrap_or(u32::MAX) }))
    }

    /// The parts that count for a look-up of so many hashes: those asked for, or all, each whole.
    fn asked_parts(&self, parts: &[u16], asked: &[PartAsk], hashes: usize) -> Result<Vec<PartAsk>, ServiceError> {
        if hashes > LOOKUP_HASHES_MAX {
            let message = format!("{hashes} hashes are asked for, the limit is {LOOKUP_HASHES_MAX}");
            return Err(ServiceError::too_large(message, LOOKUP_HASHES_MAX as u64));
        }
        if let Some(ask) = asked.iter().find(|ask| !parts.contains(&ask.part.0)) {
            return Err(unknown_part(parts, ask.part.0));
        }
        let asked = if asked.is_empty() { Store::<W>::whole_parts(parts) } else { asked.to_vec() };
        let repeated = (1..asked.len()).any(|at| asked[..at].iter().any(|ask| ask.part == asked[at].part));
        if repeated {
            return Err(invalid("a part is asked for twice"));
        }
        let checks = hashes.saturating_mul(asked.len());
        if checks > LOOKUP_CHECKS_MAX {
            let parts = asked.len();
            let message =
                format!("{hashes} hashes of {parts} parts are {checks} look-ups, the limit is {LOOKUP_CHECKS_MAX}");
            return Err(ServiceError::too_large(message, LOOKUP_CHECKS_MAX as u64));
        }
        Ok(asked)
    }

    /// What the answer brings at most, without a look-up.
    pub(super) fn weigh_chain(&self, peer: &Peer, restore: &RestoreChain) -> Result<u64, ServiceError> {
        let (ns, parts) = self.blocks(peer, restore.ns)?;
        let asked = self.asked_parts(&parts, &restore.parts, restore.hashes.len())?;
        let bytes_max = bytes_max(restore);
        let weight = |hash: &BlockHash| -> u64 {
            let key = |ask: &PartAsk| Key::block(ns, BlockKey { hash: *hash, part: ask.part });
            asked.iter().map(|ask| self.store().weight(&key(ask))).sum()
        };
        // Each block brings its whole parts at least.
        let blocks_max = BATCH_ITEMS_MAX / asked.iter().filter(|ask| ask.last_n == 0).count().max(1);
        let blocks = restore.hashes.iter().skip(restore.from as usize).take(blocks_max.max(1));
        let mut blocks = blocks.map(weight);
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
