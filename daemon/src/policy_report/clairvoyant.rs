//! The policy that knows the future: what is used again last goes first, a new block included. L. A. Belady, "A study of
//! replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
//!
//! Whoever uses a block uses its ancestors as well, so that none of them is used again later than it: of equals the
//! deepest goes first, and a chain is always given up from its end.

use super::sequence::Sequence;
use super::{BlockRef, Cache};
use std::collections::BTreeSet;

/// The request of a next use that never comes.
const NEVER: u32 = u32::MAX;

#[derive(Debug)]
pub struct Clairvoyant {
    capacity: usize,
    /// For each block the requests that use it, the last first; those that are over have been taken off.
    uses: Vec<Vec<u32>>,
    /// What is there: next use, position in its chain, block.
    order: BTreeSet<(u32, u32, u32)>,
    /// By block: the next use under which it is in `order`.
    held: Vec<Option<u32>>,
}

impl Clairvoyant {
    pub fn new(capacity: usize, sequence: &Sequence) -> Self {
        let mut uses = vec![Vec::new(); sequence.distinct()];
        for block in sequence.requests().flatten() {
            uses[block.number as usize].push(block.request);
        }
        uses.iter_mut().for_each(|uses: &mut Vec<u32>| uses.reverse());
        Self { capacity, held: vec![None; uses.len()], uses, order: BTreeSet::new() }
    }

    fn next_use(&mut self, block: BlockRef) -> u32 {
        let uses = &mut self.uses[block.number as usize];
        while uses.last().is_some_and(|request| *request <= block.request) {
            uses.pop();
        }
        uses.last().copied().unwrap_or(NEVER)
    }

    fn show(&mut self, block: BlockRef) {
        let next = self.next_use(block);
        if let Some(before) = self.held[block.number as usize].replace(next) {
            self.order.remove(&(before, block.sequence, block.number));
        }
        self.order.insert((next, block.sequence, block.number));
    }
}

impl Cache for Clairvoyant {
    fn holds(&self, block: u32) -> bool {
        self.held[block as usize].is_some()
    }

    fn hit(&mut self, block: BlockRef) {
        self.show(block);
    }

    fn insert(&mut self, block: BlockRef) {
        self.show(block);
        if self.order.len() > self.capacity
            && let Some((_, _, gone)) = self.order.pop_last()
        {
            self.held[gone as usize] = None;
        }
    }

    fn len(&self) -> usize {
        self.order.len()
    }
}
