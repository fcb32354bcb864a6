//! What bytes from outside may try.

use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::ids::{BlockHash, BlockKey, Part};
use crate::limits::*;
use crate::message::*;
use crate::request::*;
use crate::response::{Answer, Outcome, Response};
use crate::{ModelIdentity, Payload, samples};
use proptest::prelude::*;

fn request_bytes(request: &Request) -> Vec<u8> {
    encode_request(9, request, samples::payloads_of(request)).unwrap().to_contiguous()
}

fn decode(bytes: Vec<u8>) -> Result<Request, DecodeError> {
    decode_whole_request(&bytes.into()).map(|(_, request, _)| request)
}

#[test]
fn every_truncation_and_every_extra_byte_is_an_error() {
    for (name, request) in samples::requests() {
        let bytes = request_bytes(&request);
        for end in 0..bytes.len() {
            assert!(decode(bytes[..end].to_vec()).is_err(), "{name} cut at {end}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert!(matches!(decode(longer), Err(DecodeError::TrailingBytes { extra: 1, .. })), "{name}");
    }
}

#[test]
fn a_wrong_head_is_a_typed_error() {
    let good = request_bytes(&Request::Ping);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode(bytes)
    };
    assert!(matches!(with(0, b'x'), Err(DecodeError::BadMagic { .. })));
    assert!(matches!(with(7, b'<'), Err(DecodeError::BadMagic { .. })));
    assert!(matches!(with(14, 2), Err(DecodeError::Version { got: 2, min: 1, max: 1, .. })));
    assert!(matches!(with(24, 22), Err(DecodeError::Unknown { what: "the operation", got: 22 })));
    assert!(matches!(with(24, 0), Err(DecodeError::Unknown { what: "the operation", got: 0 })));
    assert!(matches!(with(24, 2), Err(DecodeError::BadMagic { .. })));
    assert!(matches!(with(25, 1), Err(DecodeError::Invalid { what: "the status of a request", .. })));
    assert!(matches!(with(26, 1), Err(DecodeError::Invalid { what: "the detail of a request", .. })));
    assert!(matches!(with(27, 4), Err(DecodeError::Unknown { .. })));
    assert!(matches!(with(28, 1), Err(DecodeError::Truncated { .. })));
}

/// The archive of `request` without the checks that `encode_request` makes.
fn unchecked(request: &Request) -> Result<Request, DecodeError> {
    crate::validate::request(request).map(|()| request.clone())
}

#[test]
fn every_limit_is_enforced_and_named() {
    let ns = NsHandle(0);
    let key = BlockKey { hash: BlockHash([0; 32]), part: Part(0) };
    let limits = ReadLimits::default();
    let plain = |len: usize| Request::Exists(Exists { ns, target: Target::Plain("k".repeat(len)) });
    let put = |len, ttl_ms| {
        let target = Target::Plain("k".into());
        Request::Put(Put { ns, target, level: Level::Memory, ttl_ms, parent: None, sequence: 0, len })
    };
    let list = |limit, prefix: usize, cursor: usize| {
        let (prefix, cursor) = ("p".repeat(prefix), vec![0; cursor]);
        Request::List(List { ns, kind: ListKind::Plain, prefix, cursor, limit })
    };
    let block = |len| BlockPut { key, parent: None, sequence: 0, len };
    let batch = |blocks| Request::PutBlocks(PutBlocks { ns, level: Level::Memory, blocks });
    let lookup = |hashes: usize, parts: usize| {
        let hashes = vec![BlockHash([0; 32]); hashes];
        Request::LookupBlockPrefix(LookupBlockPrefix {
            ns,
            hashes,
            parts: vec![PartAsk { part: Part(0), last_n: 0 }; parts],
        })
    };
    let cases = [
        (plain(1024), plain(1025), 1024),
        (put(BLOCK_BYTES_MAX, 0), put(BLOCK_BYTES_MAX + 1, 0), BLOCK_BYTES_MAX),
        (put(0, TTL_MS_MAX), put(0, TTL_MS_MAX + 1), TTL_MS_MAX),
        (list(1000, 1024, 2048), list(1001, 0, 0), 1000),
        (list(1, 0, 0), list(1, 1025, 0), 1024),
        (list(1, 0, 0), list(1, 0, 2049), 2048),
        (batch(vec![block(0); 1024]), batch(vec![block(0); 1025]), 1024),
        (batch(vec![block(BLOCK_BYTES_MAX); 8]), batch(vec![block(BLOCK_BYTES_MAX); 9]), BATCH_BYTES_MAX),
        (lookup(65_536, 1024), lookup(65_537, 0), 65_536),
        (lookup(0, 0), lookup(0, 1025), 1024),
        (
            Request::GetBlocks(GetBlocks { ns, keys: vec![key; 1024], leading: false, limits }),
            Request::GetBlocks(GetBlocks { ns, keys: vec![key; 1025], leading: false, limits }),
            1024,
        ),
        (
            Request::GetHead(GetHead { ns, name: "n".repeat(255) }),
            Request::GetHead(GetHead { ns, name: "n".repeat(256) }),
            255,
        ),
    ];
    for (good, bad, limit) in cases {
        assert!(unchecked(&good).is_ok());
        let error = unchecked(&bad).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { limit: named, .. } if named == limit), "{error}");
        let error = ServiceError::from(error);
        assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, limit));
        assert_eq!(encode_request(1, &bad, vec![]).unwrap_err(), error, "a client hears it before anything is sent");
    }
}

