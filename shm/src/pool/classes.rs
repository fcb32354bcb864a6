//! Size classes: four to each doubling, so that a slot is at most a quarter longer than the shortest value that it is for.
//! What is longer than an extent takes a run of them, to the extent's length.

use super::{EXTENTS_MAX, Layout};

/// Bytes of the smallest slot: a page, which is what a mapping can be handed out in.
pub const SLOT_BYTES_MIN: u64 = 4096;

/// Steps between a size and its double.
const STEPS: u64 = 4;

/// The size classes of a pool.
#[derive(Debug, Clone)]
pub struct Classes {
    layout: Layout,
    /// Of slots within an extent, ascending, up to the extent itself.
    within: Vec<u64>,
}

impl Classes {
    pub fn of_layout(layout: Layout) -> Self {
        let doublings = (0..).map(|doubling| SLOT_BYTES_MIN << doubling);
        let sizes = doublings.flat_map(|size| (0..STEPS).map(move |step| size + size / STEPS * step));
        let mut within: Vec<u64> = sizes.take_while(|size| *size < layout.extent_bytes).collect();
        within.push(layout.extent_bytes);
        Self { layout, within }
    }

    /// The class of the smallest slot that takes `len` bytes; `None` where the pool has none so long.
    pub fn of(&self, len: u64) -> Option<u8> {
        let class = match len.div_ceil(self.layout.extent_bytes) {
            0 | 1 => self.within.partition_point(|size| *size < len),
            extents => self.within.len() + usize::try_from(extents - 2).ok()?,
        };
        (class < self.len()).then(|| u8::try_from(class).ok()).flatten()
    }

    /// Bytes of the class's slots; `None` where there is no such class.
    pub fn slot_bytes(&self, class: u8) -> Option<u64> {
        let within = self.within.get(usize::from(class)).copied();
        within.or_else(|| (usize::from(class) < self.len()).then(|| self.extents(class) * self.layout.extent_bytes))
    }

    /// Extents that one slot of the class takes: one, in which there may be others, or a run.
    pub fn extents(&self, class: u8) -> u64 {
        (usize::from(class) + 2).saturating_sub(self.within.len()).max(1) as u64
    }

    /// Slots of the class that an extent, or a run of them, is cut into.
    pub fn slots(&self, class: u8) -> u64 {
        self.within.get(usize::from(class)).map_or(1, |slot_bytes| self.layout.extent_bytes / slot_bytes)
    }

    /// Bytes of the longest slot.
    pub fn slot_bytes_max(&self) -> u64 {
        u8::try_from(self.len() - 1).ok().and_then(|last| self.slot_bytes(last)).unwrap_or(self.layout.extent_bytes)
    }

    /// Where the slot begins, in bytes from the pool's beginning, whether or not its extent is cut like that now; `None`
    /// where no extent could have it.
    pub fn offset_of(&self, class: u8, extent: u8, slot: u32) -> Option<u64> {
        let slot_bytes = self.slot_bytes(class)?;
        let fits = u64::from(extent) + self.extents(class) <= u64::from(self.layout.extents);
        let there = fits && u64::from(slot) < self.slots(class);
        there.then(|| u64::from(extent) * self.layout.extent_bytes + u64::from(slot) * slot_bytes)
    }

    /// A class is named by a byte.
    fn len(&self) -> usize {
        (self.within.len() + usize::from(self.layout.extents) - 1).min(EXTENTS_MAX as usize)
    }
}
