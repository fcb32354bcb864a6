//! Which slots are free: the pool's private account. No other process sees it.

use super::{Classes, Found, Layout, Usage};
use crate::frame::SlotRef;

/// Generations that a slot may have: one that has had them all is not used again, since a reference to its first would name
/// its last.
const GENERATION_MAX: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Table {
    classes: Classes,
    layout: Layout,
    extents: Vec<Extent>,
    usage: Usage,
}

#[derive(Debug, Default)]
struct Extent {
    /// What it is cut for; `None` where it never served.
    class: Option<u8>,
    slots: Vec<Slot>,
    /// Slots that are free, by number; the last is handed out next.
    free: Vec<u32>,
    /// Slots that are held.
    held: u32,
    /// The highest generation that any slot of the extent has had, under whichever class.
    generation: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: u32,
    /// Bytes of its value; `None` while it is free.
    holds: Option<u64>,
}

/// A slot that somebody holds, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: SlotRef,
    /// Bytes from the pool's beginning.
    pub offset: u64,
}

impl Extent {
    /// Whether it may serve another class: nobody holds anything of it, and there are generations left.
    fn may_be_cut(&self) -> bool {
        self.held == 0 && self.generation < GENERATION_MAX
    }

    fn has_free(&self, class: u8) -> bool {
        self.class == Some(class) && !self.free.is_empty()
    }

    /// Cuts it anew. Its slots begin with a generation that none of it has had.
    fn cut(&mut self, class: u8, slots: u32) {
        self.class = Some(class);
        self.slots = (0..slots).map(|_| Slot { generation: self.generation, holds: None }).collect();
        // The lowest first: what is used stays together.
        self.free = (0..slots).rev().collect();
    }
}

impl Table {
    pub fn new(classes: Classes, layout: Layout) -> Self {
        let extents = (0..layout.extents).map(|_| Extent::default()).collect();
        Self { classes, layout, extents, usage: Usage { bytes: layout.bytes(), ..Usage::default() } }
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The longest value that a slot takes, in bytes.
    pub fn slot_bytes_max(&self) -> u64 {
        self.layout.extent_bytes
    }

    /// Hands out a slot for `len` bytes; `None` where its class has none, and no extent that is free.
    pub fn take(&mut self, len: u64) -> Option<Place> {
        let class = self.classes.of(len)?;
        let slot_bytes = self.classes.slot_bytes(class)?;
        let extent = self.extents.iter().position(|extent| extent.has_free(class)).or_else(|| self.cut(class))?;
        let held = self.extents.get_mut(extent)?;
        let number = held.free.pop()?;
        let slot = held.slots.get_mut(number as usize)?;
        slot.holds = Some(len);
        slot.generation += 1;
        let generation = slot.generation;
        held.held += 1;
        held.generation = held.generation.max(generation);
        self.usage.in_use += slot_bytes;
        self.usage.payload += len;
        self.usage.slots += 1;
        // Fewer than 256 extents, as the layout says.
        let slot = SlotRef { class, extent: u8::try_from(extent).ok()?, slot: number, generation };
        Some(Place { slot, offset: self.layout.offset_of(&self.classes, slot)? })
    }

    /// Cuts an extent that holds nothing for `class`: one that never served, or one that another class has left.
    fn cut(&mut self, class: u8) -> Option<usize> {
        let slot_bytes = self.classes.slot_bytes(class)?;
        let fresh = self.extents.iter().position(|extent| extent.class.is_none());
        let at = fresh.or_else(|| self.extents.iter().position(Extent::may_be_cut))?;
        let slots = u32::try_from(self.layout.extent_bytes / slot_bytes).ok()?;
        let extent = self.extents.get_mut(at)?;
        if extent.class.is_none() {
            self.usage.assigned += self.layout.extent_bytes;
        }
        extent.cut(class, slots);
        Some(at)
    }

    /// Takes back a slot that nobody holds any more. What does not name a held slot changes nothing: it is a bug of the
    /// one who calls, and says so.
    #[must_use]
    pub fn give_back(&mut self, slot: SlotRef) -> bool {
        let Some(slot_bytes) = self.classes.slot_bytes(slot.class) else { return false };
        let Some(extent) = self.extents.get_mut(usize::from(slot.extent)) else { return false };
        if extent.class != Some(slot.class) {
            return false;
        }
        let Some(held) = extent.slots.get_mut(slot.slot as usize) else { return false };
        let Some(len) = held.holds.filter(|_| held.generation == slot.generation) else { return false };
        held.holds = None;
        extent.held -= 1;
        if held.generation < GENERATION_MAX {
            extent.free.push(slot.slot);
        }
        self.usage.in_use -= slot_bytes;
        self.usage.payload -= len;
        self.usage.slots -= 1;
        true
    }

    /// The held slot that the byte at `offset` belongs to.
    pub fn at(&self, offset: u64) -> Option<Found> {
        let at = offset / self.layout.extent_bytes;
        let extent = self.extents.get(usize::try_from(at).ok()?)?;
        let class = extent.class?;
        let slot_bytes = self.classes.slot_bytes(class)?;
        let within = offset % self.layout.extent_bytes;
        let number = u32::try_from(within / slot_bytes).ok()?;
        let slot = extent.slots.get(number as usize).filter(|slot| slot.holds.is_some())?;
        let slot = SlotRef { class, extent: u8::try_from(at).ok()?, slot: number, generation: slot.generation };
        Some(Found { slot, slot_bytes, offset: within % slot_bytes })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_had_all_generations_rests() {
        let layout = Layout::of(4096).unwrap();
        let mut table = Table::new(Classes::up_to(4096), layout);
        let first = table.take(1).unwrap().slot;
        assert!(table.give_back(first) && !table.give_back(first));
        table.extents[0].slots[0].generation = GENERATION_MAX - 1;
        let last = table.take(1).unwrap().slot;
        assert_eq!(last.generation, GENERATION_MAX);
        assert!(table.give_back(last));
        assert_eq!(table.take(1), None, "its next generation would be its first");
        assert_eq!(table.usage(), Usage { bytes: 4096, assigned: 4096, ..Usage::default() });
    }

    #[test]
    fn what_is_given_back_was_taken() {
        let mut table = Table::new(Classes::up_to(1 << 14), Layout::of(1 << 20).unwrap());
        let held = table.take(5000).unwrap().slot;
        let wrong = [
            SlotRef { class: held.class + 1, ..held },
            SlotRef { extent: held.extent + 1, ..held },
            SlotRef { extent: 255, ..held },
            SlotRef { slot: held.slot + 1, ..held },
            SlotRef { slot: u32::MAX, ..held },
            SlotRef { generation: held.generation + 1, ..held },
            SlotRef { class: 255, ..held },
        ];
        assert!(wrong.into_iter().all(|slot| !table.give_back(slot)));
        assert_eq!(table.usage().slots, 1);
        assert!(table.give_back(held));
    }
}
