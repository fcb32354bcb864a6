//! Blocks without children, by class and by last use. What goes next is at one end or the other of a class: worth rises
//! with age, falls with it, or rises and then falls.

use super::class::{CLASSES, Class};
use super::tree::Slot;
use super::worth::Worth;
use std::collections::{BTreeSet, btree_set};

/// A block's place among those of its class.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Leaf {
    pub(super) used_at: u64,
    pub(super) slot: Slot,
}

/// Leaves of every class, by last use.
#[derive(Debug, Default)]
pub(super) struct Leaves([BTreeSet<Leaf>; CLASSES]);

impl Leaves {
    pub(super) fn insert(&mut self, class: Class, leaf: Leaf) {
        self.0[class.index()].insert(leaf);
    }

    pub(super) fn remove(&mut self, class: Class, leaf: Leaf) -> bool {
        self.0[class.index()].remove(&leaf)
    }

    /// All leaves, those that are worth least at `now` first.
    pub(super) fn by_worth<'a>(&'a self, worth: &'a Worth, now: u64) -> ByWorth<'a> {
        let classes = Class::all().zip(self.0.iter().map(Ends::new)).collect();
        ByWorth { worth, now, classes, bared: Self::default() }
    }
}

/// A class's leaves, taken from either end.
#[derive(Debug)]
struct Ends<'a> {
    oldest: Option<Leaf>,
    youngest: Option<Leaf>,
    between: btree_set::Iter<'a, Leaf>,
}

impl<'a> Ends<'a> {
    fn new(leaves: &'a BTreeSet<Leaf>) -> Self {
        let mut between = leaves.iter();
        Self { oldest: between.next().copied(), youngest: between.next_back().copied(), between }
    }

    fn take(&mut self, leaf: Leaf) {
        if self.oldest == Some(leaf) {
            self.oldest = self.between.next().copied().or_else(|| self.youngest.take());
        } else {
            self.youngest = self.between.next_back().copied();
        }
    }
}

/// The order of eviction, which grows by the parents whose last child goes.
#[derive(Debug)]
pub(super) struct ByWorth<'a> {
    worth: &'a Worth,
    now: u64,
    classes: Vec<(Class, Ends<'a>)>,
    /// Leaves only for this pass.
    bared: Leaves,
}

impl ByWorth<'_> {
    /// Adds a block that has no children any more once what was taken has gone.
    pub(super) fn bare(&mut self, class: Class, leaf: Leaf) {
        self.bared.insert(class, leaf);
    }

    /// Takes what is worth least; of equals, what was used longest ago.
    pub(super) fn next(&mut self) -> Option<Slot> {
        let ends = self.classes.iter().zip(&self.bared.0).flat_map(|((class, ends), bared)| {
            let of_class = [ends.oldest, ends.youngest, bared.first().copied(), bared.last().copied()];
            of_class.into_iter().flatten().map(|leaf| (*class, leaf))
        });
        let worth = |(class, leaf): &(Class, Leaf)| self.worth.of(*class, self.now - leaf.used_at);
        let (_, class, leaf) = ends
            .map(|end| (worth(&end), end.0, end.1))
            .min_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.2.cmp(&b.2)))?;
        if !self.bared.remove(class, leaf) {
            self.classes[class.index()].1.take(leaf);
        }
        Some(leaf.slot)
    }
}
