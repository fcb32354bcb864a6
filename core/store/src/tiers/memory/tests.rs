use super::*;
use bettong_wire::Part;
use bettong_wire::envelope::Kind;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEY: Key = Key { ns: crate::keys::NsNum(0), kind: Kind::Block, part: Part(0), hash: [0; 32] };
const MIB: usize = 1 << 20;

fn put_id(counter: u64) -> PutId {
    PutId { life: 1, counter }
}

fn tier(bytes: usize) -> MemoryTier {
    MemoryTier::new(SlotPool::on_the_heap(bytes).unwrap())
}

fn fill(tier: &MemoryTier, len: u64, byte: u8) -> Result<Payload, ReserveError> {
    let mut buf = tier.reserve(len)?;
    buf.unfilled().put_bytes(byte, len as usize);
    Ok(buf.seal().unwrap())
}

/// Stores values of `len` bytes under these numbers.
fn store(tier: &MemoryTier, numbers: impl IntoIterator<Item = u64>, len: u64) {
    for number in numbers {
        tier.insert(KEY, put_id(number), fill(tier, len, number as u8).unwrap(), true);
    }
}

fn kept(tier: &MemoryTier, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().filter(|number| tier.contains(put_id(*number))).collect()
}

#[test]
fn short_values_take_no_more_than_the_pool_has() {
    let tier = tier(MIB);
    store(&tier, 0..10_000, 1);
    let held = kept(&tier, 0..10_000);
    assert_eq!(held.len() + tier.take_losses().len(), 10_000);
    assert_eq!((held.len() as u64, held.last()), (MIB as u64 / 4096, Some(&9_999)));
}

#[test]
fn what_has_no_bytes_takes_no_slot() {
    let tier = tier(4096);
    store(&tier, 0..10, 0);
    store(&tier, [10], 4096);
    assert_eq!(kept(&tier, 0..11).len(), 11);
    assert_eq!(tier.get(put_id(3)).map(|payload| payload.len()), Some(0));
    assert_eq!(tier.usage().slots, 1);
}

#[test]
fn the_least_recently_used_goes_first() {
    // Four slots.
    let tier = tier(4 * 4096);
    store(&tier, 0..4, 4096);
    drop(tier.get(put_id(0)));
    store(&tier, [4], 4096);
    assert_eq!(kept(&tier, 0..5), [0, 2, 3, 4]);
    assert_eq!(tier.take_losses(), [(KEY, put_id(1))]);
}

#[test]
fn what_is_being_read_stays_and_what_is_free_is_all_that_others_get() {
    let tier = tier(4 * 4096);
    store(&tier, 0..4, 4096);
    let mut read: Vec<_> = (0..3).map(|number| tier.get(put_id(number)).unwrap()).collect();
    store(&tier, [4], 4096);
    assert_eq!(kept(&tier, 0..5), [0, 1, 2, 4]);
    read.push(tier.get(put_id(4)).unwrap());
    assert!(matches!(fill(&tier, 1, 0), Err(ReserveError::Full { .. })));
    assert_eq!(kept(&tier, 0..5), [0, 1, 2, 4], "nothing is evicted in vain");
    // What is removed while it is read keeps its slot until then.
    tier.remove(put_id(0));
    assert!(fill(&tier, 1, 0).is_err() && read[0].as_ref() == [0; 4096]);
    read.remove(0);
    assert!(fill(&tier, 1, 0).is_ok());
}

#[test]
fn a_class_gets_the_extents_of_values_that_were_used_longer_ago() {
    let tier = tier(MIB);
    store(&tier, 0..256, 4096);
    // Another size comes into fashion, and gets all there is.
    store(&tier, 1000..2000, 8192);
    assert_eq!((kept(&tier, 0..256).len(), kept(&tier, 1000..2000).len()), (0, 128));
    // A few of the old size are used all the time: they keep an extent, and not more.
    for round in 0..200 {
        store(&tier, [round % 4], 4096);
        store(&tier, [2000 + round], 8192);
    }
    assert_eq!(kept(&tier, 0..4).len(), 4);
    assert!(kept(&tier, 1000..3000).len() >= 124, "{tier:?}");
}

#[test]
fn a_value_longer_than_an_extent_makes_itself_room() {
    let tier = tier(MIB);
    store(&tier, 0..256, 4096);
    let read = tier.get(put_id(200)).unwrap();
    for number in 1000..1010 {
        store(&tier, [number], 300 << 10);
    }
    assert!(tier.contains(put_id(200)) && read.as_ref() == [200; 4096]);
    assert!(kept(&tier, 1000..1010).len() >= 2, "{tier:?}");
    drop(read);
    // The other way round: short ones empty the long ones' extents.
    store(&tier, 0..256, 4096);
    assert_eq!(kept(&tier, 0..256).len(), 256);
}

