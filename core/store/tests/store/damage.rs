//! Bytes that are not what was written, and values that only a listing of the bucket would bring back.

use super::rig::{Bucket, Node, block, config, plain};
use bettong_core::journal;
use bettong_core::life::Life;
use bettong_core::seal::compress;
use bettong_core::store::OpenError;
use bettong_wire::envelope::Algorithm;
use bettong_wire::request::{GetHead, HeadValue, Level, PublishHead, Tier};
use bettong_wire::response::Answer;
use bettong_wire::{BlockHash, MissReason, Request};
use object_store::ObjectStoreExt;
use std::time::Duration;

/// Reads of a node come from the object store again.
async fn forget_copies(node: &Node) {
    node.clear(Tier::Memory).await;
    node.clear(Tier::Disk).await;
}

#[expect(clippy::disallowed_methods, reason = "a test of the real world waits in real time")]
async fn moment() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// Bug: a copy healed from another node was put as if by a caller, so that a heal which waited for a delete of its key
/// brought the key back. Fix: it is put only in the place of the very version that it heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_that_waited_for_a_delete_does_not_undo_it() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node("a").await, bucket.node("b").await);
    a.put(block(1, 0), Level::Object, b"bytes").await.unwrap();
    let own = bucket.paths("ns").await.into_iter().find(|path| path.as_ref().contains("/block/")).unwrap();
    b.put(block(1, 0), Level::Object, b"bytes").await.unwrap();
    a.until(async |a| a.service.store().stats()["index"]["peer_hints"] == 1).await;
    bucket.objects.put(&own, b"damage".to_vec().into()).await.unwrap();
    forget_copies(&a).await;
    // The delete holds the key's lock until the index takes writes again.
    bucket.refuse_index_writes(true);
    let (deleted, hit) = tokio::join!(a.delete(block(1, 0)), async {
        moment().await;
        let hit = a.get(block(1, 0)).await;
        moment().await;
        bucket.refuse_index_writes(false);
        hit
    });
    assert_eq!((deleted, hit), (1, Ok(b"bytes".to_vec())));
    moment().await;
    assert_eq!(a.get(block(1, 0)).await, Err(MissReason::Absent));
    b.until(async |_| !bucket.paths("ns").await.iter().any(|path| path.as_ref().contains("/block/"))).await;
    a.stop().await;
    b.stop().await;
}

/// Bug: one bad read of a journaled put quarantined it, and its upload then let the journal drop the only copy. Fix: it
/// stays with the journal, hidden, until its bytes are found good or a start refuses them.
#[expect(clippy::disallowed_methods, reason = "damages the file behind the store's back")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journaled_put_that_was_read_badly_is_not_given_up() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    bucket.refuse_puts(true);
    node.put(block(1, 0), Level::Journal, &[7; 10_000]).await.unwrap();
    let journal = bucket.dir("a").join("journal");
    let segments = || std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &std::path::Path| std::fs::read(path).unwrap().windows(100).position(|bytes| bytes == [7; 100]);
    let (segment, at) = segments().find_map(|path| holds(&path).map(|at| (path, at))).unwrap();
    let good = std::fs::read(&segment).unwrap();
    let mut damaged = good.clone();
    damaged[at + 50] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    // A copy that was on its way to the disk tier may land after it was dropped.
    node.until(async |node| {
        forget_copies(node).await;
        node.get(block(1, 0)).await == Err(MissReason::Corrupt)
    })
    .await;
    // Attempts that began with good bytes are over.
    moment().await;
    assert_eq!(node.service.store().stats()["journal"]["backlog_puts"], 1);
    bucket.refuse_puts(false);
    moment().await;
    assert_eq!(node.service.store().stats()["journal"]["backlog_puts"], 1, "a damaged put passed for uploaded");
    std::fs::write(&segment, good).unwrap();
    node.until(async |node| node.get(block(1, 0)).await == Ok(vec![7; 10_000])).await;
    node.stop().await;
}

/// Bug: the upload of a compressed put read nothing but the journal, and once that rotted the right bytes stayed in memory
/// until they were lost. Fix: they are compressed again.
#[expect(clippy::disallowed_methods, reason = "damages the file behind the store's back")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_in_the_journal_is_uploaded_from_memory() {
    for algorithm in [Algorithm::None, Algorithm::Zstd, Algorithm::Lz4] {
        let bucket = Bucket::new();
        let node = bucket.node_with(bettong_core::StoreConfig { compression: algorithm, ..config("a") }).await;
        bucket.refuse_puts(true);
        node.put(block(1, 0), Level::Journal, &[7; 10_000]).await.unwrap();
        let segment = bucket.dir("a").join("journal/00000000000000000001.seg");
        let mut damaged = std::fs::read(&segment).unwrap();
        let body = compress(&[7; 10_000], algorithm).unwrap_or(vec![7; 10_000]);
        let at = damaged.windows(body.len()).position(|bytes| bytes == body).unwrap();
        damaged[at + body.len() / 2] ^= 1;
        std::fs::write(&segment, damaged).unwrap();
        bucket.refuse_puts(false);
        node.until(async |node| node.service.store().stats()["journal"]["backlog_puts"] == 0).await;
        forget_copies(&node).await;
        assert_eq!(node.get(block(1, 0)).await, Ok(vec![7; 10_000]), "{algorithm:?}");
        node.stop().await;
    }
}

