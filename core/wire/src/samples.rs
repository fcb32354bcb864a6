//! Values for the tests of this crate: one fixed sample of every message, and strategies for arbitrary ones.

use crate::error::{ErrorKind, ServiceError};
use crate::identity::ModelIdentity;
use crate::ids::{BlockHash, BlockKey, NamespaceId, Part, PutId, SidecarKey};
use crate::memory::Payload;
use crate::message::Op;
use crate::request::*;
use crate::response::*;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) fn payload(len: usize) -> Payload {
    Payload::from((0..len).map(|i| (i * 7 + 3) as u8).collect::<Vec<u8>>())
}

fn key(byte: u8) -> BlockKey {
    BlockKey { hash: BlockHash([byte; 32]), part: Part(u16::from(byte)) }
}

fn identity() -> ModelIdentity {
    ModelIdentity {
        model: "m/8b".into(),
        weights_digest: Some("w".into()),
        kv_dtype: "bf16".into(),
        layout: "NHD".into(),
        block_tokens: 16,
        parallel: Some("tp2.pp1".into()),
        parts: vec![0, 1],
        ..ModelIdentity::default()
    }
}

/// One request of every operation, and the second form where there are two.
pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    let ns = NsHandle(3);
    let limits = ReadLimits { deadline_ms: 500, decline_over_us: 700 };
    let head = HeadValue { tip: BlockHash([2; 32]), length: 2, sidecar: Some(SidecarKey([9; 32])) };
    let chain = vec![BlockHash([1; 32]), BlockHash([2; 32])];
    let restored = chain.clone();
    let block = |byte, parent, len| BlockPut { key: key(byte), parent, sequence: u32::from(byte) - 1, len };
    let put = Put {
        ns,
        target: Target::Block(key(2)),
        level: Level::Object,
        ttl_ms: 60_000,
        parent: Some(BlockHash([1; 32])),
        sequence: 1,
        len: 5,
    };
    let plain = Target::Plain("conversation/7".into());
    let scrub =
        Maintain { task: Task::Scrub, dry_run: true, cursor: vec![1, 2, 3], argument: String::new(), bound_ms: 2000 };
    let open = Open {
        protocol_version: 1,
        tenant: "acme".into(),
        token: "secret".into(),
        namespace: "chat".into(),
        identity: Some(identity()),
        payload_crc: true,
    };
    vec![
        ("ping", Request::Ping),
        (
            "put plain",
            Request::Put(Put { target: plain.clone(), level: Level::Memory, parent: None, sequence: 0, ..put.clone() }),
        ),
        ("put block", Request::Put(put)),
        ("get", Request::Get(Get { ns, target: plain.clone(), range: None, limits })),
        ("get range", Request::Get(Get { ns, target: Target::Block(key(2)), range: Some((4096, 512)), limits })),
        ("exists", Request::Exists(Exists { ns, target: Target::Sidecar(SidecarKey([9; 32])) })),
        ("stats", Request::Stats),
        ("clear", Request::Clear(Clear { ns, tier: Tier::Disk })),
        ("restore", Request::Restore(Restore { ns, keys: vec![key(1), key(2)], limits })),
        ("close", Request::Close { ns }),
        ("get many", Request::GetMany(GetMany { ns, targets: vec![plain, Target::Block(key(1))], limits })),
        ("list", Request::List(List { ns, kind: ListKind::Plain, prefix: "a".into(), cursor: vec![1, 2], limit: 100 })),
        (
            "lookup",
            Request::LookupBlockPrefix(LookupBlockPrefix {
                ns,
                hashes: chain.clone(),
                parts: vec![PartAsk { part: Part(1), last_n: 4 }],
            }),
        ),
        ("get blocks", Request::GetBlocks(GetBlocks { ns, keys: vec![key(1), key(2)], leading: true, limits })),
        (
            "put blocks",
            Request::PutBlocks(PutBlocks {
                ns,
                level: Level::Journal,
                blocks: vec![block(1, None, 3), block(2, Some(BlockHash([1; 32])), 4)],
            }),
        ),
        ("delete", Request::Delete(Delete { ns, target: Target::Block(key(1)) })),
        ("open", Request::open(open.clone())),
        ("open plain", Request::open(Open { identity: None, token: String::new(), payload_crc: false, ..open })),
        (
            "put sidecar",
            Request::PutSidecar(PutSidecar {
                ns,
                key: SidecarKey([9; 32]),
                tip: BlockHash([2; 32]),
                level: Level::Object,
                len: 6,
            }),
        ),
        ("get sidecar", Request::GetSidecar(GetSidecar { ns, key: SidecarKey([9; 32]), limits })),
        (
            "publish head",
            Request::PublishHead(PublishHead { ns, name: "doc".into(), expected: 4, value: Some(head), chain }),
        ),
        (
            "publish tombstone",
            Request::PublishHead(PublishHead { ns, name: "doc".into(), expected: 5, value: None, chain: vec![] }),
        ),
        ("get head", Request::GetHead(GetHead { ns, name: "doc".into() })),
        (
            "restore chain",
            Request::RestoreChain(RestoreChain {
                ns,
                hashes: restored,
                parts: vec![PartAsk { part: Part(1), last_n: 4 }],
                from: 1,
                sidecar: Some(SidecarKey([9; 32])),
                bytes_max: 1 << 20,
                limits,
            }),
        ),
        ("cancel", Request::Cancel { request_id: 77 }),
        ("scrub", Request::Maintain(scrub.clone())),
        ("prefetch", Request::Maintain(Maintain { task: Task::Prefetch, dry_run: false, ..scrub.clone() })),
        ("retire", Request::Maintain(Maintain { task: Task::Retire, argument: "node-b".into(), ..scrub })),
    ]
}

