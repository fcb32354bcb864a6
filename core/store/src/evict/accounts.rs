//! What a node's values take of its budgets: of the node's own, and of each namespace's. Kept only where a budget is set.

use super::{Block, Policy};
use crate::keys::NsNum;
use bettong_wire::PutId;
use std::collections::{BTreeMap, BTreeSet};

/// What a budget is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Everything of this node.
    Node,
    Namespace(NsNum),
}

/// A value that is to be forgotten, and when it had been used last then, in uses of any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    pub name: u64,
    pub used_at: Option<u64>,
}

/// The accounts. About 60 bytes a value in each scope that has a budget.
#[derive(Debug, Default)]
pub struct Accounts {
    node: Option<Policy>,
    /// Namespaces that this process has met; `None` for those without a budget.
    namespaces: BTreeMap<NsNum, Option<Policy>>,
    /// Versions whose eviction is under way.
    going: BTreeSet<PutId>,
}

impl Accounts {
    /// Accounts of a node whose own budget is `node_bytes`; zero is none.
    pub fn new(node_bytes: u64) -> Self {
        Self { node: (node_bytes > 0).then(|| Policy::new(node_bytes)), ..Self::default() }
    }

    /// Opens the account of a namespace, unless it is open; a budget of zero is none.
    pub fn open(&mut self, ns: NsNum, budget_bytes: impl FnOnce() -> u64) {
        self.namespaces.entry(ns).or_insert_with(|| {
            let budget_bytes = budget_bytes();
            (budget_bytes > 0).then(|| Policy::new(budget_bytes))
        });
    }

    fn of(&mut self, ns: NsNum) -> impl Iterator<Item = &mut Policy> {
        self.node.iter_mut().chain(self.namespaces.get_mut(&ns).and_then(Option::as_mut))
    }

    fn policy(&self, scope: Scope) -> Option<&Policy> {
        match scope {
            Scope::Node => self.node.as_ref(),
            Scope::Namespace(ns) => self.namespaces.get(&ns)?.as_ref(),
        }
    }

    /// Notes a value that is now there.
    pub fn insert(&mut self, ns: NsNum, block: Block) {
        self.of(ns).for_each(|policy| policy.insert(block));
    }

    /// At a start: a value that was used `uses` times before its last use.
    pub fn restore(&mut self, ns: NsNum, block: Block, uses: u8) {
        self.of(ns).for_each(|policy| policy.restore(block, uses));
    }

    /// Notes uses of a value.
    pub fn used(&mut self, ns: NsNum, name: u64, times: u32) {
        for policy in self.of(ns) {
            // Counts end long before this.
            (0..times.min(16)).for_each(|_| policy.hit(name));
        }
    }

    /// An eviction of this version begins.
    pub fn begin(&mut self, put_id: PutId) {
        self.going.insert(put_id);
    }

    /// It came to nothing.
    pub fn withdraw(&mut self, put_id: PutId) {
        self.going.remove(&put_id);
    }

    pub fn is_going(&self, put_id: PutId) -> bool {
        self.going.contains(&put_id)
    }

    /// Notes that a value is gone; one that was evicted is remembered, should it come back.
    pub fn gone(&mut self, ns: NsNum, name: u64, put_id: PutId) {
        let evicted = self.going.remove(&put_id);
        for policy in self.of(ns) {
            if evicted {
                policy.evicted(name);
            } else {
                policy.remove(name);
            }
        }
    }

    /// A name that no value has: it takes nothing.
    pub fn strike_out(&mut self, name: u64) {
        let namespaces = self.namespaces.values_mut().flatten();
        self.node.iter_mut().chain(namespaces).for_each(|policy| {
            policy.remove(name);
        });
    }

    /// A scope that is over its budget, and by how much it is to shrink. Bytes.
    pub fn over(&self) -> Option<(Scope, u64)> {
        let namespaces =
            self.namespaces.iter().filter_map(|(ns, policy)| Some((Scope::Namespace(*ns), policy.as_ref()?)));
        let scopes = self.node.iter().map(|policy| (Scope::Node, policy)).chain(namespaces);
        scopes.map(|(scope, policy)| (scope, policy.excess_bytes())).find(|(_, excess)| *excess > 0)
    }

    /// What to forget next, in order, so that `bytes` of the scope become free; fewer only where `may_go` refuses.
    pub fn victims(&mut self, scope: Scope, bytes: u64, may_go: impl FnMut(u64) -> bool) -> Vec<Use> {
        let policy = match scope {
            Scope::Node => self.node.as_mut(),
            Scope::Namespace(ns) => self.namespaces.get_mut(&ns).and_then(Option::as_mut),
        };
        let Some(policy) = policy else { return Vec::new() };
        let names = policy.victims(bytes, may_go);
        names.into_iter().map(|name| Use { name, used_at: policy.used_at(name) }).collect()
    }

