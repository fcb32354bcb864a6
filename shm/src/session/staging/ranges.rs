//! Which ranges of the staging area are free.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges begin and end at multiples of so many bytes: a cache line, so that two of them share none.
pub(super) const GRAIN_BYTES: u64 = 64;

/// Free ranges: none of them is empty, and none touches another.
#[derive(Debug)]
pub(super) struct Ranges {
    /// Lengths by beginnings.
    free: BTreeMap<u64, u64>,
    free_bytes: u64,
    is_retired: bool,
}

impl Ranges {
    /// All of an area; what is no whole grain at its end is left out.
    pub fn new(bytes: u64) -> Self {
        let bytes = bytes - bytes % GRAIN_BYTES;
        let free = (bytes > 0).then_some((0, bytes)).into_iter().collect();
        Self { free, free_bytes: bytes, is_retired: false }
    }

    pub fn free_bytes(&self) -> u64 {
        self.free_bytes
    }

    pub fn longest(&self) -> u64 {
        self.free.values().copied().max().unwrap_or(0)
    }

    /// Takes at least `len` bytes from the first free range that has them.
    pub fn take(&mut self, len: u64) -> Option<Range<u64>> {
        let len = len.checked_next_multiple_of(GRAIN_BYTES)?;
        if len == 0 {
            return Some(0..0);
        }
        let (begin, there) =
            self.free.iter().find(|(_, there)| **there >= len).map(|(begin, there)| (*begin, *there))?;
        self.free.remove(&begin);
        if there > len {
            self.free.insert(begin + len, there - len);
        }
        self.free_bytes -= len;
        Some(begin..begin + len)
    }

    /// Nothing is free from now on, and nothing will be.
    pub fn retire(&mut self) {
        self.free.clear();
        self.free_bytes = 0;
        self.is_retired = true;
    }

    /// Gives back what `take` answered.
    pub fn give_back(&mut self, range: Range<u64>) {
        if range.is_empty() || self.is_retired {
            return;
        }
        self.free_bytes += range.end - range.start;
        let (mut begin, mut end) = (range.start, range.end);
        if let Some((before, len)) = self.free.range(..begin).next_back().map(|(before, len)| (*before, *len))
            && before + len == begin
        {
            begin = before;
        }
        if let Some(len) = self.free.remove(&end) {
            end += len;
        }
        self.free.insert(begin, end - begin);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRAINS: usize = 40;

    proptest! {
        /// Against one flag a grain: what is handed out was free, nothing is lost, and what is refused has no place.
        #[test]
        fn ranges_are_free_or_taken(steps in prop::collection::vec((any::<bool>(), any::<usize>(), 0..900u64), 0..200)) {
            let mut ranges = Ranges::new(GRAINS as u64 * GRAIN_BYTES + 63);
            let mut used = [false; GRAINS];
            let mut taken: Vec<Range<u64>> = Vec::new();
            let grains = |range: &Range<u64>| (range.start / GRAIN_BYTES) as usize..(range.end / GRAIN_BYTES) as usize;
            for (take, which, len) in steps {
                if take {
                    match ranges.take(len) {
                        Some(range) => {
                            prop_assert!(range.end - range.start >= len && range.start % GRAIN_BYTES == 0);
                            for grain in &mut used[grains(&range)] {
                                prop_assert!(!std::mem::replace(grain, true), "{:?} is handed out twice", range);
                            }
                            taken.push(range);
                        }
                        None => {
                            let longest = used.split(|used| *used).map(<[bool]>::len).max().unwrap_or(0);
                            prop_assert!((longest as u64 * GRAIN_BYTES) < len);
                            prop_assert_eq!(ranges.longest(), longest as u64 * GRAIN_BYTES);
                        }
                    }
                } else if !taken.is_empty() {
                    let range = taken.swap_remove(which % taken.len());
                    used[grains(&range)].fill(false);
                    ranges.give_back(range);
                }
                let free = used.iter().filter(|used| !**used).count() as u64 * GRAIN_BYTES;
                prop_assert_eq!(ranges.free_bytes(), free);
            }
            taken.into_iter().for_each(|range| ranges.give_back(range));
            prop_assert_eq!(ranges.free, BTreeMap::from([(0, GRAINS as u64 * GRAIN_BYTES)]));
        }
    }
}
