//! Which blocks of a bounded tier go first: children before parents, since a chain is useless beyond its first missing
//! block, and among the blocks without children those that are worth least.
//!
//! What a block is worth is learned (`worth`) from a bounded sample of the gaps between uses (`history`), for each class
//! of blocks (`class`) and age. Nothing is set for a workload; before anything is known the least recently used goes
//! first. Length plays no part: a hit saves about as much for each byte whatever the block's length.
//!
//! The policy owns no clock: its time is the count of the uses that it was told of. It decides, it does not remove:
//! [`Policy::victims`] names blocks, and the caller says [`Policy::evicted`] for each that has really gone.

mod class;
mod ghosts;
mod history;
mod leaves;
mod tree;
mod worth;

use ghosts::Ghosts;
use history::History;
use leaves::{Leaf, Leaves};
use std::collections::BTreeMap;
use tree::{Slot, Tree};
use worth::Worth;

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

/// The order of eviction of one tier or namespace. Takes about 60 bytes a block, its ghosts included, and at most a MiB
/// besides.
#[derive(Debug)]
pub struct Policy {
    budget_bytes: u64,
    /// Uses that were noted so far.
    uses: u64,
    tree: Tree,
    /// Blocks without children: one of them goes next.
    leaves: Leaves,
    ghosts: Ghosts,
    history: History,
    worth: Worth,
}

/// An eviction ends at this share of the budget, in percent, so that not every put evicts.
const LOW_WATER_PERCENT: u64 = 90;

impl Policy {
    /// An empty policy for a tier of `budget_bytes`.
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            uses: 0,
            tree: Tree::default(),
            leaves: Leaves::default(),
            ghosts: Ghosts::default(),
            history: History::default(),
            worth: Worth::default(),
        }
    }

    /// Notes a block that is now there. One that was there already keeps its place in its chain and counts as used; its
    /// length becomes the new one. Parents and children may come in any order.
    pub fn insert(&mut self, block: Block) {
        let uses = self.ghosts.recall(block.name);
        self.add(block, uses);
    }

    /// As [`Self::insert`], at a start, of a block that had been used `uses` times before its last use. By last use,
    /// oldest first.
    pub fn restore(&mut self, block: Block, uses: u8) {
        self.add(block, uses.min(class::USES_MAX));
    }

    fn add(&mut self, block: Block, uses: u8) {
        if let Some(slot) = self.tree.resident(block.name) {
            self.tree.resize(slot, block.bytes);
            self.hit(block.name);
            return;
        }
        self.uses += 1;
        let slot = self.tree.insert(&block, uses, self.uses);
        if let Some(parent) = self.tree.parent(slot) {
            self.leaves.remove(self.tree.class(parent), self.leaf(parent));
            if self.tree.becomes_parent(parent) {
                self.history.reclass(self.tree.name(parent), self.tree.class(parent));
            }
        }
        self.shown(slot);
    }

    /// Notes that a block was used. Unknown names are nothing.
    pub fn hit(&mut self, name: u64) {
        let Some(slot) = self.tree.resident(name) else { return };
        self.leaves.remove(self.tree.class(slot), self.leaf(slot));
        self.uses += 1;
        self.tree.touch(slot, self.uses);
        self.shown(slot);
    }

    /// Gives a block that was just used its new place.
    fn shown(&mut self, slot: Slot) {
        let class = self.tree.class(slot);
        if self.tree.children(slot) == 0 {
            self.leaves.insert(class, self.leaf(slot));
        }
        self.history.used(self.tree.name(slot), class, self.uses);
    }

    /// Notes that a block has gone for another reason than eviction: deleted, expired, damaged. Says whether it was
    /// there.
    pub fn remove(&mut self, name: u64) -> bool {
        let Some(slot) = self.tree.resident(name) else { return false };
        self.leaves.remove(self.tree.class(slot), self.leaf(slot));
        let parent = self.tree.parent(slot);
        self.tree.remove(slot);
        if let Some(parent) = parent.filter(|parent| self.tree.children(*parent) == 0) {
            self.leaves.insert(self.tree.class(parent), self.leaf(parent));
        }
        true
    }

    /// Notes that a victim has gone. Says whether it was there. Should it come back, its uses are remembered.
    pub fn evicted(&mut self, name: u64) -> bool {
        if let Some(slot) = self.tree.resident(name) {
            self.ghosts.remember(name, self.tree.uses(slot), self.len());
        }
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

    /// The block before it in its chain, if it is there.
    pub fn parent(&self, name: u64) -> Option<u64> {
        let slot = self.tree.resident(name)?;
        self.tree.parent(slot).map(|parent| self.tree.name(parent))
    }

    /// How many blocks that are there go on from it.
    pub fn children(&self, name: u64) -> u32 {
        self.tree.resident(name).map_or(0, |slot| self.tree.children(slot))
    }

    /// What it takes of the budget; zero where it is not there.
    pub fn bytes_of(&self, name: u64) -> u64 {
        self.tree.resident(name).map_or(0, |slot| u64::from(self.tree.bytes_of(slot)))
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
    /// not go (leased, not yet uploaded) keeps its ancestors. Nothing goes here: the caller evicts in this order,
    /// leaves out what was used or leased since together with all its ancestors, and says [`Self::evicted`] for the rest.
    pub fn victims(&mut self, bytes: u64, mut may_go: impl FnMut(u64) -> bool) -> Vec<u64> {
        self.learn();
        let mut order = self.leaves.by_worth(&self.worth, self.uses);
        let mut victims = Vec::new();
        let mut freed = 0;
        // Children that parents of victims still have.
        let mut remaining: BTreeMap<Slot, u32> = BTreeMap::new();
        while freed < bytes {
            let Some(slot) = order.next() else { break };
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
                    order.bare(self.tree.class(parent), self.leaf(parent));
                }
            }
        }
        victims
    }

    fn learn(&mut self) {
        self.history.reach_for(self.len());
        if self.history.news() {
            self.worth = Worth::learn(self.history.outcomes(self.uses));
        }
    }

    fn leaf(&self, slot: Slot) -> Leaf {
        Leaf { used_at: self.tree.used_at(slot), slot }
    }
}

/// A bijective mixing of 64 bits (the finalizer of SplitMix64).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
