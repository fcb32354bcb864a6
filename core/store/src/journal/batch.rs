//! A batch of the block journal: what is appended and synced at once.
//!
//! ```text
//! offset  bytes  field                                   (integers are little-endian)
//!      0     64  header, version 2
//!     64     32  hash of the batch before it; zero at the beginning of a journal
//!     96      8  synced_through: the highest sequence number known to be synced; 0: none
//!    104      8  nonce of the segment
//!    112      4  length of the records
//!    116      4  reserved: zero
//!    120         the records, then the stored bodies of the puts among them, in order
//! ```
//! The header's hash covers bytes 0..32 and everything behind the header but the bodies. A body is covered by the hash
//! that its record bears.

use super::cursor::Cursor;
use super::header::{BATCH_COUNT_MAX, BatchHeader, HEADER_LEN};
use super::record::{PutRecord, RECORD_BYTES_MAX, Record};
use bettong_wire::DecodeError;
use bytes::{BufMut, Bytes, BytesMut};

/// The version of the block journal.
pub const VERSION: u8 = 2;
/// Bytes before the records.
pub const FIXED_LEN: usize = HEADER_LEN + 56;
/// Longest records of one batch.
pub const RECORDS_BYTES_MAX: usize = RECORD_BYTES_MAX * BATCH_COUNT_MAX as usize;

/// What ties a batch to its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Hash of the batch before it.
    pub previous: [u8; 32],
    /// Highest sequence number known to be synced when it was made.
    pub synced_through: u64,
    /// Drawn for the segment and told to nobody, so that no client's bytes pass for a batch of it.
    pub nonce: u64,
}

/// A batch without its bodies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    pub link: Link,
    pub records: Vec<Record>,
    /// Bytes before the first body.
    pub head_len: u64,
}

/// Where a body lies.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    pub record: &'a PutRecord,
    /// From the beginning of the batch.
    pub offset: u64,
}

/// The bytes of a batch up to its bodies. `records` are 1 to 256, from sequence number `first` on.
pub fn seal(link: &Link, first: u64, timestamp_ns: u64, records: &[Record]) -> (BatchHeader, Bytes) {
    let mut bytes = BytesMut::with_capacity(FIXED_LEN + records.len() * 320);
    bytes.put_bytes(0, HEADER_LEN);
    bytes.put_slice(&link.previous);
    bytes.put_u64_le(link.synced_through);
    bytes.put_u64_le(link.nonce);
    bytes.put_u64_le(0);
    records.iter().for_each(|record| record.encode(&mut bytes));
    let records_len = u32::try_from(bytes.len() - FIXED_LEN).unwrap_or(u32::MAX);
    bytes[HEADER_LEN + 48..HEADER_LEN + 52].copy_from_slice(&records_len.to_le_bytes());
    let bodies: u64 = records.iter().map(Record::body_len).sum();
    let payload = (bytes.len() - HEADER_LEN) as u64 + bodies;
    let mut header = BatchHeader {
        version: VERSION,
        count: u16::try_from(records.len()).unwrap_or(u16::MAX),
        first,
        timestamp_ns,
        payload_len: u32::try_from(payload).unwrap_or(u32::MAX),
        hash: [0; 32],
    };
    header.hash = header.hash_with(&bytes[HEADER_LEN..]);
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    (header, bytes.freeze())
}

impl Batch {
    /// Bytes before the bodies, from the batch's first `FIXED_LEN` bytes; nothing is verified yet.
    pub fn head_len(fixed: &[u8]) -> Result<usize, DecodeError> {
        let mut cursor = Cursor::new("journal batch", fixed);
        let header = BatchHeader::decode(cursor.bytes(HEADER_LEN)?, VERSION)?;
        cursor.bytes(48)?;
        let records = cursor.u32()?;
        let got = records.into();
        if got > RECORDS_BYTES_MAX as u64 {
            let limit = RECORDS_BYTES_MAX as u64;
            return Err(DecodeError::TooLong { what: "records of a journal batch", got, limit });
        }
        if u64::from(header.payload_len) < (FIXED_LEN - HEADER_LEN) as u64 + got {
            return Err(DecodeError::LengthMismatch {
                what: "journal batch",
                said: header.payload_len.into(),
                got: (FIXED_LEN - HEADER_LEN) as u64 + got,
            });
        }
        Ok(FIXED_LEN + records as usize)
    }

    /// Reads and verifies the bytes up to the bodies; `bytes` may go on behind them.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "journal batch";
        let head_len = Self::head_len(bytes)?;
        let mut cursor = Cursor::new(WHAT, bytes);
        let head = cursor.bytes(head_len)?;
        let header = BatchHeader::decode(head, VERSION)?;
        let mut cursor = Cursor::new(WHAT, &head[HEADER_LEN..]);
        if header.hash_with(&head[HEADER_LEN..]) != header.hash {
            return Err(DecodeError::Hash { what: WHAT });
        }
        let link = Link { previous: cursor.array()?, synced_through: cursor.u64()?, nonce: cursor.u64()? };
        let (_, reserved) = (cursor.u32()?, cursor.u32()?);
        if reserved != 0 {
            return Err(DecodeError::Unknown { what: "reserved field of a journal batch", got: reserved.into() });
        }
        let records = Record::decode_all(cursor.bytes(head_len - FIXED_LEN)?, header.count)?;
        if header.end().is_none() || link.synced_through >= header.first {
            let must = "behind what was synced before it";
            return Err(DecodeError::Invalid { what: "sequence number of a journal batch", got: header.first, must });
        }
        let batch = Self { header, link, records, head_len: head_len as u64 };
        let said = HEADER_LEN as u64 + u64::from(header.payload_len);
        let got = batch.head_len + batch.records.iter().map(Record::body_len).sum::<u64>();
        if said != got {
            return Err(DecodeError::LengthMismatch { what: WHAT, said, got });
        }
        Ok(batch)
    }

    /// Whether a newer release wrote this batch: its version is newer, and is not a rotten form of this one.
    pub fn is_newer(bytes: &[u8]) -> bool {
        let newer = bytes.get(..5).is_some_and(|start| start[..4] == super::header::MAGIC && start[4] > VERSION);
        newer && {
            let mut righted = bytes.to_vec();
            righted[4] = VERSION;
            Self::decode(&righted).is_err()
        }
    }

    /// Bytes of the batch, bodies included.
    pub fn total_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.header.payload_len)
    }

    /// Sequence number behind the last record.
    pub fn end(&self) -> u64 {
        self.header.first + u64::from(self.header.count)
    }

    /// The bodies, in order.
    pub fn bodies(&self) -> impl Iterator<Item = Body<'_>> {
        let mut offset = self.head_len;
        self.records.iter().filter_map(move |record| {
            let Record::Put(record) = record else { return None };
            let body = Body { record, offset };
            offset += record.header.stored_len;
            Some(body)
        })
    }
}
