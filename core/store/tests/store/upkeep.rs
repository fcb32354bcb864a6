//! Scrubbing, retiring and prefetching, on real directories and a bucket in memory.

use super::rig::{Bucket, Node, block, config, plain};
use bettong_core::StoreConfig;
use bettong_core::objects::names::{Names, PayloadName};
use bettong_core::seal::{SealMeta, seal};
use bettong_core::store::OpenError;
use bettong_wire::envelope::{Algorithm, HEADER_LEN, Kind};
use bettong_wire::request::{Clear, HeadValue, Level, Maintain, PublishHead, Target, Task, Tier};
use bettong_wire::response::Answer;
use bettong_wire::{BlockHash, ErrorKind, MissReason, Part, PutId, Request, ServiceError};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A node whose scrubber does not wait.
fn eager(node_id: &str) -> StoreConfig {
    StoreConfig { scrub_grace: Duration::ZERO, head_generations_kept: Duration::ZERO, ..config(node_id) }
}

pub struct Done {
    pub counts: BTreeMap<String, u64>,
    items: Vec<Value>,
    notes: Vec<String>,
}

impl Done {
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }
}

async fn slice(
    node: &Node,
    task: Task,
    dry_run: bool,
    argument: &str,
    cursor: Vec<u8>,
) -> Result<(Vec<u8>, Value), ServiceError> {
    let maintain = Maintain { task, dry_run, cursor, argument: argument.to_owned(), bound_ms: 5 };
    let response = node.call(Request::Maintain(maintain), Vec::new()).await;
    match response.outcome {
        bettong_wire::response::Outcome::Ok(Answer::Maintained { cursor }) => {
            Ok((cursor, serde_json::from_slice(response.payloads[0].as_ref()).unwrap()))
        }
        bettong_wire::response::Outcome::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

pub async fn task(node: &Node, task: Task, dry_run: bool, argument: &str) -> Result<Done, ServiceError> {
    let mut done = Done { counts: BTreeMap::new(), items: Vec::new(), notes: Vec::new() };
    let mut cursor = Vec::new();
    loop {
        let (next, document) = slice(node, task, dry_run, argument, cursor).await?;
        for (what, count) in document["counts"].as_object().unwrap() {
            *done.counts.entry(what.clone()).or_default() += count.as_u64().unwrap();
        }
        done.items.extend(document["items"].as_array().unwrap().iter().cloned());
        done.notes.extend(document["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned()));
        if next.is_empty() {
            return Ok(done);
        }
        cursor = next;
    }
}

pub async fn scrub(node: &Node, dry_run: bool) -> Done {
    task(node, Task::Scrub, dry_run, "").await.unwrap()
}

async fn paths(bucket: &Bucket, part: &str) -> Vec<Path> {
    let list = bucket.objects.list(None);
    let all: Vec<Path> = list.map_ok(|object| object.location).try_collect().await.unwrap();
    all.into_iter().filter(|path| path.as_ref().contains(part)).collect()
}

fn named(path: &Path) -> PayloadName {
    Names::new("").parse_payload(path).unwrap()
}

/// An object of the same life and namespace as `like`, as a put leaves it whose index entry was never written.
async fn orphan(bucket: &Bucket, like: &PayloadName, counter: u64) -> Path {
    let put_id = PutId { life: like.put_id.life, counter };
    let name = PayloadName { kind: Kind::Block, hash: [counter as u8; 32], part: Part(0), put_id, ..*like };
    let meta = SealMeta {
        kind: name.kind,
        namespace: name.namespace,
        hash: name.hash,
        part: name.part,
        plain_key: String::new(),
        sequence: 0,
        put_id,
        parent: None,
        created_at_ms: 1,
        expires_at_ms: 0,
    };
    let path = Names::new("").payload(&name);
    let sealed = seal(&meta, &vec![7; 100].into(), Algorithm::None);
    bucket.objects.put(&path, sealed.to_put_payload()).await.unwrap();
    path
}

async fn change(bucket: &Bucket, path: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = bucket.objects.get(path).await.unwrap().bytes().await.unwrap().to_vec();
    change(&mut bytes);
    bucket.objects.put(path, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn orphans_go_and_nothing_else_does() {
    let bucket = Bucket::new();
    let (other, patient) = (bucket.node("b").await, bucket.node("c").await);
    other.put(block(9, 0), Level::Object, b"of b").await.unwrap();
    let node = bucket.node_with(eager("a")).await;
    for n in 0..40 {
        node.put(block(n, 1), Level::Object, &[n; 50]).await.unwrap();
    }
    node.put(plain("key"), Level::Object, b"value").await.unwrap();
    let like = named(paths(&bucket, "/kv/").await.first().unwrap());
    let left = [orphan(&bucket, &like, 1001).await, orphan(&bucket, &like, 1002).await];
    let newer = orphan(&bucket, &like, 1003).await;
    change(&bucket, &newer, |bytes| {
        bytes[8] = 99;
        let hash = blake3::hash(&bytes[..224]);
        bytes[224..HEADER_LEN].copy_from_slice(hash.as_bytes());
    })
    .await;
    let damaged = orphan(&bucket, &like, 1004).await;
    change(&bucket, &damaged, |bytes| bytes[100] ^= 1).await;
    let before = paths(&bucket, "ns/").await.len();

    let said = scrub(&node, true).await;
    assert_eq!((said.count("orphans"), said.count("orphans_removed")), (2, 0));
    assert_eq!((said.count("newer_format"), said.count("unreadable")), (1, 1));
    assert_eq!((said.count("named"), said.count("verified"), said.count("other_nodes")), (41, 41, 1));
    assert_eq!(paths(&bucket, "ns/").await.len(), before, "a dry run changes nothing");
    assert_eq!(scrub(&other, false).await.count("orphans"), 0, "they are not its own");

    let done = scrub(&node, false).await;
    assert_eq!((done.count("orphans"), done.count("orphans_removed"), done.count("damaged")), (2, 2, 0));
    let after = paths(&bucket, "ns/").await;
    assert_eq!(after.len(), before - 2);
    assert!(left.iter().all(|path| !after.contains(path)) && after.contains(&newer) && after.contains(&damaged));
    assert_eq!(node.get(plain("key")).await, Ok(b"value".to_vec()));
    assert_eq!(other.get(block(9, 0)).await, Ok(b"of b".to_vec()));

    // What a start left behind that was killed, of this node and of others.
    for probe in ["probe/a.0000000000000001", "probe/b.0000000000000001"] {
        bucket.objects.put(&Path::from(probe), "probe".into()).await.unwrap();
    }
    assert_eq!(scrub(&node, false).await.count("probes_removed"), 1);
    assert_eq!(paths(&bucket, "probe/").await, [Path::from("probe/b.0000000000000001")]);

    // Young by the bucket's clock.
    patient.put(block(50, 0), Level::Object, b"1").await.unwrap();
    let like = named(paths(&bucket, &"32".repeat(32)).await.first().unwrap());
    let young = orphan(&bucket, &like, 1005).await;
    assert_eq!(scrub(&patient, false).await.count("spared_young"), 1);
    assert!(paths(&bucket, "ns/").await.contains(&young));
    for node in [node, other, patient] {
        node.stop().await;
    }
}

#[tokio::test]
async fn an_object_that_came_back_after_its_delete_is_removed_again() {
    let bucket = Bucket::new();
    let node = bucket.node_with(eager("a")).await;
    node.put(block(1, 0), Level::Object, b"late").await.unwrap();
    let path = paths(&bucket, "/block/").await.remove(0);
    let bytes = bucket.objects.get(&path).await.unwrap().bytes().await.unwrap();
    node.delete(block(1, 0)).await;
    node.until(async |_| paths(&bucket, "/block/").await.is_empty()).await;
    bucket.objects.put(&path, bytes.into()).await.unwrap();
    let done = scrub(&node, false).await;
    assert_eq!((done.count("dead_removed"), done.count("orphans")), (1, 0));
    assert!(paths(&bucket, "/block/").await.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn damaged_objects_are_quarantined_and_healed_from_wherever_a_copy_is() {
    let bucket = Bucket::new();
    let (node, other) = (bucket.node_with(eager("a")).await, bucket.node("b").await);
    for n in 0..3 {
        node.put(block(n, 0), Level::Object, &[n; 5000]).await.unwrap();
    }
    node.put(plain("key"), Level::Object, &[9; 5000]).await.unwrap();
    // Each node has its own copy of block 1.
    other.put(block(1, 0), Level::Object, &[1; 5000]).await.unwrap();
    node.until(async |node| scrub(node, true).await.count("other_nodes") == 1).await;
    node.stop().await;
    let node = bucket.node_with(eager("a")).await;
    node.until(async |_| !paths(&bucket, "node/b/index").await.is_empty()).await;
    let clear = |tier| Request::Clear(Clear { ns: node.ns, tier });
    node.ok(clear(Tier::Memory), Vec::new()).await.unwrap();
    let own_life = named(paths(&bucket, "/kv/").await.first().unwrap()).put_id.life;
    for path in paths(&bucket, "ns/").await {
        if Names::new("").parse_payload(&path).is_some_and(|name| name.put_id.life == own_life) {
            change(&bucket, &path, |bytes| bytes[HEADER_LEN + 40] ^= 1).await;
        }
    }
    assert_eq!(scrub(&node, true).await.count("damaged"), 4);
    let done = scrub(&node, false).await;
    let counts = (done.count("damaged"), done.count("quarantined"), done.count("healed"));
    // From the disk tier, or from the other node where that has dropped it.
    assert_eq!(counts, (4, 4, 4), "{:?}", done.counts);
    node.ok(clear(Tier::Memory), Vec::new()).await.unwrap();
    node.ok(clear(Tier::Disk), Vec::new()).await.unwrap();
    for n in 0..3 {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; 5000]));
    }
    assert_eq!(node.get(plain("key")).await, Ok(vec![9; 5000]));
    assert_eq!(scrub(&node, false).await.count("damaged"), 0);
    for node in [node, other] {
        node.stop().await;
    }
}

#[tokio::test]
async fn generations_of_a_head_that_are_past_their_time_go_but_for_the_newest() {
    let bucket = Bucket::new();
    let patient = bucket.node("a").await;
    for part in [0, 1] {
        patient.put(block(1, part), Level::Object, b"tip").await.unwrap();
    }
    for (name, generations) in [("one", 3), ("two", 1)] {
        for expected in 0..generations {
            let chain = vec![BlockHash([1; 32])];
            let value = Some(HeadValue { tip: chain[0], length: 1, sidecar: None });
            let publish = PublishHead { ns: patient.ns, name: name.to_owned(), expected, value, chain };
            patient.ok(Request::PublishHead(publish), Vec::new()).await.unwrap();
        }
    }
    let done = scrub(&patient, false).await;
    assert_eq!((done.count("generations"), done.count("generations_removed")), (4, 0));
    patient.stop().await;
    let node = bucket.node_with(eager("a")).await;
    assert_eq!(scrub(&node, false).await.count("generations_removed"), 2);
    let left = paths(&bucket, "/head/").await;
    assert_eq!(left.len(), 2);
    assert!(left.iter().any(|path| path.as_ref().ends_with("00000000000000000003")));
    node.stop().await;
}

async fn filled(bucket: &Bucket, node_id: &str) -> Node {
    let node = bucket.node(node_id).await;
    for n in 0..20 {
        node.put(block(n, 0), Level::Object, &[n; 300]).await.unwrap();
    }
    for key in ["both", "only theirs", "deleted"] {
        node.put(plain(key), Level::Object, node_id.as_bytes()).await.unwrap();
    }
    node.delete(plain("deleted")).await;
    node
}

async fn holds_what_was_filled(node: &Node, by: &str) {
    for n in 0..20 {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; 300]));
    }
    assert_eq!(node.get(plain("only theirs")).await, Ok(by.as_bytes().to_vec()));
    assert_eq!(node.get(plain("deleted")).await, Err(MissReason::Absent));
}

async fn opens(bucket: &Bucket, node_id: &str) -> Result<(), OpenError> {
    match bucket.store(config(node_id)).await {
        Ok(store) => {
            store.close(Duration::from_secs(10)).await;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[tokio::test]
async fn a_retired_node_is_refused_and_its_heir_answers_for_what_it_had() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    let node = bucket.node_with(eager("b")).await;
    node.put(plain("both"), Level::Object, b"mine").await.unwrap();
    let survey = task(&node, Task::Retire, true, "a").await.unwrap();
    assert_eq!((survey.count("would_take_over"), survey.count("plain_keys_hidden")), (21, 1));
    opens(&bucket, "a").await.expect("a dry run changes nothing");

    let done = task(&node, Task::Retire, false, "a").await.unwrap();
    assert_eq!((done.count("taken_over"), done.count("nodes_taken_over")), (21, 1));
    holds_what_was_filled(&node, "a").await;
    assert_eq!(node.get(plain("both")).await, Ok(b"mine".to_vec()));
    match opens(&bucket, "a").await {
        Err(OpenError::Retired { node_id, by, .. }) => assert_eq!((node_id.as_str(), by.as_str()), ("a", "b")),
        other => panic!("{other:?}"),
    }
    let again = task(&node, Task::Retire, false, "a").await.unwrap();
    assert_eq!(again.count("taken_over"), 0);

    // Its objects are the heir's to remove: the plain key that gave way, what is deleted, and orphans.
    node.until(async |_| paths(&bucket, "/kv/").await.len() == 2).await;
    node.delete(block(0, 0)).await;
    assert_eq!(scrub(&node, false).await.count("orphans_removed"), 0);
    node.until(async |_| paths(&bucket, &format!("{}.0.", "00".repeat(32))).await.is_empty()).await;
    node.stop().await;

    // After a restart, from the index and from a listing.
    let node = bucket.node("b").await;
    assert_eq!(node.get(block(0, 0)).await, Err(MissReason::Absent));
    assert_eq!(node.get(block(1, 0)).await, Ok(vec![1; 300]));
    node.stop().await;
    for path in paths(&bucket, "node/b/index/").await {
        bucket.objects.delete(&path).await.unwrap();
    }
    let node = bucket.node("b").await;
    assert_eq!(node.get(block(0, 0)).await, Err(MissReason::Absent));
    assert_eq!(node.get(block(1, 0)).await, Ok(vec![1; 300]));
    assert_eq!(node.get(plain("only theirs")).await, Ok(b"a".to_vec()));
    assert_eq!(node.get(plain("both")).await, Ok(b"mine".to_vec()));
    assert_eq!(scrub(&node, true).await.count("orphans"), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_still_runs_can_make_nothing_durable_once_it_is_retired() {
    let bucket = Bucket::new();
    let (old, node) = (filled(&bucket, "a").await, bucket.node("b").await);
    task(&node, Task::Retire, false, "a").await.unwrap();
    let refused = old.put(block(77, 0), Level::Object, b"too late").await.unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::Retry | ErrorKind::Unavailable), "{refused:?}");
    old.until(async |old| old.service.store().ended().is_some()).await;
    match old.service.store().ended() {
        Some(bettong_core::Fate::Fenced(why)) => assert!(why.contains("`a` was retired by node `b`"), "{why}"),
        other => panic!("{other:?}"),
    }
    holds_what_was_filled(&node, "a").await;
    assert_eq!(node.get(block(77, 0)).await, Err(MissReason::Absent));
    node.stop().await;
}

#[tokio::test]
async fn one_heir_wins_and_an_heir_is_retired_with_all_that_it_inherited() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    let (b, c) = (bucket.node("b").await, bucket.node("c").await);
    // Interrupted after its first slice.
    let (cursor, _) = slice(&b, Task::Retire, false, "a", Vec::new()).await.unwrap();
    let denied = task(&c, Task::Retire, false, "a").await.map(|_| ()).unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.message.contains("retire `b` first"), "{denied:?}");
    drop(cursor);
    b.put(block(60, 0), Level::Object, b"of b").await.unwrap();
    b.stop().await;
    let done = task(&c, Task::Retire, false, "b").await.unwrap();
    assert_eq!(done.count("nodes_taken_over"), 2, "{:?}", done.counts);
    holds_what_was_filled(&c, "a").await;
    assert_eq!(c.get(block(60, 0)).await, Ok(b"of b".to_vec()));
    for gone in ["a", "b"] {
        assert!(matches!(opens(&bucket, gone).await, Err(OpenError::Retired { .. })));
    }
    // Of a node that it answers for already, nothing is left to do.
    assert_eq!(task(&c, Task::Retire, false, "a").await.unwrap().count("taken_over"), 0);
    c.stop().await;
}

#[tokio::test]
async fn of_two_nodes_that_retire_each_other_one_stays() {
    let bucket = Bucket::new();
    let (a, b) = (filled(&bucket, "a").await, bucket.node("b").await);
    // Claimed, and interrupted.
    slice(&a, Task::Retire, false, "b", Vec::new()).await.unwrap();
    let refused = task(&b, Task::Retire, false, "a").await.map(|_| ()).unwrap_err();
    match refused.kind {
        ErrorKind::Denied => assert!(refused.message.contains("claimed by node `a`"), "{refused:?}"),
        _ => assert!(b.service.store().ended().is_some(), "{refused:?}"),
    }
    task(&a, Task::Retire, false, "b").await.unwrap();
    a.stop().await;
    assert!(matches!(opens(&bucket, "b").await, Err(OpenError::Retired { .. })));
    opens(&bucket, "a").await.expect("the first to claim the other stays");
}

#[tokio::test]
async fn what_an_heir_deletes_no_other_node_serves() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    let (b, c) = (bucket.node_with(eager("b")).await, bucket.node_with(eager("c")).await);
    c.until(async |c| c.get(block(0, 0)).await.is_ok()).await;
    b.put(block(1, 0), Level::Object, &[9; 300]).await.unwrap();
    let done = task(&b, Task::Retire, false, "a").await.unwrap();
    assert_eq!((done.count("here_already"), done.count("taken_over")), (1, 21));
    for n in 0..2 {
        b.delete(block(n, 0)).await;
    }
    for n in 0..2 {
        c.until(async |c| c.get(block(n, 0)).await == Err(MissReason::Absent)).await;
    }
    assert_eq!(c.get(block(2, 0)).await, Ok(vec![2; 300]));
    // What gave way and what was deleted is gone from the bucket, and no listing brings it back.
    b.until(async |_| paths(&bucket, &format!("{}.0.", "01".repeat(32))).await.is_empty()).await;
    b.stop().await;
    c.stop().await;
    for path in paths(&bucket, "node/b/index/").await {
        bucket.objects.delete(&path).await.unwrap();
    }
    let b = bucket.node("b").await;
    for n in 0..2 {
        assert_eq!(b.get(block(n, 0)).await, Err(MissReason::Absent));
    }
    b.stop().await;
}

#[tokio::test]
async fn what_an_heir_deletes_while_it_takes_over_does_not_come_back() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    // It knows nothing of the other's blocks.
    let b = bucket.node_with(StoreConfig { peer_hint_bytes: 0, ..config("b") }).await;
    let (cursor, _) = slice(&b, Task::Retire, false, "a", Vec::new()).await.unwrap();
    assert!(!cursor.is_empty());
    b.delete(block(0, 0)).await;
    b.stop().await;
    // The heir of the heir knows it, too.
    let c = bucket.node_with(StoreConfig { peer_hint_bytes: 0, ..config("c") }).await;
    let (cursor, _) = slice(&c, Task::Retire, false, "b", Vec::new()).await.unwrap();
    assert!(!cursor.is_empty());
    let done = task(&c, Task::Retire, false, "b").await.unwrap();
    assert_eq!((done.count("deleted_here"), done.count("taken_over")), (1, 21), "{:?}", done.counts);
    assert_eq!(c.get(block(0, 0)).await, Err(MissReason::Absent));
    c.until(async |_| paths(&bucket, &format!("{}.0.", "00".repeat(32))).await.is_empty()).await;
    c.stop().await;
}

