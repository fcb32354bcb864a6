//! The staging area as its writer has it: ranges that are reserved, filled, sent, and free again.

use super::OwnStaging;
use super::ranges::Ranges;
use crate::sync::{Mutex, lock};
use std::ops::Range;
use std::sync::Arc;

/// Why no range was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of staging are needed; {free} of {bytes} are free, {longest} of them in one piece")]
pub struct NoStaging {
    pub len: u64,
    pub free: u64,
    pub longest: u64,
    /// Of the whole area.
    pub bytes: u64,
}

impl NoStaging {
    /// Whether it will never be there, whatever is given back.
    pub fn is_for_ever(&self) -> bool {
        self.len > self.bytes
    }
}

/// The one account of what is free in a staging area. Cheap to clone; all clones are the same area.
#[derive(Debug)]
pub struct StagingArea<M> {
    inner: Arc<Inner<M>>,
}

#[derive(Debug)]
struct Inner<M> {
    /// Reached by nothing but the ranges that are reserved.
    memory: M,
    ranges: Mutex<Ranges>,
}

/// A range that nobody else has. It is free again when this is dropped.
#[derive(Debug)]
pub struct Reserved<M> {
    inner: Arc<Inner<M>>,
    /// As the account has it.
    taken: Range<u64>,
    len: u64,
}

impl<M> Clone for StagingArea<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M> StagingArea<M> {
    /// Ends it: no range is reserved any more. What is reserved stays its owner's.
    pub(in crate::session) fn retire(&self) {
        lock(&self.inner.ranges).retire();
    }
}

impl<M: OwnStaging> StagingArea<M> {
    /// The area is this account's from now on.
    pub fn new(memory: M) -> Self {
        let ranges = Mutex::new(Ranges::new(memory.len()));
        Self { inner: Arc::new(Inner { memory, ranges }) }
    }

    pub fn reserve(&self, len: u64) -> Result<Reserved<M>, NoStaging> {
        let mut ranges = lock(&self.inner.ranges);
        let taken = ranges.take(len).ok_or_else(|| NoStaging {
            len,
            free: ranges.free_bytes(),
            longest: ranges.longest(),
            bytes: self.inner.memory.len(),
        })?;
        drop(ranges);
        Ok(Reserved { inner: self.inner.clone(), taken, len })
    }

    /// A range with these bytes.
    pub fn stage(&self, bytes: &[u8]) -> Result<Reserved<M>, NoStaging> {
        let mut reserved = self.reserve(bytes.len() as u64)?;
        reserved.write(0, bytes);
        Ok(reserved)
    }

    pub fn free_bytes(&self) -> u64 {
        lock(&self.inner.ranges).free_bytes()
    }

    /// Whether the range is one of this area.
    pub(in crate::session) fn has(&self, reserved: &Reserved<M>) -> bool {
        Arc::ptr_eq(&self.inner, &reserved.inner)
    }
}

impl<M> Reserved<M> {
    /// The bytes from the area's beginning.
    pub fn range(&self) -> Range<u64> {
        self.taken.start..self.taken.start + self.len
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory under it, of which nobody else uses `range`.
    #[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
    pub(crate) fn memory(&self) -> &M {
        &self.inner.memory
    }
}

impl<M: OwnStaging> Reserved<M> {
    /// Writes the bytes from `at` on; what is behind the range's end is left out.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let room = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.inner.memory.write(self.taken.start.saturating_add(at), bytes);
    }
}

impl<M> Drop for Reserved<M> {
    fn drop(&mut self) {
        lock(&self.inner.ranges).give_back(self.taken.clone());
    }
}
