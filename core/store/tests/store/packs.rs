//! Small values that share objects: fewer requests, the same answers, and the space of the dead comes back.

use super::rig::{Bucket, Node, block, config, plain};
use bettong_core::StoreConfig;
use bettong_core::objects::names::Names;
use bettong_wire::request::{BlockPut, Clear, Level, PutBlocks, Tier};
use bettong_wire::response::Answer;
use bettong_wire::{BlockHash, BlockKey, MissReason, Part, Request};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::time::Duration;

pub fn packing(node_id: &str) -> StoreConfig {
    StoreConfig { pack_below: 4096, pack_bytes: 64 << 10, ..config(node_id) }
}

pub async fn packs(bucket: &Bucket) -> Vec<Path> {
    let list = bucket.objects.list(Some(&Path::from("ns"))).map_ok(|object| object.location);
    let mut all: Vec<Path> = list.try_collect().await.unwrap();
    all.retain(|path| Names::new("").parse_pack(path).is_some());
    all
}

async fn values(bucket: &Bucket) -> usize {
    let list = bucket.objects.list(Some(&Path::from("ns"))).map_ok(|object| object.location);
    let all: Vec<Path> = list.try_collect().await.unwrap();
    all.iter().filter(|path| Names::new("").parse_payload(path).is_some()).count()
}

async fn marks(bucket: &Bucket) -> usize {
    let list = bucket.objects.list(Some(&Path::from("node/a/dead")));
    list.try_collect::<Vec<_>>().await.unwrap().len()
}

pub fn bytes(n: u8) -> Vec<u8> {
    vec![n; 100 + usize::from(n)]
}

pub async fn put_blocks(node: &Node, level: Level, numbers: impl Iterator<Item = u8>) {
    let numbers: Vec<u8> = numbers.collect();
    let put = |n: &u8| BlockPut {
        key: BlockKey { hash: BlockHash([*n; 32]), part: Part(0) },
        parent: None,
        sequence: u32::from(*n),
        len: bytes(*n).len() as u64,
    };
    let batch = PutBlocks { ns: node.ns, level, blocks: numbers.iter().map(put).collect() };
    let body = numbers.iter().map(|n| bytes(*n).into()).collect();
    assert!(matches!(node.ok(Request::PutBlocks(batch), body).await, Ok(Answer::StoredBatch(_))));
}

/// Leaves the object store as the only place.
async fn forget(node: &Node) {
    for tier in [Tier::Memory, Tier::Disk] {
        node.ok(Request::Clear(Clear { ns: node.ns, tier }), Vec::new()).await.unwrap();
    }
}

pub async fn check(node: &Node, there: impl Iterator<Item = u8>) {
    forget(node).await;
    for n in there {
        assert_eq!(node.get(block(n, 0)).await, Ok(bytes(n)), "block {n}");
    }
}

pub async fn lose_index(bucket: &Bucket) {
    let index = bucket.objects.list(Some(&Path::from("node/a/index"))).map_ok(|object| object.location);
    let index: Vec<Path> = index.try_collect().await.unwrap();
    for path in index {
        bucket.objects.delete(&path).await.unwrap();
    }
}

pub fn stat(node: &Node, group: &str, name: &str) -> u64 {
    node.service.store().stats()[group][name].as_u64().unwrap()
}

#[tokio::test]
async fn a_batch_of_small_blocks_is_one_object_and_each_is_read_by_itself() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    let before = stat(&node, "requests", "put");
    put_blocks(&node, Level::Object, 0..20).await;
    assert!(stat(&node, "requests", "put") - before < 10, "the index's own writes apart");
    assert_eq!((packs(&bucket).await.len(), values(&bucket).await), (1, 0));
    check(&node, 0..20).await;
    forget(&node).await;
    assert_eq!(node.get_range(block(7, 0), Some((3, 4))).await, Ok(vec![7; 4]));
    assert_eq!(stat(&node, "packs", "values"), 20);
    // One value, a large one and a plain key go alone.
    put_blocks(&node, Level::Object, 30..31).await;
    node.put(block(31, 0), Level::Object, &[1; 5000]).await.unwrap();
    node.put(plain("key"), Level::Object, b"1").await.unwrap();
    assert_eq!((packs(&bucket).await.len(), values(&bucket).await), (1, 3));
    node.stop().await;

    let node = bucket.node_with(packing("a")).await;
    assert_eq!(stat(&node, "packs", "values"), 20);
    check(&node, 0..20).await;
    node.stop().await;
    // A node that packs nothing reads what was packed.
    let node = bucket.node("a").await;
    check(&node, 0..20).await;
    node.stop().await;
}

