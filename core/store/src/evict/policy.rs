//! Which blocks of a bounded tier go first: children before parents, since a chain is useless beyond its first missing
//! block, and among the blocks without children the least recently used first.
//!
//! The policy owns no clock: its time is the count of the uses that it was told of. It decides, it does not remove:
//! [`Policy::victims`] names blocks, and the caller says [`Policy::evicted`] for each that has really gone.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use tree::{Slot, Tree};

/// A block as the policy is told of it. Names are 64 bits of the caller's choice that tell blocks apart: uniform, and
/// keyed where strangers choose what they are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    pub name: u64,
    /// The block before it in its chain; `None` at the start of a chain, and where it is not known.
    pub parent: Option<u64>,
    /// Position in the chain, from zero. A parent whose position is not before its child's is not believed.
    pub sequence: u32,
    /// What it takes of the budget.
    pub bytes: u32,
}

/// The order of eviction of one tier or namespace. Takes 40 to 50 bytes a block.
#[derive(Debug)]
pub struct Policy {
    budget_bytes: u64,
    /// Uses that were noted so far.
    uses: u64,
    tree: Tree,
    /// Blocks without children, the next to go first.
    leaves: BTreeSet<Rank>,
}

/// The order among blocks without children.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    used_at: u64,
    slot: Slot,
}

/// An eviction ends at this share of the budget, in percent, so that not every put evicts.
const LOW_WATER_PERCENT: u64 = 90;

impl Policy {
    /// An empty policy for a tier of `budget_bytes`.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes, uses: 0, tree: Tree::default(), leaves: BTreeSet::new() }
    }

    /// Notes a block that is now there. One that was there already keeps its place in its chain and counts as used; its
    /// length becomes the new one. Parents and children may come in any order; after a start, insert by last use, oldest
    /// first.
    pub fn insert(&mut self, block: Block) {
        if let Some(slot) = self.tree.resident(block.name) {
            self.tree.resize(slot, block.bytes);
            self.hit(block.name);
            return;
        }
        self.uses += 1;
        let slot = self.tree.insert(&block, self.uses);
        if let Some(parent) = self.tree.parent(slot) {
            let rank = self.rank(parent);
            self.leaves.remove(&rank);
        }
        if self.tree.children(slot) == 0 {
            let rank = self.rank(slot);
            self.leaves.insert(rank);
        }
    }

    /// Notes that a block was used. Unknown names are nothing.
    pub fn hit(&mut self, name: u64) {
        let Some(slot) = self.tree.resident(name) else { return };
        let rank = self.rank(slot);
        let leaf = self.leaves.remove(&rank);
        self.uses += 1;
        self.tree.touch(slot, self.uses);
        if leaf {
            let rank = self.rank(slot);
            self.leaves.insert(rank);
        }
    }

    /// Notes that a block has gone for another reason than eviction: deleted, expired, damaged. Says whether it was
    /// there.
    pub fn remove(&mut self, name: u64) -> bool {
        let Some(slot) = self.tree.resident(name) else { return false };
        let rank = self.rank(slot);
        self.leaves.remove(&rank);
        let parent = self.tree.parent(slot);
        self.tree.remove(slot);
        if let Some(parent) = parent.filter(|parent| self.tree.children(*parent) == 0) {
            let rank = self.rank(parent);
            self.leaves.insert(rank);
        }
        true
    }

    /// Notes that a victim has gone. Says whether it was there.
    pub fn evicted(&mut self, name: u64) -> bool {
        self.remove(name)
    }

    /// When a block was used last, in uses of any block; `None` where it is not there. A victim of which this has changed
    /// was used since.
    pub fn used_at(&self, name: u64) -> Option<u64> {
        self.tree.resident(name).map(|slot| self.tree.used_at(slot))
    }

    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Sets another budget; what no longer fits is named by the next [`Self::victims`].
    pub fn set_budget_bytes(&mut self, budget_bytes: u64) {
        self.budget_bytes = budget_bytes;
    }

    /// Bytes of all blocks that are there.
    pub fn used_bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// Blocks that are there.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that an eviction has to free: none up to the budget, beyond it all down to 90 % of the budget.
    pub fn excess_bytes(&self) -> u64 {
        let used = self.used_bytes();
        let low_water = self.budget_bytes / 100 * LOW_WATER_PERCENT + self.budget_bytes % 100 * LOW_WATER_PERCENT / 100;
        if used > self.budget_bytes { used - low_water } else { 0 }
    }

    /// The blocks to evict, in order, so that `bytes` become free: fewer only where `may_go` refuses. A block that may
    /// not go (leased, not yet uploaded) keeps its ancestors. Nothing changes here: the caller evicts in this order,
    /// leaves out what was used or leased since together with all its ancestors, and says [`Self::evicted`] for the rest.
    pub fn victims(&self, bytes: u64, mut may_go: impl FnMut(u64) -> bool) -> Vec<u64> {
        let mut victims = Vec::new();
        let mut freed = 0;
        let mut leaves = self.leaves.iter().copied().peekable();
        // Parents whose last child is among the victims, and children that others still have.
        let mut bared = BTreeSet::new();
        let mut remaining: BTreeMap<Slot, u32> = BTreeMap::new();
        while freed < bytes {
            let next = match (leaves.peek(), bared.first()) {
                (Some(leaf), Some(bare)) if bare < leaf => bared.pop_first(),
                (Some(_), _) => leaves.next(),
                (None, _) => bared.pop_first(),
            };
            let Some(Rank { slot, .. }) = next else { break };
            let name = self.tree.name(slot);
            if !may_go(name) {
                continue;
            }
            victims.push(name);
            freed += u64::from(self.tree.bytes_of(slot));
            if let Some(parent) = self.tree.parent(slot) {
                let remaining = remaining.entry(parent).or_insert_with(|| self.tree.children(parent));
                *remaining -= 1;
                if *remaining == 0 {
                    bared.insert(self.rank(parent));
                }
            }
        }
        victims
    }

    fn rank(&self, slot: Slot) -> Rank {
        Rank { used_at: self.tree.used_at(slot), slot }
    }
}

#[cfg(test)]
mod tests;
