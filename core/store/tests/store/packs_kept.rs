//! Packs beside what forgets, scrubs and retires.

use super::packs::{bytes, check, lose_index, packing, packs, put_blocks, stat};
use super::rig::{Bucket, block};
use super::upkeep::{scrub, task};
use bettong_core::StoreConfig;
use bettong_core::objects::names::{Names, PayloadName};
use bettong_wire::pack::{Member, Pack};
use bettong_wire::request::{Level, Task};
use bettong_wire::{MissReason, PutId};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::time::Duration;

/// A packing node whose scrubber does not wait.
fn eager(node_id: &str) -> StoreConfig {
    StoreConfig { scrub_grace: Duration::ZERO, ..packing(node_id) }
}

async fn read(bucket: &Bucket, path: &Path) -> (Pack, Bytes) {
    let object = bucket.objects.get(path).await.unwrap().bytes().await.unwrap();
    (Pack::decode(&object, object.len() as u64).unwrap(), object)
}

/// A pack of the same bytes under another put id, as a death between a pack and its index leaves one.
async fn twin(bucket: &Bucket, of: &Path, counter: u64) -> Path {
    let (pack, object) = read(bucket, of).await;
    let put_id = PutId { counter, ..pack.put_id };
    let table = Pack { put_id, ..pack }.encode();
    let twin = [&table, &object[table.len()..]].concat();
    let path = Names::new("").pack(pack.namespace, put_id);
    bucket.objects.put(&path, twin.into()).await.unwrap();
    path
}

/// A member as an object of its own, as an attempt leaves it that was not indexed before the value was packed.
async fn alone(bucket: &Bucket, of: &Path, at: usize) -> Path {
    let (pack, object) = read(bucket, of).await;
    let Member { kind, part, key: hash, put_id, offset, len, .. } = pack.members[at];
    let path = Names::new("").payload(&PayloadName { namespace: pack.namespace, kind, hash, part, put_id });
    let envelope = object.slice(offset as usize..(offset + len) as usize);
    bucket.objects.put(&path, envelope.into()).await.unwrap();
    path
}

async fn is_there(bucket: &Bucket, path: &Path) -> bool {
    bucket.objects.head(path).await.is_ok()
}

