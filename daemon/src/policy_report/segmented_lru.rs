//! Segmented LRU: what was used twice is protected from what was used once. R. Karedla, J. S. Love, B. G. Wherry,
//! "Caching strategies to improve disk system performance", IEEE Computer 27(3), 1994.

use super::list::List;
use super::{BlockRef, Cache};

/// The share of the protected segment: one in so many. A larger share does worse on traces of prompts, most of which
/// never come back.
const PROTECTED_ONE_IN: usize = 5;

#[derive(Debug)]
pub struct SegmentedLru {
    capacity: usize,
    protected_max: usize,
    probation: List,
    protected: List,
}

impl SegmentedLru {
    pub fn new(capacity: usize, blocks: usize) -> Self {
        Self::with_protected(capacity, capacity / PROTECTED_ONE_IN, blocks)
    }

    /// With room for `protected_max` blocks in the protected segment.
    pub fn with_protected(capacity: usize, protected_max: usize, blocks: usize) -> Self {
        Self { capacity, protected_max, probation: List::new(blocks), protected: List::new(blocks) }
    }

    /// What goes next.
    pub fn victim(&self) -> Option<u32> {
        self.probation.back().or_else(|| self.protected.back())
    }

    pub fn remove(&mut self, block: u32) {
        let _ = self.probation.remove(block) || self.protected.remove(block);
    }

    pub fn use_again(&mut self, block: u32) {
        self.remove(block);
        self.protected.push_front(block);
        if self.protected.len() > self.protected_max
            && let Some(demoted) = self.protected.pop_back()
        {
            self.probation.push_front(demoted);
        }
    }

    pub fn add(&mut self, block: u32) {
        self.probation.push_front(block);
    }
}

impl Cache for SegmentedLru {
    fn holds(&self, block: u32) -> bool {
        self.probation.holds(block) || self.protected.holds(block)
    }

    fn hit(&mut self, block: BlockRef) {
        self.use_again(block.number);
    }

    fn insert(&mut self, block: BlockRef) {
        if self.len() >= self.capacity
            && let Some(victim) = self.victim()
        {
            self.remove(victim);
        }
        self.add(block.number);
    }

    fn len(&self) -> usize {
        self.probation.len() + self.protected.len()
    }
}