/// The payloads that `request` announces.
pub(crate) fn payloads_of(request: &Request) -> Vec<Payload> {
    request.payload_lens().into_iter().map(|len| payload(len as usize)).collect()
}

/// One response of every operation and of every status.
pub(crate) fn responses() -> Vec<(&'static str, Op, Response)> {
    let put_id = PutId { life: 0x1122_3344_5566_7788, counter: 42 };
    let hit = |total_len| Hit { total_len, put_id, tier: Tier::Disk, expires_at_ms: 1_700_000_000_000 };
    let stored = Stored { put_id, already: false };
    let head = HeadValue { tip: BlockHash([2; 32]), length: 2, sidecar: None };
    let opened = Opened {
        ns: NsHandle(3),
        namespace_id: NamespaceId([5; 32]),
        protocol_version: 1,
        parts: vec![0, 1],
        payload_crc: true,
        limits: SessionLimits {
            frame_bytes_max: 256 << 20,
            payload_bytes_max: 128 << 20,
            batch_items_max: 1024,
            requests_inflight_max: 128,
        },
    };
    let entry = |name| ListEntry { name, len: 11, put_id, expires_at_ms: 0 };
    let error = |kind, text: &str| Response::error(ServiceError::new(kind, text));
    vec![
        ("pong", Op::Ping, Response::ok(Answer::Pong)),
        ("stored", Op::Put, Response::ok(Answer::Stored(stored.clone()))),
        ("hit", Op::Get, Response::with_payloads(Answer::Hit(hit(9)), vec![payload(5)])),
        ("exists", Op::Exists, Response::ok(Answer::Exists { len: 9, expires_at_ms: 1 })),
        ("stats", Op::Stats, Response::with_payloads(Answer::Stats, vec![Payload::from(b"{}".to_vec())])),
        ("cleared", Op::Clear, Response::ok(Answer::Removed { count: 7 })),
        ("warmed", Op::Restore, Response::ok(Answer::Warmed { count: 2 })),
        ("closed", Op::Close, Response::ok(Answer::Closed)),
        (
            "items",
            Op::GetMany,
            Response::with_payloads(
                Answer::Items(vec![
                    ItemOutcome::Hit(hit(2)),
                    ItemOutcome::Miss(MissReason::Evicted),
                    ItemOutcome::Hit(hit(3)),
                ]),
                vec![payload(2), payload(3)],
            ),
        ),
        (
            "page",
            Op::List,
            Response::ok(Answer::Page(ListPage {
                entries: vec![
                    entry(ListName::Plain("key".into())),
                    entry(ListName::Block(key(1))),
                    entry(ListName::Sidecar(SidecarKey([9; 32]))),
                ],
                cursor: vec![1],
            })),
        ),
        ("prefix", Op::LookupBlockPrefix, Response::ok(Answer::Prefix { blocks: 12 })),
        (
            "blocks",
            Op::GetBlocks,
            Response::with_payloads(Answer::Items(vec![ItemOutcome::Hit(hit(4))]), vec![payload(4)]),
        ),
        (
            "stored blocks",
            Op::PutBlocks,
            Response::ok(Answer::StoredBatch(vec![stored.clone(), Stored { already: true, ..stored.clone() }])),
        ),
        ("removed", Op::Delete, Response::ok(Answer::Removed { count: 1 })),
        ("opened", Op::Open, Response::ok(Answer::Opened(opened))),
        ("stored sidecar", Op::PutSidecar, Response::ok(Answer::Stored(stored))),
        ("sidecar", Op::GetSidecar, Response::with_payloads(Answer::Hit(hit(5)), vec![payload(5)])),
        ("published", Op::PublishHead, Response::ok(Answer::Published { generation: 5 })),
        ("head", Op::GetHead, Response::ok(Answer::Head(Head { generation: 5, value: Some(head) }))),
        ("tombstone", Op::GetHead, Response::ok(Answer::Head(Head { generation: 6, value: None }))),
        (
            "chain",
            Op::RestoreChain,
            Response::with_payloads(
                Answer::Chain(Chain { blocks: 2, end: 2, hits: vec![hit(2)], sidecar: Some(ItemOutcome::Hit(hit(3))) }),
                vec![payload(2), payload(3)],
            ),
        ),
        ("cancelled", Op::Cancel, Response::ok(Answer::Cancelled)),
        (
            "maintained",
            Op::Maintain,
            Response::with_payloads(
                Answer::Maintained { cursor: vec![4, 5] },
                vec![Payload::from(b"{\"objects\":1}".to_vec())],
            ),
        ),
        ("miss", Op::Get, Response::miss(MissReason::Corrupt)),
        ("too large", Op::Put, Response::error(ServiceError::too_large("9 is over 8", 8))),
        ("invalid", Op::Put, error(ErrorKind::Invalid, "no")),
        ("retry", Op::Put, error(ErrorKind::Retry, "no")),
        ("unavailable", Op::PublishHead, error(ErrorKind::Unavailable, "no")),
        ("internal", Op::Get, error(ErrorKind::Internal, "no")),
        ("busy", Op::Put, Response::error(ServiceError::busy("no", 250))),
        ("denied", Op::Open, error(ErrorKind::Denied, "no")),
        ("declined", Op::Get, error(ErrorKind::Declined, "no")),
        ("identity mismatch", Op::Open, error(ErrorKind::IdentityMismatch, "no")),
    ]
}

