//! Budgets of the object tier: who goes, who stays, what is left.

use super::rig::{Bucket, Node, block, config, plain};
use bettong_core::StoreConfig;
use bettong_wire::request::{BlockPut, Level, PutBlocks, PutSidecar, Target};
use bettong_wire::{BlockHash, BlockKey, MissReason, NamespaceId, Part, Request, SidecarKey};

/// What one value of `LEN` bytes takes of a budget.
const EACH: u64 = LEN as u64 + 256;
const LEN: usize = 1000;

fn budget(values: u64) -> StoreConfig {
    StoreConfig { object_bytes_max: values * EACH, ..config("a") }
}

fn number(node: &Node, pointer: &str) -> u64 {
    node.service.store().stats().pointer(pointer).and_then(serde_json::Value::as_u64).unwrap()
}

async fn settled(node: &Node, values: u64) {
    node.until(async |node| number(node, "/object/bytes") <= values * EACH).await;
}

/// Puts blocks `hashes` as one chain.
async fn chain(node: &Node, hashes: std::ops::Range<u8>, level: Level) {
    let blocks: Vec<BlockPut> = hashes
        .clone()
        .map(|n| BlockPut {
            key: BlockKey { hash: BlockHash([n; 32]), part: Part(0) },
            parent: (n > hashes.start).then(|| BlockHash([n - 1; 32])),
            sequence: u32::from(n - hashes.start),
            len: LEN as u64,
        })
        .collect();
    let bodies = blocks.iter().map(|_| vec![7; LEN].into()).collect();
    node.ok(Request::PutBlocks(PutBlocks { ns: node.ns, level, blocks }), bodies).await.unwrap();
}

#[tokio::test]
async fn the_ends_of_chains_go_first_and_are_said_to_be_evicted() {
    let bucket = Bucket::new();
    let node = bucket.node_with(budget(10)).await;
    for level in [Level::Object, Level::Journal] {
        let first = if level == Level::Object { 1 } else { 51 };
        chain(&node, first..first + 9, level).await;
        node.service.store().flush(std::time::Duration::from_secs(10)).await;
        node.get(block(first + 8, 0)).await.unwrap();
        chain(&node, first + 20..first + 24, level).await;
        settled(&node, 9).await;
        let mut gone = 0;
        for n in (first..first + 9).rev() {
            let there = node.get(block(n, 0)).await;
            // A chain is whole up to where it ends.
            gone += u8::from(there == Err(MissReason::Evicted));
            assert!(there.is_ok() || first + 8 - n < gone, "{n}: {there:?}");
        }
        assert!(number(&node, "/events/evicted") >= 4);
    }
    node.until(async |_| bucket.paths("ns").await.len() as u64 - 1 <= 9).await;
    assert_eq!(number(&node, "/events/evicted_bytes"), number(&node, "/events/evicted") * EACH);
    node.stop().await;
}

#[tokio::test]
async fn what_was_evicted_stays_away_and_can_be_put_again() {
    let bucket = Bucket::new();
    let node = bucket.node_with(budget(4)).await;
    for n in 0..20 {
        node.put(block(n, 0), Level::Object, &[n; LEN]).await.unwrap();
    }
    settled(&node, 4).await;
    let gone = futures::future::join_all((0..20).map(|n| node.get(block(n, 0)))).await;
    let gone: Vec<u8> = (0..20).filter(|n| gone[usize::from(*n)] == Err(MissReason::Evicted)).collect();
    assert!((16..19).contains(&gone.len()), "{gone:?}");
    // With room, so that it is not the next to go.
    for n in (0..20).filter(|n| !gone.contains(n)).take(2) {
        node.delete(block(n, 0)).await;
    }
    node.put(block(gone[0], 0), Level::Object, &[99; LEN]).await.unwrap();
    assert!(node.get(block(gone[0], 0)).await == Ok(vec![99; LEN]));
    node.until(async |_| bucket.paths("ns").await.len() as u64 - 1 <= 4).await;
    node.stop().await;
    let node = bucket.node_with(budget(4)).await;
    for n in &gone[1..] {
        assert!(node.get(block(*n, 0)).await.is_err());
    }
    assert!(number(&node, "/object/bytes") <= 4 * EACH);
    node.stop().await;
}

