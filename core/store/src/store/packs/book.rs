//! The packs of this node: how much of each is live. Kept beside the index and rebuilt from it at a start.

use crate::index::rows::PackRow;
use crate::world::Mono;
use bettong_wire::{NamespaceId, PutId, pack};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pack is rewritten once more than this share of its members' bytes is dead: the rewriting of one live byte then
/// frees at least one dead byte.
const DEAD_SHARE: f64 = 0.5;

/// What is known of one pack.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub row: PackRow,
    /// Members that the durable index names, and their bytes.
    pub live: u32,
    pub live_bytes: u64,
    /// Not rewritten before: an attempt did not get through, or something in it must stay for now.
    rewrite_after: Mono,
    /// Not removed before: an attempt did not get through, or other nodes still look for it here.
    remove_after: Mono,
}

impl Held {
    fn new(row: PackRow) -> Self {
        Self { row, live: 0, live_bytes: 0, rewrite_after: Mono(0), remove_after: Mono(0) }
    }

    /// Bytes of members that nothing names any more.
    pub fn dead_bytes(&self) -> u64 {
        let members = self.row.bytes.saturating_sub(pack::table_end(self.row.members as usize));
        members.saturating_sub(self.live_bytes)
    }

    fn is_worn(&self) -> bool {
        let members = self.live_bytes.saturating_add(self.dead_bytes());
        self.live > 0 && self.dead_bytes() as f64 > members as f64 * DEAD_SHARE
    }
}

/// The packs of this node that the index knows, and those that are being written.
#[derive(Debug, Default)]
pub struct PackBook {
    packs: BTreeMap<PutId, Held>,
    writing: Arc<Mutex<BTreeSet<PutId>>>,
}

/// A pack is on its way to the bucket and into the index. Dropped once it is in both, or given up.
#[derive(Debug)]
pub struct Writing {
    pack: PutId,
    writing: Arc<Mutex<BTreeSet<PutId>>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.writing.lock().remove(&self.pack);
    }
}

/// All packs together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub packs: u64,
    pub live: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
}

impl PackBook {
    /// Announces a pack before its object is written.
    pub fn begin(&self, pack: PutId) -> Writing {
        self.writing.lock().insert(pack);
        Writing { pack, writing: self.writing.clone() }
    }

    fn is_being_written(&self, pack: PutId) -> bool {
        self.writing.lock().contains(&pack)
    }

    /// Whether the index knows the pack, or may come to know it.
    pub fn is_known(&self, pack: PutId) -> bool {
        self.is_being_written(pack) || self.packs.contains_key(&pack)
    }

    /// The index knows the pack.
    pub fn add(&mut self, pack: PutId, row: PackRow) {
        self.packs.entry(pack).and_modify(|held| held.row = row).or_insert(Held::new(row));
    }

    /// The pack is gone from the bucket.
    pub fn remove(&mut self, pack: PutId) {
        self.packs.remove(&pack);
    }

    /// The index names a member of so many bytes. A pack that no row describes is held all the same: it must not pass
    /// for an orphan.
    pub fn enter(&mut self, pack: PutId, namespace: NamespaceId, bytes: u64) {
        let row = PackRow { namespace, bytes: 0, members: 0 };
        let held = self.packs.entry(pack).or_insert(Held::new(row));
        held.live += 1;
        held.live_bytes += bytes;
    }

    /// The index names a member no more. Says whether the pack should be looked at: it is empty, or worn.
    pub fn leave(&mut self, pack: PutId, bytes: u64) -> bool {
        let Some(held) = self.packs.get_mut(&pack) else { return false };
        held.live = held.live.saturating_sub(1);
        held.live_bytes = held.live_bytes.saturating_sub(bytes);
        held.live == 0 || held.is_worn()
    }

    /// Does not rewrite the pack before `after`.
    pub fn rewrite_after(&mut self, pack: PutId, after: Mono) {
        if let Some(held) = self.packs.get_mut(&pack) {
            held.rewrite_after = after;
        }
    }

    /// Does not remove the pack before `after`.
    pub fn remove_after(&mut self, pack: PutId, after: Mono) {
        if let Some(held) = self.packs.get_mut(&pack) {
            held.remove_after = after;
        }
    }

    /// Packs in which nothing is live: nothing will be again.
    pub fn empty(&self, now: Mono) -> Vec<(PutId, NamespaceId)> {
        let empty = |(pack, held): &(&PutId, &Held)| {
            held.live == 0 && now >= held.remove_after && !self.is_being_written(**pack)
        };
        self.packs.iter().filter(empty).map(|(pack, held)| (*pack, held.row.namespace)).collect()
    }

    /// Packs that should be rewritten: worn ones, and those of `overdue`, by namespace.
    pub fn worn(&self, now: Mono, overdue: &BTreeSet<PutId>) -> Vec<(PutId, Held)> {
        let worn = |(pack, held): &(&PutId, &Held)| {
            held.live > 0 && now >= held.rewrite_after && (held.is_worn() || overdue.contains(pack))
        };
        let mut worn: Vec<(PutId, Held)> = self.packs.iter().filter(worn).map(|(pack, held)| (*pack, *held)).collect();
        worn.sort_by_key(|(pack, held)| (held.row.namespace, *pack));
        worn
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals { packs: self.packs.len() as u64, ..Totals::default() };
        for held in self.packs.values() {
            totals.live += u64::from(held.live);
            totals.live_bytes += held.live_bytes;
            totals.dead_bytes += held.dead_bytes();
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> PutId {
        PutId { life: 1, counter }
    }

    fn book() -> PackBook {
        let mut book = PackBook::default();
        let namespace = NamespaceId([1; 32]);
        book.add(id(9), PackRow { namespace, bytes: pack::table_end(4) + 400, members: 4 });
        (0..4).for_each(|_| book.enter(id(9), namespace, 100));
        book
    }

    #[test]
    fn a_pack_is_worn_when_more_than_half_is_dead_and_empty_when_all_is() {
        let (mut book, now, none) = (book(), Mono(1), BTreeSet::new());
        assert!(!book.leave(id(9), 100));
        assert!(!book.leave(id(9), 100), "half is not more than half");
        assert!(book.worn(now, &none).is_empty());
        assert_eq!(book.worn(now, &BTreeSet::from([id(9)])).len(), 1, "overdue");
        assert!(book.leave(id(9), 100));
        assert_eq!(book.worn(now, &none).len(), 1);
        book.rewrite_after(id(9), Mono(5));
        assert!(book.worn(now, &none).is_empty());
        assert_eq!(book.totals(), Totals { packs: 1, live: 1, live_bytes: 100, dead_bytes: 300 });
        assert!(book.empty(now).is_empty());
        assert!(book.leave(id(9), 100));
        assert!(book.worn(now, &none).is_empty());
        assert_eq!(book.empty(now).len(), 1);
        book.remove_after(id(9), Mono(5));
        assert!(book.empty(now).is_empty());
        assert_eq!(book.empty(Mono(6)).len(), 1);
        book.remove(id(9));
        assert!(!book.is_known(id(9)));
    }

    #[test]
    fn a_pack_that_is_being_written_is_not_looked_at() {
        let mut book = PackBook::default();
        let writing = book.begin(id(9));
        assert!(book.is_known(id(9)));
        book.add(id(9), PackRow { namespace: NamespaceId([1; 32]), bytes: 1000, members: 2 });
        assert!(book.empty(Mono(1)).is_empty());
        drop(writing);
        assert_eq!(book.empty(Mono(1)).len(), 1);
    }
}
