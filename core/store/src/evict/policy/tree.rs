//! The blocks that are there, linked to their parents.
//!
//! **Invariant:** along parent links the sequence falls, whatever callers claim, so that there is no circle and some
//! block never has children.

use super::Block;
use hashbrown::HashTable;

/// A block's place in the slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u32);

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    name: u64,
    /// A slot; `NONE` where there is none.
    parent: u32,
    /// Blocks that are there and have this one as their parent.
    children: u32,
    sequence: u32,
    bytes: u32,
    used_at: u64,
    /// Not resident: only its children are there, and it is kept for their sake.
    resident: bool,
}

/// Nodes by name, and the links between them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    table: HashTable<u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    bytes: u64,
    resident: usize,
}

impl Tree {
    fn node(&self, slot: Slot) -> &Node {
        &self.nodes[slot.0 as usize]
    }

    fn node_mut(&mut self, slot: Slot) -> &mut Node {
        &mut self.nodes[slot.0 as usize]
    }

    fn find(&self, name: u64) -> Option<Slot> {
        self.table.find(name, |slot| self.nodes[*slot as usize].name == name).copied().map(Slot)
    }

    fn add(&mut self, node: Node) -> Slot {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let nodes = &self.nodes;
        self.table.insert_unique(node.name, slot, |slot| nodes[*slot as usize].name);
        Slot(slot)
    }

    fn forget(&mut self, slot: Slot) {
        if let Ok(found) = self.table.find_entry(self.node(slot).name, |at| *at == slot.0) {
            found.remove();
            self.free.push(slot.0);
        }
    }

    /// The slot of a block that is there.
    pub(super) fn resident(&self, name: u64) -> Option<Slot> {
        self.find(name).filter(|slot| self.node(*slot).resident)
    }

    /// Adds a block that is not there.
    pub(super) fn insert(&mut self, block: &Block, used_at: u64) -> Slot {
        let parent = block.parent.filter(|parent| *parent != block.name);
        let slot = match self.find(block.name) {
            // Its children came first, and bound its sequence.
            Some(slot) => {
                let node = self.node_mut(slot);
                node.sequence = node.sequence.min(block.sequence);
                slot
            }
            None => {
                let (name, sequence) = (block.name, block.sequence);
                self.add(Node { name, parent: NONE, children: 0, sequence, bytes: 0, used_at: 0, resident: false })
            }
        };
        let sequence = self.node(slot).sequence;
        let parent = parent.and_then(|name| self.parent_for(name, sequence));
        if let Some(parent) = parent {
            self.node_mut(parent).children += 1;
        }
        let node = self.node_mut(slot);
        (node.bytes, node.used_at, node.resident) = (block.bytes, used_at, true);
        node.parent = parent.map_or(NONE, |parent| parent.0);
        self.bytes += u64::from(block.bytes);
        self.resident += 1;
        slot
    }

    /// The node of a parent for a child at `sequence`; made if it is not there.
    fn parent_for(&mut self, name: u64, sequence: u32) -> Option<Slot> {
        let before = sequence.checked_sub(1)?;
        let Some(slot) = self.find(name) else {
            return Some(self.add(Node {
                name,
                parent: NONE,
                children: 0,
                sequence: before,
                bytes: 0,
                used_at: 0,
                resident: false,
            }));
        };
        let node = self.node_mut(slot);
        if !node.resident {
            node.sequence = node.sequence.min(before);
        }
        (node.sequence < sequence).then_some(slot)
    }

    /// Removes a block that is there. Its name is kept as long as it has children.
    pub(super) fn remove(&mut self, slot: Slot) {
        let node = self.node_mut(slot);
        let (parent, children, bytes) = (node.parent, node.children, node.bytes);
        (node.resident, node.parent, node.bytes) = (false, NONE, 0);
        self.bytes -= u64::from(bytes);
        self.resident -= 1;
        if children == 0 {
            self.forget(slot);
        }
        if parent != NONE {
            let parent = Slot(parent);
            let node = self.node_mut(parent);
            node.children -= 1;
            if node.children == 0 && !node.resident {
                self.forget(parent);
            }
        }
    }

    pub(super) fn resize(&mut self, slot: Slot, bytes: u32) {
        let node = self.node_mut(slot);
        let before = std::mem::replace(&mut node.bytes, bytes);
        self.bytes = self.bytes - u64::from(before) + u64::from(bytes);
    }

    pub(super) fn touch(&mut self, slot: Slot, used_at: u64) {
        self.node_mut(slot).used_at = used_at;
    }

    /// The parent, if it is there.
    pub(super) fn parent(&self, slot: Slot) -> Option<Slot> {
        let parent = self.node(slot).parent;
        (parent != NONE).then_some(Slot(parent)).filter(|parent| self.node(*parent).resident)
    }

    pub(super) fn children(&self, slot: Slot) -> u32 {
        self.node(slot).children
    }

    pub(super) fn name(&self, slot: Slot) -> u64 {
        self.node(slot).name
    }

    pub(super) fn used_at(&self, slot: Slot) -> u64 {
        self.node(slot).used_at
    }

    pub(super) fn bytes_of(&self, slot: Slot) -> u32 {
        self.node(slot).bytes
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.resident
    }
}
