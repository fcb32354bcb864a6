//! Whose objects are this node's to judge: those of its own lives, and those of nodes that it has retired.

use crate::index::rows::Inheritance;
use bettong_wire::PutId;
use std::collections::BTreeMap;

/// This node's lives and those that it inherited.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    /// Life to ordinal, of this node's own.
    own: BTreeMap<u64, u64>,
    /// Retired nodes in the order in which they were taken over; one that was retired by another of them is behind it.
    inherited: Vec<Inherited>,
}

#[derive(Clone, Debug)]
struct Inherited {
    node_id: String,
    lives: BTreeMap<u64, u64>,
    state: Inheritance,
}

/// Bits of an inherited version's order that its counter takes, and its life's ordinal.
const COUNTER_BITS: u32 = 40;
const ORDINAL_BITS: u32 = 16;

impl Lives {
    pub fn new(own: BTreeMap<u64, u64>) -> Self {
        Self { own, inherited: Vec::new() }
    }

    /// Takes a retired node's lives in; what is known of how far it is taken over stays.
    pub fn inherit(&mut self, node_id: &str, lives: BTreeMap<u64, u64>) {
        match self.inherited.iter_mut().find(|known| known.node_id == node_id) {
            Some(known) => known.lives = lives,
            None => {
                let state = Inheritance::default();
                self.inherited.push(Inherited { node_id: node_id.to_owned(), lives, state });
            }
        }
    }

    /// How far a retired node is taken over.
    pub fn set_state(&mut self, node_id: &str, state: Inheritance) {
        match self.inherited.iter_mut().find(|known| known.node_id == node_id) {
            Some(known) => known.state = state,
            None => self.inherited.push(Inherited { node_id: node_id.to_owned(), lives: BTreeMap::new(), state }),
        }
    }

    pub fn state(&self, node_id: &str) -> Option<&Inheritance> {
        self.inherited.iter().find(|known| known.node_id == node_id).map(|known| &known.state)
    }

    /// The retired nodes that this one answers for, wholly taken over or not.
    pub fn retired(&self) -> Vec<String> {
        self.inherited.iter().map(|known| known.node_id.clone()).collect()
    }

    /// The first retired node that is not wholly taken over, and how far it is.
    pub fn unfinished(&self) -> Option<(String, Inheritance)> {
        let first = self.inherited.iter().find(|known| known.state != Inheritance::Done)?;
        Some((first.node_id.clone(), first.state.clone()))
    }

    /// Whether everything that the retired node listed is in this node's index.
    pub fn is_taken_over(&self, node_id: &str) -> bool {
        self.state(node_id) == Some(&Inheritance::Done)
    }

    /// Whether a life before this one may have left something behind.
    pub fn has_earlier(&self) -> bool {
        self.own.len() > 1 || !self.inherited.is_empty()
    }

    /// Whether objects of this life are this node's to remove.
    pub fn contains(&self, life: u64) -> bool {
        self.own.contains_key(&life) || self.inherited.iter().any(|known| known.lives.contains_key(&life))
    }

    /// Whether the index says everything of objects of this life that is to be kept. While a node is not wholly taken over
    /// it does not: neither of that one's, nor of those that it had retired, which its index may name.
    pub fn is_accounted_for(&self, life: u64) -> bool {
        self.own.contains_key(&life) || self.unfinished().is_none() && self.contains(life)
    }

    /// Orders the versions of a key: inherited ones are older than this node's own.
    pub fn order(&self, put_id: PutId) -> (u64, u64) {
        if let Some(ordinal) = self.own.get(&put_id.life) {
            return (*ordinal, put_id.counter);
        }
        let of = self.inherited.iter().rev().enumerate();
        let found = of.into_iter().find_map(|(rank, known)| Some((rank as u64, *known.lives.get(&put_id.life)?)));
        let Some((rank, ordinal)) = found else { return (0, put_id.counter) };
        let ordinal = ordinal.min((1 << ORDINAL_BITS) - 1);
        let counter = put_id.counter.min((1 << COUNTER_BITS) - 1);
        (0, rank.min(0xff) << (ORDINAL_BITS + COUNTER_BITS) | ordinal << COUNTER_BITS | counter)
    }

    /// The node among this one and those that it retired that wrote a version, and the version's order among that node's.
    pub fn place(&self, put_id: PutId) -> Option<(Owner, (u64, u64))> {
        if let Some(ordinal) = self.own.get(&put_id.life) {
            return Some((Owner::SELF, (*ordinal, put_id.counter)));
        }
        let mut of = self.inherited.iter().enumerate();
        of.find_map(|(at, known)| Some((Owner(at + 1), (*known.lives.get(&put_id.life)?, put_id.counter))))
    }

    pub fn owner(&self, node_id: &str) -> Option<Owner> {
        self.inherited.iter().position(|known| known.node_id == node_id).map(|at| Owner(at + 1))
    }
}

/// This node, or one that it retired, as a small number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Owner(usize);

impl Owner {
    pub const SELF: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_versions_are_older_than_own_ones_and_ordered_among_themselves() {
        let mut lives = Lives::new([(10, 1), (11, 2)].into());
        lives.inherit("b", [(20, 1), (21, 5)].into());
        lives.inherit("c", [(30, 9)].into());
        let put_id = |life, counter| PutId { life, counter };
        let ascending = [put_id(30, 7), put_id(20, 9), put_id(21, 1), put_id(10, 1), put_id(11, 1)];
        assert!(ascending.is_sorted_by_key(|put_id| lives.order(*put_id)));
        assert_eq!(lives.order(put_id(11, 3)), (2, 3), "what is written into marks and journals is as it was");
        assert_eq!(lives.place(put_id(21, 4)), Some((Owner(1), (5, 4))));
        assert_eq!(lives.place(put_id(99, 4)), None);
    }

    #[test]
    fn a_node_that_is_not_wholly_taken_over_keeps_its_orphans() {
        let mut lives = Lives::new([(10, 1)].into());
        lives.inherit("b", [(20, 1)].into());
        assert!(lives.contains(20) && !lives.is_accounted_for(20) && lives.is_accounted_for(10));
        assert_eq!(lives.unfinished(), Some(("b".to_owned(), Inheritance::default())));
        lives.set_state("b", Inheritance::Done);
        assert!(lives.is_accounted_for(20) && lives.unfinished().is_none() && !lives.contains(99));
        lives.inherit("c", [(30, 1)].into());
        assert!(!lives.is_accounted_for(20), "the node that was retired last may have retired the other");
    }
}
