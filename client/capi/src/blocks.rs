//! Blocks: look-ups, puts, and values that are read where they are.
//!
//! Every function here may be called from any thread, and the same handle from several threads at once.

use crate::abi::{self, Block, Hit, Level, MissReason, Span, Status};
use crate::error::{Done, call, call_daemon};
use crate::handles::Handles;
use crate::memory::{Answer, Answers, array, copy, optional};
use crate::session::NAMESPACES;
use bettong_client::{
    BlockHash, BlockKey, BlockToPut, Error, ErrorKind, Got, Part, PartAsk, Place, ReadLimits, Stored, Value,
};
use bettong_wire::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, BLOCK_BYTES_MAX, LOOKUP_HASHES_MAX, PARTS_MAX};
use std::ptr::null_mut;

/// Values that callers hold. Their bytes stay where they are until the last `Arc` of them is dropped.
static HITS: Handles<abi::Hits, Vec<Value>> = Handles::new("bettong_hits");

fn hash(hash: abi::BlockHash) -> BlockHash {
    BlockHash(hash.bytes)
}

fn key(key: abi::BlockKey) -> BlockKey {
    BlockKey { hash: hash(key.hash), part: Part(key.part) }
}

pub fn stored(stored: Stored) -> abi::Stored {
    let Stored { put_id, already } = stored;
    abi::Stored { put_id: abi::PutId { life: put_id.life, counter: put_id.counter }, already }
}

/// # Safety
/// Where `limits` is not null and aligned, there is one.
pub unsafe fn read_limits(limits: *const abi::ReadLimits) -> Result<ReadLimits, Error> {
    // SAFETY: as the caller of this one promises.
    let limits = unsafe { optional("the read limits", limits) }?;
    Ok(limits.map_or_else(ReadLimits::default, |limits| ReadLimits {
        deadline_ms: limits.deadline_ms,
        decline_over_us: limits.decline_over_us,
    }))
}

/// How many leading blocks of a chain are present: `*blocks` of the `hash_count` at `hashes`, which are at most 65,536, the
/// chain's first block first.
///
/// `parts` says which parts count, `part_count` of them, at most 1,024; with 0 all parts of the namespace's model identity do.
///
/// Ownership: all is the caller's, and is only read. Threads: any.
///
/// # Safety
/// There are `hash_count` hashes and `part_count` parts; `blocks` is a place for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_lookup_prefix(
    ns: *const abi::Namespace,
    hashes: *const abi::BlockHash,
    hash_count: usize,
    parts: *const abi::PartAsk,
    part_count: usize,
    blocks: *mut u32,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises.
        let (mut answer, hashes, parts) = unsafe {
            let answer = Answer::at("a place for the number of blocks", blocks, 0)?;
            let hashes = array("hashes of a look-up", hashes, hash_count, LOOKUP_HASHES_MAX)?;
            (answer, hashes, array("parts of a look-up", parts, part_count, PARTS_MAX)?)
        };
        let ask = |ask: &abi::PartAsk| PartAsk { part: Part(ask.part), last_n: ask.last_n };
        let hashes = hashes.iter().copied().map(hash).collect();
        answer.set(NAMESPACES.get(ns)?.lookup_prefix(hashes, parts.iter().map(ask).collect())?);
        Ok(Done::Ok)
    })
}

