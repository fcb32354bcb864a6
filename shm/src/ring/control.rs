//! What the writer of a segment says besides its frames.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::mem::offset_of;

/// The control block at the beginning of a segment. Only the segment's owner writes it; all zero is a session's beginning.
///
/// What changes with every frame has a cache line of its own, so that a reader's cursor and a writer's do not fight for one.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    pub(super) sleep: Sleep,
}

/// Everything that a control block says, for those who play a peer that lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scribble {
    pub tail: u64,
    pub watermark: u64,
    pub head: u64,
    pub waits: u32,
    pub bell: u32,
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
}

/// What the other side reads after every frame, and what seldom changes: neither waits for the other's cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Sleep {
    /// Not zero while the owner sleeps, or is about to: `WAITS`, `WAITS_ON_BELL`, `WAITS_UNTIL_READ`.
    pub waits: AtomicU32,
}

/// As docs/shared-memory.md draws it. The model checker's atomics are larger.
#[cfg(not(loom))]
const _: () = {
    assert!(offset_of!(Control, outgoing.tail) == 0);
    assert!(offset_of!(Control, outgoing.watermark) == 8);
    assert!(offset_of!(Control, outgoing.bell) == 16);
    assert!(offset_of!(Control, incoming.head) == 64);
    assert!(offset_of!(Control, sleep.waits) == 128);
};

impl Control {
    /// A session's beginning.
    pub fn new() -> Self {
        Self {
            outgoing: Outgoing { tail: AtomicU64::new(0), watermark: AtomicU64::new(0), bell: AtomicU32::new(0) },
            incoming: Incoming { head: AtomicU64::new(0) },
            sleep: Sleep { waits: AtomicU32::new(0) },
        }
    }

    /// Writes whatever a peer that lies would.
    pub fn scribble(&self, what: Scribble) {
        self.outgoing.tail.store(what.tail, Ordering::Relaxed);
        self.outgoing.watermark.store(!what.watermark, Ordering::Relaxed);
        self.outgoing.bell.store(what.bell, Ordering::Relaxed);
        self.incoming.head.store(what.head, Ordering::Relaxed);
        self.sleep.waits.store(what.waits, Ordering::Relaxed);
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
