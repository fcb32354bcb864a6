//! What the tier keeps, in the order of use, and what may go.
//!
//! A slot makes room for a value of its own class only; whole extents make room for any. So each class has an order of its
//! own, and each extent knows when any of its values was last used: extents are emptied for another class only where each
//! of their values was used longer ago than the one that would have to go else. A value that somebody holds besides the
//! tier is passed by: letting go of it would make nothing free.

use super::Lost;
use crate::keys::Key;
use bettong_shm::SlotRef;
use bettong_shm::pool::{Found, Layout};
use bettong_wire::{Payload, PutId};
use hashbrown::HashMap;
use lru::LruCache;
use std::collections::BTreeMap;
use std::ops::Range;

/// Values of a class, least recently used first, that are looked at for one that may go.
const LOOKS_MAX: usize = 64;
/// Runs of extents that are looked at for one that may be emptied.
const RUNS_MAX: usize = 16;
/// Most values without bytes: the pool does not bound them.
const EMPTY_MAX: usize = 1 << 16;

#[derive(Debug)]
struct Kept {
    key: Key,
    payload: Payload,
    /// `None` where the value has no bytes.
    found: Option<Found>,
    /// Nothing else has these bytes: leaving memory means leaving the store.
    volatile: bool,
    /// When it was last used, in uses of the tier.
    used: u64,
}

#[derive(Debug, Default)]
struct Extent {
    class: u8,
    /// The values that are kept in it, by slot; in each extent of a run its one value.
    values: Vec<Option<PutId>>,
    kept: u32,
    /// When one of them was last used.
    used: u64,
}

#[derive(Debug)]
pub(super) struct Book {
    /// Which class a value is in: `None` for values without bytes.
    classes_of: HashMap<PutId, Option<u8>>,
    classes: BTreeMap<Option<u8>, LruCache<PutId, Kept>>,
    layout: Layout,
    extents: Vec<Extent>,
    /// Uses of the tier so far.
    uses: u64,
    bytes: u64,
    losses: Vec<Lost>,
    evictions: u64,
    emptied: u64,
}

impl Book {
    pub fn new(layout: Layout) -> Self {
        Self {
            classes_of: HashMap::default(),
            classes: BTreeMap::new(),
            layout,
            extents: (0..layout.extents).map(|_| Extent::default()).collect(),
            uses: 0,
            bytes: 0,
            losses: Vec::new(),
            evictions: 0,
            emptied: 0,
        }
    }

    /// Of the slots that values are kept in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Values that were evicted so far.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Runs of extents that were emptied for another class so far.
    pub fn emptied(&self) -> u64 {
        self.emptied
    }

