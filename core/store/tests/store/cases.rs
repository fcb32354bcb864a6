use super::rig::{Bucket, Node, block, config, identity, plain};
use bettong_core::{Disk, Peer, Rights, StoreConfig, World};
use bettong_wire::request::{
    GetBlocks, GetHead, HeadValue, Level, List, ListKind, LookupBlockPrefix, PartAsk, PublishHead, PutBlocks,
    PutSidecar, ReadLimits, RestoreChain, Target, Tier,
};
use bettong_wire::response::{Answer, ItemOutcome, ListName, Outcome};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, ModelIdentity, Part, Request, SidecarKey};
use object_store::ObjectStoreExt;

#[tokio::test]
async fn a_value_is_found_as_it_was_put_in_part_and_whole() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    for level in [Level::Memory, Level::Object] {
        node.put(plain("key"), level, b"0123456789").await.unwrap();
        node.put(block(1, 0), level, b"abcdef").await.unwrap();
        assert_eq!(node.get(plain("key")).await, Ok(b"0123456789".to_vec()));
        assert_eq!(node.get_range(plain("key"), Some((3, 4))).await, Ok(b"3456".to_vec()));
        assert_eq!(node.get_range(plain("key"), Some((8, 40))).await, Ok(b"89".to_vec()));
        assert_eq!(node.get_range(plain("key"), Some((10, 1))).await, Ok(Vec::new()));
        assert_eq!(node.get(block(1, 0)).await, Ok(b"abcdef".to_vec()));
        assert_eq!(node.get(block(1, 1)).await, Err(MissReason::Absent));
    }
    assert!(node.exists(plain("key")).await);
    assert_eq!(node.delete(plain("key")).await, 1);
    assert_eq!(node.delete(plain("key")).await, 0);
    assert!(!node.exists(plain("key")).await);
    assert_eq!(node.get(plain("key")).await, Err(MissReason::Absent));
    node.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_what_was_acknowledged_at_level_object_and_nothing_else() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(plain("old"), Level::Object, b"1").await.unwrap();
    node.put(plain("old"), Level::Object, b"2").await.unwrap();
    node.put(plain("scratch"), Level::Memory, b"3").await.unwrap();
    node.put(plain("replaced"), Level::Object, b"4").await.unwrap();
    node.put(plain("replaced"), Level::Memory, b"5").await.unwrap();
    node.put(plain("gone"), Level::Object, b"6").await.unwrap();
    node.delete(plain("gone")).await;
    node.put(block(1, 0), Level::Object, b"block").await.unwrap();
    node.stop().await;

    let node = bucket.node("a").await;
    assert_eq!(node.get(plain("old")).await, Ok(b"2".to_vec()));
    assert_eq!(node.get(plain("scratch")).await, Err(MissReason::Absent));
    assert_eq!(node.get(plain("replaced")).await, Err(MissReason::Absent));
    assert_eq!(node.get(plain("gone")).await, Err(MissReason::Absent));
    assert_eq!(node.get(block(1, 0)).await, Ok(b"block".to_vec()));
    node.until(async |_| bucket.paths("ns").await.len() == 3).await;
    node.stop().await;
}