#[test]
fn nonsense_is_invalid() {
    let ns = NsHandle(0);
    let identity = ModelIdentity {
        model: "m".into(),
        kv_dtype: "bf16".into(),
        layout: "NHD".into(),
        block_tokens: 16,
        parts: vec![0],
        ..ModelIdentity::default()
    };
    let open = |identity| {
        let (tenant, token, namespace) = ("t".into(), String::new(), "n".into());
        Request::open(Open {
            protocol_version: 1,
            tenant,
            token,
            namespace,
            identity: Some(identity),
            payload_crc: false,
        })
    };
    assert!(unchecked(&open(identity.clone())).is_ok());
    let tip = HeadValue { tip: BlockHash([1; 32]), length: 1, sidecar: None };
    let publish =
        |value, chain, expected| Request::PublishHead(PublishHead { ns, name: "h".into(), expected, value, chain });
    assert!(unchecked(&publish(Some(tip.clone()), vec![tip.tip], 0)).is_ok());
    let bad = [
        Request::Exists(Exists { ns, target: Target::Plain(String::new()) }),
        Request::Get(Get {
            ns,
            target: Target::Plain("k".into()),
            range: Some((1, u64::MAX)),
            limits: ReadLimits::default(),
        }),
        open(ModelIdentity { model: String::new(), ..identity.clone() }),
        open(ModelIdentity { adapter: Some(String::new()), ..identity.clone() }),
        open(ModelIdentity { block_tokens: 0, ..identity.clone() }),
        open(ModelIdentity { parts: vec![], ..identity.clone() }),
        open(ModelIdentity { parts: vec![1, 1], ..identity }),
        publish(Some(tip.clone()), vec![], 0),
        publish(Some(tip.clone()), vec![BlockHash([2; 32])], 0),
        publish(None, vec![tip.tip], 0),
        publish(None, vec![], u64::MAX),
    ];
    for request in bad {
        let error = unchecked(&request).unwrap_err();
        assert_eq!(ServiceError::from(error).kind, ErrorKind::Invalid, "{request:?}");
    }
}

#[test]
fn an_answer_that_does_not_fit_its_request_becomes_an_error() {
    let bad = [
        (Op::Ping, Response::ok(Answer::Closed)),
        (Op::Put, Response::ok(Answer::Pong)),
        (Op::Stats, Response::ok(Answer::Stats)),
        (Op::Delete, Response::with_payloads(Answer::Removed { count: 1 }, vec![samples::payload(1)])),
    ];
    for (op, response) in bad {
        let whole: Payload = encode_response(Some(op), 4, response).to_contiguous().into();
        let (id, answered, response) = decode_whole_response(&whole).unwrap();
        assert_eq!((id, answered), (4, Some(op)));
        assert!(matches!(response.outcome, Outcome::Error(ServiceError { kind: ErrorKind::Internal, .. })));
    }
    let long = Response::error(ServiceError::new(ErrorKind::Retry, "é".repeat(4000)));
    let whole: Payload = encode_response(None, 4, long).to_contiguous().into();
    let (_, answered, response) = decode_whole_response(&whole).unwrap();
    let Outcome::Error(error) = response.outcome else { panic!("an error stays an error") };
    assert_eq!((answered, error.message), (None, "é".repeat(2048)));
}

proptest! {
    #[test]
    fn requests_round_trip(request in samples::any_request(), id: u64) {
        let payloads = samples::payloads_of(&request);
        let whole: Payload = encode_request(id, &request, payloads.clone()).unwrap().to_contiguous().into();
        prop_assert_eq!(decode_whole_request(&whole), Ok((id, request, payloads)));
    }

    #[test]
    fn responses_round_trip((op, response) in samples::any_response(), id: u64) {
        let whole: Payload = encode_response(Some(op), id, response.clone()).to_contiguous().into();
        prop_assert_eq!(decode_whole_response(&whole), Ok((id, Some(op), response)));
    }

    #[test]
    fn changed_bytes_never_panic(request in samples::any_request(), at: prop::sample::Index, byte: u8) {
        let mut bytes = request_bytes(&request);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode_whole_request(&bytes.clone().into());
        let _ = decode_whole_response(&bytes.into());
    }

    #[test]
    fn a_well_formed_head_with_any_archive_never_panics(op in 0..24_u8, status in 0..9_u8, archive: Vec<u8>) {
        for direction in [Direction::Request, Direction::Response] {
            let mut head = MessageHead::new(Op::from_code(op), direction, 1);
            head.status = status;
            head.archive_len = archive.len() as u32;
            let _ = decode_request(&head, &archive);
            let _ = decode_response(&head, &archive);
        }
    }
}