    pub fn take_losses(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.losses)
    }

    pub fn contains(&self, put_id: PutId) -> bool {
        self.classes_of.contains_key(&put_id)
    }

    /// Whether the slot is kept under another put id.
    pub fn has_other(&self, found: &Found, put_id: PutId) -> bool {
        let extent = self.extents.get(usize::from(found.slot.extent));
        let kept = extent.and_then(|extent| extent.values.get(found.slot.slot as usize)).copied().flatten();
        kept.is_some_and(|kept| kept != put_id)
    }

    pub fn get(&mut self, put_id: PutId) -> Option<Payload> {
        let class = self.classes_of.get(&put_id)?;
        let kept = self.classes.get_mut(class)?.get_mut(&put_id)?;
        self.uses += 1;
        kept.used = self.uses;
        let (found, payload, uses) = (kept.found, kept.payload.clone(), self.uses);
        self.extents_of(found).iter_mut().for_each(|extent| extent.used = uses);
        Some(payload)
    }

    /// Keeps a value, in the place of what was under its put id.
    pub fn insert(&mut self, key: Key, put_id: PutId, payload: Payload, found: Option<Found>, volatile: bool) {
        self.remove(put_id);
        self.uses += 1;
        let class = found.map(|found| found.slot.class);
        let kept = Kept { key, payload, found, volatile, used: self.uses };
        self.classes_of.insert(put_id, class);
        self.classes.entry(class).or_insert_with(LruCache::unbounded).put(put_id, kept);
        let Some(Found { slot, slot_bytes, .. }) = found else { return self.bound_empty() };
        self.bytes += slot_bytes;
        let uses = self.uses;
        for extent in self.extents_of(found) {
            if extent.kept == 0 {
                (extent.class, extent.values) = (slot.class, Vec::new());
            }
            let at = slot.slot as usize;
            extent.values.resize(extent.values.len().max(at + 1), None);
            extent.values[at] = Some(put_id);
            extent.kept += 1;
            extent.used = uses;
        }
    }

    pub fn remove(&mut self, put_id: PutId) {
        let Some(kept) = self.take(put_id) else { return };
        drop(kept);
    }

    /// Evicts what has to go for one more slot of `class`, which takes so many `extents`; `false` where nothing may.
    pub fn make_room(&mut self, class: u8, extents: u16, held: impl FnOnce() -> Vec<u32>) -> bool {
        let own = self.may_go(class);
        let than = own.map_or(u64::MAX, |(_, used)| used);
        if let Some(run) = self.run_used_before(than, class, extents.into(), held) {
            self.emptied += 1;
            for put_id in self.values_in(run) {
                self.evict(put_id);
            }
            return true;
        }
        own.is_some_and(|(put_id, _)| self.evict(put_id))
    }

    /// The least recently used value of the class that nobody else holds, and when it was used.
    fn may_go(&self, class: u8) -> Option<(PutId, u64)> {
        let mut oldest = self.classes.get(&Some(class))?.iter().rev().take(LOOKS_MAX);
        oldest.find(|(_, kept)| kept.payload.is_unique()).map(|(put_id, kept)| (*put_id, kept.used))
    }

    /// The least recently used run of extents of other classes that the tier alone has values in, if all of them were used
    /// before `than`.
    fn run_used_before(
        &self,
        than: u64,
        class: u8,
        extents: usize,
        held: impl FnOnce() -> Vec<u32>,
    ) -> Option<Range<usize>> {
        let used = |run: &[Extent]| run.iter().map(|extent| extent.used).max().unwrap_or(0);
        let is_other = |run: &[Extent]| run.iter().any(|extent| extent.kept > 0 && extent.class != class);
        let runs = self.extents.windows(extents).enumerate();
        let older = runs.filter(|(_, run)| used(run) < than && is_other(run));
        let mut older: Vec<_> = older.map(|(at, run)| (used(run), at..at + extents)).collect();
        if older.is_empty() {
            return None;
        }
        let held = held();
        let is_ours = |at: usize| self.extents.get(at).map(|extent| extent.kept) == held.get(at).copied();
        older.retain(|(_, run)| run.clone().all(is_ours));
        older.sort_unstable_by_key(|(used, run)| (*used, run.start));
        let mut looked_at = older.into_iter().take(RUNS_MAX).map(|(_, run)| run);
        looked_at.find(|run| self.values_in(run.clone()).all(|put_id| self.is_unique(put_id)))
    }

    fn values_in(&self, run: Range<usize>) -> impl Iterator<Item = PutId> + use<> {
        let extents = self.extents.get(run).unwrap_or_default();
        let values: Vec<PutId> = extents.iter().flat_map(|extent| extent.values.iter().flatten().copied()).collect();
        values.into_iter()
    }

    fn is_unique(&self, put_id: PutId) -> bool {
        let class = self.classes_of.get(&put_id).and_then(|class| self.classes.get(class));
        class.and_then(|class| class.peek(&put_id)).is_some_and(|kept| kept.payload.is_unique())
    }

    fn evict(&mut self, put_id: PutId) -> bool {
        let Some(kept) = self.take(put_id) else { return false };
        self.evictions += 1;
        if kept.volatile {
            self.losses.push((kept.key, put_id));
        }
        true
    }

    fn bound_empty(&mut self) {
        let oldest = self.classes.get(&None).filter(|empty| empty.len() > EMPTY_MAX).and_then(LruCache::peek_lru);
        if let Some(put_id) = oldest.map(|(put_id, _)| *put_id) {
            self.evict(put_id);
        }
    }

    fn take(&mut self, put_id: PutId) -> Option<Kept> {
        let class = self.classes_of.remove(&put_id)?;
        let kept = self.classes.get_mut(&class)?.pop(&put_id)?;
        let Some(Found { slot, slot_bytes, .. }) = kept.found else { return Some(kept) };
        self.bytes -= slot_bytes;
        for extent in self.extents_of(kept.found) {
            extent.values[slot.slot as usize] = None;
            extent.kept -= 1;
            if extent.kept == 0 {
                extent.used = 0;
            }
        }
        Some(kept)
    }

    /// The extent of a slot, or the run that it takes.
    fn extents_of(&mut self, found: Option<Found>) -> &mut [Extent] {
        let Some(Found { slot: SlotRef { extent, .. }, slot_bytes, .. }) = found else { return &mut [] };
        let run = slot_bytes.div_ceil(self.layout.extent_bytes) as usize;
        let first = usize::from(extent);
        self.extents.get_mut(first..first + run).unwrap_or_default()
    }
}
