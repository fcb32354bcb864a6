use super::*;
use proptest::prelude::*;

fn block(name: u64, parent: Option<u64>, sequence: u32) -> Block {
    Block { name, parent, sequence, bytes: 10 }
}

/// Two chains: 1 <- 2 <- 3, and then 1 <- 4.
fn two_chains() -> Policy {
    let mut policy = Policy::new(30);
    for (name, parent, sequence) in [(1, None, 0), (2, Some(1), 1), (3, Some(2), 2), (4, Some(1), 1)] {
        policy.insert(block(name, parent, sequence));
    }
    policy
}

#[test]
fn eviction_starts_at_the_budget_and_stops_at_ninety_percent() {
    let mut policy = two_chains();
    assert_eq!((policy.used_bytes(), policy.excess_bytes()), (40, 13));
    assert_eq!(policy.victims(policy.excess_bytes(), |_| true), [3, 2]);
    assert!(policy.evicted(3) && policy.evicted(2) && !policy.evicted(2));
    assert_eq!((policy.used_bytes(), policy.excess_bytes()), (20, 0));
    policy.set_budget_bytes(10);
    assert_eq!(policy.victims(policy.excess_bytes(), |_| true), [4, 1]);
}

#[test]
fn what_may_not_go_keeps_its_ancestors() {
    let mut policy = two_chains();
    assert_eq!(policy.victims(u64::MAX, |name| name != 3), [4]);
    assert_eq!(policy.victims(u64::MAX, |name| name != 2), [3, 4]);
    assert_eq!(policy.victims(u64::MAX, |name| name != 4), [3, 2]);
}

#[test]
fn a_parent_that_comes_after_its_child_is_still_its_parent() {
    let mut policy = Policy::new(0);
    policy.insert(block(3, Some(2), 2));
    policy.insert(block(2, Some(1), 1));
    policy.insert(block(1, None, 0));
    assert_eq!(policy.victims(u64::MAX, |_| true), [3, 2, 1]);
    assert!(policy.remove(2));
    policy.hit(3);
    assert_eq!(policy.victims(u64::MAX, |_| true), [1, 3]);
    policy.insert(block(2, Some(1), 1));
    assert_eq!(policy.victims(u64::MAX, |_| true), [3, 2, 1]);
}

#[test]
fn chains_that_bite_their_tail_can_be_evicted() {
    let mut policy = Policy::new(0);
    policy.insert(block(1, Some(2), 5));
    policy.insert(block(2, Some(1), 6));
    policy.insert(block(3, Some(3), 7));
    policy.insert(block(4, Some(5), 0));
    policy.insert(block(5, Some(4), 0));
    assert_eq!(policy.victims(u64::MAX, |_| true).len(), 5);
}

#[derive(Clone, Debug)]
enum Step {
    Insert { name: u64, parent: Option<u64>, bytes: u32 },
    Hit(u64),
    Remove(u64),
    Evict { bytes: u64, held: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u64..12;
    prop_oneof![
        4 => (name.clone(), prop::option::of(name.clone()), 0_u32..20)
            .prop_map(|(name, parent, bytes)| Step::Insert { name, parent, bytes }),
        2 => name.clone().prop_map(Step::Hit),
        1 => name.clone().prop_map(Step::Remove),
        1 => (0_u64..200, 0_u64..16).prop_map(|(bytes, held)| Step::Evict { bytes, held }),
    ]
}

proptest! {
    /// Whatever callers claim of parents and positions: enough goes if it may, nothing that is held goes, nothing goes
    /// before a child that has a right to it, and the same steps name the same victims.
    #[test]
    fn victims_are_enough_allowed_and_childless(steps in prop::collection::vec(step(), 1..80)) {
        let (mut policy, mut twin) = (Policy::new(100), Policy::new(100));
        let mut model: BTreeMap<u64, (Option<u64>, u32)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert { name, parent, bytes } => {
                    // Names double as positions, so that the model knows whose claim to a parent is believed.
                    let parent = parent.filter(|parent| *parent < name);
                    for policy in [&mut policy, &mut twin] {
                        policy.insert(Block { name, parent, sequence: name as u32, bytes });
                    }
                    let known = model.entry(name).or_insert((parent, 0));
                    known.1 = bytes;
                }
                Step::Hit(name) => {
                    policy.hit(name);
                    twin.hit(name);
                }
                Step::Remove(name) => {
                    prop_assert_eq!(policy.remove(name), model.remove(&name).is_some());
                    twin.remove(name);
                }
                Step::Evict { bytes, held } => {
                    let victims = policy.victims(bytes, |name| name != held);
                    prop_assert_eq!(&victims, &twin.victims(bytes, |name| name != held));
                    let mut freed = 0;
                    for name in &victims {
                        prop_assert!(freed < bytes, "{} goes though enough went", name);
                        prop_assert!(!model.values().any(|(parent, _)| *parent == Some(*name)), "{} has a child", name);
                        freed += u64::from(model.remove(name).map_or(0, |known| known.1));
                        prop_assert!(policy.evicted(*name) && twin.evicted(*name));
                    }
                    prop_assert!(!victims.contains(&held));
                    let mut kept = vec![held];
                    while let Some((Some(parent), _)) = kept.last().and_then(|name| model.get(name)) {
                        kept.push(*parent);
                    }
                    prop_assert!(freed >= bytes || model.keys().all(|name| kept.contains(name)));
                }
            }
            prop_assert_eq!(policy.used_bytes(), model.values().map(|known| u64::from(known.1)).sum::<u64>());
            prop_assert_eq!(policy.len(), model.len());
        }
    }
}

proptest! {
    /// Parents and positions that make no sense keep nothing from going.
    #[test]
    fn any_claims_leave_everything_evictable(
        claims in prop::collection::vec((0_u64..8, prop::option::of(0_u64..8), 0_u32..4, any::<bool>()), 1..60),
    ) {
        let mut policy = Policy::new(0);
        for (name, parent, sequence, remove) in claims {
            if remove {
                policy.remove(name);
            } else {
                policy.insert(block(name, parent, sequence));
            }
            prop_assert_eq!(policy.victims(u64::MAX, |_| true).len(), policy.len());
        }
    }
}