#[tokio::test]
async fn a_pack_is_rewritten_when_most_of_it_is_dead_and_removed_when_all_of_it_is() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    let first = packs(&bucket).await;
    for n in 0..7 {
        assert_eq!(node.delete(block(n, 0)).await, 1);
    }
    node.until(async |_| packs(&bucket).await.len() == 1 && packs(&bucket).await != first).await;
    assert!(stat(&node, "packs", "dead_bytes") < 4 * (256 + 110), "{}", stat(&node, "packs", "dead_bytes"));
    check(&node, 7..10).await;
    for n in 0..7 {
        assert_eq!(node.get(block(n, 0)).await, Err(MissReason::Absent));
    }
    node.stop().await;
    let node = bucket.node_with(packing("a")).await;
    check(&node, 7..10).await;
    for n in 7..10 {
        assert_eq!(node.delete(block(n, 0)).await, 1);
    }
    node.until(async |_| packs(&bucket).await.is_empty()).await;
    assert_eq!(stat(&node, "packs", "objects"), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_from_the_tables_without_what_was_deleted() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    for n in 0..4 {
        assert_eq!(node.delete(block(n, 0)).await, 1);
    }
    node.stop().await;
    for _ in 0..2 {
        lose_index(&bucket).await;
        let node = bucket.node_with(packing("a")).await;
        assert_eq!(node.service.store().stats()["recovery"]["from"], "listing");
        check(&node, 4..10).await;
        for n in 0..4 {
            assert_eq!(node.get(block(n, 0)).await, Err(MissReason::Absent), "block {n}");
        }
        assert_eq!(stat(&node, "packs", "values"), 6);
        node.stop().await;
    }
    // The last of it goes with a pack that the rebuilt index knows.
    let node = bucket.node_with(packing("a")).await;
    for n in 4..10 {
        assert_eq!(node.delete(block(n, 0)).await, 1);
    }
    node.until(async |_| packs(&bucket).await.is_empty()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_mark_stays_as_long_as_the_pack_that_holds_what_it_names() {
    let bucket = Bucket::new();
    // Marks are old at once, and packs are not rewritten for their sake but by their share.
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    assert_eq!(node.delete(block(0, 0)).await, 1);
    node.stop().await;
    let overdue = StoreConfig { dead_marks_kept: Duration::ZERO, ..packing("a") };
    let before = packs(&bucket).await;
    let node = bucket.node_with(overdue).await;
    node.until(async |_| packs(&bucket).await.len() == 1 && packs(&bucket).await != before).await;
    assert_eq!(stat(&node, "packs", "dead_bytes"), 0, "the bytes go before the mark may");
    check(&node, 1..10).await;
    node.stop().await;
}

#[tokio::test]
async fn a_delete_names_what_is_left_of_older_versions_too() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    // One block of the pack is damaged, found out, and put again: the old version is dead in its pack.
    let pack = packs(&bucket).await.remove(0);
    let mut held = bucket.objects.get(&pack).await.unwrap().bytes().await.unwrap().to_vec();
    let good: object_store::PutPayload = held.clone().into();
    let last = held.len() - 1;
    held[last] ^= 1;
    bucket.objects.put(&pack, held.into()).await.unwrap();
    // The disk tier serves what was removed from it until that is flushed.
    let found_out = async |node: &Node| {
        forget(node).await;
        node.get(block(9, 0)).await == Err(MissReason::Corrupt)
    };
    node.until(found_out).await;
    node.put(block(9, 0), Level::Object, b"again").await.unwrap();
    let before = marks(&bucket).await;
    assert_eq!(node.delete(block(9, 0)).await, 1);
    assert_eq!(marks(&bucket).await, before + 3, "the version, the one before it, and the horizon");
    bucket.objects.put(&pack, good).await.unwrap();
    node.stop().await;
    lose_index(&bucket).await;
    let node = bucket.node_with(packing("a")).await;
    assert_eq!(node.get(block(9, 0)).await, Err(MissReason::Absent));
    check(&node, 0..9).await;
    node.stop().await;
}

#[tokio::test]
async fn another_node_reads_from_a_pack_and_follows_it_when_it_is_rewritten() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node_with(packing("a")).await, bucket.node_with(packing("b")).await);
    put_blocks(&a, Level::Object, 0..10).await;
    b.until(async |b| b.exists(block(9, 0)).await).await;
    check(&b, 0..10).await;
    let first = packs(&bucket).await;
    // Deleted on the other node: its writer takes the bytes back.
    for n in 0..8 {
        assert_eq!(b.delete(block(n, 0)).await, 1);
    }
    a.until(async |_| packs(&bucket).await.len() == 1 && packs(&bucket).await != first).await;
    for n in 0..8 {
        assert_eq!(a.get(block(n, 0)).await, Err(MissReason::Absent));
    }
    forget(&b).await;
    b.until(async |b| b.get(block(9, 0)).await == Ok(bytes(9))).await;
    check(&b, 8..10).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn journaled_puts_of_one_round_share_an_object() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    bucket.refuse_puts(true);
    put_blocks(&node, Level::Journal, 0..10).await;
    node.put(plain("key"), Level::Journal, b"1").await.unwrap();
    bucket.refuse_puts(false);
    assert_eq!(node.service.store().flush(Duration::from_secs(10)).await.puts, 0);
    assert_eq!((packs(&bucket).await.len(), values(&bucket).await), (1, 1));
    check(&node, 0..10).await;
    node.stop().await;
    let node = bucket.node_with(packing("a")).await;
    check(&node, 0..10).await;
    assert_eq!(node.get(plain("key")).await, Ok(b"1".to_vec()));
    node.stop().await;
}

#[tokio::test]
async fn a_read_follows_its_value_when_the_pack_is_rewritten_meanwhile() {
    let bucket = Bucket::new();
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    forget(&node).await;
    let first = packs(&bucket).await;
    bucket.hold_parts(true);
    let rewritten = async {
        for n in 0..8 {
            assert_eq!(node.delete(block(n, 0)).await, 1);
        }
        node.until(async |_| packs(&bucket).await.iter().all(|pack| !first.contains(pack))).await;
        bucket.hold_parts(false);
    };
    let (read, ()) = tokio::join!(node.get(block(9, 0)), rewritten);
    assert_eq!(read, Ok(bytes(9)), "what is there is not a miss because it moved");
    assert_eq!(stat(&node, "events", "corrupt_object_reads"), 0);
    node.stop().await;
}
