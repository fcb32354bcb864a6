//! Least recently used.

use super::list::List;
use super::{BlockRef, Cache};

#[derive(Debug)]
pub struct Lru {
    capacity: usize,
    list: List,
}

impl Lru {
    pub fn new(capacity: usize, blocks: usize) -> Self {
        Self { capacity, list: List::new(blocks) }
    }
}

impl Cache for Lru {
    fn holds(&self, block: u32) -> bool {
        self.list.holds(block)
    }

    fn hit(&mut self, block: BlockRef) {
        self.list.move_to_front(block.number);
    }

    fn insert(&mut self, block: BlockRef) {
        if self.list.len() >= self.capacity {
            self.list.pop_back();
        }
        self.list.push_front(block.number);
    }

    fn len(&self) -> usize {
        self.list.len()
    }
}
