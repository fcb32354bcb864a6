//! S3-FIFO: a small queue that most blocks leave soon, a main queue, and a ghost queue. J. Yang, Y. Zhang, Z. Qiu,
//! Y. Yue, R. Vinayak, "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1.

use super::list::List;
use super::{BlockRef, Cache};

/// The share of the small queue: one in so many.
const SMALL_ONE_IN: usize = 10;
/// Uses are counted up to here.
const USES_MAX: u8 = 3;

#[derive(Debug)]
pub struct S3Fifo {
    capacity: usize,
    small: List,
    main: List,
    ghost: List,
    /// Uses by block since it came.
    uses: Vec<u8>,
}

impl S3Fifo {
    pub fn new(capacity: usize, blocks: usize) -> Self {
        let list = || List::new(blocks);
        Self { capacity, small: list(), main: list(), ghost: list(), uses: vec![0; blocks] }
    }

    fn small_max(&self) -> usize {
        (self.capacity / SMALL_ONE_IN).max(1)
    }

    fn evict(&mut self) {
        if self.small.len() >= self.small_max() || self.main.len() == 0 {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(block) = self.small.pop_back() {
            if self.uses[block as usize] > 1 {
                self.uses[block as usize] = 0;
                self.main.push_front(block);
                continue;
            }
            self.ghost.push_front(block);
            if self.ghost.len() > self.capacity - self.small_max() {
                self.ghost.pop_back();
            }
            return;
        }
        // All of them moved on.
        self.evict_main();
    }

    fn evict_main(&mut self) {
        while let Some(block) = self.main.pop_back() {
            let uses = &mut self.uses[block as usize];
            if *uses == 0 {
                return;
            }
            *uses -= 1;
            self.main.push_front(block);
        }
    }
}

impl Cache for S3Fifo {
    fn holds(&self, block: u32) -> bool {
        self.small.holds(block) || self.main.holds(block)
    }

    fn hit(&mut self, block: BlockRef) {
        let uses = &mut self.uses[block.number as usize];
        *uses = (*uses + 1).min(USES_MAX);
    }

    fn insert(&mut self, block: BlockRef) {
        while self.len() >= self.capacity {
            self.evict();
        }
        self.uses[block.number as usize] = 0;
        if self.ghost.remove(block.number) {
            self.main.push_front(block.number);
        } else {
            self.small.push_front(block.number);
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.main.len()
    }
}