#[tokio::test]
async fn a_put_of_what_is_there_names_the_put_that_wrote_it_also_of_an_earlier_life() {
    let bucket = Bucket::new();
    let stored = async |node: &Node| match node.put(block(1, 0), Level::Object, b"block").await.unwrap() {
        Answer::Stored(stored) => (stored.put_id, stored.already),
        other => panic!("{other:?}"),
    };
    let node = bucket.node("a").await;
    let (first, already) = stored(&node).await;
    assert!(!already);
    assert_eq!(stored(&node).await, (first, true));
    node.stop().await;

    let node = bucket.node("a").await;
    assert_eq!(stored(&node).await, (first, true));
    node.delete(block(1, 0)).await;
    let (second, already) = stored(&node).await;
    assert!(!already && second.life != first.life);
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_record_of_the_directory_is_replaced_and_another_nodes_is_refused() {
    const RECORD: &str = "node/record";
    let bucket = Bucket::new();
    for node_id in ["a", "b"] {
        let node = bucket.node(node_id).await;
        node.put(plain("key"), Level::Object, node_id.as_bytes()).await.unwrap();
        node.stop().await;
    }
    let (world, other) = (bucket.world("a"), bucket.world("b"));
    let good = world.disk().read_at(RECORD, 0, u64::MAX).await.unwrap();
    let mut rotten = good.to_vec();
    rotten[good.len() / 2] ^= 1;
    let foreign = other.disk().read_at(RECORD, 0, u64::MAX).await.unwrap();
    for (record, starts) in [(rotten.into(), true), (foreign, false), (good.slice(..good.len() / 2), true)] {
        world.disk().remove(RECORD).await.unwrap();
        world.disk().create(RECORD).await.unwrap();
        world.disk().append(RECORD, &[record]).await.unwrap();
        match bucket.store(config("a")).await {
            Ok(store) => {
                let node = Node::of(store).await;
                assert!(starts);
                assert_eq!(node.get(plain("key")).await, Ok(b"a".to_vec()));
                node.stop().await;
            }
            Err(error) => assert!(!starts && error.to_string().contains("belongs to node `b`"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_from_a_listing_without_what_was_deleted() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    for n in 0..20 {
        node.put(block(n, 1), Level::Object, &[n; 100]).await.unwrap();
    }
    node.put(plain("key/1"), Level::Object, b"one").await.unwrap();
    node.delete(block(3, 1)).await;
    node.stop().await;
    for path in bucket.paths("node/a/index").await {
        bucket.objects.delete(&path).await.unwrap();
    }

    let node = bucket.node("a").await;
    assert_eq!(node.service.store().stats()["recovery"]["from"], "listing");
    for n in 0..20 {
        let expected = if n == 3 { Err(MissReason::Absent) } else { Ok(vec![n; 100]) };
        assert_eq!(node.get(block(n, 1)).await, expected);
    }
    assert_eq!(node.get(plain("key/1")).await, Ok(b"one".to_vec()));
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_object_is_a_miss_and_a_new_put_replaces_it() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(block(1, 0), Level::Object, &[7; 1000]).await.unwrap();
    node.stop().await;
    let path = bucket.paths("ns").await.into_iter().find(|path| path.as_ref().contains("/block/")).unwrap();
    let mut bytes = bucket.objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[600] ^= 1;
    bucket.objects.put(&path, bytes.into()).await.unwrap();

    // The disk tier still has a good copy: without it the object is all there is.
    let node = bucket.node("a").await;
    assert_eq!(node.get(block(1, 0)).await, Ok(vec![7; 1000]), "the disk tier survives a restart");
    node.ok(clear(node.ns, Tier::Memory), Vec::new()).await.unwrap();
    node.ok(clear(node.ns, Tier::Disk), Vec::new()).await.unwrap();
    assert_eq!(node.get(block(1, 0)).await, Err(MissReason::Corrupt));
    assert!(!node.exists(block(1, 0)).await);
    node.stop().await;

    let node = bucket.node("a").await;
    assert_eq!(node.get(block(1, 0)).await, Err(MissReason::Corrupt), "a quarantine survives a restart");
    node.put(block(1, 0), Level::Object, &[7; 1000]).await.unwrap();
    assert_eq!(node.get(block(1, 0)).await, Ok(vec![7; 1000]));
    node.stop().await;
}

fn clear(ns: bettong_wire::request::NsHandle, tier: Tier) -> Request {
    Request::Clear(bettong_wire::request::Clear { ns, tier })
}

#[tokio::test]
async fn two_nodes_on_one_bucket_serve_and_delete_each_others_blocks() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node("a").await, bucket.node("b").await);
    a.put(block(1, 0), Level::Object, b"from a").await.unwrap();
    a.put(plain("private"), Level::Object, b"of a").await.unwrap();
    b.until(async |b| b.get(block(1, 0)).await == Ok(b"from a".to_vec())).await;
    assert_eq!(b.get(plain("private")).await, Err(MissReason::Absent));

    assert_eq!(b.delete(block(1, 0)).await, 1);
    assert_eq!(b.get(block(1, 0)).await, Err(MissReason::Absent));
    a.until(async |a| a.get(block(1, 0)).await == Err(MissReason::Absent)).await;
    a.until(async |_| !bucket.paths("ns").await.iter().any(|path| path.as_ref().contains("/block/"))).await;

    // Put again, under a new put id: visible again everywhere.
    a.put(block(1, 0), Level::Object, b"again").await.unwrap();
    b.until(async |b| b.get(block(1, 0)).await == Ok(b"again".to_vec())).await;
    let nodes = b.service.store().nodes().await.unwrap();
    assert_eq!(nodes.iter().map(|node| node.node_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    a.stop().await;
    b.stop().await;
}

/// Bug: a hint that found no room was dropped, and the look counted as done. Consequence: another node's block stayed a
/// miss until a restart, whatever room there was later.
#[tokio::test]
async fn a_hint_that_found_no_room_comes_back_when_there_is_some() {
    let bucket = Bucket::new();
    let (a, b) = (bucket.node("a").await, bucket.node_with(StoreConfig { peer_hint_bytes: 256, ..config("b") }).await);
    let all: Vec<_> = (1..=4).map(|n| block(n, 0)).collect();
    for target in &all {
        a.put(target.clone(), Level::Object, b"from a").await.unwrap();
    }
    let known = async |b: &Node| {
        let mut known = Vec::new();
        for target in &all {
            known.extend(b.exists(target.clone()).await.then(|| target.clone()));
        }
        known
    };
    b.until(async |b| known(b).await.len() == 2).await;
    let first = known(&b).await;
    for target in &first {
        a.delete(target.clone()).await;
    }
    b.until(async |b| known(b).await.len() == 2 && known(b).await != first).await;
    for target in all.iter().filter(|target| !first.contains(target)) {
        assert_eq!(b.get(target.clone()).await, Ok(b"from a".to_vec()));
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_second_process_with_the_same_node_id_fences_the_first() {
    let bucket = Bucket::new();
    let first = bucket.node("a").await;
    first.put(block(1, 0), Level::Object, b"1").await.unwrap();
    let second = bucket.node("a").await;
    first.until(async |first| first.service.store().ended().is_some()).await;
    let refused = first.put(block(2, 0), Level::Object, b"2").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    let get = bettong_wire::request::Exists { ns: first.ns, target: block(1, 0) };
    let refused = first.ok(Request::Exists(get), Vec::new()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    second.put(block(2, 0), Level::Object, b"3").await.unwrap();
    assert_eq!(second.get(block(1, 0)).await, Ok(b"1".to_vec()));
    second.stop().await;
}

#[tokio::test]
async fn another_model_identity_is_refused_with_both_values() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let other = ModelIdentity { kv_dtype: "fp8_e4m3".to_owned(), ..identity() };
    let refused = node.open("chat", Some(other)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::IdentityMismatch);
    assert_eq!(refused.message, "kv_dtype is fp8_e4m3, namespace `chat` holds bf16");
    let absent = ModelIdentity { adapter: Some("(absent)".to_owned()), ..identity() };
    assert_eq!(node.open("chat", Some(absent)).await.unwrap_err().kind, ErrorKind::IdentityMismatch);
    node.stop().await;
}

#[tokio::test]
async fn a_look_up_counts_blocks_whose_parts_are_all_there() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let hashes: Vec<BlockHash> = (0..6).map(|n| BlockHash([n; 32])).collect();
    for n in 0..5 {
        node.put(block(n, 0), Level::Object, b"x").await.unwrap();
        if n != 1 && n != 4 {
            node.put(block(n, 1), Level::Object, b"y").await.unwrap();
        }
    }
    let lookup = async |parts: Vec<PartAsk>| {
        let lookup = LookupBlockPrefix { ns: node.ns, hashes: hashes.clone(), parts };
        match node.ok(Request::LookupBlockPrefix(lookup), Vec::new()).await.unwrap() {
            Answer::Prefix { blocks } => blocks,
            other => panic!("{other:?}"),
        }
    };
    let ask = |part, last_n| PartAsk { part: Part(part), last_n };
    assert_eq!(lookup(Vec::new()).await, 1);
    assert_eq!(lookup(vec![ask(0, 0)]).await, 5);
    assert_eq!(lookup(vec![ask(0, 0), ask(1, 1)]).await, 4);
    assert_eq!(lookup(vec![ask(0, 0), ask(1, 2)]).await, 4);
    assert_eq!(lookup(vec![ask(0, 0), ask(1, 3)]).await, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_whole_or_by_its_leading_blocks() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let key = |n: u8| BlockKey { hash: BlockHash([n; 32]), part: Part(0) };
    let put = |n: u8| bettong_wire::request::BlockPut { key: key(n), parent: None, sequence: u32::from(n), len: 3 };
    let batch = PutBlocks { ns: node.ns, level: Level::Object, blocks: (0..3).map(put).collect() };
    let body = (0..3).map(|n| vec![n; 3].into()).collect();
    let Ok(Answer::StoredBatch(stored)) = node.ok(Request::PutBlocks(batch.clone()), body).await else { panic!() };
    assert!(stored.iter().all(|stored| !stored.already));
    let body = (0..3).map(|n| vec![n; 3].into()).collect();
    let Ok(Answer::StoredBatch(again)) = node.ok(Request::PutBlocks(batch), body).await else { panic!() };
    assert!(again.iter().all(|stored| stored.already));

    let get = |leading| GetBlocks {
        ns: node.ns,
        keys: [0, 1, 9, 2].map(key).to_vec(),
        leading,
        limits: ReadLimits::default(),
    };
    let whole = node.call(Request::GetBlocks(get(false)), Vec::new()).await;
    assert_eq!(whole.outcome, Outcome::Miss(MissReason::Absent));
    let leading = node.call(Request::GetBlocks(get(true)), Vec::new()).await;
    assert!(matches!(&leading.outcome, Outcome::Ok(Answer::Items(items)) if items.len() == 2));
    assert_eq!(leading.payloads.iter().map(|p| p.as_ref().to_vec()).collect::<Vec<_>>(), [vec![0; 3], vec![1; 3]]);
    node.stop().await;
}

#[tokio::test]
async fn a_prompt_comes_back_in_parts_with_its_sidecar_last() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let hashes: Vec<BlockHash> = (0..4).map(|n| BlockHash([n; 32])).collect();
    for n in 0..4 {
        node.put(block(n, 0), Level::Object, &[n; 100]).await.unwrap();
        node.put(block(n, 1), Level::Object, &[n + 10; 50]).await.unwrap();
    }
    let sidecar = SidecarKey::derive(&hashes[3], b"tail");
    node.put(Target::Sidecar(sidecar), Level::Object, b"tail").await.unwrap();
    let ask = RestoreChain {
        ns: node.ns,
        hashes,
        parts: Vec::new(),
        from: 0,
        sidecar: Some(sidecar),
        bytes_max: 300,
        limits: ReadLimits::default(),
    };
    let bring = async |ask: &RestoreChain| {
        let response = node.call(Request::RestoreChain(ask.clone()), Vec::new()).await;
        let Outcome::Ok(Answer::Chain(chain)) = response.outcome else { panic!("{response:?}") };
        let firsts: Vec<u8> = response.payloads.iter().map(|payload| payload.as_ref()[0]).collect();
        (chain.blocks, chain.end, firsts, chain.sidecar.map(|sidecar| matches!(sidecar, ItemOutcome::Hit(_))))
    };
    assert_eq!(bring(&ask).await, (4, 2, vec![0, 10, 1, 11], None));
    let rest = RestoreChain { from: 2, ..ask.clone() };
    // Two blocks have as many bytes as there may be: the sidecar comes by itself.
    assert_eq!(bring(&rest).await, (4, 4, vec![2, 12, 3, 13], None));
    assert_eq!(bring(&RestoreChain { from: 4, ..ask.clone() }).await, (4, 4, vec![b't'], Some(true)));
    let whole = RestoreChain { bytes_max: 0, ..ask.clone() };
    assert_eq!(bring(&whole).await, (4, 4, vec![0, 10, 1, 11, 2, 12, 3, 13, b't'], Some(true)));
    let window = RestoreChain { parts: vec![PartAsk { part: Part(1), last_n: 2 }], ..whole.clone() };
    assert_eq!(bring(&window).await, (4, 4, vec![12, 13, b't'], Some(true)));
    node.delete(block(2, 1)).await;
    assert_eq!(bring(&whole).await, (2, 2, vec![0, 10, 1, 11], None));
    assert_eq!(bring(&window).await, (2, 2, vec![10, 11], None));
    let behind = RestoreChain { from: 5, ..whole.clone() };
    assert_eq!(node.ok(Request::RestoreChain(behind), Vec::new()).await.unwrap_err().kind, ErrorKind::Invalid);
    node.stop().await;
}

#[tokio::test]
async fn a_prompt_that_turns_out_to_be_shorter_brings_nothing_where_other_blocks_are_its_last() {
    type Brought = (u32, u32, Vec<u8>);
    let shorter: Brought = (2, 2, vec![0, 10, 1, 11]);
    // Of two blocks, the first is one of the last two; of whole parts, what is left is the same.
    for (parts, first) in [(&[(0, 0), (1, 2)][..], (2, 0, vec![])), (&[], shorter.clone())] {
        let bucket = Bucket::new();
        let node = bucket.node("a").await;
        for n in 0..4 {
            node.put(block(n, 0), Level::Object, &[n; 1000]).await.unwrap();
            node.put(block(n, 1), Level::Object, &[n + 10; 1000]).await.unwrap();
        }
        // Copies on disk are made by and by.
        node.stop().await;
        let name = format!("/{}.1.", "02".repeat(32));
        let path = bucket.paths("ns").await.into_iter().find(|path| path.as_ref().contains(&name)).unwrap();
        let mut bytes = bucket.objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        bytes[600] ^= 1;
        bucket.objects.put(&path, bytes.into()).await.unwrap();
        let node = bucket.node("a").await;
        node.ok(clear(node.ns, Tier::Disk), Vec::new()).await.unwrap();
        let bring = async || -> Brought {
            let ask = RestoreChain {
                ns: node.ns,
                hashes: (0..4).map(|n| BlockHash([n; 32])).collect(),
                parts: parts.iter().map(|(part, last_n)| PartAsk { part: Part(*part), last_n: *last_n }).collect(),
                from: 0,
                sidecar: None,
                bytes_max: 0,
                limits: ReadLimits::default(),
            };
            let response = node.call(Request::RestoreChain(ask), Vec::new()).await;
            let Outcome::Ok(Answer::Chain(chain)) = response.outcome else { panic!("{response:?}") };
            (chain.blocks, chain.end, response.payloads.iter().map(|payload| payload.as_ref()[0]).collect())
        };
        assert_eq!((bring().await, bring().await), (first, shorter.clone()));
        node.stop().await;
    }
}

#[tokio::test]
async fn get_many_answers_each_for_itself() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(plain("one"), Level::Memory, b"1").await.unwrap();
    node.put(block(1, 0), Level::Object, b"2").await.unwrap();
    let targets = vec![plain("one"), plain("none"), block(1, 0)];
    let get = bettong_wire::request::GetMany { ns: node.ns, targets, limits: ReadLimits::default() };
    let response = node.call(Request::GetMany(get), Vec::new()).await;
    let Outcome::Ok(Answer::Items(items)) = response.outcome else { panic!() };
    assert!(matches!(items[1], ItemOutcome::Miss(MissReason::Absent)));
    assert_eq!(response.payloads.len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn pages_hold_every_name_once() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    for n in 0..25u8 {
        node.put(plain(&format!("k/{n:02}")), Level::Memory, b"x").await.unwrap();
        node.put(block(n, 0), Level::Memory, b"x").await.unwrap();
    }
    node.put(plain("other"), Level::Memory, b"x").await.unwrap();
    for (kind, prefix) in [(ListKind::Plain, "k/"), (ListKind::Blocks, "")] {
        let mut names: Vec<ListName> = Vec::new();
        let mut cursor = Vec::new();
        loop {
            let list = List { ns: node.ns, kind, prefix: prefix.to_owned(), cursor, limit: 7 };
            let Ok(Answer::Page(page)) = node.ok(Request::List(list), Vec::new()).await else { panic!() };
            assert!(page.entries.len() <= 7);
            names.extend(page.entries.into_iter().map(|entry| entry.name));
            cursor = page.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        assert_eq!(names.len(), 25, "{kind:?}");
        if kind == ListKind::Plain {
            assert!(names.is_sorted_by_key(|name| match name {
                ListName::Plain(name) => name.clone(),
                other => panic!("{other:?}"),
            }));
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_head_is_published_last_and_one_generation_at_a_time() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    let chain: Vec<BlockHash> = (1..4).map(|n| BlockHash([n; 32])).collect();
    let sidecar = SidecarKey::derive(&chain[2], b"tail");
    let value = HeadValue { tip: chain[2], length: 3, sidecar: Some(sidecar) };
    let publish = |expected, value: Option<HeadValue>, chain: &[BlockHash]| {
        let (ns, name, chain) = (node.ns, "talk".to_owned(), chain.to_vec());
        Request::PublishHead(PublishHead { ns, name, expected, value, chain })
    };
    let refused = node.ok(publish(0, Some(value.clone()), &chain), Vec::new()).await.unwrap_err();
    assert!(refused.message.contains("has no durable part"), "{refused}");
    for n in 1..4 {
        for part in 0..2 {
            node.put(block(n, part), Level::Object, b"x").await.unwrap();
        }
    }
    let refused = node.ok(publish(0, Some(value.clone()), &chain), Vec::new()).await.unwrap_err();
    assert!(refused.message.contains("sidecar"), "{refused}");
    let put = PutSidecar { ns: node.ns, key: sidecar, tip: chain[2], level: Level::Object, len: 4 };
    node.ok(Request::PutSidecar(put), vec![b"tail".to_vec().into()]).await.unwrap();
    assert_eq!(
        node.ok(publish(0, Some(value.clone()), &chain), Vec::new()).await,
        Ok(Answer::Published { generation: 1 })
    );
    let conflict = node.ok(publish(0, Some(value.clone()), &chain), Vec::new()).await.unwrap_err();
    assert_eq!(conflict.kind, ErrorKind::Retry, "{conflict}");
    let get = Request::GetHead(GetHead { ns: node.ns, name: "talk".to_owned() });
    let Ok(Answer::Head(head)) = node.ok(get.clone(), Vec::new()).await else { panic!() };
    assert_eq!((head.generation, head.value), (1, Some(value)));
    assert_eq!(node.ok(publish(1, None, &[]), Vec::new()).await, Ok(Answer::Published { generation: 2 }));
    let Ok(Answer::Head(head)) = node.ok(get, Vec::new()).await else { panic!() };
    assert_eq!((head.generation, head.value), (2, None));
    node.stop().await;
}

#[tokio::test]
async fn what_is_expired_or_out_of_bounds_is_said_so() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put_ttl(plain("short"), Level::Memory, b"x", 1).await.unwrap();
    node.until(async |node| node.get(plain("short")).await == Err(MissReason::Expired)).await;
    let too_large = node.put(plain("big"), Level::Memory, &vec![0; (1 << 20) + 1]).await.unwrap_err();
    assert_eq!((too_large.kind, too_large.limit), (ErrorKind::TooLarge, 1 << 20));
    let part = node.put(block(1, 7), Level::Object, b"x").await.unwrap_err();
    assert_eq!(part.message, "part 7 is not one of the namespace's parts [0, 1]");
    let key = node.put(Target::Plain("k".repeat(1025)), Level::Memory, b"x").await.unwrap_err();
    assert_eq!(key.kind, ErrorKind::Invalid);
    node.stop().await;
}

#[tokio::test]
async fn what_memory_evicts_at_level_memory_is_evicted_and_not_counted() {
    let bucket = Bucket::new();
    let node = bucket.node_with(config("a")).await;
    for n in 0..40u8 {
        node.put(block(n, 0), Level::Memory, &vec![n; 500_000]).await.unwrap();
    }
    let there = async |n| node.get(block(n, 0)).await;
    assert_eq!(there(0).await, Err(MissReason::Evicted));
    assert!(!node.exists(block(0, 0)).await);
    assert_eq!(there(39).await, Ok(vec![39; 500_000]));
    node.stop().await;
}

#[tokio::test]
async fn compressed_and_raw_contents_live_side_by_side() {
    use bettong_wire::envelope::Algorithm;
    let bucket = Bucket::new();
    for (n, compression) in (0..).zip([Algorithm::Zstd, Algorithm::None, Algorithm::Lz4]) {
        let node = bucket.node_with(bettong_core::StoreConfig { compression, ..config("a") }).await;
        node.put(block(n, 0), Level::Object, &vec![n; 50_000]).await.unwrap();
        node.ok(clear(node.ns, Tier::Memory), Vec::new()).await.unwrap();
        node.ok(clear(node.ns, Tier::Disk), Vec::new()).await.unwrap();
        for held in 0..=n {
            assert_eq!(node.get(block(held, 0)).await, Ok(vec![held; 50_000]));
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_journaled_put_is_served_at_once_survives_a_restart_and_reaches_the_bucket() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    node.put(plain("old"), Level::Object, b"0").await.unwrap();
    node.put(plain("old"), Level::Journal, b"1").await.unwrap();
    node.put(plain("twice"), Level::Journal, b"2").await.unwrap();
    node.put(plain("twice"), Level::Journal, b"3").await.unwrap();
    node.put(plain("gone"), Level::Journal, b"4").await.unwrap();
    node.put(plain("scratch"), Level::Journal, b"5").await.unwrap();
    node.put(plain("scratch"), Level::Memory, b"6").await.unwrap();
    node.put(plain("over"), Level::Journal, b"7").await.unwrap();
    node.put(plain("over"), Level::Object, b"8").await.unwrap();
    node.put(block(1, 0), Level::Journal, &[9; 5000]).await.unwrap();
    assert_eq!(node.delete(plain("gone")).await, 1);
    let expect = async |node: &super::rig::Node, scratch: Result<Vec<u8>, MissReason>| {
        assert_eq!(node.get(plain("old")).await, Ok(b"1".to_vec()));
        assert_eq!(node.get(plain("twice")).await, Ok(b"3".to_vec()));
        assert_eq!(node.get(plain("gone")).await, Err(MissReason::Absent));
        assert_eq!(node.get(plain("scratch")).await, scratch);
        assert_eq!(node.get(plain("over")).await, Ok(b"8".to_vec()));
        assert_eq!(node.get(block(1, 0)).await, Ok(vec![9; 5000]));
    };
    expect(&node, Ok(b"6".to_vec())).await;
    node.stop().await;
    for _ in 0..2 {
        let node = bucket.node("a").await;
        expect(&node, Err(MissReason::Absent)).await;
        node.stop().await;
    }
    let node = bucket.node("a").await;
    let left = node.service.store().flush(std::time::Duration::from_secs(60)).await;
    assert_eq!(left, bettong_core::journal::Backlog::default());
    // Four values, each with one object: what they replaced goes.
    node.until(async |_| bucket.paths("ns").await.len() == 5).await;
    node.ok(clear(node.ns, Tier::Memory), Vec::new()).await.unwrap();
    node.ok(clear(node.ns, Tier::Disk), Vec::new()).await.unwrap();
    expect(&node, Err(MissReason::Absent)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_a_journal_refuses_what_it_cannot_keep() {
    let bucket = Bucket::new();
    let node = bucket.node_with(bettong_core::StoreConfig { journal_bytes_max: 0, ..config("a") }).await;
    let refused = node.put(plain("j"), Level::Journal, b"x").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert_eq!(node.get(plain("j")).await, Err(MissReason::Absent));
    node.stop().await;
}

#[tokio::test]
async fn a_journaled_put_is_read_from_the_journal_while_the_bucket_is_away() {
    let bucket = Bucket::new();
    let node = bucket.node("a").await;
    bucket.refuse_puts(true);
    for n in 0..5 {
        node.put(block(n, 0), Level::Journal, &[n; 3000]).await.unwrap();
    }
    node.ok(clear(node.ns, Tier::Memory), Vec::new()).await.unwrap();
    node.ok(clear(node.ns, Tier::Disk), Vec::new()).await.unwrap();
    for n in 0..5 {
        assert_eq!(node.get(block(n, 0)).await, Ok(vec![n; 3000]));
    }
    let left = node.service.store().flush(std::time::Duration::from_millis(20)).await;
    assert_eq!((left.puts, left.bytes), (5, 15_000));
    bucket.refuse_puts(false);
    let left = node.service.store().flush(std::time::Duration::from_secs(60)).await;
    assert_eq!(left.puts, 0);
    node.stop().await;
}

/// What each namespace keeps in the object store is for operators; a tenant's client does not learn of the others.
#[tokio::test]
async fn what_namespaces_keep_is_shown_to_operators_only() {
    let bucket = Bucket::new();
    let mut node = bucket.node("a").await;
    let shows_namespaces = async |node: &Node| {
        let response = node.call(Request::Stats, Vec::new()).await;
        let document: serde_json::Value = serde_json::from_slice(response.payloads[0].as_ref()).unwrap();
        assert!(document.pointer("/object/bytes").is_some());
        document.pointer("/object/namespaces").is_some()
    };
    assert!(shows_namespaces(&node).await);
    node.peer = Peer::new("tenant", Rights::default(), "test");
    assert!(!shows_namespaces(&node).await);
    node.stop().await;
}
