//! W-TinyLFU: a small window in front of a segmented LRU, which takes only what was used more often than its own next
//! victim. G. Einziger, R. Friedman, B. Manes, "TinyLFU: a highly efficient cache admission policy", ACM Transactions on
//! Storage 13(4), 2017.

use super::list::List;
use super::segmented_lru::SegmentedLru;
use super::{BlockRef, Cache};
use crate::trace::payload::mix;

/// The share of the window: one in so many.
const WINDOW_ONE_IN: usize = 100;
/// Of the main part, in percent.
const PROTECTED_PERCENT: usize = 80;
/// Counts are halved after so many uses for each block that fits.
const SAMPLE: usize = 10;
const COUNT_MAX: u8 = 15;
const ROWS: usize = 4;

/// How often blocks were used lately: a count-min sketch.
#[derive(Debug)]
struct Sketch {
    rows: [Vec<u8>; ROWS],
    uses: usize,
    uses_max: usize,
}

impl Sketch {
    fn new(capacity: usize) -> Self {
        let width = capacity.next_power_of_two().max(16);
        Self {
            rows: std::array::from_fn(|_| vec![0; width]),
            uses: 0,
            uses_max: capacity.saturating_mul(SAMPLE).max(1),
        }
    }

    fn places(&self, block: u32) -> impl Iterator<Item = (usize, usize)> + use<> {
        let mask = self.rows[0].len() - 1;
        (0..ROWS).map(move |row| (row, mix(u64::from(block) | ((row as u64 + 1) << 32)) as usize & mask))
    }

    fn add(&mut self, block: u32) {
        for (row, at) in self.places(block) {
            let count = &mut self.rows[row][at];
            *count = (*count + 1).min(COUNT_MAX);
        }
        self.uses += 1;
        if self.uses >= self.uses_max {
            self.uses /= 2;
            self.rows.iter_mut().flatten().for_each(|count| *count /= 2);
        }
    }

    fn count(&self, block: u32) -> u8 {
        self.places(block).map(|(row, at)| self.rows[row][at]).min().unwrap_or(0)
    }
}

#[derive(Debug)]
pub struct TinyLfu {
    capacity: usize,
    window_max: usize,
    window: List,
    main: SegmentedLru,
    sketch: Sketch,
}

impl TinyLfu {
    pub fn new(capacity: usize, blocks: usize) -> Self {
        let window_max = (capacity / WINDOW_ONE_IN).max(1);
        let main = capacity.saturating_sub(window_max);
        let main = SegmentedLru::with_protected(main, main * PROTECTED_PERCENT / 100, blocks);
        Self { capacity, window_max, window: List::new(blocks), main, sketch: Sketch::new(capacity) }
    }

    /// The window's oldest goes on into the main part, or what is worth less goes.
    fn settle(&mut self) {
        if self.window.len() <= self.window_max {
            return;
        }
        let Some(candidate) = self.window.pop_back() else { return };
        if self.window.len() + self.main.len() < self.capacity {
            return self.main.add(candidate);
        }
        if let Some(victim) =
            self.main.victim().filter(|victim| self.sketch.count(candidate) > self.sketch.count(*victim))
        {
            self.main.remove(victim);
            self.main.add(candidate);
        }
    }
}

impl Cache for TinyLfu {
    fn holds(&self, block: u32) -> bool {
        self.window.holds(block) || self.main.holds(block)
    }

    fn hit(&mut self, block: BlockRef) {
        self.sketch.add(block.number);
        if self.window.holds(block.number) {
            self.window.move_to_front(block.number);
        } else {
            self.main.use_again(block.number);
        }
    }

    fn insert(&mut self, block: BlockRef) {
        self.sketch.add(block.number);
        self.window.push_front(block.number);
        self.settle();
    }

    fn len(&self) -> usize {
        self.window.len() + self.main.len()
    }
}