#[tokio::test]
async fn a_sidecar_goes_before_its_tip_and_a_start_knows_chains() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    chain(&node, 1..5, Level::Object).await;
    let sidecar = SidecarKey([9; 32]);
    let put = PutSidecar { ns: node.ns, key: sidecar, tip: BlockHash([4; 32]), level: Level::Object, len: LEN as u64 };
    node.ok(Request::PutSidecar(put), vec![vec![1; LEN].into()]).await.unwrap();
    node.stop().await;
    // Of five there is room for four, and an eviction leaves three.
    let node = bucket.node_with(budget(4)).await;
    settled(&node, 4).await;
    assert_eq!(node.get(Target::Sidecar(sidecar)).await, Err(MissReason::Evicted));
    for n in 1..4 {
        node.get(block(n, 0)).await.unwrap();
    }
    node.stop().await;
}

#[tokio::test]
async fn namespaces_have_budgets_of_their_own() {
    let bucket = Bucket::new();
    let named = NamespaceId::derive("tenant", "chat");
    let config =
        StoreConfig { namespace_bytes_max: 3 * EACH, namespace_budgets: [(named, 6 * EACH)].into(), ..config("a") };
    let mut node = bucket.node_with(config).await;
    let chat = node.ns;
    let other = node.open("other", None).await.unwrap().ns;
    for ns in [chat, other] {
        node.ns = ns;
        for n in 0..12 {
            node.put(plain(&format!("key {n}")), Level::Object, &[n; LEN]).await.unwrap();
        }
    }
    settled(&node, 9).await;
    let count = async |node: &Node| {
        let there = (0..12).map(|n| node.exists(plain(&format!("key {n}"))));
        futures::future::join_all(there).await.into_iter().filter(|there| *there).count()
    };
    assert!((2..=3).contains(&count(&node).await));
    node.ns = chat;
    assert!((5..=6).contains(&count(&node).await));
    node.stop().await;
}

#[tokio::test]
async fn what_only_memory_or_the_journal_has_takes_nothing_from_others() {
    let bucket = Bucket::new();
    let node = bucket.node_with(budget(4)).await;
    bucket.refuse_puts(true);
    for n in 0..10 {
        node.put(block(n, 0), Level::Memory, &[n; LEN]).await.unwrap();
        node.put(block(n, 1), Level::Journal, &[n; LEN]).await.unwrap();
    }
    for n in 0..10 {
        assert_eq!(node.get(block(n, 1)).await, Ok(vec![n; LEN]), "only the journal has it");
    }
    assert_eq!((number(&node, "/events/evicted"), number(&node, "/object/bytes")), (0, 0));
    bucket.refuse_puts(false);
    node.until(async |node| number(node, "/journal/backlog_puts") == 0 && number(node, "/events/evicted") >= 6).await;
    settled(&node, 4).await;
    for n in 0..10 {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; LEN]), "memory has a budget of its own");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_was_used_last_before_a_restart_goes_last() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    for n in 0..10 {
        node.put(block(n, 0), Level::Object, &[n; LEN]).await.unwrap();
    }
    // Signals are told apart by milliseconds, and collected now and then.
    for n in [3, 7] {
        node.until(async |node| number(node, "/signals/appended") >= 10 + u64::from(n == 7)).await;
        node.get(block(n, 0)).await.unwrap();
    }
    node.stop().await;
    let node = bucket.node_with(budget(4)).await;
    assert_eq!(number(&node, "/signals/recovered"), 12);
    settled(&node, 4).await;
    for n in [3, 7] {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; LEN]));
    }
    assert_eq!(node.get(block(0, 0)).await, Err(MissReason::Evicted));
    node.stop().await;
}

#[tokio::test]
async fn the_bytes_of_what_expired_go_after_a_while() {
    let bucket = Bucket::new();
    let quick = std::time::Duration::from_millis(20);
    let patient = std::time::Duration::from_millis(1500);
    let node =
        bucket.node_with(StoreConfig { expiry_walk_every: quick, expiry_patience: patient, ..config("a") }).await;
    node.put_ttl(plain("key"), Level::Object, b"value", 1).await.unwrap();
    node.put_ttl(plain("lasting"), Level::Object, b"value", 3_600_000).await.unwrap();
    node.until(async |node| node.get(plain("key")).await == Err(MissReason::Expired)).await;
    assert!(!node.exists(plain("key")).await);
    assert_eq!(bucket.paths("ns").await.len(), 3, "the identity and two values");
    node.until(async |node| node.get(plain("key")).await == Err(MissReason::Absent)).await;
    node.until(async |_| bucket.paths("ns").await.len() == 2).await;
    assert_eq!(number(&node, "/events/expired_removed"), 1);
    assert_eq!(node.get(plain("lasting")).await, Ok(b"value".to_vec()));
    node.stop().await;
}
