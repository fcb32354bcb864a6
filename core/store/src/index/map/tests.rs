use super::super::entry::InPack;
use super::*;
use bettong_wire::request::Level;
use bettong_wire::{BlockHash, Part};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn key(n: u8) -> Key {
    Key { ns: NsNum(u32::from(n % 3)), kind: Kind::Block, part: Part(u16::from(n % 2)), hash: [n / 6; 32] }
}

fn entry(node: u16, counter: u64) -> Entry {
    Entry {
        put_id: PutId { life: u64::from(node) + 100, counter },
        level: Level::Object,
        raw_len: 10,
        stored_len: 9,
        sequence: 8,
        parent_tag: 7,
        expires_at_ms: 0,
        node: NodeNum(node),
        quarantined: false,
        in_pack: (counter % 2 == 1)
            .then_some(InPack { pack: PutId { life: 5, counter: counter / 2 }, offset: counter as u32 }),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u16, u64),
    Remove(u8, u16, u64),
    Quarantine(u8, u16, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u8..60, 0u16..3, 0u64..4).prop_map(|(k, n, c)| Step::Set(k, n, c)),
        2 => (0u8..60, 0u16..3, 0u64..4).prop_map(|(k, n, c)| Step::Remove(k, n, c)),
        1 => (0u8..60, 0u16..3, 0u64..4).prop_map(|(k, n, c)| Step::Quarantine(k, n, c)),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    /// Against a plain ordered map: every key, node and put id, after every step.
    #[test]
    fn behaves_like_an_ordered_map(steps in steps()) {
        let map = IndexMap::new(7);
        let mut model: BTreeMap<(Key, u16), Entry> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(k, n, c) => {
                    map.set(&key(k), &entry(n, c), 0);
                    model.insert((key(k), n), entry(n, c));
                }
                Step::Remove(k, n, c) => {
                    let id = entry(n, c).put_id;
                    let there = model.get(&(key(k), n)).is_some_and(|held| held.put_id == id);
                    prop_assert_eq!(map.remove(&key(k), NodeNum(n), id), there);
                    if there {
                        model.remove(&(key(k), n));
                    }
                }
                Step::Quarantine(k, n, c) => {
                    let id = entry(n, c).put_id;
                    let held = model.get_mut(&(key(k), n)).filter(|held| held.put_id == id);
                    prop_assert_eq!(map.quarantine(&key(k), NodeNum(n), id), held.is_some());
                    if let Some(held) = held {
                        held.quarantined = true;
                    }
                }
            }
            prop_assert_eq!(map.len(), model.len());
        }
        let mut walked: Vec<(Key, Entry)> = map.collect(|_, _| true);
        walked.sort_by_key(|(key, entry)| (*key, entry.node));
        let modelled: Vec<(Key, Entry)> = model.iter().map(|((key, _), entry)| (*key, *entry)).collect();
        prop_assert_eq!(walked, modelled);
        for k in 0..60 {
            let versions: Vec<Entry> = model.range((key(k), 0)..=(key(k), 9)).map(|(_, entry)| *entry).collect();
            prop_assert_eq!(map.versions(&key(k)), versions.clone());
            let present = versions.iter().any(|entry| !entry.quarantined);
            prop_assert_eq!(map.presence(0).has(&key(k)), present);
        }
    }
}

#[test]
fn a_prefix_ends_at_the_first_gap_and_at_the_first_expired_block() {
    let map = IndexMap::new(1);
    let hashes: Vec<BlockHash> = (0..10).map(|n| BlockHash([n; 32])).collect();
    for (n, hash) in hashes.iter().enumerate() {
        let key = Key { ns: NsNum(1), kind: Kind::Block, part: Part(0), hash: hash.0 };
        let expires_at_ms = if n == 6 { 50 } else { 0 };
        if n != 8 {
            map.set(&key, &Entry { expires_at_ms, ..entry(0, 1) }, 0);
        }
    }
    assert_eq!(map.presence(49).prefix(NsNum(1), Part(0), &hashes), 8);
    assert_eq!(map.presence(50).prefix(NsNum(1), Part(0), &hashes), 6);
    assert_eq!(map.presence(49).prefix(NsNum(1), Part(1), &hashes), 0);
    assert_eq!(map.presence(49).prefix(NsNum(2), Part(0), &hashes), 0);
}
