//! The pool as who leases slots of it sees it: memory to read, and references to tell where.

use super::{Classes, Layout, PoolError, Region};
use crate::frame::SlotRef;
use std::sync::Arc;

/// Finds the bytes that a reference names. Knows nothing of who holds what.
#[derive(Debug, Clone)]
pub struct View {
    region: Arc<dyn Region>,
    classes: Classes,
}

impl View {
    /// A view of the pool that was made over the same memory.
    pub fn new(region: Arc<dyn Region>) -> Result<Self, PoolError> {
        let layout = Layout::of(region.len() as u64)?;
        Ok(Self { region, classes: Classes::of_layout(layout) })
    }

    /// The `len` bytes from `offset` on of the slot; `None` where the pool has no such slot, or the slot not so many bytes.
    ///
    /// # Safety
    ///
    /// The caller holds a lease on the slot for as long as it uses the bytes: only that keeps them from changing.
    pub unsafe fn bytes(&self, slot: SlotRef, offset: u64, len: u64) -> Option<&[u8]> {
        let begin = self.classes.offset_of(slot.class, slot.extent, slot.slot)?;
        let within = offset.checked_add(len)? <= self.classes.slot_bytes(slot.class)?;
        let (begin, len) = (usize::try_from(begin + offset).ok()?, usize::try_from(len).ok()?);
        // SAFETY: slots of a layout lie within the region, which lives as long as `self`, and its bytes are initialised;
        // that they do not change is the caller's promise.
        within.then(|| unsafe { std::slice::from_raw_parts(self.region.base().add(begin).as_ptr(), len) })
    }
}
