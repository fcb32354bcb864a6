//! Events and batches of the signal journal, version 1.
//!
//! ```text
//! offset  bytes  field of an event                       (integers are little-endian)
//!      0      8  entity id
//!      8      1  signal type
//!      9      4  weight, IEEE 754 single precision
//!     13      8  when, Unix nanoseconds
//! ```
//! A batch is the header of both journals and 1 to 256 events. The header's hash covers its bytes 0..32 and all events.

use crate::journal::cursor::Cursor;
use crate::journal::header::{BATCH_COUNT_MAX, BatchHeader, HEADER_LEN};
use bettong_wire::DecodeError;

/// The version of the signal journal.
pub const VERSION: u8 = 1;
/// Bytes of one event.
pub const EVENT_LEN: usize = 21;

/// One access.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SignalEvent {
    pub entity: u64,
    /// What happened; the numbers are the caller's.
    pub kind: u8,
    pub weight: f32,
    /// Unix nanoseconds.
    pub timestamp_ns: u64,
}

impl SignalEvent {
    pub fn encode(&self) -> [u8; EVENT_LEN] {
        let mut bytes = [0; EVENT_LEN];
        bytes[..8].copy_from_slice(&self.entity.to_le_bytes());
        bytes[8] = self.kind;
        bytes[9..13].copy_from_slice(&self.weight.to_le_bytes());
        bytes[13..].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        bytes
    }

    /// Any bytes are an event.
    pub fn decode(bytes: &[u8; EVENT_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, kind, i, j, k, l, m, n, o, p, q, r, s, t] = *bytes;
        Self {
            entity: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            kind,
            weight: f32::from_le_bytes([i, j, k, l]),
            timestamp_ns: u64::from_le_bytes([m, n, o, p, q, r, s, t]),
        }
    }

    /// Names the event by its bytes: the first 16 bytes of their BLAKE3, little-endian. For merging *different*
    /// journals; within one, two equal events are two events, and the sequence number tells them apart.
    pub fn content_hash(&self) -> u128 {
        let hash = blake3::hash(&self.encode());
        hash.as_bytes().first_chunk().map_or(0, |first| u128::from_le_bytes(*first))
    }
}

/// The bytes of a batch of 1 to 256 events, appended to `out`.
pub fn encode_batch(first: u64, timestamp_ns: u64, events: &[SignalEvent], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    events.iter().for_each(|event| out.extend_from_slice(&event.encode()));
    let payload = &out[start + HEADER_LEN..];
    let mut header = BatchHeader {
        version: VERSION,
        count: u16::try_from(events.len()).unwrap_or(u16::MAX),
        first,
        timestamp_ns,
        payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        hash: [0; 32],
    };
    header.hash = header.hash_with(payload);
    out[start..start + HEADER_LEN].copy_from_slice(&header.encode());
}

/// Reads and verifies a batch; `bytes` may go on behind it. Returns its length too.
pub fn decode_batch(bytes: &[u8]) -> Result<(BatchHeader, Vec<SignalEvent>, usize), DecodeError> {
    const WHAT: &str = "signal batch";
    let mut cursor = Cursor::new(WHAT, bytes);
    let header = BatchHeader::decode(cursor.bytes(HEADER_LEN)?, VERSION)?;
    let len = usize::from(header.count.min(BATCH_COUNT_MAX)) * EVENT_LEN;
    if u64::from(header.payload_len) != len as u64 {
        return Err(DecodeError::LengthMismatch { what: WHAT, said: header.payload_len.into(), got: len as u64 });
    }
    let payload = cursor.bytes(len)?;
    if header.hash_with(payload) != header.hash {
        return Err(DecodeError::Hash { what: WHAT });
    }
    if header.end().is_none() {
        let must = "small enough for the numbers of the batch";
        return Err(DecodeError::Invalid { what: "sequence number of a signal batch", got: header.first, must });
    }
    let events = payload.as_chunks::<EVENT_LEN>().0.iter().map(SignalEvent::decode).collect();
    Ok((header, events, HEADER_LEN + len))
}
