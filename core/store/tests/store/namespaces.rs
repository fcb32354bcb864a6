//! Opens of namespaces whose identity the object store does not answer for.

use super::rig::{Bucket, identity};
use bettong_wire::{ErrorKind, NamespaceId};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_waits_ends_at_its_deadline_and_holds_up_no_other_namespace() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    bucket.hold_identity(Some(NamespaceId::derive("tenant", "slow")));
    let slow = node.open("slow", Some(identity()));
    let other = async {
        let other = node.open("other", Some(identity())).await;
        let given_up = node.open_within("slow", Some(identity()), Duration::from_millis(20)).await.unwrap_err();
        bucket.hold_identity(None);
        (other, given_up)
    };
    let (slow, (other, given_up)) = futures::future::join(slow, other).await;
    assert_eq!(given_up.kind, ErrorKind::Retry, "{given_up:?}");
    assert_eq!(slow.unwrap().namespace_id, NamespaceId::derive("tenant", "slow"));
    assert_eq!(other.unwrap().namespace_id, NamespaceId::derive("tenant", "other"));
    node.stop().await;
}