#[tokio::test]
async fn a_scrub_removes_what_no_entry_names_and_buries_nothing_that_a_pack_has() {
    let bucket = Bucket::new();
    let node = bucket.node_with(eager("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    let named = packs(&bucket).await.remove(0);
    let orphan = twin(&bucket, &named, 9_000_000).await;
    let spare = alone(&bucket, &named, 3).await;
    let said = scrub(&node, true).await;
    assert_eq!((said.count("orphans"), said.count("spares")), (1, 1), "{:?}", said.counts);
    assert!(is_there(&bucket, &orphan).await && is_there(&bucket, &spare).await);
    let done = scrub(&node, false).await;
    assert_eq!((done.count("orphans_removed"), done.count("spares_removed")), (1, 1), "{:?}", done.counts);
    assert_eq!((done.count("verified"), done.count("damaged")), (10, 0));
    assert!(!is_there(&bucket, &orphan).await && !is_there(&bucket, &spare).await);
    check(&node, 0..10).await;

    // The whole copy of a dead member goes; that the member is dead is known as long as its pack is there.
    let spare = alone(&bucket, &named, 4).await;
    assert_eq!(node.delete(block(4, 0)).await, 1);
    assert_eq!(scrub(&node, false).await.count("dead_removed"), 1);
    assert!(!is_there(&bucket, &spare).await);
    node.stop().await;
    lose_index(&bucket).await;
    let node = bucket.node_with(eager("a")).await;
    assert_eq!(node.get(block(4, 0)).await, Err(MissReason::Absent));
    check(&node, (0..10).filter(|n| *n != 4)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_scrub_finds_a_damaged_member_by_itself() {
    let bucket = Bucket::new();
    let node = bucket.node_with(eager("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    node.stop().await;
    bucket.forget_cache("a");
    let path = packs(&bucket).await.remove(0);
    let (_, object) = read(&bucket, &path).await;
    let mut rotten = object.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    bucket.objects.put(&path, rotten.into()).await.unwrap();
    let node = bucket.node_with(eager("a")).await;
    let done = scrub(&node, false).await;
    assert_eq!((done.count("verified"), done.count("quarantined")), (9, 1), "{:?}", done.counts);
    assert_eq!(node.get(block(9, 0)).await, Err(MissReason::Corrupt));
    check(&node, 0..9).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_evicted_from_packs_stays_away_and_its_bytes_come_back() {
    let bucket = Bucket::new();
    let each = 256 + bytes(0).len() as u64;
    let node = bucket.node_with(StoreConfig { object_bytes_max: 30 * each, ..eager("a") }).await;
    for first in (0..100).step_by(10) {
        put_blocks(&node, Level::Object, first..first + 10).await;
    }
    let mut kept = Vec::new();
    node.until(async |node| stat(node, "object", "bytes") <= 30 * each).await;
    for n in 0..100 {
        match node.get(block(n, 0)).await {
            Ok(read) => {
                assert_eq!(read, bytes(n));
                kept.push(n);
            }
            Err(reason) => assert_eq!(reason, MissReason::Evicted),
        }
    }
    assert!((10..30).contains(&kept.len()), "{kept:?}");
    // At most as much as lives is dead in packs that stay.
    let settled = |node: &super::rig::Node| stat(node, "packs", "dead_bytes") <= stat(node, "packs", "live_bytes");
    node.until(async |node| settled(node)).await;
    node.stop().await;
    let node = bucket.node_with(eager("a")).await;
    for n in (0..100).filter(|n| !kept.contains(n)) {
        assert_eq!(node.get(block(n, 0)).await, Err(MissReason::Absent), "block {n}");
    }
    check(&node, kept.into_iter()).await;
    node.stop().await;
}

/// Ten blocks in a pack, of which two are gone: one was deleted by name, one was damaged and put again.
async fn worn(bucket: &Bucket) {
    let node = bucket.node_with(packing("a")).await;
    put_blocks(&node, Level::Object, 0..10).await;
    assert_eq!(node.delete(block(0, 0)).await, 1);
    node.stop().await;
    bucket.forget_cache("a");
    let path = packs(bucket).await.remove(0);
    let (_, object) = read(bucket, &path).await;
    let mut rotten = object.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    bucket.objects.put(&path, rotten.into()).await.unwrap();
    let node = bucket.node_with(packing("a")).await;
    assert_eq!(node.get(block(9, 0)).await, Err(MissReason::Corrupt));
    node.put(block(9, 0), Level::Object, b"again").await.unwrap();
    node.stop().await;
    bucket.objects.put(&path, object.into()).await.unwrap();
}

#[tokio::test]
async fn an_heir_takes_packs_over_from_an_index_and_from_a_listing() {
    for listed in [false, true] {
        let bucket = Bucket::new();
        worn(&bucket).await;
        if listed {
            lose_index(&bucket).await;
        }
        let heir = bucket.node_with(eager("b")).await;
        let done = task(&heir, Task::Retire, false, "a").await.unwrap();
        assert_eq!((done.count("packs"), done.count("nodes_taken_over")), (1, 1), "{:?}", done.counts);
        check(&heir, 1..9).await;
        assert_eq!(heir.get(block(9, 0)).await, Ok(b"again".to_vec()));
        assert_eq!(heir.get(block(0, 0)).await, Err(MissReason::Absent));
        assert_eq!(stat(&heir, "packs", "values"), 8);
        let done = scrub(&heir, false).await;
        assert_eq!((done.count("orphans"), done.count("verified")), (0, 9), "{:?}", done.counts);
        // The delete names what is left of the older version too, which the retired node knew of.
        assert_eq!(heir.delete(block(9, 0)).await, 1);
        heir.stop().await;

        for path in bucket.paths("node/b/index").await {
            bucket.objects.delete(&path).await.unwrap();
        }
        let heir = bucket.node_with(eager("b")).await;
        assert_eq!(heir.get(block(9, 0)).await, Err(MissReason::Absent), "listed: {listed}");
        check(&heir, 1..9).await;
        // And its packs are the heir's to rewrite and to remove.
        let first = packs(&bucket).await;
        for n in 1..7 {
            assert_eq!(heir.delete(block(n, 0)).await, 1);
        }
        heir.until(async |_| packs(&bucket).await.iter().all(|pack| !first.contains(pack))).await;
        check(&heir, 7..9).await;
        heir.stop().await;
    }
}