/// Bug: a journal that was cut off below what the index had seen passed for a rolled-back directory, and every put of it
/// that was not uploaded was given up, verified as it was. Fix: such a start is refused, as often as it is tried; a salvage
/// goes on with what is there.
#[expect(clippy::disallowed_methods, reason = "damages the file behind the store's back")]
#[tokio::test]
async fn a_journal_that_was_cut_off_is_no_reason_to_give_up_what_verifies() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(block(9, 0), Level::Object, &[9; 100]).await.unwrap();
    bucket.refuse_puts(true);
    for n in 1..4 {
        node.put(block(n, 0), Level::Journal, &[n; 10_000]).await.unwrap();
    }
    // The index is written once more.
    // The index is written once more.
    assert_eq!(node.delete(block(9, 0)).await, 1);
    node.stop().await;
    let segment = bucket.dir("a").join("journal/00000000000000000001.seg");
    let bytes = std::fs::read(&segment).unwrap();
    let last = bytes.windows(100).position(|bytes| bytes == [3; 100]).unwrap();
    std::fs::write(&segment, &bytes[..last + 50]).unwrap();
    for _ in 0..5 {
        let refused = bucket.store(config("a")).await.map(drop).unwrap_err();
        assert!(matches!(&refused, OpenError::Journal(journal::OpenError::Behind { puts: 2, .. })), "{refused}");
    }
    let life = Life { ordinal: 0, life: 0 };
    let kept = journal::salvage(&bucket.world("a"), &config("a").journal(life)).await.unwrap();
    assert_eq!(kept.puts, 2);
    let node = bucket.node("a").await;
    for n in 1..3 {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; 10_000]));
    }
    assert_eq!(node.get(block(3, 0)).await, Err(MissReason::Absent));
    node.stop().await;
}

/// Bug: a life that ended between an object and its entry left what no delete knew of: a listing of the bucket brought it
/// back after the delete. Fix: a node with earlier lives marks the key dead, known or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_life_left_unindexed_does_not_come_back_after_its_delete() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    bucket.refuse_index_writes(true);
    let left = async {
        while !bucket.paths("ns").await.iter().any(|path| path.as_ref().contains("/kv/")) {
            moment().await;
        }
        node.service.store().close(Duration::from_millis(300)).await
    };
    let (put, _) = tokio::join!(node.put(plain("key"), Level::Object, b"1"), left);
    put.unwrap_err();
    bucket.refuse_index_writes(false);

    let node = bucket.node("a").await;
    assert_eq!(node.delete(plain("key")).await, 0);
    node.stop().await;
    for path in bucket.paths("node/a/index").await {
        bucket.objects.delete(&path).await.unwrap();
    }
    let node = bucket.node_with(config("a")).await;
    assert_eq!(node.service.store().stats()["recovery"]["from"], "listing");
    assert_eq!(node.get(plain("key")).await, Err(MissReason::Absent));
    node.stop().await;
}

/// Bug: that a head has lost its chain was known to the process alone that had evicted it. Fix: what no index names is
/// looked for in the bucket.
#[tokio::test]
async fn a_head_whose_chain_is_nowhere_has_no_value_after_a_restart_either() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let tip = BlockHash([1; 32]);
    for part in 0..2 {
        node.put(block(1, part), Level::Object, &[1; 300]).await.unwrap();
    }
    let value = Some(HeadValue { tip, length: 1, sidecar: None });
    let publish = PublishHead { ns: node.ns, name: "talk".to_owned(), expected: 0, value, chain: vec![tip] };
    node.ok(Request::PublishHead(publish), Vec::new()).await.unwrap();
    let head = async |node: &Node| {
        let get = Request::GetHead(GetHead { ns: node.ns, name: "talk".to_owned() });
        let Ok(Answer::Head(head)) = node.ok(get, Vec::new()).await else { panic!("no head") };
        head.value.map(|value| value.tip)
    };
    node.stop().await;
    let node = bucket.node("a").await;
    assert_eq!(head(&node).await, Some(tip));
    assert_eq!(node.delete(block(1, 0)).await, 1);
    node.until(async |_| bucket.paths("ns").await.iter().all(|path| !path.as_ref().contains(".0."))).await;
    assert_eq!(head(&node).await, None);
    node.stop().await;
}
