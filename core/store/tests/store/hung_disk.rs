//! A disk tier that does not open in time: the node starts without it, and says so.

use super::rig::{Bucket, Node, block, config};
use bettong_wire::request::{Level, Tier};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_wait_for_its_disk_tier_for_ever() {
    let bucket = Bucket::new();
    let store = bucket.store_within(config("a"), Duration::ZERO).await.unwrap();
    let disk = store.stats()["disk"].clone();
    assert_eq!(disk["bytes_max"], 0);
    let trouble = disk["trouble"].as_str().unwrap();
    assert!(trouble.contains("cache: it did not open within 0ns"), "{trouble}");
    let node = Node::of(store).await;
    node.put(block(1, 0), Level::Object, b"one").await.unwrap();
    node.clear(Tier::Memory).await;
    assert_eq!(node.get(block(1, 0)).await.unwrap(), b"one");
    assert!(node.service.store().close(Duration::from_secs(20)).await);

    let store = bucket.store_within(config("a"), Duration::MAX).await.unwrap();
    let disk = store.stats()["disk"].clone();
    assert_eq!((disk["bytes_max"].as_u64(), disk["trouble"].as_str()), (Some(16 << 20), None));
    assert!(store.close(Duration::from_secs(20)).await);
}