fn any_key() -> impl Strategy<Value = BlockKey> {
    (any::<[u8; 32]>(), any::<u16>()).prop_map(|(hash, part)| BlockKey { hash: BlockHash(hash), part: Part(part) })
}

fn any_target() -> impl Strategy<Value = Target> {
    prop_oneof![
        "\\PC{1,40}".prop_map(Target::Plain),
        any_key().prop_map(Target::Block),
        any::<[u8; 32]>().prop_map(|key| Target::Sidecar(SidecarKey(key))),
    ]
}

fn any_limits() -> impl Strategy<Value = ReadLimits> {
    any::<(u32, u32)>().prop_map(|(deadline_ms, decline_over_us)| ReadLimits { deadline_ms, decline_over_us })
}

fn any_level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Memory), Just(Level::Journal), Just(Level::Object)]
}

/// Requests of the shapes that differ most: with and without payloads, strings, batches.
pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    let ns = any::<u32>().prop_map(NsHandle);
    let put = (ns.clone(), any_target(), any_level(), 0..1000_u64, 0..9000_u64)
        .prop_map(|(ns, target, level, ttl_ms, len)| Put { ns, target, level, ttl_ms, parent: None, sequence: 0, len });
    let block = (any_key(), any::<Option<[u8; 32]>>(), any::<u32>(), 0..3000_u64)
        .prop_map(|(key, parent, sequence, len)| BlockPut { key, parent: parent.map(BlockHash), sequence, len });
    prop_oneof![
        Just(Request::Ping),
        put.prop_map(Request::Put),
        (ns.clone(), any_target(), any::<Option<(u32, u32)>>(), any_limits()).prop_map(
            |(ns, target, range, limits)| {
                let range = range.map(|(offset, len)| (u64::from(offset), u64::from(len)));
                Request::Get(Get { ns, target, range, limits })
            }
        ),
        (ns.clone(), vec(any_target(), 0..20), any_limits())
            .prop_map(|(ns, targets, limits)| Request::GetMany(GetMany { ns, targets, limits })),
        (ns.clone(), vec(any::<[u8; 32]>(), 0..50)).prop_map(|(ns, hashes)| {
            let hashes = hashes.into_iter().map(BlockHash).collect();
            Request::LookupBlockPrefix(LookupBlockPrefix { ns, hashes, parts: vec![] })
        }),
        (ns.clone(), any_level(), vec(block, 0..6)).prop_map(|(ns, level, blocks)| Request::PutBlocks(PutBlocks {
            ns,
            level,
            blocks
        })),
        (ns, "\\PC{1,30}").prop_map(|(ns, name)| Request::GetHead(GetHead { ns, name })),
        (vec(any::<[u8; 32]>(), 0..50), any::<Option<[u8; 32]>>(), 1..1_000_000_u64, any_limits()).prop_map(
            |(hashes, sidecar, bytes_max, limits)| {
                let (from, ns) = (hashes.len() as u32 / 2, NsHandle(0));
                let hashes = hashes.into_iter().map(BlockHash).collect();
                let sidecar = sidecar.map(SidecarKey);
                Request::RestoreChain(RestoreChain { ns, hashes, parts: vec![], from, sidecar, bytes_max, limits })
            }
        ),
        any::<u64>().prop_map(|request_id| Request::Cancel { request_id }),
        (0..3_usize, any::<bool>(), vec(any::<u8>(), 0..40), 1..60_000_u32).prop_map(
            |(at, dry_run, cursor, bound_ms)| {
                let task = Task::ALL[at];
                let argument = if task == Task::Retire { "b".to_owned() } else { String::new() };
                Request::Maintain(Maintain { task, dry_run, cursor, argument, bound_ms })
            }
        ),
    ]
}

