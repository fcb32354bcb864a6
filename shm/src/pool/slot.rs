//! Slots as the rest of the program sees them: reserved, filled, sealed, shared, and returned when the last one lets go.

use super::table::{Place, Table};
use super::{HeapRegion, Layout, OwnRegion, PoolError, Usage};
use crate::frame::SlotRef;
use crate::sync::Mutex;
use bettong_wire::memory::{ReserveError, WriteBuf};
use bettong_wire::{BlockMemory, Payload};
use bytes::BufMut;
use bytes::buf::UninitSlice;
use std::sync::Arc;

/// Where the bytes of a payload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub slot: SlotRef,
    /// Of the whole slot.
    pub slot_bytes: u64,
    /// From the slot's beginning to the payload's, in bytes.
    pub offset: u64,
}

/// `BlockMemory` in slots of one region. Cheap to clone; all clones are the same pool.
#[derive(Debug, Clone)]
pub struct SlotPool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    region: Arc<dyn OwnRegion>,
    table: Mutex<Table>,
}

impl SlotPool {
    /// A pool over as much of `region` as makes extents.
    pub fn new(region: Arc<dyn OwnRegion>) -> Result<Self, PoolError> {
        let layout = Layout::of(region.len() as u64)?;
        let table = Mutex::new(Table::new(layout));
        Ok(Self { inner: Arc::new(Inner { region, table }) })
    }

    /// A pool that only this process sees.
    pub fn on_the_heap(bytes: usize) -> Result<Self, PoolError> {
        Self::new(Arc::new(HeapRegion::new(bytes)))
    }

    pub fn usage(&self) -> Usage {
        self.inner.table().usage()
    }

    /// The class that a value of `len` bytes would be of, and how many extents in a row one slot of it takes; `None` where
    /// it fits no slot.
    pub fn class_of(&self, len: u64) -> Option<(u8, u16)> {
        let table = self.inner.table();
        let class = table.classes().of(len)?;
        Some((class, u16::try_from(table.classes().extents(class)).ok()?))
    }

    /// Slots of each extent that somebody holds; 1 for an extent that is part of a run.
    pub fn held(&self) -> Vec<u32> {
        self.inner.table().held()
    }

    /// How the pool is cut.
    pub fn layout(&self) -> Layout {
        self.inner.table().layout()
    }

    /// Where the payload's bytes are; `None` where they are not in this pool, or there are none: an empty part points into
    /// its value's slot and does not hold it. Good for as long as somebody holds the payload.
    pub fn find(&self, payload: &Payload) -> Option<Found> {
        let bytes = payload.as_ref();
        if bytes.is_empty() {
            return None;
        }
        let offset = bytes.as_ptr().addr().checked_sub(self.inner.region.base().addr().get())?;
        let within = offset.checked_add(bytes.len())? <= self.inner.region.len();
        within.then(|| self.inner.table().at(offset as u64)).flatten()
    }
}

impl BlockMemory for SlotPool {
    fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError> {
        let mut table = self.inner.table();
        let limit = table.classes().slot_bytes_max();
        if len > limit {
            return Err(ReserveError::TooLarge { len, limit });
        }
        let Usage { bytes: budget, in_use, .. } = table.usage();
        let place = table.take(len).ok_or(ReserveError::Full { len, in_use, budget })?;
        drop(table);
        Ok(Box::new(Filling { slot: Held { pool: self.inner.clone(), place, len: len as usize }, filled: 0 }))
    }

    fn bytes_in_use(&self) -> u64 {
        self.usage().in_use
    }
}

impl Inner {
    fn table(&self) -> crate::sync::MutexGuard<'_, Table> {
        crate::sync::lock(&self.table)
    }
}

/// A slot of which this is the only handle: whoever has it by `&mut` may write it, whoever has it by `&` may read it.
#[derive(Debug)]
struct Held {
    pool: Arc<Inner>,
    place: Place,
    /// Of its value, in bytes.
    len: usize,
}

impl Held {
    /// Bytes `from..len` of the slot.
    fn bytes_mut(&mut self, from: usize) -> &mut [u8] {
        let from = from.min(self.len);
        // SAFETY: the table has handed out this slot to this handle alone, and slots do not overlap; its bytes lie within
        // the region, which lives as long as the pool that is held here, and are initialised. Nobody else has this
        // handle, which is borrowed for as long as the slice is.
        unsafe {
            let begin = self.pool.region.base().add(self.place.offset as usize + from);
            std::slice::from_raw_parts_mut(begin.as_ptr(), self.len - from)
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`. That the handle is shared here means that nobody writes: writing takes it by `&mut`.
        unsafe {
            let begin = self.pool.region.base().add(self.place.offset as usize);
            std::slice::from_raw_parts(begin.as_ptr(), self.len)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let known = self.pool.table().give_back(self.place.slot);
        debug_assert!(known, "a slot was handed out twice: {:?}", self.place);
    }
}

/// A slot that is being filled.
struct Filling {
    slot: Held,
    filled: usize,
}

// SAFETY: `chunk_mut` is the part of the slot that is not filled, all of it initialised memory, and as long as
// `remaining_mut` says; `advance_mut` moves within it.
unsafe impl BufMut for Filling {
    fn remaining_mut(&self) -> usize {
        self.slot.len - self.filled
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.remaining_mut(), "{count} bytes are filled, and {} are left", self.remaining_mut());
        self.filled += count;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        UninitSlice::new(self.slot.bytes_mut(self.filled))
    }
}

impl WriteBuf for Filling {
    fn unfilled(&mut self) -> &mut dyn BufMut {
        self
    }

    fn seal(self: Box<Self>) -> Option<Payload> {
        let is_full = self.remaining_mut() == 0;
        is_full.then(|| Payload::from_owner(self.slot))
    }
}
