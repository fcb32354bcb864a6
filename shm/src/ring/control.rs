//! What the writer of a segment says besides its frames.

use crate::sync::{AtomicU32, AtomicU64};

/// The control block at the beginning of a segment. Only the segment's owner writes it; all zero is a session's beginning.
///
/// What changes with every frame has a cache line of its own, so that a reader's cursor and a writer's do not fight for one.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
}

/// Of the owner's own ring.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Outgoing {
    /// The position behind the last frame that is written.
    pub tail: AtomicU64,
    /// The position from which on the end of the array is unused, inverted: fresh memory says that there is none.
    pub watermark: AtomicU64,
    /// The low half of `tail`, for those who sleep: a futex is 32 bits.
    pub bell: AtomicU32,
}

/// Of the other side's ring, which the owner reads.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Incoming {
    /// The position behind the last frame that was copied.
    pub head: AtomicU64,
    /// Not zero while the owner sleeps, or is about to.
    pub waits: AtomicU32,
}

impl Control {
    /// A session's beginning.
    pub fn new() -> Self {
        Self {
            outgoing: Outgoing { tail: AtomicU64::new(0), watermark: AtomicU64::new(0), bell: AtomicU32::new(0) },
            incoming: Incoming { head: AtomicU64::new(0), waits: AtomicU32::new(0) },
        }
    }

    /// Changes with every frame that the owner writes. Who is about to sleep waits for it to be something else than
    /// `Receiver::seen`.
    pub fn bell(&self) -> &AtomicU32 {
        &self.outgoing.bell
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}