fn any_hit() -> impl Strategy<Value = (Hit, Payload)> {
    (any::<(u64, u64, u64)>(), 0..6000_usize, 0..100_u64).prop_map(|((life, counter, expires_at_ms), len, more)| {
        let put_id = PutId { life, counter };
        (Hit { total_len: len as u64 + more, put_id, tier: Tier::Object, expires_at_ms }, payload(len))
    })
}

pub(crate) fn any_response() -> impl Strategy<Value = (Op, Response)> {
    let item = prop_oneof![any_hit().prop_map(Ok), (0..MissReason::ALL.len() as u8).prop_map(Err)];
    prop_oneof![
        Just((Op::Ping, Response::ok(Answer::Pong))),
        any_hit().prop_map(|(hit, payload)| (Op::Get, Response::with_payloads(Answer::Hit(hit), vec![payload]))),
        vec(item, 0..8).prop_map(|items| {
            let payloads = items.iter().filter_map(|item| item.as_ref().ok().map(|(_, bytes)| bytes.clone())).collect();
            let outcome = |item| match item {
                Ok((hit, _)) => ItemOutcome::Hit(hit),
                Err(reason) => ItemOutcome::Miss(MissReason::from_u8(reason).unwrap()),
            };
            let items = items.into_iter().map(outcome).collect();
            (Op::GetBlocks, Response::with_payloads(Answer::Items(items), payloads))
        }),
        (0..MissReason::ALL.len() as u8)
            .prop_map(|reason| (Op::Get, Response::miss(MissReason::from_u8(reason).unwrap()))),
        "\\PC{0,80}".prop_map(|text| (Op::Put, Response::error(ServiceError::new(ErrorKind::Retry, text)))),
        any::<u64>().prop_map(|count| (Op::Delete, Response::ok(Answer::Removed { count }))),
        (vec(any::<u8>(), 0..40), 0..500_usize).prop_map(|(cursor, len)| {
            (Op::Maintain, Response::with_payloads(Answer::Maintained { cursor }, vec![payload(len)]))
        }),
    ]
}
