//! The message body, the same on every native door: a head of 32 bytes, an archive, and payload bytes.
//!
//! Payload bytes never travel inside the archive, so they are neither copied to be encoded nor to be decoded. What this
//! does not check: whether a response fits the request that it answers; the connection that sent it knows.

mod archive;
mod expectation;
mod head;
mod op;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use expectation::Expectation;
pub use head::{Direction, FLAG_CONTINUED, FLAG_MORE, HEAD_BYTES, MESSAGE_VERSION, MessageHead, magic};
pub use op::{MNEMONIC_NONE, OP_NONE, Op, Status, error_detail};
pub use request::{decode_request, decode_whole_request, encode_request};
pub use response::{ResponseHead, decode_response, decode_whole_response, encode_response};

use crate::error::DecodeError;
use crate::memory::Payload;

/// A message ready to be written: the bytes of head and archive, then each payload, untouched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedMessage {
    pub head: Vec<u8>,
    pub payloads: Vec<Payload>,
}

impl EncodedMessage {
    /// Bytes of the payloads.
    pub fn payload_len(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.len() as u64).sum()
    }

    /// Everything in one buffer (a copy): for transports without vectored writes, and for tests.
    pub fn to_contiguous(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        for payload in &self.payloads {
            bytes.extend_from_slice(payload.as_ref());
        }
        bytes
    }
}

/// Head, archive, and what follows them, of a message that is whole in memory.
fn split_whole(message: &Payload, direction: Direction) -> Result<(MessageHead, Payload, Payload), DecodeError> {
    let head = MessageHead::read(message.as_ref(), direction)?;
    if head.flags != 0 {
        return Err(DecodeError::Unknown { what: "a flag of a whole message", got: u64::from(head.flags) });
    }
    let len = message.len() as u64;
    let archive_len = u64::from(head.archive_len);
    let rest_at = HEAD_BYTES as u64 + archive_len;
    let truncated = || DecodeError::Truncated {
        what: "the archive of a message",
        needed: archive_len,
        at: HEAD_BYTES as u64,
        got: len.saturating_sub(HEAD_BYTES as u64),
    };
    let archive = message.slice(HEAD_BYTES as u64, archive_len).ok_or_else(truncated)?;
    let rest = message.slice(rest_at, len.saturating_sub(rest_at)).ok_or_else(truncated)?;
    Ok((head, archive, rest))
}

fn split_payloads(what: &'static str, rest: Payload, lens: &[u64]) -> Result<Vec<Payload>, DecodeError> {
    let got = rest.len() as u64;
    let mut at = 0_u64;
    let mut payloads = Vec::with_capacity(lens.len());
    for len in lens {
        payloads.push(rest.slice(at, *len).ok_or(DecodeError::Truncated { what, needed: *len, at, got })?);
        at = at.saturating_add(*len);
    }
    match got.saturating_sub(at) {
        0 => Ok(payloads),
        extra => Err(DecodeError::TrailingBytes { what, extra }),
    }
}
