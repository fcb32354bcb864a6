//! What a client of the shared-memory door leaves behind, however it ends.
#![expect(clippy::disallowed_methods, reason = "a test on the real clock bounds how long it waits")]

use super::attached::{self, Attached};
use super::door::Crossing;
use super::rig::{Bucket, config, identity};
use bettong_core::StoreConfig;
use bettong_core::door::shm::{Ended, Heard};
use bettong_shm::pool::SessionId;
use bettong_wire::request::{Delete, Get, Level, NsHandle, Put, ReadLimits, Target};
use bettong_wire::response::Outcome;
use bettong_wire::{ErrorKind, NamespaceId, Payload, Request};
use std::time::Duration;

const LEN: usize = 100_000;
const ID: SessionId = SessionId(1);

fn put(ns: NsHandle, key: &str, len: usize) -> Request {
    Request::Put(Put {
        ns,
        target: Target::Plain(key.to_owned()),
        level: Level::Memory,
        ttl_ms: 0,
        parent: None,
        sequence: 0,
        len: len as u64,
    })
}

fn get(ns: NsHandle, key: &str) -> Request {
    let target = Target::Plain(key.to_owned());
    Request::Get(Get { ns, target, range: None, limits: ReadLimits::default() })
}

/// A client that has put one value and holds it.
async fn holding(bucket: &Bucket, quota_bytes: u64) -> (super::rig::Node, Attached, Payload) {
    holding_with(bucket, config("a"), quota_bytes).await
}

async fn holding_with(bucket: &Bucket, config: StoreConfig, quota_bytes: u64) -> (super::rig::Node, Attached, Payload) {
    let (node, mut attached) = Attached::with_config(bucket, config, quota_bytes).await;
    attached.open_namespace().await;
    let ns = attached.namespace();
    let stored = attached.ask(&put(ns, "a", LEN), &[&[7; LEN]]).await;
    assert!(matches!(stored.outcome, Outcome::Ok(_)), "{stored:?}");
    let got = attached.ask(&get(ns, "a"), &[]).await.payloads.remove(0);
    assert_eq!(got.as_ref(), [7; LEN]);
    (node, attached, got)
}

async fn ended(attached: &mut Attached) -> Ended {
    tokio::time::timeout(Duration::from_secs(30), attached.ended.recv()).await.unwrap().unwrap()
}

