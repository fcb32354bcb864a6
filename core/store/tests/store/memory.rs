//! What requests may hold of payload memory.

use super::rig::{Bucket, Node, block};
use bettong_core::Service;
use bettong_wire::request::{Get, GetBlocks, Level, PartAsk, ReadLimits, Restore, RestoreChain, Target, Tier};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{BlockHash, BlockKey, MissReason, Part, Request};

const LEN: usize = 512 << 10;
/// Half as much again as the payload memory of the rig's nodes.
const BLOCKS: u8 = 24;

fn keys() -> Vec<BlockKey> {
    let key = |n| match block(n, 0) {
        Target::Block(key) => key,
        other => panic!("{other:?}"),
    };
    (0..BLOCKS).map(key).collect()
}

/// A node whose object store has more than its memory holds, and whose memory has nothing.
async fn cold(bucket: &Bucket) -> Node {
    let node = bucket.node("a").await;
    for n in 0..BLOCKS {
        node.put(block(n, 0), Level::Object, &vec![n; LEN]).await.unwrap();
    }
    node.clear(Tier::Memory).await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_holds_no_more_than_it_reads_at_once() {
    let bucket = Bucket::new();
    let node = cold(&bucket).await;
    let restore = Restore { ns: node.ns, keys: keys(), limits: ReadLimits::default() };
    let warmed = node.ok(Request::Restore(restore), Vec::new()).await.unwrap();
    assert_eq!(warmed, Answer::Warmed { count: BLOCKS.into() });
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_finds_no_room_says_so() {
    let bucket = Bucket::new();
    let node = cold(&bucket).await;
    let mut held = Vec::new();
    while let Ok(buf) = node.service.store().reserve(256 << 10) {
        held.push(buf);
    }
    assert_eq!(node.get(block(0, 0)).await, Err(MissReason::NoRoom));
    // Of a prompt, what cannot be read now is not taken for gone.
    let restore = RestoreChain {
        ns: node.ns,
        hashes: vec![BlockHash([0; 32])],
        parts: vec![PartAsk { part: Part(0), last_n: 0 }],
        from: 0,
        sidecar: None,
        bytes_max: 0,
        limits: ReadLimits::default(),
    };
    let restored = node.call(Request::RestoreChain(restore.clone()), Vec::new()).await;
    assert_eq!(restored.outcome, Outcome::Miss(MissReason::NoRoom));
    drop(held);
    let Ok(Answer::Chain(chain)) = node.ok(Request::RestoreChain(restore), Vec::new()).await else { panic!() };
    assert_eq!((chain.blocks, chain.end, chain.hits.len()), (1, 1, 1));
    assert_eq!(node.get(block(0, 0)).await.map(|bytes| bytes.len()), Ok(LEN));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_weighed_by_what_they_bring_and_a_short_range_holds_no_whole_value() {
    let bucket = Bucket::new();
    let node = cold(&bucket).await;
    let blocks = GetBlocks { ns: node.ns, keys: keys(), leading: true, limits: ReadLimits::default() };
    let weigh = |request| node.service.weigh(&node.peer, &request);
    assert_eq!(weigh(Request::GetBlocks(blocks)), u64::from(BLOCKS) * LEN as u64);
    let get = |range| Request::Get(Get { ns: node.ns, target: block(0, 0), range, limits: ReadLimits::default() });
    let weights = [None, Some((7, 100)), Some((0, LEN as u64 - 1))].map(|range| weigh(get(range)));
    assert_eq!(weights, [LEN as u64, 100, LEN as u64]);
    assert_eq!(
        weigh(Request::Get(Get { ns: node.ns, target: block(99, 0), range: None, limits: ReadLimits::default() })),
        0
    );

    let answer = node.call(get(Some((7, 100))), Vec::new()).await;
    assert_eq!(answer.payloads[0].as_ref(), [0; 100]);
    // All payload memory less the hundred bytes can be had, once the disk tier has written what it was given.
    let rest = |node: &Node| {
        let reserve = |len| node.service.store().reserve(len).ok();
        let held: Vec<_> = std::iter::from_fn(|| reserve(1 << 20)).collect();
        (held.len(), reserve(LEN as u64).is_some())
    };
    node.until(async |node| {
        node.clear(Tier::Memory).await;
        rest(node) == (7, true)
    })
    .await;
    drop(answer);
    node.stop().await;
}
