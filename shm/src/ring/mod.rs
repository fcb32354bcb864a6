//! Half rings: one side writes frames, the other reads them, and neither believes the other.
//!
//! A session has two segments, each written by one side and read by the other. A segment holds its writer's half ring and
//! everything else that its writer says: how far it has read the other side's ring, and whether it sleeps. So a page has
//! one writer, and a side that can only read a page cannot harm who writes it.
//!
//! A ring is an array of 32-bit words, because frames are multiples of 4 bytes and a word is copied whole. Positions count
//! words since the session began and never wrap; the word of a position is its remainder by the capacity. A frame does not
//! wrap either: where it does not fit before the array's end, the writer leaves a watermark there and goes on at the
//! beginning. Readers copy each word once and judge the copy.
//!
//! What is checked of what the other side says: cursors go forward, the writer is ahead of the reader by at most the
//! capacity, a frame ends where the writer has been, and every frame is one that `frame` knows. Whatever does not hold is a
//! `Violation`, after which the session is of no more use.

mod control;
mod receiver;
mod segment;
mod sender;
#[cfg(all(test, not(loom)))]
mod tests;

pub use control::{Control, Scribble};
pub use receiver::Receiver;
pub use segment::{HeapSegment, Segment};
pub use sender::{SendError, Sender, TooLong};

use crate::frame::{FRAME_HEADER_BYTES, InvalidFrame};

/// Why the other side of a ring is not believed any more. Nothing that it writes is looked at again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    #[error("the {whose} went from {from} to {to}: cursors go forward only")]
    Backwards { whose: &'static str, from: u64, to: u64 },
    #[error("the writer is at {tail}, the reader at {head}, and the ring holds {capacity} words")]
    Distance { tail: u64, head: u64, capacity: u64 },
    #[error("the watermark is at {mark}, and the writer at {tail} has not been behind the ring's end")]
    Watermark { mark: u64, tail: u64 },
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
}

/// Why two segments make no ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GeometryError {
    #[error("a ring of {words} words: it must be a power of two")]
    NoPowerOfTwo { words: u64 },
    #[error("a ring of {words} words is too small for frames of up to {frame}: it needs {least}")]
    TooSmall { words: u64, frame: u64, least: u64 },
}

/// The size of a ring whose frames carry at most `inline_max` bytes.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    /// Words; a power of two.
    capacity: u64,
    inline_max: u16,
}

impl Geometry {
    /// A frame that does not fit before the end must fit behind it, whatever is left to read there.
    fn new(words: usize, inline_max: u16) -> Result<Self, GeometryError> {
        let words = words as u64;
        if !words.is_power_of_two() {
            return Err(GeometryError::NoPowerOfTwo { words });
        }
        let frame = (FRAME_HEADER_BYTES as u64 + u64::from(inline_max)).div_ceil(WORD_BYTES as u64);
        let frame = frame.max(crate::frame::MMAP_REF_BYTES as u64 / WORD_BYTES as u64);
        let least = 2 * frame;
        if words < least {
            return Err(GeometryError::TooSmall { words, frame, least });
        }
        Ok(Self { capacity: words, inline_max })
    }

    /// Where the position's word is in the array.
    fn index(&self, position: u64) -> usize {
        // Less than the capacity, which is the length of an array in memory.
        (position & (self.capacity - 1)) as usize
    }

    /// Where a frame of so many words begins that is written at the position or behind it.
    fn start(&self, position: u64, words: u64) -> u64 {
        let lap_end = self.lap_end(position);
        if words <= lap_end - position { position } else { lap_end }
    }

    /// The first position behind the array's end.
    fn lap_end(&self, position: u64) -> u64 {
        position - (position & (self.capacity - 1)) + self.capacity
    }
}

/// What `waits` says where its owner sleeps on the line until something is written.
const WAITS: u32 = 1;
/// What it says where its owner sleeps on the other side's bell until something is written.
const WAITS_ON_BELL: u32 = 5;
/// What it says where something that is read wakes its owner, too.
const WAITS_UNTIL_READ: u32 = 3;
/// Bytes of a word.
const WORD_BYTES: usize = 4;
