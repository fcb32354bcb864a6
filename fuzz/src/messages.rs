//! The message decoders. First byte: operation, its top bit the direction, the next one "the bytes are a whole message".

use bettong_wire::Payload;
use bettong_wire::message::{
    Direction, HEAD_BYTES, MessageHead, Op, decode_request, decode_response, decode_whole_request,
    decode_whole_response, encode_request, encode_response,
};
use bettong_wire::response::Response;

pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let direction = if first & 0x80 == 0 { Direction::Request } else { Direction::Response };
    if first & 0x40 != 0 {
        return whole(direction, rest);
    }
    let Some(([status, detail], archive)) = rest.split_first_chunk::<2>() else { return };
    let mut head = MessageHead::new(Op::from_code(first & 0x3f), direction, 7);
    head.archive_len = archive.len() as u32;
    match direction {
        Direction::Request => {
            // What a client may not send (a payload of the wrong length) is not sent; what decodes is within the limits.
            if let Ok(request) = decode_request(&head, archive) {
                let sum: u64 = request.payload_lens().iter().sum();
                assert!(sum <= bettong_wire::limits::BATCH_BYTES_MAX);
                if sum <= 1 << 16 {
                    let payloads = request.payload_lens().iter().map(|len| vec![1; *len as usize].into()).collect();
                    let encoded = encode_request(7, &request, payloads).expect("what decodes can be encoded");
                    let again = decode_whole_request(&encoded.to_contiguous().into()).expect("and decoded again");
                    assert_eq!(again.1, request);
                }
            }
        }
        Direction::Response => {
            head.status = *status;
            head.detail = *detail;
            if let Ok(response) = decode_response(&head, archive) {
                let sum: u64 = response.payload_lens.iter().sum();
                assert!(sum <= bettong_wire::limits::BATCH_BYTES_MAX);
                if sum <= 1 << 16 {
                    let payloads = response.payload_lens.iter().map(|len| vec![1; *len as usize].into()).collect();
                    let sent = Response { outcome: response.outcome, payloads };
                    let encoded: Payload = encode_response(response.op, 7, sent.clone()).to_contiguous().into();
                    let again = decode_whole_response(&encoded).expect("what was sent is read");
                    assert_eq!(again.2, sent);
                }
            }
        }
    }
}

/// Bytes as they are; with a magic put right, since no fuzzer guesses sixteen bytes.
fn whole(direction: Direction, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some(head) = bytes.first_chunk_mut::<HEAD_BYTES>() {
        let right = MessageHead::new(Op::from_code(head[24]), direction, 0);
        head[..16].copy_from_slice(&right.magic);
    }
    let message = Payload::from(bytes);
    match direction {
        Direction::Request => drop(decode_whole_request(&message)),
        Direction::Response => drop(decode_whole_response(&message)),
    }
}