#[test]
fn bytes_from_elsewhere_are_kept_in_a_slot() {
    let tier = tier(MIB);
    let foreign = Payload::from(vec![7; 5000]);
    tier.insert(KEY, put_id(1), foreign.clone(), false);
    assert!(!tier.contains(put_id(1)));
    tier.insert(KEY, put_id(1), tier.admit(foreign).unwrap(), false);
    assert_eq!(tier.get(put_id(1)).unwrap().as_ref(), [7; 5000]);
    // A part of a value would keep all of it.
    let part = tier.get(put_id(1)).unwrap().slice(1000, 10).unwrap();
    let admitted = tier.admit(part).unwrap();
    assert_eq!((admitted.as_ref(), tier.usage().slots), (&[7; 10][..], 2));
}

#[test]
fn the_same_bytes_under_two_put_ids_have_two_slots() {
    let tier = tier(4 * 4096);
    let payload = fill(&tier, 4096, 7).unwrap();
    tier.insert(KEY, put_id(1), payload.clone(), false);
    tier.insert(KEY, put_id(1), payload.clone(), false);
    assert_eq!(tier.usage().slots, 1);
    tier.insert(KEY, put_id(2), payload, false);
    assert_eq!((tier.usage().slots, tier.bytes()), (2, 8192));
    // Either may go without the other.
    tier.remove(put_id(1));
    assert_eq!(tier.get(put_id(2)).unwrap().as_ref(), [7; 4096]);
    store(&tier, 10..14, 4096);
    assert_eq!(kept(&tier, 0..14), [10, 11, 12, 13]);
}

#[derive(Debug, Clone)]
enum Step {
    Store(u64, u64),
    Remove(u64),
    /// Read, and held for a while.
    Hold(u64),
    LetGo(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0..9000u64, 0..70_000u64, 0..400_000u64];
    prop_oneof![
        6 => (0..60u64, len).prop_map(|(number, len)| Step::Store(number, len)),
        1 => (0..60u64).prop_map(Step::Remove),
        2 => (0..60u64).prop_map(Step::Hold),
        2 => any::<usize>().prop_map(Step::LetGo),
    ]
}

proptest! {
    /// A value that is found is the one that was stored; the account is what is there; and as long as nobody holds
    /// anything, every value finds room.
    #[test]
    fn a_tier_keeps_its_promises(steps in prop::collection::vec(step(), 0..200)) {
        let tier = tier(MIB);
        let mut stored: BTreeMap<u64, (u64, u8)> = BTreeMap::new();
        let mut held: Vec<(Payload, u64, u8)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            let byte = at as u8;
            match step {
                Step::Store(number, len) => match fill(&tier, len, byte) {
                    Ok(payload) => {
                        // It may have been evicted for its successor.
                        tier.take_losses().iter().for_each(|(_, lost)| _ = stored.remove(&lost.counter));
                        tier.insert(KEY, put_id(number), payload, true);
                        stored.insert(number, (len, byte));
                    }
                    Err(error) => prop_assert!(!held.is_empty(), "{error}"),
                },
                Step::Remove(number) => {
                    tier.remove(put_id(number));
                    stored.remove(&number);
                }
                Step::Hold(number) => if let Some(payload) = tier.get(put_id(number)) {
                    let (len, byte) = stored[&number];
                    held.push((payload, len, byte));
                },
                Step::LetGo(which) => if !held.is_empty() {
                    held.swap_remove(which % held.len());
                },
            }
            for (key, put_id) in tier.take_losses() {
                prop_assert_eq!(key, KEY);
                stored.remove(&put_id.counter);
            }
            for (payload, len, byte) in &held {
                prop_assert!(payload.len() as u64 == *len && payload.as_ref().iter().all(|is| is == byte));
            }
            let usage = tier.usage();
            prop_assert!(tier.bytes() <= usage.in_use && usage.in_use <= usage.bytes);
        }
        drop(held);
        prop_assert_eq!(kept(&tier, 0..60), stored.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(tier.bytes(), tier.usage().in_use);
        for (number, (len, byte)) in stored {
            let payload = tier.get(put_id(number)).unwrap();
            prop_assert!(payload.len() as u64 == len && payload.as_ref().iter().all(|is| *is == byte));
        }
        prop_assert!(fill(&tier, MIB as u64, 1).is_ok(), "everything goes for one that needs it all");
    }
}
