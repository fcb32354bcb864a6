//! The frame's bytes, pinned.

use crate::error::DecodeError;
use crate::message::{Direction, encode_request};
use crate::request::Request;
use crate::samples;
use crate::tcp::*;

fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    bytes.chunks(16).map(|chunk| format!("{}\n", line(chunk))).collect()
}

fn sent(sender: &mut Sender) -> Vec<u8> {
    let bytes: Vec<u8> = sender.slices().iter().flat_map(|slice| slice.to_vec()).collect();
    sender.advance(bytes.len());
    assert!(sender.is_empty() && sender.unsent_bytes() == 0);
    bytes
}

#[test]
fn frames_have_their_golden_bytes() {
    let mut sender = Sender::new(Direction::Request, 1 << 20);
    sender.push(encode_request(1, &Request::Ping, vec![]).unwrap()).unwrap();
    let mut text = format!("ping\n{}", hex(&sent(&mut sender)));
    sender.set_payload_crc();
    let (_, put) = samples::requests().into_iter().find(|(name, _)| *name == "put block").unwrap();
    sender.push(encode_request(2, &put, samples::payloads_of(&put)).unwrap()).unwrap();
    text += &format!("put with checksum\n{}", hex(&sent(&mut sender)));
    insta::assert_snapshot!("frames", text);
}

#[test]
fn a_wrong_header_is_a_typed_error() {
    let good = FrameHeader { flags: 0, crc: 1, len: 32 }.to_bytes();
    assert_eq!(FrameHeader::from_bytes(&good), Ok(FrameHeader { flags: 0, crc: 1, len: 32 }));
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        FrameHeader::from_bytes(&bytes)
    };
    assert!(matches!(with(0, b'x'), Err(DecodeError::BadMagic { .. })));
    assert!(matches!(with(4, 9), Err(DecodeError::Version { got: 9, .. })));
    assert!(matches!(with(5, 2), Err(DecodeError::Unknown { got: 2, .. })));
    assert!(matches!(with(7, 1), Err(DecodeError::Invalid { got: 256, .. })));
}
