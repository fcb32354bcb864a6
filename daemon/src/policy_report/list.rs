//! A queue of blocks that any block can leave: a doubly linked list over block numbers.

const NONE: u32 = u32::MAX;

/// The newest is at the front.
#[derive(Debug)]
pub struct List {
    /// By block: towards the front, towards the back. A block that is not in the list points to itself.
    links: Vec<(u32, u32)>,
    front: u32,
    back: u32,
    len: usize,
}

impl List {
    /// An empty list for block numbers below `blocks`.
    pub fn new(blocks: usize) -> Self {
        let links = (0..u32::try_from(blocks).unwrap_or(NONE)).map(|block| (block, block)).collect();
        Self { links, front: NONE, back: NONE, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn holds(&self, block: u32) -> bool {
        self.links[block as usize] != (block, block)
    }

    pub fn back(&self) -> Option<u32> {
        (self.back != NONE).then_some(self.back)
    }

    /// Puts a block in front that is not in the list.
    pub fn push_front(&mut self, block: u32) {
        self.links[block as usize] = (NONE, self.front);
        match self.front {
            NONE => self.back = block,
            front => self.links[front as usize].0 = block,
        }
        self.front = block;
        self.len += 1;
    }

    /// Says whether it was there.
    pub fn remove(&mut self, block: u32) -> bool {
        if !self.holds(block) {
            return false;
        }
        let (before, behind) = std::mem::replace(&mut self.links[block as usize], (block, block));
        match before {
            NONE => self.front = behind,
            before => self.links[before as usize].1 = behind,
        }
        match behind {
            NONE => self.back = before,
            behind => self.links[behind as usize].0 = before,
        }
        self.len -= 1;
        true
    }

    pub fn pop_back(&mut self) -> Option<u32> {
        let back = self.back()?;
        self.remove(back);
        Some(back)
    }

    pub fn move_to_front(&mut self, block: u32) {
        self.remove(block);
        self.push_front(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue_that_anyone_may_leave() {
        let mut list = List::new(5);
        (0..5).for_each(|block| list.push_front(block));
        assert!(list.remove(2) && !list.remove(2) && list.remove(4) && list.remove(0));
        list.move_to_front(1);
        list.push_front(4);
        assert_eq!((list.len(), list.back()), (3, Some(3)));
        assert_eq!([(); 4].map(|()| list.pop_back()), [Some(3), Some(1), Some(4), None]);
        list.push_front(0);
        assert!(list.holds(0) && !list.holds(1) && list.len() == 1);
    }
}