/// Waits until the door has let go of everything that the client held.
async fn let_go(attached: &Attached) {
    let gone = async {
        while attached.leases.bytes_of(ID).is_some() || !attached.sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("its leases stay");
}

fn leased(attached: &Attached) -> u64 {
    attached.leases.bytes_of(ID).unwrap()
}

#[tokio::test]
async fn what_is_deleted_while_it_is_read_stays_until_it_is_let_go() {
    let bucket = Bucket::new();
    let (node, mut attached, got) = holding(&bucket, u64::MAX).await;
    let ns = attached.namespace();
    let slots = attached.pool.usage().slots;
    let delete = Request::Delete(Delete { ns, target: Target::Plain("a".to_owned()) });
    attached.ask(&delete, &[]).await;
    assert_eq!((attached.pool.usage().slots, leased(&attached) > 0), (slots, true));
    assert_eq!(got.as_ref(), [7; LEN]);
    drop(got);
    // A release travels with the next request.
    attached.ask(&Request::Ping, &[]).await;
    assert_eq!((attached.pool.usage().slots, leased(&attached)), (slots - 1, 0));
    node.stop().await;
}

#[tokio::test]
async fn over_its_quota_a_client_is_told_to_let_go_of_something() {
    let bucket = Bucket::new();
    let (node, mut attached, got) = holding(&bucket, 150_000).await;
    let ns = attached.namespace();
    attached.ask(&put(ns, "b", LEN), &[&[8; LEN]]).await;
    match attached.ask(&get(ns, "b"), &[]).await.outcome {
        Outcome::Error(error) => assert_eq!(error.kind, ErrorKind::Busy, "{error}"),
        other => panic!("{other:?}"),
    }
    drop(got);
    attached.ask(&Request::Ping, &[]).await;
    let got = attached.ask(&get(ns, "b"), &[]).await;
    assert_eq!(got.payloads[0].as_ref(), [8; LEN]);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_shut_out_and_what_it_holds_stays_until_it_is_gone() {
    let bucket = Bucket::new();
    let (node, mut attached, got) = holding(&bucket, u64::MAX).await;
    attached.scribble();
    attached.say.send(Heard::Woken).unwrap();
    assert!(matches!(ended(&mut attached).await, Ended::Broken(_)));
    let said = attached.sessions.facts();
    assert!(said[0]["ended"].as_str().unwrap().contains("the ring holds 256 words"), "{said}");
    assert!(attached.why.lock().unwrap().as_ref().unwrap().contains("the ring holds 256 words"));
    // It closes its socket, and may still read.
    attached.say.send(Heard::Closed).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(leased(&attached) > 0 && got.as_ref() == [7; LEN]);
    attached.say.send(Heard::Gone).unwrap();
    let_go(&attached).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_under_way_for_a_client_that_is_shut_out_holds_nobody_up() {
    let bucket = Bucket::new();
    let one_at_once = StoreConfig { object_inflight_max: 1, ..config("a") };
    let (node, mut attached, got) = holding_with(&bucket, one_at_once, u64::MAX).await;
    bucket.hold_identity(Some(NamespaceId::derive("tenant", "slow")));
    attached.rings.request(&attached::open("slow"), &[]).unwrap();
    attached.say.send(Heard::Woken).unwrap();
    // Others pass until the door has come to it.
    let mut passed = 0;
    while tokio::time::timeout(Duration::from_millis(200), node.open(&format!("before-{passed}"), Some(identity())))
        .await
        .is_ok()
    {
        passed += 1;
        assert!(passed < 50, "the object store is not held up");
    }
    attached.scribble();
    attached.say.send(Heard::Woken).unwrap();
    assert!(matches!(ended(&mut attached).await, Ended::Broken(_)));
    let other = node.open("another", Some(identity()));
    tokio::time::timeout(Duration::from_secs(30), other).await.expect("it holds others up").unwrap();
    assert!(leased(&attached) > 0 && got.as_ref() == [7; LEN]);
    attached.say.send(Heard::Gone).unwrap();
    let_go(&attached).await;
    bucket.hold_identity(None);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_is_killed_holds_nothing() {
    for end in [Heard::Gone, Heard::Detached] {
        let bucket = Bucket::new();
        let (node, mut attached, _got) = holding(&bucket, u64::MAX).await;
        attached.say.send(end.clone()).unwrap();
        let why = ended(&mut attached).await;
        assert!(matches!((end, &why), (Heard::Gone, Ended::Gone) | (Heard::Detached, Ended::Detached)), "{why:?}");
        let_go(&attached).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn before_it_has_opened_a_namespace_a_client_gets_nothing() {
    let bucket = Bucket::new();
    let (node, mut attached) = Attached::with(&bucket, u64::MAX).await;
    let in_use = attached.pool.usage().in_use;
    match attached.ask(&put(NsHandle(0), "a", LEN), &[&[7; LEN]]).await.outcome {
        Outcome::Error(error) => assert_eq!(error.kind, ErrorKind::Denied),
        other => panic!("{other:?}"),
    }
    assert_eq!(attached.pool.usage().in_use, in_use);
    node.stop().await;
}

#[tokio::test]
async fn what_a_client_releases_before_it_closes_is_free_and_a_client_that_holds_nothing_is_not_waited_for() {
    let bucket = Bucket::new();
    let (node, mut attached, got) = holding(&bucket, u64::MAX).await;
    drop(got);
    attached.rings.flush_releases().unwrap();
    attached.say.send(Heard::Closed).unwrap();
    assert_eq!(ended(&mut attached).await, Ended::Closed);
    let_go(&attached).await;
    node.stop().await;
}
