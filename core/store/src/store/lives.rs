//! Whose objects are this node's to judge: those of its own lives, and those of nodes that it has retired.

use crate::index::rows::Inheritance;
use bettong_wire::PutId;
use serde::{Deserialize, Serialize};
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
    bond: Bond,
}

/// What ties a retired node to its heir; `node/{heir}/heir/{retired}` holds it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Bond {
    /// The node with which it came, where another than this one retired it.
    pub through: Option<String>,
    /// The nodes that answered for it one after the other, the last of them this one, and since when: what such a node
    /// deleted from then on was deleted of the retired node's, too.
    pub since: Vec<Since>,
    pub wall_ms: u64,
}

/// The order (life ordinal, counter) among a node's writes from which on it answers for another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Since {
    pub node_id: String,
    pub ordinal: u64,
    pub counter: u64,
}

impl Bond {
    /// When the node came to the one whose bond this is.
    pub fn order(&self) -> (u64, u64) {
        self.since.last().map_or((u64::MAX, u64::MAX), |since| (since.ordinal, since.counter))
    }
}

/// Bits of an inherited version's order that its counter takes, and its life's ordinal.
const COUNTER_BITS: u32 = 40;
const ORDINAL_BITS: u32 = 16;

impl Lives {
    pub fn new(own: BTreeMap<u64, u64>) -> Self {
        Self { own, inherited: Vec::new() }
    }

    /// Takes a retired node's lives in; what is known of how far it is taken over stays. Whatever the order of the calls,
    /// nodes are in the order in which they came to this one.
    pub fn inherit(&mut self, node_id: &str, lives: BTreeMap<u64, u64>, bond: Bond) {
        let known = self.known(node_id);
        (known.lives, known.bond) = (lives, bond);
        self.inherited.sort_by_key(|known| known.bond.order());
    }

    /// How far a retired node is taken over.
    pub fn set_state(&mut self, node_id: &str, state: Inheritance) {
        self.known(node_id).state = state;
    }

    fn known(&mut self, node_id: &str) -> &mut Inherited {
        let at = self.inherited.iter().position(|known| known.node_id == node_id).unwrap_or_else(|| {
            let (lives, state, bond) = Default::default();
            self.inherited.push(Inherited { node_id: node_id.to_owned(), lives, state, bond });
            self.inherited.len() - 1
        });
        &mut self.inherited[at]
    }

    pub fn state(&self, node_id: &str) -> Option<&Inheritance> {
        self.inherited.iter().find(|known| known.node_id == node_id).map(|known| &known.state)
    }

    /// The retired nodes that this one answers for, wholly taken over or not.
    pub fn retired(&self) -> Vec<String> {
        self.inherited.iter().map(|known| known.node_id.clone()).collect()
    }

    /// Of a retired node and those that came with it the first that is not wholly taken over, and how far it is.
    pub fn unfinished(&self, node_id: &str) -> Option<(String, Inheritance)> {
        let with_it = self.inherited.iter().filter(|known| self.came_with(known, node_id));
        let first = with_it.into_iter().find(|known| known.state != Inheritance::Done)?;
        Some((first.node_id.clone(), first.state.clone()))
    }

    fn came_with(&self, known: &Inherited, node_id: &str) -> bool {
        let mut at = Some(known);
        for _ in 0..=self.inherited.len() {
            match at {
                Some(known) if known.node_id == node_id => return true,
                Some(known) => {
                    let through = known.bond.through.as_deref();
                    at = through.and_then(|through| self.inherited.iter().find(|other| other.node_id == through));
                }
                None => return false,
            }
        }
        false
    }

    pub fn all_taken_over(&self) -> bool {
        self.inherited.iter().all(|known| known.state == Inheritance::Done)
    }

    pub fn bond(&self, node_id: &str) -> Option<&Bond> {
        self.inherited.iter().find(|known| known.node_id == node_id).map(|known| &known.bond)
    }

    /// The nodes that answered for the retired `owner`, and from which order of their writes on.
    pub fn heirs(&self, owner: Owner) -> Vec<(Owner, (u64, u64))> {
        let Some(retired) = owner.0.checked_sub(1).and_then(|at| self.inherited.get(at)) else { return Vec::new() };
        let Some((own, heirs)) = retired.bond.since.split_last() else { return Vec::new() };
        let order = |since: &Since| (since.ordinal, since.counter);
        let between = heirs.iter().filter_map(|since| Some((self.owner(&since.node_id)?, order(since))));
        between.chain([(Owner::SELF, order(own))]).collect()
    }

