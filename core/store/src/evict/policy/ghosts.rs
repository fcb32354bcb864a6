//! How often blocks were used that were evicted since: a bounded table that remembers a tag and a count of each.

use super::class::USES_MAX;

/// Ghosts of one set; the oldest gives way.
const WAYS: usize = 8;

/// Ghosts for each block that is there. What comes back later than four fillings of the tier is as good as new.
const GHOSTS_A_BLOCK: usize = 4;

const COUNT_BITS: u32 = 4;
const _: () = assert!(USES_MAX as u32 == (1 << COUNT_BITS) - 1);

/// Four bytes a ghost: a tag of 28 bits and the count of uses. Zero is no ghost. Another block's count is taken for a
/// block's own once in some 30 million times, which costs a place in the order and no more.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    sets: Vec<[u32; WAYS]>,
    /// The number of blocks that the table was made for.
    made_for: usize,
}

impl Ghosts {
    /// Spreads names over the sets and the tags, also where callers' names are not as uniform as they should be.
    fn place(&self, name: u64) -> (usize, u32) {
        let mixed = super::mix(name);
        let set = (u128::from(mixed) * self.sets.len() as u128) >> 64;
        (set as usize, (mixed as u32) << COUNT_BITS)
    }

    /// Remembers an evicted block, of a tier that holds `blocks`.
    pub(super) fn remember(&mut self, name: u64, uses: u8, blocks: usize) {
        if self.made_for < blocks / 2 || self.sets.is_empty() {
            self.made_for = blocks;
            self.sets = vec![[0; WAYS]; (blocks * GHOSTS_A_BLOCK).div_ceil(WAYS).max(1)];
        }
        let (set, tag) = self.place(name);
        if let Some(set) = self.sets.get_mut(set) {
            set.rotate_right(1);
            set[0] = tag | u32::from(uses.clamp(1, USES_MAX));
        }
    }

    /// The uses of a block that comes back; zero where it is not remembered.
    pub(super) fn recall(&mut self, name: u64) -> u8 {
        let (set, tag) = self.place(name);
        let ways = self.sets.get_mut(set).map_or(&mut [][..], |set| &mut set[..]);
        for ghost in ways {
            if *ghost != 0 && (*ghost >> COUNT_BITS) << COUNT_BITS == tag {
                return std::mem::take(ghost) as u8 & USES_MAX;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_the_table_stays_bounded() {
        let mut ghosts = Ghosts::default();
        assert_eq!(ghosts.recall(1), 0);
        for name in 0..10_000 {
            ghosts.remember(name, 1 + (name % 20) as u8, 100);
        }
        assert_eq!(ghosts.sets.len() * WAYS, 400);
        assert_eq!(ghosts.recall(9_999), 15);
        assert_eq!(ghosts.recall(9_999), 0);
        let found = (0..9_999).filter(|name| ghosts.recall(*name) == (1 + (name % 20) as u8).min(15)).count();
        assert!((350..400).contains(&found), "{found}");
    }
}
