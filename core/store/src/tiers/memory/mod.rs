//! The memory tier: payloads by put id, so that a version is never taken for another, in the slots that every door reads.
//!
//! The pool is all the memory there is: what the tier keeps, what is on its way in, and what is being sent or leased. Whoever
//! needs a slot and finds none has something evicted, so nothing of it is set aside.

mod book;
#[cfg(test)]
mod tests;

use crate::keys::Key;
use bettong_shm::pool::{Found, SlotPool, Usage};
use bettong_wire::memory::ReserveError;
use bettong_wire::{BlockMemory, Payload, PutId, WriteBuf};
use book::Book;
use parking_lot::Mutex;

/// A value that left memory and was nowhere else.
pub type Lost = (Key, PutId);

/// Most evictions for one reservation. One is enough unless others take what it made free.
const EVICTIONS_MAX: usize = 8;

/// Payloads in memory, bounded in bytes, least recently used out first.
pub struct MemoryTier {
    pool: SlotPool,
    book: Mutex<Book>,
}

impl std::fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryTier({:?})", self.pool.usage())
    }
}

impl MemoryTier {
    /// Keeps what fits the pool.
    pub fn new(pool: SlotPool) -> Self {
        let book = Mutex::new(Book::new(pool.layout()));
        Self { pool, book }
    }

    pub fn get(&self, put_id: PutId) -> Option<Payload> {
        self.book.lock().get(put_id)
    }

    pub fn contains(&self, put_id: PutId) -> bool {
        self.book.lock().contains(put_id)
    }

    /// Takes a payload in that is in the pool (see `admit`); one that is not is left out. With `volatile` its loss is
    /// reported by `take_losses`.
    pub fn insert(&self, key: Key, put_id: PutId, payload: Payload, volatile: bool) {
        if payload.is_empty() {
            // Not the payload itself: it may hold a slot.
            return self.book.lock().insert(key, put_id, Payload::default(), None, volatile);
        }
        let Some(mut found) = self.find(&payload) else { return };
        let mut payload = payload;
        // Under another put id the same bytes need a slot of their own, or neither could go.
        if self.book.lock().has_other(&found, put_id) {
            let Ok(copy) = self.adopt(payload.into_bytes()) else { return };
            let Some(place) = self.find(&copy) else { return };
            (payload, found) = (copy, place);
        }
        self.book.lock().insert(key, put_id, payload, Some(found), volatile);
    }

    pub fn remove(&self, put_id: PutId) {
        self.book.lock().remove(put_id);
    }

    /// The payload in a slot of the pool: itself where it is in one, else a copy.
    pub fn admit(&self, payload: Payload) -> Result<Payload, ReserveError> {
        if payload.is_empty() || self.find(&payload).is_some() {
            return Ok(payload);
        }
        self.adopt(payload.into_bytes())
    }

    /// Volatile values that were evicted since the last call.
    pub fn take_losses(&self) -> Vec<Lost> {
        self.book.lock().take_losses()
    }

    /// Whether `len` bytes fit beside everything that is there.
    pub fn has_room(&self, len: u64) -> bool {
        let Usage { bytes, in_use, .. } = self.pool.usage();
        in_use.saturating_add(len) <= bytes
    }

    /// What is in the pool, whoever holds it.
    pub fn usage(&self) -> Usage {
        self.pool.usage()
    }

    /// Bytes of the slots that the tier keeps values in.
    pub fn bytes(&self) -> u64 {
        self.book.lock().bytes()
    }

    /// Values that were evicted so far.
    pub fn evictions(&self) -> u64 {
        self.book.lock().evictions()
    }

    /// Runs of extents that were emptied for values of other sizes so far.
    pub fn emptied(&self) -> u64 {
        self.book.lock().emptied()
    }

    /// The slot whose value the payload is.
    fn find(&self, payload: &Payload) -> Option<Found> {
        self.pool.find(payload).filter(|found| found.offset == 0)
    }

    /// Evicts what has to go for a value of `len` bytes; `false` where nothing can.
    fn make_room(&self, len: u64) -> bool {
        let Some((class, extents)) = self.pool.class_of(len) else { return false };
        self.book.lock().make_room(class, extents, || self.pool.held())
    }
}

impl BlockMemory for MemoryTier {
    fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError> {
        let mut evictions = 0;
        loop {
            match self.pool.reserve(len) {
                Err(ReserveError::Full { .. }) if evictions < EVICTIONS_MAX && self.make_room(len) => evictions += 1,
                reserved => return reserved,
            }
        }
    }

    fn bytes_in_use(&self) -> u64 {
        self.pool.bytes_in_use()
    }
}