/// Puts blocks, all of them or none: at most 1,024, of at most 128 MiB each and 1 GiB together. `level` is a `bettong_level`.
/// A put may be repeated: that changes nothing.
///
/// `answers` is null, or a place for `count` answers, one a block, in order; all zero after an error.
///
/// Ownership: all is the caller's. The bytes are copied before the call returns. Threads: any.
///
/// # Safety
/// There are `count` blocks, each with the bytes and the parent that it names; `answers` is null or a place for `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_put_blocks(
    ns: *const abi::Namespace,
    blocks: *const Block,
    count: usize,
    level: u32,
    answers: *mut abi::Stored,
) -> Status {
    call_daemon(|| {
        // SAFETY: as the caller promises. The count is judged before anything is written for each.
        let (blocks, mut answers) = unsafe {
            let blocks = array("blocks of a put", blocks, count, BATCH_ITEMS_MAX)?;
            (blocks, Answers::at("the array for the answers", answers, count, abi::Stored::default())?)
        };
        let namespace = NAMESPACES.get(ns)?;
        let level = Level::read(level)?;
        // Before anything is copied.
        let sum = blocks.iter().fold(0u64, |sum, block| sum.saturating_add(block.bytes.len as u64));
        if sum > BATCH_BYTES_MAX {
            let text = format!("the blocks of a put have {sum} bytes together, the limit is {BATCH_BYTES_MAX} bytes");
            return Err(Error::too_large(text, BATCH_BYTES_MAX));
        }
        // SAFETY: as the caller promises.
        let blocks = blocks.iter().enumerate().map(|(index, block)| unsafe { block_to_put(index, block) });
        let answered = namespace.put_blocks(blocks.collect::<Result<_, Error>>()?, level)?;
        answers.set(answered.into_iter().map(stored));
        Ok(Done::Ok)
    })
}

/// # Safety
/// The block has the bytes and the parent that it names.
unsafe fn block_to_put(index: usize, block: &Block) -> Result<BlockToPut, Error> {
    // SAFETY: as the caller of this one promises.
    let (parent, bytes) = unsafe {
        let parent = optional(&format!("the parent of block {index} of a put"), block.parent)?;
        (parent, copy(&format!("block {index} of a put"), block.bytes, BLOCK_BYTES_MAX)?)
    };
    let place = Place { parent: parent.map(hash), sequence: block.sequence };
    Ok(BlockToPut { key: key(block.key), place, bytes })
}

/// Gets blocks, at most 1,024: all of them, or `BETTONG_STATUS_MISS` where one is missing, and then `*reason` is why, unless
/// `reason` is null. `limits` is null for the daemon's own.
///
/// Ownership: `*hits` is the caller's, one for each key and in their order, to be given to `bettong_hits_release`; null after
/// a miss and an error. What is held counts for the client's quota, so release it soon. Threads: any.
///
/// # Safety
/// There are `count` keys; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_get_blocks(
    ns: *const abi::Namespace,
    keys: *const abi::BlockKey,
    count: usize,
    limits: *const abi::ReadLimits,
    hits: *mut *mut abi::Hits,
    reason: *mut MissReason,
) -> Status {
    // SAFETY: as the caller promises.
    call_daemon(|| unsafe { get_blocks(ns, (keys, count), Wanted::All, limits, (hits, reason)) })
}

/// The same, but gets the leading blocks: those before the first that is missing, which may be none. That is no miss, and
/// `bettong_hits_count` says how many there are.
///
/// # Safety
/// There are `count` keys; `limits` is null or one; `hits` is a place for one pointer; `reason` is null or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_get_leading_blocks(
    ns: *const abi::Namespace,
    keys: *const abi::BlockKey,
    count: usize,
    limits: *const abi::ReadLimits,
    hits: *mut *mut abi::Hits,
    reason: *mut MissReason,
) -> Status {
    // SAFETY: as the caller promises.
    call_daemon(|| unsafe { get_blocks(ns, (keys, count), Wanted::Leading, limits, (hits, reason)) })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    Leading,
}

/// # Safety
/// There are as many keys; `limits` is null or one; the places are as `Places::at` wants them.
unsafe fn get_blocks(
    ns: *const abi::Namespace,
    (keys, count): (*const abi::BlockKey, usize),
    wanted: Wanted,
    limits: *const abi::ReadLimits,
    places: (*mut *mut abi::Hits, *mut MissReason),
) -> Result<Done, Error> {
    // SAFETY: as the caller of this one promises.
    let (places, keys, limits) = unsafe {
        let places = Places::at(places)?;
        (places, array("keys of a get", keys, count, BATCH_ITEMS_MAX)?, read_limits(limits)?)
    };
    let keys = keys.iter().copied().map(key).collect();
    places.set(NAMESPACES.get(ns)?.get_blocks(keys, wanted == Wanted::Leading, limits)?)
}

