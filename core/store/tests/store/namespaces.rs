//! Opens of namespaces whose identity the object store does not answer for, and of namespaces that do not exist.

use super::rig::{Bucket, Node, identity, plain};
use bettong_wire::request::{Delete, Exists, Get, GetHead, Level, List, ListKind, NsHandle, Put, ReadLimits};
use bettong_wire::response::Answer;
use bettong_wire::{ErrorKind, MissReason, NamespaceId, Request, Response};
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

async fn put(node: &Node, ns: NsHandle) -> Result<Answer, bettong_wire::ServiceError> {
    let (target, level) = (plain("k"), Level::Memory);
    let put = Put { ns, target, level, ttl_ms: 0, parent: None, sequence: 0, len: 1 };
    node.ok(Request::Put(put), vec![vec![7].into()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_nothing_is_written_to_use_nothing_up() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    // A tenant may have 8,192 namespaces on one node.
    for n in 0..8_200 {
        let ns = node.open(&format!("made up {n}"), None).await.unwrap().ns;
        node.ok(Request::Close { ns }, Vec::new()).await.unwrap();
    }
    let ns = node.open("real", None).await.unwrap().ns;
    put(&node, ns).await.unwrap();
    node.open("with an identity", Some(identity())).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_anything_answers_as_an_empty_one() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let [ns, other] = ["first", "second"].map(|name| node.open(name, None));
    let (ns, other) = (ns.await.unwrap().ns, other.await.unwrap().ns);
    let limits = ReadLimits::default();
    let get = |ns| Request::Get(Get { ns, target: plain("k"), range: None, limits });
    let exists = |ns| Request::Exists(Exists { ns, target: plain("k") });
    let head = Request::GetHead(GetHead { ns, name: "h".to_owned() });
    for request in [get(ns), exists(ns), head] {
        assert_eq!(node.call(request, Vec::new()).await, Response::miss(MissReason::Absent));
    }
    let list = Request::List(List { ns, kind: ListKind::Plain, prefix: String::new(), cursor: Vec::new(), limit: 9 });
    let Answer::Page(page) = node.ok(list, Vec::new()).await.unwrap() else { panic!() };
    assert!(page.entries.is_empty() && page.cursor.is_empty());
    let delete = Request::Delete(Delete { ns, target: plain("k") });
    assert_eq!(node.ok(delete, Vec::new()).await.unwrap(), Answer::Removed { count: 0 });
    put(&node, other).await.unwrap();
    assert_eq!(node.call(get(ns), Vec::new()).await, Response::miss(MissReason::Absent), "it is another one's");
    put(&node, ns).await.unwrap();
    assert_eq!(node.call(get(ns), Vec::new()).await.payloads.len(), 1);
    node.stop().await;
}
