//! Payloads that are read in place, and how the daemon hears that they are not read any more.

use crate::frame::SlotRef;
use crate::pool::View;
use crate::sync::{Mutex, lock};
use std::collections::VecDeque;
use std::sync::Arc;

/// Slots that nobody here reads any more and the daemon does not know of. At most as many as were leased.
#[derive(Debug, Default)]
pub(super) struct Releases {
    queue: Mutex<VecDeque<SlotRef>>,
}

impl Releases {
    pub fn push(&self, slot: SlotRef) {
        lock(&self.queue).push_back(slot);
    }

    /// The one that has waited longest.
    pub fn pop(&self) -> Option<SlotRef> {
        lock(&self.queue).pop_front()
    }

    /// It could not be sent.
    pub fn push_back(&self, slot: SlotRef) {
        lock(&self.queue).push_front(slot);
    }

    pub fn len(&self) -> usize {
        lock(&self.queue).len()
    }
}

/// A lease: bytes of a slot that stay as they are until this is dropped. Keeps the pool's mapping, whatever becomes of the
/// session.
#[derive(Debug)]
pub(super) struct Leased {
    view: Arc<View>,
    slot: SlotRef,
    /// From the slot's beginning, in bytes.
    offset: u64,
    len: u64,
    releases: Arc<Releases>,
}

impl Leased {
    /// The daemon has said that the slot is leased to this session, once for each `Leased`. The bytes lie within the slot.
    pub fn new(view: Arc<View>, slot: SlotRef, offset: u64, len: u64, releases: Arc<Releases>) -> Self {
        Self { view, slot, offset, len, releases }
    }
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the daemon has leased the slot to this session before it named it, and hears of its release only after this
        // is dropped, since nothing but `drop` puts it into the queue. Until then the daemon, which alone can write the
        // pool, keeps its promise not to; whoever maps a daemon's pool trusts it with that.
        let bytes = unsafe { self.view.bytes(self.slot, self.offset, self.len) };
        bytes.unwrap_or_default()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.releases.push(self.slot);
    }
}
