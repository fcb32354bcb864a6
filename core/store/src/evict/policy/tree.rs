//! The blocks that are there, linked to their parents.
//!
//! **Invariant:** along parent links the sequence falls, whatever callers claim, so that there is no circle and some
//! block never has children.

use super::Block;
use super::class::{Class, USES_MAX};
use hashbrown::HashTable;

/// A block's place in the slab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot(u32);

const NONE: u32 = u32::MAX;

/// Positions are told apart up to here; beyond, a parent is not known.
const SEQUENCE_MAX: u32 = (1 << 24) - 1;

#[derive(Clone, Copy, Debug)]
struct Node {
    name: u64,
    used_at: u64,
    /// A slot; `NONE` where there is none.
    parent: u32,
    /// Blocks that are there and have this one as their parent.
    children: u32,
    bytes: u32,
    /// The sequence in the upper 24 bits, flags in bits 4 and 5, uses below.
    packed: u32,
}

const _: () = assert!(size_of::<Node>() == 32);

/// Without it only the node's children are there, and it is kept for their sake.
const RESIDENT: u32 = 1 << 4;
const HAD_CHILD: u32 = 1 << 5;

impl Node {
    /// A node that is kept for the sake of children that are to come.
    fn absent(name: u64, sequence: u32) -> Self {
        Self { name, used_at: 0, parent: NONE, children: 0, bytes: 0, packed: sequence.min(SEQUENCE_MAX) << 8 }
    }

    fn sequence(&self) -> u32 {
        self.packed >> 8
    }

    fn lower_sequence(&mut self, sequence: u32) {
        if sequence < self.sequence() {
            self.packed = (self.packed & 0xff) | (sequence << 8);
        }
    }

    fn is_resident(&self) -> bool {
        self.packed & RESIDENT != 0
    }

    fn uses(&self) -> u8 {
        self.packed as u8 & USES_MAX
    }

    fn set_uses(&mut self, uses: u8) {
        self.packed = (self.packed & !u32::from(USES_MAX)) | u32::from(uses.min(USES_MAX));
    }
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
        self.find(name).filter(|slot| self.node(*slot).is_resident())
    }

    /// Adds a block that is not there, and that was used `uses` times before.
    pub(super) fn insert(&mut self, block: &Block, uses: u8, used_at: u64) -> Slot {
        let slot = self.find(block.name).unwrap_or_else(|| self.add(Node::absent(block.name, block.sequence)));
        // Children that came first bound its sequence.
        self.node_mut(slot).lower_sequence(block.sequence);
        let parent = block.parent.filter(|parent| *parent != block.name);
        let parent = parent.and_then(|name| self.parent_for(name, self.node(slot).sequence()));
        if let Some(parent) = parent {
            self.node_mut(parent).children += 1;
        }
        let node = self.node_mut(slot);
        (node.bytes, node.parent) = (block.bytes, parent.map_or(NONE, |parent| parent.0));
        node.packed = (node.packed | RESIDENT) & !HAD_CHILD;
        if node.children > 0 {
            node.packed |= HAD_CHILD;
        }
        node.set_uses(uses);
        self.bytes += u64::from(block.bytes);
        self.resident += 1;
        self.touch(slot, used_at);
        slot
    }

    /// The node of a parent for a child at `sequence`; made if it is not there.
    fn parent_for(&mut self, name: u64, sequence: u32) -> Option<Slot> {
        let before = sequence.checked_sub(1)?;
        let slot = self.find(name).unwrap_or_else(|| self.add(Node::absent(name, before)));
        let node = self.node_mut(slot);
        if !node.is_resident() {
            node.lower_sequence(before);
        }
        (node.sequence() < sequence).then_some(slot)
    }

    /// Removes a block that is there. Its name is kept as long as it has children.
    pub(super) fn remove(&mut self, slot: Slot) {
        let node = self.node_mut(slot);
        let (parent, children, bytes) = (node.parent, node.children, node.bytes);
        (node.parent, node.bytes) = (NONE, 0);
        node.packed &= !RESIDENT;
        self.bytes -= u64::from(bytes);
        self.resident -= 1;
        if children == 0 {
            self.forget(slot);
        }
        if parent != NONE {
            let parent = Slot(parent);
            let node = self.node_mut(parent);
            node.children -= 1;
            if node.children == 0 && !node.is_resident() {
                self.forget(parent);
            }
        }
    }

    pub(super) fn resize(&mut self, slot: Slot, bytes: u32) {
        let node = self.node_mut(slot);
        let before = std::mem::replace(&mut node.bytes, bytes);
        self.bytes = self.bytes - u64::from(before) + u64::from(bytes);
    }

    /// Notes a use.
    pub(super) fn touch(&mut self, slot: Slot, used_at: u64) {
        let node = self.node_mut(slot);
        node.used_at = used_at;
        node.set_uses(node.uses() + 1);
    }

    /// Notes that the block has or had a child; says whether that is new.
    pub(super) fn becomes_parent(&mut self, slot: Slot) -> bool {
        let node = self.node_mut(slot);
        let before = node.packed;
        node.packed |= HAD_CHILD;
        node.packed != before
    }

    /// The parent, if it is there.
    pub(super) fn parent(&self, slot: Slot) -> Option<Slot> {
        let parent = self.node(slot).parent;
        (parent != NONE).then_some(Slot(parent)).filter(|parent| self.node(*parent).is_resident())
    }

    pub(super) fn class(&self, slot: Slot) -> Class {
        let node = self.node(slot);
        Class::of(node.uses(), node.packed & HAD_CHILD != 0)
    }

    pub(super) fn uses(&self, slot: Slot) -> u8 {
        self.node(slot).uses()
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
