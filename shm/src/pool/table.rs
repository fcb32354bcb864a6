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
    /// What it is cut for; `None` where it never served, or was part of a run.
    class: Option<u8>,
    /// Of a run only its first extent has the slot.
    slots: Vec<Slot>,
    /// The run's first extent, where it is another one.
    run: Option<u8>,
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
        self.run = None;
        self.slots = (0..slots).map(|_| Slot { generation: self.generation, holds: None }).collect();
        // The lowest first: what is used stays together.
        self.free = (0..slots).rev().collect();
    }
}

impl Table {
    pub fn new(layout: Layout) -> Self {
        let extents = (0..layout.extents).map(|_| Extent::default()).collect();
        Self {
            classes: Classes::of_layout(layout),
            layout,
            extents,
            usage: Usage { bytes: layout.bytes(), ..Usage::default() },
        }
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Slots of each extent that somebody holds; of one that is part of a run, 1.
    pub fn held(&self) -> Vec<u32> {
        self.extents.iter().map(|extent| extent.held).collect()
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Hands out a slot for `len` bytes; `None` where its class has none, and no extents that are free.
    pub fn take(&mut self, len: u64) -> Option<Place> {
        let class = self.classes.of(len)?;
        let slot_bytes = self.classes.slot_bytes(class)?;
        let extent = match self.classes.extents(class) {
            1 => self.extents.iter().position(|extent| extent.has_free(class)).or_else(|| self.cut(class))?,
            run => self.cut_run(class, usize::try_from(run).ok()?)?,
        };
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
        Some(Place { slot, offset: self.classes.offset_of(slot.class, slot.extent, slot.slot)? })
    }

    /// Cuts an extent that holds nothing for `class`: one that never served, or one that another class has left.
    fn cut(&mut self, class: u8) -> Option<usize> {
        let fresh = self.extents.iter().position(|extent| extent.class.is_none());
        let at = fresh.or_else(|| self.extents.iter().position(Extent::may_be_cut))?;
        let slots = u32::try_from(self.classes.slots(class)).ok()?;
        let extent = self.extents.get_mut(at)?;
        if extent.class.is_none() {
            self.usage.assigned += self.layout.extent_bytes;
        }
        extent.cut(class, slots);
        Some(at)
    }

    /// Makes one slot of a run of extents that hold nothing: the last such run, so that runs and single extents grow towards
    /// each other.
    fn cut_run(&mut self, class: u8, extents: usize) -> Option<usize> {
        let free = self.extents.windows(extents).rposition(|run| run.iter().all(Extent::may_be_cut))?;
        let first = u8::try_from(free).ok()?;
        for (at, extent) in self.extents.iter_mut().enumerate().skip(free).take(extents) {
            if extent.class.is_none() {
                self.usage.assigned += self.layout.extent_bytes;
            }
            extent.cut(class, u32::from(at == free));
            if at > free {
                extent.run = Some(first);
                extent.held = 1;
            }
        }
        Some(free)
    }

    /// The extents of a run that nobody holds any more serve nothing.
    fn end_run(&mut self, first: u8, extents: u64) {
        for extent in self.extents.iter_mut().skip(first.into()).take(usize::try_from(extents).unwrap_or(0)) {
            (extent.class, extent.run, extent.held) = (None, None, 0);
            self.usage.assigned -= self.layout.extent_bytes;
        }
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
        let run = self.classes.extents(slot.class);
        if run > 1 {
            self.end_run(slot.extent, run);
        }
        true
    }

    /// The held slot that the byte at `offset` belongs to.
    pub fn at(&self, offset: u64) -> Option<Found> {
        let at = u8::try_from(offset / self.layout.extent_bytes).ok()?;
        let first = self.extents.get(usize::from(at))?.run.unwrap_or(at);
        let extent = self.extents.get(usize::from(first))?;
        let class = extent.class?;
        let slot_bytes = self.classes.slot_bytes(class)?;
        let within = offset - u64::from(first) * self.layout.extent_bytes;
        let number = u32::try_from(within / slot_bytes).ok()?;
        let slot = extent.slots.get(number as usize).filter(|slot| slot.holds.is_some())?;
        let slot = SlotRef { class, extent: first, slot: number, generation: slot.generation };
        Some(Found { slot, slot_bytes, offset: within % slot_bytes })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_had_all_generations_rests() {
        let layout = Layout::of(4096).unwrap();
        let mut table = Table::new(layout);
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
        let mut table = Table::new(Layout::of(1 << 20).unwrap());
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

    #[test]
    fn what_is_longer_than_an_extent_has_a_run_of_them() {
        let mut table = Table::new(Layout::of(64 << 12).unwrap());
        let small = table.take(1).unwrap();
        let run = table.take(5 << 12).unwrap();
        assert_eq!((run.slot.extent, run.slot.slot, run.offset), (59, 0, 59 << 12));
        for at in [run.offset, run.offset + 4096, run.offset + (5 << 12) - 1] {
            let found = table.at(at).unwrap();
            assert_eq!((found.slot, found.slot_bytes, found.offset), (run.slot, 5 << 12, at - run.offset));
        }
        assert_eq!(table.held()[58..], [0, 1, 1, 1, 1, 1]);
        let other = SlotRef { extent: 60, ..run.slot };
        assert!(!table.give_back(other), "a run goes back by its first extent");
        assert_eq!(table.usage().assigned, 6 << 12);
        let rest = table.take(58 << 12).unwrap();
        assert_eq!((rest.slot.extent, table.take(1)), (1, None));
        assert!(table.give_back(run.slot));
        assert_eq!((table.at(run.offset), table.usage().assigned), (None, 59 << 12));
        // Its extents serve others, under generations that are new.
        let again = table.take(1).unwrap().slot;
        assert_eq!((again.extent, again.generation), (59, run.slot.generation + 1));
        assert!(table.give_back(rest.slot) && table.give_back(small.slot) && table.give_back(again));
        assert_eq!(table.take(65 << 12), None);
        assert_eq!(table.take(64 << 12).unwrap().offset, 0);
    }
}
