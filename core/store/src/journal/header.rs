//! The header that every batch of both journals begins with.
//!
//! ```text
//! offset  bytes  field                                   (integers are little-endian)
//!      0      4  magic 44 4C 49 54
//!      4      1  version: 1 signal journal, 2 block journal
//!      5      1  flags: zero
//!      6      2  events or records in the batch: 1 to 256
//!      8      8  sequence number of the first
//!     16      8  when the batch was made, Unix nanoseconds
//!     24      4  payload length
//!     28      4  reserved: zero
//!     32     32  BLAKE3-256 over bytes 0..32 and what the version says of the payload
//!     64         the payload
//! ```

use bettong_wire::DecodeError;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 64;
/// Bytes of the header that the hash covers.
pub const HASHED_LEN: usize = 32;
/// The first four bytes of every batch.
pub const MAGIC: [u8; 4] = [0x44, 0x4C, 0x49, 0x54];
/// Most events or records of one batch.
pub const BATCH_COUNT_MAX: u16 = 256;

const WHAT: &str = "journal batch header";

/// The header of one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub version: u8,
    /// Events or records: 1 to 256.
    pub count: u16,
    /// Sequence number of the first; the others follow without a gap.
    pub first: u64,
    /// Unix nanoseconds.
    pub timestamp_ns: u64,
    pub payload_len: u32,
    pub hash: [u8; 32],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: u8,
    flags: u8,
    count: U16,
    first: U64,
    timestamp_ns: U64,
    payload_len: U32,
    reserved: U32,
    hash: [u8; 32],
}

const _: () = assert!(size_of::<Layout>() == HEADER_LEN);

impl BatchHeader {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        zerocopy::transmute!(Layout {
            magic: MAGIC,
            version: self.version,
            flags: 0,
            count: self.count.into(),
            first: self.first.into(),
            timestamp_ns: self.timestamp_ns.into(),
            payload_len: self.payload_len.into(),
            reserved: 0.into(),
            hash: self.hash,
        })
    }

    /// Reads a header of `version`; `bytes` may go on behind it. The hash is the payload's reader's to check.
    ///
    /// # Errors
    /// `Version` where the version is another one: whether a newer release wrote it or a bit rotted is not known here.
    pub fn decode(bytes: &[u8], version: u8) -> Result<Self, DecodeError> {
        let Ok((layout, _)) = Layout::ref_from_prefix(bytes) else {
            let (needed, got) = (HEADER_LEN as u64, bytes.len() as u64);
            return Err(DecodeError::Truncated { what: WHAT, needed, at: 0, got });
        };
        if layout.magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, expected: MAGIC.to_vec(), got: layout.magic.to_vec() });
        }
        if layout.version != version {
            let (min, max) = (version.into(), version.into());
            return Err(DecodeError::Version { what: WHAT, got: layout.version.into(), min, max });
        }
        if layout.flags != 0 || layout.reserved.get() != 0 {
            let got = u64::from(layout.flags) << 32 | u64::from(layout.reserved.get());
            return Err(DecodeError::Unknown { what: "journal batch flags", got });
        }
        let count = layout.count.get();
        if !(1..=BATCH_COUNT_MAX).contains(&count) {
            return Err(DecodeError::Invalid { what: "journal batch count", got: count.into(), must: "1 to 256" });
        }
        Ok(Self {
            version,
            count,
            first: layout.first.get(),
            timestamp_ns: layout.timestamp_ns.get(),
            payload_len: layout.payload_len.get(),
            hash: layout.hash,
        })
    }

    /// BLAKE3-256 over the header's first 32 bytes followed by `covered`.
    pub fn hash_with(&self, covered: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.encode()[..HASHED_LEN]);
        hasher.update(covered);
        *hasher.finalize().as_bytes()
    }

    /// Sequence number behind the last one; `None` where the numbers would run over.
    pub fn end(&self) -> Option<u64> {
        self.first.checked_add(self.count.into())
    }
}