/// Where a get's answer goes.
pub struct Places {
    hits: Answer<*mut abi::Hits>,
    reason: Answer<MissReason>,
}

impl Places {
    /// # Safety
    /// As for `Answer::at`; the reason may be null.
    pub unsafe fn at((hits, reason): (*mut *mut abi::Hits, *mut MissReason)) -> Result<Self, Error> {
        // SAFETY: as the caller of this one promises.
        unsafe {
            let hits = Answer::at("a place for the hits", hits, null_mut())?;
            Ok(Self { hits, reason: Answer::optional("a place for the reason", reason, MissReason::Absent)? })
        }
    }

    pub fn set(mut self, got: Got<Vec<Value>>) -> Result<Done, Error> {
        match got {
            Got::Hit(values) => {
                self.hits.set(HITS.add(values)?);
                Ok(Done::Ok)
            }
            Got::Miss(reason) => {
                self.reason.set(reason.into());
                Ok(Done::Miss(reason))
            }
        }
    }
}

/// How many values `hits` holds. Threads: any.
///
/// # Safety
/// `count` is a place for one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_hits_count(hits: *const abi::Hits, count: *mut usize) -> Status {
    call(|| {
        // SAFETY: as the caller promises.
        let mut answer = unsafe { Answer::at("a place for the number of hits", count, 0) }?;
        answer.set(HITS.get(hits)?.len());
        Ok(Done::Ok)
    })
}

/// The value number `index` of `hits`, from 0.
///
/// Ownership: the bytes of `*hit` are borrowed, not copied; they stay valid, and the same, until `bettong_hits_release`,
/// whatever becomes of the namespace, the client and the daemon. They must not be written. Threads: any may read them.
///
/// # Safety
/// `hit` is a place for one hit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bettong_hits_get(hits: *const abi::Hits, index: usize, hit: *mut Hit) -> Status {
    call(|| {
        let nothing = Span { data: std::ptr::null(), len: 0 };
        let (put_id, tier) = (abi::PutId::default(), abi::Tier::Memory);
        // SAFETY: as the caller promises.
        let mut answer =
            unsafe { Answer::at("a place for the hit", hit, Hit { bytes: nothing, put_id, expires_at_ms: 0, tier }) }?;
        let values = HITS.get(hits)?;
        let value = values.get(index).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("hit {index} is asked for, there are {} from 0 on", values.len()))
        })?;
        // The table holds these bytes until the handle is released.
        let bytes = value.bytes.as_ref();
        answer.set(Hit {
            bytes: Span { data: bytes.as_ptr(), len: bytes.len() },
            put_id: abi::PutId { life: value.put_id.life, counter: value.put_id.counter },
            expires_at_ms: value.expires_at_ms,
            tier: value.tier.into(),
        });
        Ok(Done::Ok)
    })
}

/// Releases hits. Null is nothing to do; hits that were released before are `BETTONG_STATUS_INVALID`. Over shared memory the
/// daemon hears of it with the client's next call; `bettong_ping` is one. Of a client that is closed, and all its namespaces,
/// it hears nothing any more: see `bettong_close`.
///
/// Ownership: the handle is gone, and no bytes of it may be read any more. Threads: any, once no other reads them.
#[unsafe(no_mangle)]
pub extern "C" fn bettong_hits_release(hits: *mut abi::Hits) -> Status {
    call(|| {
        if !hits.is_null() {
            HITS.take(hits)?;
        }
        Ok(Done::Ok)
    })
}
