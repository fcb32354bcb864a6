//! The bytes of every message and the number of every code. A change here is a change of the protocol.

use crate::message::*;
use crate::request::{Level, ListKind, Tier};
use crate::response::{MissReason, Response};
use crate::samples;

fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(32).map(|chunk| format!("  {}\n", line(chunk))).collect()
}

#[test]
fn every_number_is_pinned() {
    let ops: Vec<(u8, &str)> = Op::ALL.iter().map(|op| (op.code(), op.as_str())).collect();
    let expected = [
        (1, "ping"),
        (2, "put"),
        (3, "get"),
        (4, "exists"),
        (5, "stats"),
        (6, "clear"),
        (7, "restore"),
        (8, "close"),
        (9, "get_many"),
        (10, "list"),
        (11, "lookup_block_prefix"),
        (12, "get_blocks"),
        (13, "put_blocks"),
        (14, "delete"),
        (15, "open"),
        (16, "put_sidecar"),
        (17, "get_sidecar"),
        (18, "publish_head"),
        (19, "get_head"),
        (20, "restore_chain"),
        (23, "cancel"),
        (24, "maintain"),
    ];
    assert_eq!(ops, expected);
    for code in 0..=u8::MAX {
        assert_eq!(Op::from_code(code).map(Op::code), expected.iter().map(|(n, _)| *n).find(|n| *n == code));
    }
    let statuses = Status::ALL.map(|status| (status.code(), format!("{status:?}")));
    let names = ["Ok", "Miss", "TooLarge", "Error", "Busy", "Denied", "Declined", "IdentityMismatch"];
    for (number, ((code, name), expected)) in statuses.iter().zip(names).enumerate() {
        assert_eq!((usize::from(*code), name.as_str()), (number, expected));
        assert_eq!(Status::from_code(*code).map(Status::code), Some(*code));
    }
    assert_eq!(Status::from_code(8), None);
    let details = [error_detail::INVALID, error_detail::RETRY, error_detail::UNAVAILABLE, error_detail::INTERNAL];
    assert_eq!(details, [1, 2, 3, 4]);
    assert_eq!((FLAG_MORE, FLAG_CONTINUED, HEAD_BYTES, MESSAGE_VERSION), (1, 2, 32, 1));
}

/// What travels as a byte inside a message, besides operations and statuses.
#[test]
fn the_numbers_inside_messages_are_pinned() {
    let reasons = MissReason::ALL.map(|reason| (reason as u8, reason.as_str()));
    let pinned = [
        (0, "absent"),
        (1, "evicted"),
        (2, "expired"),
        (3, "corrupt"),
        (4, "newer_format"),
        (5, "identity"),
        (6, "deadline"),
        (7, "declined"),
        (8, "tier_down"),
        (9, "no_room"),
    ];
    assert_eq!(reasons, pinned);
    for (number, name) in pinned {
        assert_eq!(MissReason::from_u8(number).map(MissReason::as_str), Some(name));
        // In the head of a miss, and as an archive has it.
        let reason = MissReason::from_u8(number).unwrap();
        let head = encode_response(Some(Op::Get), 1, Response::miss(reason)).to_contiguous();
        assert_eq!(MessageHead::from_bytes(head.first_chunk().unwrap()).detail, number);
        assert_eq!(archived!(reason), [number]);
    }
    assert_eq!([Level::Memory, Level::Journal, Level::Object].map(|level| archived!(level)), [[0], [1], [2]]);
    assert_eq!([Tier::Memory, Tier::Disk, Tier::Object].map(|tier| archived!(tier)), [[0], [1], [2]]);
    let kinds = [ListKind::Plain, ListKind::Blocks, ListKind::Sidecars];
    assert_eq!(kinds.map(|kind| archived!(kind)), [[0], [1], [2]]);
}

/// The bytes of a value without anything behind it.
macro_rules! archived {
    ($value:expr) => {
        rkyv::to_bytes::<rkyv::rancor::Error>(&$value).unwrap().to_vec()
    };
}
use archived;

#[test]
fn every_request_has_its_golden_bytes() {
    let mut text = String::new();
    for (name, request) in samples::requests() {
        let message = encode_request(0x0102_0304_0506_0708, &request, samples::payloads_of(&request)).unwrap();
        text += &format!("{name}\n{}", hex(&message.to_contiguous()));
        let whole = message.to_contiguous().into();
        let (id, decoded, payloads) = decode_whole_request(&whole).unwrap();
        assert_eq!((id, &decoded), (0x0102_0304_0506_0708, &request));
        assert_eq!(payloads, samples::payloads_of(&request));
    }
    let asked: std::collections::BTreeSet<Op> = samples::requests().iter().map(|(_, request)| request.op()).collect();
    assert_eq!(asked.len(), Op::ALL.len(), "a sample of every operation");
    insta::assert_snapshot!("requests", text);
}

#[test]
fn every_response_has_its_golden_bytes() {
    let mut text = String::new();
    for (name, op, response) in samples::responses() {
        let message = encode_response(Some(op), 0x0102_0304_0506_0708, response.clone());
        text += &format!("{name}\n{}", hex(&message.to_contiguous()));
        let decoded = decode_whole_response(&message.to_contiguous().into()).unwrap();
        assert_eq!(decoded, (0x0102_0304_0506_0708, Some(op), response));
    }
    let answered: std::collections::BTreeSet<Op> = samples::responses().iter().map(|(_, op, _)| *op).collect();
    assert_eq!(answered.len(), Op::ALL.len(), "a sample of every operation");
    insta::assert_snapshot!("responses", text);
}