#[tokio::test]
async fn a_takeover_that_came_with_another_and_was_cut_short_goes_on_from_where_that_one_was() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    let b = bucket.node("b").await;
    task(&b, Task::Retire, false, "a").await.unwrap();
    b.stop().await;
    bucket.node("c").await.stop().await;
    // Killed between the record of the heir and the commit of how far `b` had come.
    let life = |node_id, counter| serde_json::json!({ "node_id": node_id, "ordinal": 1, "counter": counter });
    let since = [life("b", 1), life("c", 1)];
    let bond = serde_json::json!({ "through": "b", "since": since, "wall_ms": 0 });
    let bytes = bettong_core::record::encode(&bond).unwrap();
    bucket.objects.put(&Path::from("node/c/heir/a"), bytes.into()).await.unwrap();
    let c = bucket.node("c").await;
    let done = task(&c, Task::Retire, false, "a").await.unwrap();
    assert_eq!((done.count("nodes_taken_over"), done.count("taken_over")), (1, 0), "{:?}", done.counts);
    task(&c, Task::Retire, false, "b").await.unwrap();
    holds_what_was_filled(&c, "a").await;
    c.stop().await;
}

#[tokio::test]
async fn a_node_without_an_index_is_taken_over_from_a_listing() {
    let bucket = Bucket::new();
    filled(&bucket, "a").await.stop().await;
    for path in paths(&bucket, "node/a/index/").await {
        bucket.objects.delete(&path).await.unwrap();
    }
    let node = bucket.node("b").await;
    let done = task(&node, Task::Retire, false, "a").await.unwrap();
    assert_eq!(done.count("taken_over"), 22, "{:?}", done.counts);
    holds_what_was_filled(&node, "a").await;
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_retired_is_refused() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    for (of, kind) in [("a", ErrorKind::Invalid), ("b", ErrorKind::Invalid), ("../x", ErrorKind::Invalid)] {
        let refused = task(&node, Task::Retire, false, of).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, kind, "{of}: {refused:?}");
    }
    for cursor in [vec![9], vec![1], vec![3, 0]] {
        let refused = slice(&node, Task::Retire, false, "b", cursor).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
    }
    for cursor in [vec![9], vec![2, 1], vec![3, 0]] {
        let refused = slice(&node, Task::Scrub, false, "", cursor).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid);
    }
    let somebody = bettong_core::Peer::new("tenant", bettong_core::Rights::default(), "test");
    let node = Node { peer: somebody, ..node };
    let refused = task(&node, Task::Scrub, true, "").await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    node.stop().await;
}

