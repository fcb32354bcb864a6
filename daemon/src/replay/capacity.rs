//! A bound on what a replay keeps: the least recently used blocks, children before parents.

use bettong_wire::BlockHash;
use std::collections::BTreeMap;

/// Which blocks are kept, by recency.
#[derive(Debug)]
pub struct Capacity {
    blocks_max: u64,
    by_stamp: BTreeMap<u64, BlockHash>,
    stamps: BTreeMap<BlockHash, u64>,
    next: u64,
}

impl Capacity {
    pub fn new(blocks_max: u64) -> Self {
        Self { blocks_max, by_stamp: BTreeMap::new(), stamps: BTreeMap::new(), next: 0 }
    }

    /// The chain was used; answers the blocks that no longer fit.
    pub fn used(&mut self, chain: &[BlockHash]) -> Vec<BlockHash> {
        // Last block first: a parent is always more recent than its children, so that it goes after them.
        for hash in chain.iter().rev() {
            self.next += 1;
            if let Some(old) = self.stamps.insert(*hash, self.next) {
                self.by_stamp.remove(&old);
            }
            self.by_stamp.insert(self.next, *hash);
        }
        let mut evicted = Vec::new();
        while self.by_stamp.len() as u64 > self.blocks_max {
            let Some((_, hash)) = self.by_stamp.pop_first() else { break };
            self.stamps.remove(&hash);
            evicted.push(hash);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(ids: &[u8]) -> Vec<BlockHash> {
        ids.iter().map(|id| BlockHash([*id; 32])).collect()
    }

    #[test]
    fn the_least_recent_leaf_goes_first() {
        let mut capacity = Capacity::new(4);
        assert_eq!(capacity.used(&hashes(&[1, 2, 3])), []);
        assert_eq!(capacity.used(&hashes(&[1, 4])), []);
        assert_eq!(capacity.used(&hashes(&[1, 4, 5])), hashes(&[3]));
        assert_eq!(capacity.used(&hashes(&[6])), hashes(&[2]));
        assert_eq!(capacity.used(&hashes(&[7, 8, 9, 10, 11])), hashes(&[5, 4, 1, 6, 11]));
    }
}
