//! Where slots are in the pool, for those who name a part of one.

use super::SessionError;
use crate::frame::SlotRef;
use crate::pool::{Classes, Layout, PoolError};
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Places {
    classes: Classes,
}

impl Places {
    pub fn of(pool_bytes: u64) -> Result<Self, PoolError> {
        Ok(Self { classes: Classes::of_layout(Layout::of(pool_bytes)?) })
    }

    /// The slot's bytes, from the pool's beginning.
    pub fn range(&self, slot: SlotRef) -> Result<Range<u64>, SessionError> {
        let SlotRef { class, extent, slot, .. } = slot;
        let begin = self.classes.offset_of(class, extent, slot);
        let range = begin.zip(self.classes.slot_bytes(class)).map(|(begin, bytes)| begin..begin + bytes);
        range.ok_or(SessionError::NoSlot { class, extent, slot })
    }
}
