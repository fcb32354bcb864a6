use super::*;
use crate::trace::payload::mix;
use std::collections::{BTreeMap, BTreeSet};

/// Requests of these blocks each, behind one another.
fn requests(of: &[&[u64]]) -> Vec<TraceRequest> {
    of.iter().map(|ids| TraceRequest { timestamp_ms: 0, input_tokens: 0, ids: ids.to_vec() }).collect()
}

fn hits_of(name: PolicyName, capacity: usize, of: &[&[u64]]) -> u64 {
    hits(name, capacity, &Sequence::of(&requests(of)))
}

#[test]
fn a_block_is_its_whole_prefix_and_a_hit_needs_all_before_it() {
    let sequence = Sequence::of(&requests(&[&[1, 2], &[2], &[1, 2], &[3, 2]]));
    let numbers: Vec<u32> = sequence.requests().flatten().map(|block| block.number).collect();
    assert_eq!(numbers, [0, 1, 2, 0, 1, 3, 4]);
    assert_eq!((sequence.distinct(), sequence.references()), (5, 7));
    // The second of 1, 2 is there, but not its parent: 3 and 4 took the place of 1.
    assert_eq!(hits_of(PolicyName::Lru, 3, &[&[1, 2], &[3], &[4], &[1, 2]]), 0);
    assert_eq!(hits_of(PolicyName::Lru, 4, &[&[1, 2], &[3], &[4], &[1, 2]]), 2);
}

#[test]
fn lru_forgets_what_was_used_longest_ago() {
    assert_eq!(hits_of(PolicyName::Lru, 2, &[&[1], &[2], &[1], &[3], &[1], &[2]]), 2);
}

#[test]
fn segmented_lru_protects_what_was_used_twice() {
    let scan: &[&[u64]] = &[&[1], &[1], &[2], &[3], &[4], &[5], &[6], &[1]];
    assert_eq!(hits_of(PolicyName::SegmentedLru, 5, scan), 2);
    assert_eq!(hits_of(PolicyName::Lru, 5, scan), 1);
}

#[test]
fn s3_fifo_lets_what_is_used_once_go_by_and_remembers_it_for_a_while() {
    // Used twice in the small queue: it stays in the main queue.
    let used: &[&[u64]] = &[&[1], &[1], &[1], &[2], &[3], &[4], &[5], &[6], &[1]];
    assert_eq!(hits_of(PolicyName::S3Fifo, 3, used), 3);
    // Seen again while its ghost is remembered: it comes back into the main queue, and outlives others.
    let ghost: &[&[u64]] = &[&[1], &[2], &[3], &[4], &[1], &[5], &[6], &[7], &[1]];
    assert_eq!((hits_of(PolicyName::S3Fifo, 3, ghost), hits_of(PolicyName::Lru, 3, ghost)), (1, 0));
}

#[test]
fn tiny_lfu_admits_only_what_was_used_more_than_what_would_go() {
    let often: Vec<&[u64]> = std::iter::repeat_n([&[1_u64][..], &[2], &[3]], 4).flatten().collect();
    let scan: [&[u64]; 6] = [&[10], &[11], &[12], &[13], &[14], &[15]];
    let all = [&often[..], &scan, &often[..3]].concat();
    // The window has one place; the others keep theirs through the scan.
    assert_eq!(hits_of(PolicyName::TinyLfu, 4, &all), 9 + 3);
    assert_eq!(hits_of(PolicyName::Lru, 4, &all), 9);
}

#[test]
fn ours_gives_a_chain_up_from_its_end() {
    assert_eq!(hits_of(PolicyName::Ours, 3, &[&[1, 2, 3], &[4], &[1, 2, 3]]), 2);
    assert_eq!(hits_of(PolicyName::Lru, 3, &[&[1, 2, 3], &[4], &[1, 2, 3]]), 0);
}

/// The most hits that are possible, by trying everything: after each request any of what is there and of what came.
fn most(capacity: usize, sequence: &Sequence) -> u64 {
    let mut best: BTreeMap<BTreeSet<u32>, u64> = BTreeMap::from([(BTreeSet::new(), 0)]);
    for request in sequence.requests() {
        let mut next: BTreeMap<BTreeSet<u32>, u64> = BTreeMap::new();
        for (held, hits) in &best {
            let found = request.iter().take_while(|block| held.contains(&block.number)).count() as u64;
            let all: Vec<u32> = held.iter().copied().chain(request.iter().map(|block| block.number)).collect();
            for kept in 0..1_u32 << all.len() {
                let kept: BTreeSet<u32> =
                    (0..).zip(&all).filter(|(at, _)| kept >> at & 1 == 1).map(|(_, n)| *n).collect();
                if kept.len() <= capacity {
                    let most = next.entry(kept).or_default();
                    *most = (*most).max(hits + found);
                }
            }
        }
        best = next;
    }
    best.into_values().max().unwrap_or(0)
}

/// Small traces, drawn by number: up to `requests` requests of up to `len` blocks out of `ids`.
fn drawn(number: u64, requests: u64, len: u64, ids: u64) -> Sequence {
    let mut state = mix(number + 1);
    let mut below = |end: u64| {
        state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
        state % end
    };
    let one = |below: &mut dyn FnMut(u64) -> u64| (0..1 + below(len)).map(|_| below(ids)).collect();
    let all: Vec<Vec<u64>> = (0..1 + below(requests)).map(|_| one(&mut below)).collect();
    Sequence::of(&self::requests(&all.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// Nothing beats the clairvoyant policy, and it is beaten by nothing.
#[test]
fn the_clairvoyant_policy_makes_the_most_of_it() {
    for number in 0..40 {
        let (sequence, capacity) = (drawn(number, 6, 3, 2), 1 + number as usize % 3);
        let most = most(capacity, &sequence);
        assert_eq!(hits(PolicyName::Clairvoyant, capacity, &sequence), most, "trace {number}, {capacity} blocks");
    }
}

/// Every policy keeps to its capacity (asserted where it is simulated), does the same again, and knows no future.
#[test]
fn every_policy_is_bounded_and_repeats() {
    for number in 0..200 {
        let (sequence, capacity) = (drawn(number, 60, 5, 3), 1 + number as usize % 11);
        let most = hits(PolicyName::Clairvoyant, capacity, &sequence);
        for name in PolicyName::ALL {
            let one = hits(name, capacity, &sequence);
            assert!(one <= most, "trace {number}, {capacity} blocks: {name:?} has {one} hits of {most}");
            assert_eq!(one, hits(name, capacity, &sequence), "trace {number}, {capacity} blocks: {name:?}");
        }
    }
}

/// Where few documents are asked for often, and where all come round in a loop, recency alone is not enough.
#[test]
fn ours_learns_more_than_recency() {
    for (what, mut requests) in workloads::all().into_iter().skip(1) {
        requests.truncate(1000);
        let sequence = Sequence::of(&requests);
        let capacity = sequence.distinct() / 20;
        let (ours, lru) = (hits(PolicyName::Ours, capacity, &sequence), hits(PolicyName::Lru, capacity, &sequence));
        assert!(ours * 10 > lru * 11, "{what}: {ours} hits, LRU has {lru}");
    }
}