    /// Whether the version `named`, which a delete named, was written by a node that answered for the retired `owner` then:
    /// the delete was of everything that this one had of the key.
    pub fn was_deleted_for(&self, owner: Owner, named: PutId) -> bool {
        let Some((by, order)) = self.place(named) else { return false };
        self.heirs(owner).into_iter().any(|(heir, since)| heir == by && since <= order)
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
        self.own.contains_key(&life) || self.all_taken_over() && self.contains(life)
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

    fn bond(through: Option<&str>, since: &[(&str, u64)]) -> Bond {
        let since = since.iter().map(|(node_id, counter)| Since {
            node_id: (*node_id).to_owned(),
            ordinal: 1,
            counter: *counter,
        });
        Bond { through: through.map(str::to_owned), since: since.collect(), wall_ms: 0 }
    }

    fn put_id(life: u64, counter: u64) -> PutId {
        PutId { life, counter }
    }

    #[test]
    fn inherited_versions_are_older_than_own_ones_and_ordered_among_themselves() {
        let mut lives = Lives::new([(10, 1), (11, 2)].into());
        lives.inherit("c", [(30, 9)].into(), bond(None, &[("a", 8)]));
        lives.inherit("b", [(20, 1), (21, 5)].into(), bond(None, &[("a", 7)]));
        let ascending = [put_id(30, 7), put_id(20, 9), put_id(21, 1), put_id(10, 1), put_id(11, 1)];
        assert!(ascending.is_sorted_by_key(|put_id| lives.order(*put_id)));
        assert_eq!(lives.order(put_id(11, 3)), (2, 3), "what is written into marks and journals is as it was");
        assert_eq!(lives.place(put_id(21, 4)), Some((Owner(1), (5, 4))));
        assert_eq!(lives.place(put_id(99, 4)), None);
    }

    #[test]
    fn a_node_that_is_not_wholly_taken_over_keeps_its_orphans() {
        let mut lives = Lives::new([(10, 1)].into());
        lives.inherit("b", [(20, 1)].into(), bond(None, &[("a", 1)]));
        assert!(lives.contains(20) && !lives.is_accounted_for(20) && lives.is_accounted_for(10));
        assert_eq!(lives.unfinished("b"), Some(("b".to_owned(), Inheritance::default())));
        lives.set_state("b", Inheritance::Done);
        assert!(lives.is_accounted_for(20) && lives.unfinished("b").is_none() && !lives.contains(99));
        lives.inherit("c", [(30, 1)].into(), bond(None, &[("a", 2)]));
        assert!(!lives.is_accounted_for(20), "the node that was retired last may have retired the other");
    }

    #[test]
    fn what_came_with_a_node_is_finished_with_it_and_holds_up_no_other() {
        let mut lives = Lives::new([(10, 1)].into());
        lives.inherit("b", [(20, 1)].into(), bond(None, &[("a", 1)]));
        lives.inherit("c", [(30, 1)].into(), bond(None, &[("a", 2)]));
        lives.inherit("d", [(40, 1)].into(), bond(Some("c"), &[("c", 5), ("a", 3)]));
        lives.set_state("c", Inheritance::Done);
        assert_eq!(lives.unfinished("c").map(|(node_id, _)| node_id).as_deref(), Some("d"));
        lives.set_state("d", Inheritance::Done);
        assert_eq!(lives.unfinished("c"), None);
        assert!(lives.unfinished("b").is_some());
    }

    #[test]
    fn a_delete_of_whoever_answered_for_a_node_is_of_what_that_node_had() {
        let mut lives = Lives::new([(10, 1)].into());
        lives.inherit("c", [(30, 1)].into(), bond(None, &[("a", 20)]));
        lives.inherit("d", [(40, 1)].into(), bond(Some("c"), &[("c", 5), ("a", 21)]));
        let d = lives.owner("d").unwrap();
        let deleted = |named| lives.was_deleted_for(d, named);
        assert!(!deleted(put_id(10, 20)) && deleted(put_id(10, 21)), "this node answers from 21 on");
        assert!(!deleted(put_id(30, 4)) && deleted(put_id(30, 5)), "the node between from 5 on");
        assert!(!deleted(put_id(40, 99)) && !deleted(put_id(77, 99)), "the retired node itself, and others, never");
    }
}
