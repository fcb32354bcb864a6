//! Pools on the heap against what a pool promises, step by step.

use super::*;
use crate::frame::SlotRef;
use bettong_wire::memory::{ReserveError, WriteBuf};
use bettong_wire::{BlockMemory, Payload};
use bytes::BufMut;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const POOL_BYTES: usize = 4 << 20;
const QUOTA: u64 = 600 << 10;
const SESSIONS: u64 = 3;

fn filled(mut buf: Box<dyn WriteBuf>, byte: u8) -> Payload {
    let len = buf.unfilled().remaining_mut();
    buf.unfilled().put_bytes(byte, len);
    buf.seal().expect("it is full")
}

fn put(pool: &SlotPool, len: u64, byte: u8) -> Result<Payload, ReserveError> {
    Ok(filled(pool.reserve(len)?, byte))
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    /// Reserved, partly filled and given up.
    GiveUp(u64),
    Evict(usize),
    Grant(u64, usize),
    /// A part of a value that has no bytes.
    GrantEmpty(u64, usize),
    Release(u64, usize),
    Forge(u64, SlotRef),
    Detach(u64),
}

fn slot_ref() -> impl Strategy<Value = SlotRef> {
    (0..40u8, 0..66u8, 0..20u32, 0..9u32).prop_map(|(class, extent, slot, generation)| SlotRef {
        class,
        extent,
        slot,
        generation,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 0..70_000u64, 1 => 0..600_000u64, 2 => prop::sample::select(vec![0, 1, 4096, 4097, 65_536, 65_537])];
    let session = || 0..SESSIONS;
    prop_oneof![
        4 => len().prop_map(Step::Put),
        1 => len().prop_map(Step::GiveUp),
        3 => any::<usize>().prop_map(Step::Evict),
        3 => (session(), any::<usize>()).prop_map(|(session, which)| Step::Grant(session, which)),
        1 => (session(), any::<usize>()).prop_map(|(session, which)| Step::GrantEmpty(session, which)),
        2 => (session(), any::<usize>()).prop_map(|(session, which)| Step::Release(session, which)),
        1 => (session(), slot_ref()).prop_map(|(session, slot)| Step::Forge(session, slot)),
        1 => session().prop_map(Step::Detach),
    ]
}

/// What a reader was promised.
struct Promise {
    byte: u8,
    len: u64,
    slot_bytes: u64,
    count: u64,
}

/// What must be true of a pool and its leases.
#[derive(Default)]
struct Model {
    cached: Vec<(Payload, u8)>,
    leased: BTreeMap<(u64, SlotRef), Promise>,
    /// Every reference that ever was, and what it names.
    named: BTreeMap<SlotRef, u64>,
}

proptest! {
    /// No two hold the same bytes, what is held does not change, a reference names one value for ever, what nobody holds is
    /// free, and what was never leased cannot be released.
    #[test]
    fn a_pool_keeps_its_promises(steps in prop::collection::vec(step(), 0..150)) {
        let region = Arc::new(HeapRegion::new(POOL_BYTES));
        let view = View::new(region.clone()).unwrap();
        let pool = SlotPool::new(region).unwrap();
        let leases = Leases::new(pool.clone(), QUOTA);
        (0..SESSIONS).for_each(|session| assert!(leases.attach(SessionId(session))));
        let mut model = Model::default();
        for (number, step) in (0u64..).zip(&steps) {
            let byte = number as u8;
            match step {
                Step::Put(len) => match put(&pool, *len, byte) {
                    Ok(payload) => {
                        let found = pool.find(&payload);
                        prop_assert_eq!(found.is_some(), *len > 0);
                        if let Some(slot) = found.map(|found| found.slot) {
                            prop_assert_eq!(model.named.insert(slot, number), None, "{:?} names two values", slot);
                        }
                        model.cached.push((payload, byte));
                    }
                    Err(ReserveError::TooLarge { limit, .. }) => prop_assert!(*len > limit),
                    Err(ReserveError::Full { .. }) => prop_assert!(pool.usage().assigned > 0),
                },
                Step::GiveUp(len) => if let Ok(mut buf) = pool.reserve(*len) {
                    buf.unfilled().put_bytes(byte, (*len / 2) as usize);
                    prop_assert!(*len == 0 || buf.seal().is_none(), "half a value can be read");
                },
                Step::Evict(which) if !model.cached.is_empty() => {
                    let which = which % model.cached.len();
                    model.cached.swap_remove(which);
                }
                Step::Grant(session, which) if !model.cached.is_empty() => {
                    let (payload, byte) = &model.cached[which % model.cached.len()];
                    match leases.grant(SessionId(*session), payload) {
                        Ok(found) => {
                            let held = model.leased.entry((*session, found.slot));
                            let (byte, len) = (*byte, payload.len() as u64);
                            let promise = Promise { byte, len, slot_bytes: found.slot_bytes, count: 0 };
                            held.or_insert(promise).count += 1;
                        }
                        Err(LeaseError::OverQuota { held, slot_bytes, limit }) => {
                            prop_assert!(held + slot_bytes > limit);
                        }
                        Err(LeaseError::NotInPool) => prop_assert!(payload.is_empty()),
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                Step::GrantEmpty(session, which) if !model.cached.is_empty() => {
                    let (payload, _) = &model.cached[which % model.cached.len()];
                    let empty = payload.slice(payload.len() as u64 / 2, 0).unwrap();
                    prop_assert_eq!(leases.grant(SessionId(*session), &empty), Err(LeaseError::NotInPool));
                }
                Step::Release(session, which) => {
                    let held: Vec<_> = model.leased.keys().filter(|(by, _)| by == session).copied().collect();
                    if let Some(key) = (!held.is_empty()).then(|| held[which % held.len()]) {
                        prop_assert_eq!(leases.release(SessionId(*session), key.1), Ok(()));
                        let count = &mut model.leased.get_mut(&key).unwrap().count;
                        *count -= 1;
                        if *count == 0 {
                            model.leased.remove(&key);
                        }
                    }
                }
                Step::Forge(session, slot) if !model.leased.contains_key(&(*session, *slot)) => {
                    prop_assert_eq!(leases.release(SessionId(*session), *slot), Err(NotLeased { slot: *slot }));
                }
                Step::Detach(session) => {
                    leases.detach(SessionId(*session));
                    model.leased.retain(|(by, _), _| by != session);
                    prop_assert!(leases.attach(SessionId(*session)));
                }
                Step::Evict(_) | Step::Grant(..) | Step::GrantEmpty(..) | Step::Forge(..) => {}
            }
            check(&pool, &view, &leases, &model)?;
        }
        drop(model);
        for session in 0..SESSIONS {
            leases.detach(SessionId(session));
        }
        let usage = pool.usage();
        prop_assert_eq!((usage.in_use, usage.payload, usage.slots), (0, 0, 0));
        // All of it can be had again, by another class.
        let largest = POOL_BYTES as u64 / 64;
        prop_assert_eq!(pool.usage().bytes, put(&pool, POOL_BYTES as u64, 0).unwrap().len() as u64);
        let all: Vec<_> = (0..64).map(|byte| put(&pool, largest, byte).unwrap()).collect();
        prop_assert_eq!(pool.usage().in_use, POOL_BYTES as u64);
        drop(all);
    }
}

/// Whether the value begins and ends as it was put.
fn same(bytes: &[u8], byte: u8) -> bool {
    bytes.iter().take(9).chain(bytes.iter().rev().take(9)).all(|is| *is == byte)
}

fn check(pool: &SlotPool, view: &View, leases: &Leases, model: &Model) -> Result<(), TestCaseError> {
    let mut ranges = BTreeSet::new();
    let mut slots = BTreeMap::new();
    let mut empty = 0;
    for (payload, byte) in &model.cached {
        prop_assert!(same(payload.as_ref(), *byte), "what is cached has changed");
        // A value without bytes has a slot all the same.
        let Some(found) = pool.find(payload) else {
            empty += 1;
            continue;
        };
        slots.insert(found.slot, found.slot_bytes);
        ranges.insert((payload.as_ref().as_ptr().addr(), payload.len()));
    }
    let mut end = 0;
    for (begin, len) in ranges {
        prop_assert!(begin >= end, "two values overlap");
        end = begin + len;
    }
    for session in 0..SESSIONS {
        let held = model.leased.iter().filter(|((by, _), _)| *by == session);
        let bytes: u64 = held.clone().map(|(_, promise)| promise.slot_bytes).sum();
        prop_assert_eq!(leases.bytes_of(SessionId(session)), Some(bytes));
        prop_assert!(bytes <= QUOTA);
        for ((_, slot), promise) in held.clone() {
            // SAFETY: the slot is leased, or the test fails.
            let bytes = unsafe { view.bytes(*slot, 0, promise.len) }.unwrap();
            prop_assert!(same(bytes, promise.byte), "what is leased has changed");
        }
        slots.extend(held.map(|((_, slot), promise)| (*slot, promise.slot_bytes)));
    }
    // Free, live, or leased: nothing else takes room.
    let usage = pool.usage();
    prop_assert_eq!(usage.slots, slots.len() as u64 + empty);
    prop_assert_eq!(usage.in_use, slots.values().sum::<u64>() + empty * SLOT_BYTES_MIN);
    prop_assert!(usage.payload <= usage.in_use && usage.in_use <= usage.assigned && usage.assigned <= usage.bytes);
    Ok(())
}

#[test]
fn a_leased_slot_is_not_used_again() {
    // One slot for all.
    let pool = SlotPool::on_the_heap(4096).unwrap();
    let leases = Leases::new(pool.clone(), QUOTA);
    assert!(leases.attach(SessionId(1)));
    let payload = put(&pool, 100, 7).unwrap();
    let found = leases.grant(SessionId(1), &payload).unwrap();
    assert_eq!((found.offset, found.slot_bytes), (0, 4096));
    drop(payload);
    assert_eq!(put(&pool, 1, 8).unwrap_err(), ReserveError::Full { len: 1, in_use: 4096, budget: 4096 });
    leases.release(SessionId(1), found.slot).unwrap();
    assert_eq!(leases.release(SessionId(1), found.slot), Err(NotLeased { slot: found.slot }));
    let again = pool.find(&put(&pool, 1, 8).unwrap()).unwrap().slot;
    assert_eq!((again.slot, again.generation), (found.slot.slot, found.slot.generation + 1));
}

#[test]
fn a_part_of_a_value_is_leased_with_its_slot() {
    let pool = SlotPool::on_the_heap(1 << 20).unwrap();
    let leases = Leases::new(pool.clone(), 16_384);
    assert!(leases.attach(SessionId(1)));
    let payload = put(&pool, 10_000, 7).unwrap();
    let part = payload.slice(5000, 10).unwrap();
    let found = leases.grant(SessionId(1), &part).unwrap();
    assert_eq!((found.offset, leases.bytes_of(SessionId(1))), (5000, Some(10_240)));
    let other = put(&pool, 10_000, 8).unwrap();
    let refused = leases.grant(SessionId(1), &other).unwrap_err();
    assert_eq!(refused, LeaseError::OverQuota { held: 10_240, slot_bytes: 10_240, limit: 16_384 });
    assert_eq!(leases.grant(SessionId(2), &other), Err(LeaseError::Ended(SessionId(2))));
    assert_eq!(leases.grant(SessionId(1), &vec![1].into()), Err(LeaseError::NotInPool));
    assert_eq!(leases.detach(SessionId(1)), 10_240);
}

#[test]
fn a_reference_names_a_slot_or_nothing() {
    let view = View::new(Arc::new(HeapRegion::new(1 << 20))).unwrap();
    let slot = |class, extent, slot| SlotRef { class, extent, slot, generation: 1 };
    // SAFETY: nobody writes this region.
    let len = |slot, offset, len| unsafe { view.bytes(slot, offset, len) }.map(<[u8]>::len);
    assert_eq!(len(slot(0, 63, 3), 96, 4000), Some(4000));
    assert_eq!(len(slot(0, 63, 3), 97, 4000), None, "longer than the slot");
    assert_eq!(len(slot(0, 63, 3), u64::MAX, 2), None);
    assert_eq!(len(slot(0, 63, 4), 0, 0), None, "an extent has four of them");
    assert_eq!(len(slot(0, 64, 0), 0, 0), None);
    assert_eq!(len(slot(9, 62, 0), 0, 32_768), Some(32_768), "a run of two extents");
    assert_eq!(len(slot(9, 62, 1), 0, 0), None, "a run is one slot");
    assert_eq!(len(slot(9, 63, 0), 0, 0), None, "a run does not go beyond the pool");
    assert_eq!(len(slot(72, 0, 0), 0, 0), None, "there is no such class");
    assert_eq!(len(slot(8, 63, 0), 0, 16_384), Some(16_384));
}

/// An empty part of a value points into its slot and does not hold it. As a lease it would keep nothing, and stand in the way
/// of one that does.
#[test]
fn an_empty_part_is_no_lease() {
    let pool = SlotPool::on_the_heap(4096).unwrap();
    let leases = Leases::new(pool.clone(), QUOTA);
    assert!(leases.attach(SessionId(1)));
    let payload = put(&pool, 100, 7).unwrap();
    for at in [0, 50, 100] {
        let empty = payload.slice(at, 0).unwrap();
        assert_eq!(leases.grant(SessionId(1), &empty), Err(LeaseError::NotInPool));
    }
    leases.grant(SessionId(1), &payload).unwrap();
    drop(payload);
    assert!(put(&pool, 1, 8).is_err(), "a leased slot is used again");
}

#[test]
fn a_slot_wastes_a_quarter_at_most() {
    let classes = Classes::of_layout(Layout { extent_bytes: 64 << 20, extents: 1 });
    assert_eq!(classes.of(0), Some(0));
    for len in (1..64 << 20).step_by(4001).chain([64 << 20]) {
        let slot_bytes = classes.slot_bytes(classes.of(len).unwrap()).unwrap();
        assert!(slot_bytes >= len && slot_bytes <= (len + len / 4 + 1).max(SLOT_BYTES_MIN), "{len} in {slot_bytes}");
    }
    assert_eq!(classes.of((64 << 20) + 1), None);
}

#[test]
fn a_pool_has_a_size() {
    assert_eq!(Layout::of(4095), Err(PoolError::TooSmall { bytes: 4095, least: 4096 }));
    assert_eq!(Layout::of(4096), Ok(Layout { extent_bytes: 4096, extents: 1 }));
    assert_eq!(Layout::of(512 << 20), Ok(Layout { extent_bytes: 8 << 20, extents: 64 }));
    for bytes in (4096..40 << 20).step_by(7777) {
        let layout = Layout::of(bytes).unwrap();
        assert!(layout.bytes() <= bytes && layout.bytes() >= bytes / 2, "{bytes}: {layout:?}");
    }
    assert!(matches!(Layout::of(u64::MAX), Err(PoolError::TooLarge { .. })));
}
