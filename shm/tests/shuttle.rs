//! Threads that share a pool, in many orders: `cargo shuttle`.
#![cfg(shuttle)]

use bettong_shm::planted::{Bug, plant};
use bettong_shm::pool::{HeapRegion, Leases, SessionId, SlotPool, View};
use bettong_wire::{BlockMemory, Payload};
use shuttle::sync::Mutex;
use shuttle::thread;
use std::panic::catch_unwind;
use std::sync::Arc;

const ORDERS: usize = 5_000;
/// Two slots: what is evicted is soon used again.
const POOL_BYTES: usize = 2 * 4096;
const READERS: u64 = 2;

fn put(pool: &SlotPool, byte: u8) -> Option<Payload> {
    let mut buf = pool.reserve(4096).ok()?;
    bytes::BufMut::put_bytes(buf.unfilled(), byte, 4096);
    buf.seal()
}

/// One thread overwrites what is cached again and again; others lease what is there, read it in place, and let go.
fn readers_beside_a_writer() {
    let region = Arc::new(HeapRegion::new(POOL_BYTES));
    let view = Arc::new(View::new(region.clone()).unwrap());
    let pool = SlotPool::new(region).unwrap();
    let leases = Arc::new(Leases::new(pool.clone(), u64::MAX));
    let cached = Arc::new(Mutex::new(put(&pool, 0)));
    let writer = {
        let (pool, cached) = (pool.clone(), cached.clone());
        thread::spawn(move || {
            for byte in 1..4 {
                let fresh = put(&pool, byte);
                if fresh.is_some() {
                    let evicted = std::mem::replace(&mut *cached.lock().unwrap(), fresh);
                    drop(evicted);
                }
                thread::yield_now();
            }
        })
    };
    let readers: Vec<_> = (0..READERS)
        .map(|session| {
            let (leases, cached, view) = (leases.clone(), cached.clone(), view.clone());
            assert!(leases.attach(SessionId(session)));
            thread::spawn(move || {
                let there = cached.lock().unwrap().clone().expect("something is cached");
                let byte = there.as_ref()[0];
                let found = leases.grant(SessionId(session), &there).expect("it is in the pool");
                drop(there);
                for _ in 0..3 {
                    thread::yield_now();
                    // SAFETY: the slot is leased, or the test fails; threads take turns.
                    let bytes = unsafe { view.bytes(found.slot, found.offset, 4096) }.expect("a slot");
                    assert!(bytes.iter().all(|is| *is == byte), "a leased slot has changed");
                }
                leases.release(SessionId(session), found.slot).expect("it is leased");
            })
        })
        .collect();
    writer.join().unwrap();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    drop(cached);
    assert_eq!(pool.usage().slots, 0, "a slot is lost");
}

/// In one test: what is planted is the whole process's.
#[test]
fn a_leased_slot_does_not_change_and_none_is_lost() {
    shuttle::check_random(readers_beside_a_writer, ORDERS);
    plant(Bug::NoHold);
    let found = catch_unwind(|| shuttle::check_random(readers_beside_a_writer, ORDERS));
    assert!(found.is_err(), "leases that hold nothing go unnoticed");
}