#[tokio::test]
async fn prefetch_brings_the_best_blocks_within_its_budget() {
    let bucket = Bucket::new();
    let node = bucket.node_with(StoreConfig { prefetch_bytes: 2500, ..config("a") }).await;
    for n in 0..5 {
        node.put(block(n, 0), Level::Object, &[n; 1000]).await.unwrap();
    }
    node.put(plain("key"), Level::Object, b"plain keys are not fetched").await.unwrap();
    node.stop().await;
    bucket.forget_cache("a");
    let node = bucket.node_with(StoreConfig { prefetch_bytes: 2500, ..config("a") }).await;
    assert_eq!(node.get(plain("key")).await, Ok(b"plain keys are not fetched".to_vec()));
    let said = task(&node, Task::Prefetch, true, "").await.unwrap();
    assert_eq!((said.count("would_fetch"), said.items.len()), (2, 2));
    // Fresh, starting a chain, of the namespace that was used last.
    assert!(said.items[0]["score"].as_f64().is_some_and(|score| score > 1.4), "{:?}", said.items);
    let done = task(&node, Task::Prefetch, false, "").await.unwrap();
    assert_eq!((done.count("fetched"), done.count("fetched_bytes")), (2, 2000));
    let mut near = 0;
    for n in 0..5 {
        let Target::Block(key) = block(n, 0) else { unreachable!() };
        let get = bettong_wire::request::Get {
            ns: node.ns,
            target: Target::Block(key),
            range: None,
            limits: Default::default(),
        };
        match node.ok(Request::Get(get), Vec::new()).await.unwrap() {
            Answer::Hit(hit) => near += u32::from(hit.tier == Tier::Memory),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(near, 2);
    node.stop().await;
}

/// A node with `blocks` blocks that only the object store has, and what a prefetch does there within `limits`.
async fn prefetched(blocks: u8, limits: impl Fn(StoreConfig) -> StoreConfig) -> Done {
    let bucket = Bucket::new();
    let node = bucket.node_with(limits(config("a"))).await;
    for n in 0..blocks {
        node.put(block(n, 0), Level::Object, &[n; 1000]).await.unwrap();
    }
    node.stop().await;
    bucket.forget_cache("a");
    let node = bucket.node_with(limits(config("a"))).await;
    let done = task(&node, Task::Prefetch, false, "").await.unwrap();
    node.stop().await;
    done
}

#[tokio::test]
async fn prefetch_fetches_no_more_blocks_than_it_may() {
    let done = prefetched(5, |config| StoreConfig { prefetch_blocks_max: 3, ..config }).await;
    assert_eq!((done.count("fetched"), done.notes.len()), (3, 0), "{:?}", done.notes);
}

#[tokio::test]
async fn prefetch_ends_with_its_time_and_says_so() {
    let done = prefetched(5, |config| StoreConfig { prefetch_time_max: Duration::from_nanos(1), ..config }).await;
    assert!(done.count("fetched") < 5, "{:?}", done.counts);
    assert!(done.notes.iter().any(|note| note.contains("the time of a prefetch")), "{:?}", done.notes);
}

#[tokio::test]
async fn a_dry_scrub_writes_nothing_and_tells_old_from_young_all_the_same() {
    for (grace, orphans) in [(Duration::ZERO, 1), (Duration::from_secs(3600), 0)] {
        let bucket = Bucket::new();
        let node = bucket.node_with(StoreConfig { scrub_grace: grace, ..config("a") }).await;
        node.put(block(1, 0), Level::Object, b"kept").await.unwrap();
        let like = named(&paths(&bucket, "/block/").await[0]);
        orphan(&bucket, &like, 999).await;
        let before = bucket.probes();
        let said = scrub(&node, true).await;
        assert_eq!((said.count("orphans"), bucket.probes() - before), (orphans, 0), "{:?}", said.counts);
        assert_eq!(said.count("spared_young"), 1 - orphans, "{:?}", said.counts);
        assert_eq!(scrub(&node, false).await.count("orphans_removed"), orphans);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_retired_node_is_told_of_the_puts_that_only_its_journal_has() {
    let bucket = Bucket::new();
    let (old, node) = (filled(&bucket, "a").await, bucket.node("b").await);
    bucket.refuse_puts(true);
    for n in 90..93 {
        old.put(block(n, 0), Level::Journal, b"here only").await.unwrap();
    }
    task(&node, Task::Retire, false, "a").await.unwrap();
    old.until(async |old| old.service.store().ended().is_some()).await;
    let said = "3 journaled puts are still in its data directory and nowhere else";
    match old.service.store().ended() {
        Some(bettong_core::Fate::Fenced(why)) => assert!(why.contains(said), "{why}"),
        other => panic!("{other:?}"),
    }
    old.service.store().close(Duration::from_secs(10)).await;
    drop(old);
    bucket.refuse_puts(false);
    match opens(&bucket, "a").await {
        Err(error @ OpenError::Retired { puts: 3, .. }) => assert!(error.to_string().contains(said), "{error}"),
        other => panic!("{other:?}"),
    }
    node.stop().await;
}
