//! Half a session in shared memory: a page with the control block, and the ring behind it.

use super::{Mapping, OwnMapping, SharedMemoryError};
use crate::ring::{Control, Segment};
use rustix::thread::futex;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// Where the ring begins, in bytes from the segment's beginning.
pub const RING_OFFSET: usize = 4096;

const _: () = assert!(size_of::<Control>() <= RING_OFFSET && RING_OFFSET.is_multiple_of(align_of::<Control>()));

/// Bytes of a segment whose ring has so many words.
pub const fn segment_bytes(words: usize) -> usize {
    RING_OFFSET + words * size_of::<AtomicU32>()
}

/// A segment over a mapping that is mapped to write, `OwnMapping`, or to read, `Mapping`.
#[derive(Debug)]
pub struct MappedSegment<M> {
    /// Keeps the pages.
    _mapping: M,
    base: NonNull<u8>,
    words: usize,
}

// SAFETY: everything in a segment is atomic, and it may be used from wherever its mapping may be.
unsafe impl<M: Send> Send for MappedSegment<M> {}
// SAFETY: as above.
unsafe impl<M: Sync> Sync for MappedSegment<M> {}

impl MappedSegment<OwnMapping> {
    /// This process's own half.
    pub fn own(mapping: OwnMapping) -> Result<Self, SharedMemoryError> {
        let (base, bytes) = (mapping.base(), mapping.bytes());
        Self::new(mapping, base, bytes)
    }
}

impl MappedSegment<Mapping> {
    /// The other side's half.
    pub fn of_peer(mapping: Mapping) -> Result<Self, SharedMemoryError> {
        let (base, bytes) = (mapping.base(), mapping.bytes());
        Self::new(mapping, base, bytes)
    }
}

impl<M> MappedSegment<M> {
    fn new(mapping: M, base: NonNull<u8>, bytes: usize) -> Result<Self, SharedMemoryError> {
        let needed = segment_bytes(1);
        if bytes < needed {
            return Err(SharedMemoryError::TooShort { bytes: bytes as u64, needed: needed as u64 });
        }
        Ok(Self { _mapping: mapping, base, words: (bytes - RING_OFFSET) / size_of::<AtomicU32>() })
    }
}

impl<M: Send + Sync> Segment for MappedSegment<M> {
    fn control(&self) -> &Control {
        // SAFETY: the mapping begins on a page and is long enough; a control block is made of atomics, for which any bits
        // are a value, and which may be loaded from memory that is mapped to read. Only the owner of a segment stores.
        unsafe { self.base.cast::<Control>().as_ref() }
    }

    fn words(&self) -> &[AtomicU32] {
        // SAFETY: as above; so many words lie behind the control block's page.
        unsafe { std::slice::from_raw_parts(self.base.add(RING_OFFSET).cast().as_ptr(), self.words) }
    }

    fn ring(&self) {
        // What fails here is the doing of who sleeps in an odd way, and their loss.
        let _ = futex::wake(self.control().bell(), futex::Flags::empty(), 1);
    }
}