    /// Those of `victims`, chosen in `scope` and in order, that may still go: not used since they were chosen, nor needed
    /// by a block behind them that stays. Also says how many were refused because of a use.
    pub fn unused_since(&self, scope: Scope, victims: &[Use]) -> (Vec<Use>, usize) {
        let Some(policy) = self.policy(scope) else { return (Vec::new(), 0) };
        let mut kept = Vec::new();
        let mut used = 0;
        // Children that go with their parents.
        let mut going: BTreeMap<u64, u32> = BTreeMap::new();
        for victim in victims {
            let same = victim.used_at.is_some() && policy.used_at(victim.name) == victim.used_at;
            used += usize::from(!same);
            let childless = policy.children(victim.name) == going.get(&victim.name).copied().unwrap_or(0);
            if !same || !childless {
                continue;
            }
            if let Some(parent) = policy.parent(victim.name) {
                *going.entry(parent).or_default() += 1;
            }
            kept.push(*victim);
        }
        (kept, used)
    }

    /// Bytes that a scope's values take, and its budget; `None` where it has none.
    pub fn usage(&self, scope: Scope) -> Option<(u64, u64)> {
        self.policy(scope).map(|policy| (policy.used_bytes(), policy.budget_bytes()))
    }

    /// The namespaces that have a budget.
    pub fn namespaces(&self) -> impl Iterator<Item = (NsNum, &Policy)> {
        self.namespaces.iter().filter_map(|(ns, policy)| Some((*ns, policy.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: NsNum = NsNum(3);

    fn block(name: u64, parent: Option<u64>, sequence: u32) -> Block {
        Block { name, parent, sequence, bytes: 10 }
    }

    fn id(counter: u64) -> PutId {
        PutId { life: 1, counter }
    }

    /// A chain 1 <- 2 <- 3 and a block of its own, in a node with room for three.
    fn chain() -> Accounts {
        let mut accounts = Accounts::new(30);
        accounts.open(NS, || 0);
        for (name, parent, sequence) in [(1, None, 0), (2, Some(1), 1), (3, Some(2), 2), (9, None, 0)] {
            accounts.insert(NS, block(name, parent, sequence));
        }
        accounts
    }

    fn names(uses: &[Use]) -> Vec<u64> {
        uses.iter().map(|victim| victim.name).collect()
    }

    #[test]
    fn what_was_used_since_stays_and_so_do_its_ancestors() {
        let mut accounts = chain();
        assert_eq!(accounts.over(), Some((Scope::Node, 13)));
        let victims = accounts.victims(Scope::Node, 30, |_| true);
        assert_eq!(names(&victims), [3, 2, 1]);
        assert_eq!(names(&accounts.unused_since(Scope::Node, &victims).0), [3, 2, 1]);
        accounts.used(NS, 2, 1);
        let (kept, used) = accounts.unused_since(Scope::Node, &victims);
        assert_eq!((names(&kept), used), (vec![3], 1));
        accounts.insert(NS, block(4, Some(3), 3));
        assert_eq!(accounts.unused_since(Scope::Node, &victims), (Vec::new(), 1));
    }

    #[test]
    fn a_namespace_has_a_budget_of_its_own_and_what_is_gone_is_gone_from_both() {
        let mut accounts = Accounts::new(100);
        accounts.open(NS, || 15);
        accounts.open(NsNum(4), || 0);
        accounts.insert(NsNum(4), block(7, None, 0));
        for name in [1, 2] {
            accounts.insert(NS, block(name, None, 0));
        }
        assert_eq!(accounts.over(), Some((Scope::Namespace(NS), 7)));
        let victims = accounts.victims(Scope::Namespace(NS), 7, |_| true);
        assert_eq!(names(&victims), [1]);
        accounts.begin(id(1));
        assert!(accounts.is_going(id(1)));
        accounts.gone(NS, 1, id(1));
        assert!(!accounts.is_going(id(1)));
        assert_eq!((accounts.over(), accounts.usage(Scope::Node)), (None, Some((20, 100))));
        assert_eq!(accounts.usage(Scope::Namespace(NS)), Some((10, 15)));
        assert_eq!(accounts.usage(Scope::Namespace(NsNum(4))), None);
        accounts.strike_out(2);
        assert_eq!(accounts.usage(Scope::Namespace(NS)), Some((0, 15)));
    }
}
