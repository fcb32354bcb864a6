//! Room for what reads bring into memory.

use crate::index::Entry;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What reads under way are counted in. Bytes.
const UNIT: u64 = 4096;

/// Bytes that reads may have under way, half for each slow tier: a tier that hangs fills its own half.
#[derive(Debug)]
pub(super) struct Loads {
    disk: Semaphore,
    object: Semaphore,
    /// Units of one half.
    half: u32,
}

impl Loads {
    /// Room for `bytes` in all. A read larger than a half takes the whole of it.
    pub fn new(bytes: u64) -> Self {
        let half = u32::try_from(bytes / 2 / UNIT).unwrap_or(u32::MAX).max(1);
        Self { disk: Semaphore::new(half as usize), object: Semaphore::new(half as usize), half }
    }

    /// Waits for room for one read from this host's disk; `None` when the store is gone.
    pub async fn disk(&self, entry: &Entry) -> Option<SemaphorePermit<'_>> {
        self.disk.acquire_many(self.units(entry)).await.ok()
    }

    /// Waits for room for one read from the object store; `None` when the store is gone.
    pub async fn object(&self, entry: &Entry) -> Option<SemaphorePermit<'_>> {
        self.object.acquire_many(self.units(entry)).await.ok()
    }

    /// Waits for room for so many bytes from the object store; `None` when the store is gone.
    pub async fn object_bytes(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        self.object.acquire_many(self.units_of(bytes)).await.ok()
    }

    /// Room for one read from the object store if there is some now: for reads that nobody waits for.
    pub fn object_now(&self, entry: &Entry) -> Option<SemaphorePermit<'_>> {
        self.object.try_acquire_many(self.units(entry)).ok()
    }

    /// Room for the envelope, and for the payload where it is unpacked.
    fn units(&self, entry: &Entry) -> u32 {
        let unpacked = if entry.stored_len == entry.raw_len { 0 } else { u64::from(entry.raw_len) };
        self.units_of(u64::from(entry.stored_len) + unpacked)
    }

    fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.half)
    }
}
