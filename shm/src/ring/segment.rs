//! The memory of half a session.

use super::Control;
use crate::sync::AtomicU32;
use std::sync::Arc;

/// Memory that two sides see and one of them writes. An implementation promises that both see the same words, and that
/// what either does to them is atomic.
pub trait Segment: Send + Sync {
    fn control(&self) -> &Control;

    /// The ring. A power of two of words.
    fn words(&self) -> &[AtomicU32];

    /// Wakes whoever sleeps on the owner's bell; for the owner. Never waits.
    fn ring(&self);
}

impl<S: Segment + ?Sized> Segment for Arc<S> {
    fn control(&self) -> &Control {
        (**self).control()
    }

    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }

    fn ring(&self) {
        (**self).ring();
    }
}

/// A segment on the heap of one process: what the simulator and the model checker share. Nobody sleeps on its bell.
#[derive(Debug)]
pub struct HeapSegment {
    control: Control,
    words: Box<[AtomicU32]>,
}

impl HeapSegment {
    pub fn new(words: usize) -> Self {
        Self { control: Control::new(), words: (0..words).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Segment for HeapSegment {
    fn control(&self) -> &Control {
        &self.control
    }

    fn words(&self) -> &[AtomicU32] {
        &self.words
    }

    fn ring(&self) {}
}
