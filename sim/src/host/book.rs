//! What a daemon's clients may be reading: every reference that was published to any of them, until it is released or its
//! reader is gone. The simulator's own account, to hold the daemon's against.

use crate::model::AttemptId;
use bettong_shm::SlotRef;
use bettong_shm::pool::{Classes, SessionId};
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Of one life of one daemon.
pub struct Book {
    classes: Classes,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    leased: BTreeMap<SlotRef, BTreeMap<SessionId, u64>>,
    /// The put whose bytes begin there, by the reference and the place of its first byte.
    named: BTreeMap<(SlotRef, u64), AttemptId>,
}

impl Book {
    pub fn new(classes: Classes) -> Self {
        Self { classes, inner: Mutex::default() }
    }

    fn range(&self, slot: SlotRef) -> Option<std::ops::Range<u64>> {
        let begin = self.classes.offset_of(slot.class, slot.extent, slot.slot)?;
        Some(begin..begin + self.classes.slot_bytes(slot.class)?)
    }

    /// A reference is published. Wrong where the pool has no such slot, or where somebody may be reading other bytes there.
    pub fn published(&self, session: SessionId, slot: SlotRef) -> Result<(), String> {
        let Some(range) = self.range(slot) else { return Err(format!("S7: {slot:?} is published, the pool has none")) };
        let mut inner = self.inner.lock();
        let overlaps = |other: &SlotRef| {
            let other = self.range(*other);
            other.is_some_and(|other| other.start < range.end && range.start < other.end)
        };
        if let Some((other, readers)) = inner.leased.iter().find(|(other, _)| **other != slot && overlaps(other)) {
            return Err(format!("S3: {slot:?} is published while {readers:?} may be reading {other:?}"));
        }
        *inner.leased.entry(slot).or_default().entry(session).or_default() += 1;
        Ok(())
    }

    /// The bytes of a put begin at `at` of the slot. Wrong where the same reference was another put's.
    pub fn names(&self, slot: SlotRef, at: u64, attempt: AttemptId) -> Result<(), String> {
        let known = *self.inner.lock().named.entry((slot, at)).or_insert(attempt);
        if known == attempt {
            return Ok(());
        }
        Err(format!("S5: {slot:?} named the bytes of attempt {known}, and now those of {attempt}"))
    }

    /// A client has written a release. `false` where nothing was leased to it there.
    pub fn released(&self, session: SessionId, slot: SlotRef) -> bool {
        let mut inner = self.inner.lock();
        let Some(readers) = inner.leased.get_mut(&slot) else { return false };
        let Some(count) = readers.get_mut(&session) else { return false };
        *count -= 1;
        if *count == 0 {
            readers.remove(&session);
        }
        if readers.is_empty() {
            inner.leased.remove(&slot);
        }
        true
    }

    /// Nobody reads for this session any more.
    pub fn gone(&self, session: SessionId) {
        self.inner.lock().leased.retain(|_, readers| {
            readers.remove(&session);
            !readers.is_empty()
        });
    }

    /// Bytes of slots that the session may be reading.
    pub fn bytes_of(&self, session: SessionId) -> u64 {
        let inner = self.inner.lock();
        let own = inner.leased.iter().filter(|(_, readers)| readers.contains_key(&session));
        own.filter_map(|(slot, _)| self.classes.slot_bytes(slot.class)).sum()
    }

    /// Everything that is leased, whoever reads it.
    pub fn leased(&self) -> Vec<SlotRef> {
        self.inner.lock().leased.keys().copied().collect()
    }
}
