//! A store that does not open says what kind of remedy that wants.

use super::rig::{Bucket, block, config};
use bettong_core::index::IndexError;
use bettong_core::store::OpenError;
use bettong_wire::request::Level;
use object_store::ObjectStoreExt;
use std::time::Duration;

#[tokio::test]
async fn an_index_that_cannot_be_reached_is_told_from_one_that_is_damaged() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(block(1, 0), Level::Object, b"v").await.unwrap();
    node.stop().await;

    bucket.refuse_index_writes(true);
    match bucket.store(config("a")).await.err() {
        Some(OpenError::Index(IndexError::Unreachable(why))) => assert!(why.contains("shut"), "{why}"),
        other => panic!("{other:?}"),
    }
    bucket.refuse_index_writes(false);
    let again = bucket.store(config("a")).await.unwrap();
    assert!(again.close(Duration::from_secs(10)).await);

    for path in bucket.paths("node/a/index").await {
        bucket.objects.put(&path, b"rot".to_vec().into()).await.unwrap();
    }
    match bucket.store(config("a")).await.err() {
        Some(OpenError::Index(IndexError::Stored(_))) => {}
        other => panic!("{other:?}"),
    }
}
