//! Our own policy, as the store has it.

use super::{BlockRef, Cache};
use crate::trace::payload::mix;
use bettong_core::evict::{Block, Policy};

#[derive(Debug)]
pub struct Ours {
    policy: Policy,
    /// Whether an eviction ends at the budget and not below it.
    exact: bool,
}

/// Names are uniform, as the store's are.
fn name(block: u32) -> u64 {
    mix(u64::from(block) + 1)
}

impl Ours {
    /// Evicts only what is over the capacity, like the policies beside it.
    pub fn exact(capacity: usize) -> Self {
        Self { policy: Policy::new(capacity as u64), exact: true }
    }

    /// Evicts as the store does.
    pub fn in_batches(capacity: usize) -> Self {
        Self { policy: Policy::new(capacity as u64), exact: false }
    }
}

impl Cache for Ours {
    fn holds(&self, block: u32) -> bool {
        self.policy.used_at(name(block)).is_some()
    }

    fn hit(&mut self, block: BlockRef) {
        self.policy.hit(name(block.number));
    }

    fn insert(&mut self, block: BlockRef) {
        let (number, parent) = (name(block.number), block.parent.map(name));
        self.policy.insert(Block { name: number, parent, sequence: block.sequence, bytes: 1 });
        let over = self.policy.used_bytes().saturating_sub(self.policy.budget_bytes());
        let excess = if self.exact { over } else { self.policy.excess_bytes() };
        if excess > 0 {
            for victim in self.policy.victims(excess, |_| true) {
                self.policy.evicted(victim);
            }
        }
    }

    fn len(&self) -> usize {
        self.policy.len()
    }
}
