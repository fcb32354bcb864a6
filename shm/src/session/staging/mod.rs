//! The staging area: where a client puts the bytes that it sends.
//!
//! The client writes it and knows what of it is free; the daemon reads it, and checks nothing but that a range lies within
//! it. The client may write while the daemon reads, so the daemon copies each byte once and looks at its copy.

mod area;
mod heap;
mod ranges;

pub use area::{NoStaging, Reserved, StagingArea};
pub use heap::HeapStaging;

use bytes::BufMut;
use std::ops::Range;

/// A staging area, to be read. An implementation promises that it copies each byte once, whoever writes meanwhile.
pub trait Staging: Send + Sync {
    /// In bytes.
    fn len(&self) -> u64;

    /// Appends the bytes to `to`. Nothing is read where they leave the area or `to` has no room for them.
    fn read(&self, range: Range<u64>, to: &mut dyn BufMut) -> Result<(), NotRead>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A staging area as the one process has it that writes it.
pub trait OwnStaging: Send + Sync {
    /// In bytes.
    fn len(&self) -> u64;

    /// Writes the bytes from `offset` on; what is behind the area's end is left out.
    fn write(&self, offset: u64, bytes: &[u8]);

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why bytes of a staging area were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bytes {begin} to {end} of a staging area of {len}, into room for {room}")]
pub struct NotRead {
    pub begin: u64,
    pub end: u64,
    /// Of the area.
    pub len: u64,
    pub room: u64,
}

/// The range as indices into an area of `len` bytes, where it lies within and `to` has room for it.
pub(crate) fn checked(range: &Range<u64>, len: usize, to: &dyn BufMut) -> Result<Range<usize>, NotRead> {
    let (begin, end) = (usize::try_from(range.start).ok(), usize::try_from(range.end).ok());
    let room = to.remaining_mut();
    match (begin, end) {
        (Some(begin), Some(end)) if begin <= end && end <= len && end - begin <= room => Ok(begin..end),
        _ => Err(NotRead { begin: range.start, end: range.end, len: len as u64, room: room as u64 }),
    }
}
