//! The envelope: one header of fixed length before every payload that is stored, on disk and in the object store.
//!
//! ```text
//! offset  bytes  field                                   (integers are little-endian)
//!      0      8  magic "BETTONG\x01"
//!      8      2  format version
//!     10      1  kind: 1 block, 2 sidecar, 3 plain
//!     11      1  algorithm: 0 stored as it is, 1 zstd, 2 lz4 (block format)
//!     12      4  flags: bit 0 a parent is named; all others zero
//!     16     32  namespace id
//!     48     32  key: block hash, sidecar key, or BLAKE3 of the plain key
//!     80      2  part (blocks; else zero)
//!     82      2  length of the plain key that follows the header (plain; else zero)
//!     84      4  sequence in the chain (blocks; else zero)
//!     88      8  put id: life
//!     96      8  put id: counter
//!    104     32  parent hash (zero where none is named)
//!    136      8  created at, Unix milliseconds
//!    144      8  expires at, Unix milliseconds; zero means never
//!    152      8  raw length: payload bytes before compression
//!    160      8  stored length: payload bytes as they follow
//!    168     32  BLAKE3-256 of the raw payload
//!    200     24  reserved, zero
//!    224     32  BLAKE3-256 of bytes 0..224
//!    256         the plain key (kind 3 only), then the stored payload
//! ```
//!
//! Every version keeps magic, version and the hash over bytes 0..224 where they are, so that a rotten version number is
//! told from a newer release's.

use crate::error::DecodeError;
use crate::ids::{BlockHash, NamespaceId, Part, PutId};
use crate::limits::{BLOCK_BYTES_MAX, PLAIN_KEY_BYTES_MAX};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the header.
pub const HEADER_LEN: usize = 256;
/// The version this release writes.
pub const VERSION: u16 = 1;
/// The oldest version this release reads.
pub const VERSION_MIN: u16 = 1;
const MAGIC: [u8; 8] = *b"BETTONG\x01";
const HASHED: usize = 224;
const FLAG_PARENT: u32 = 1;

/// What a payload is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    Block = 1,
    Sidecar = 2,
    Plain = 3,
}

/// How the stored payload is compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Algorithm {
    #[default]
    None = 0,
    Zstd = 1,
    Lz4 = 2,
}

/// The header of one stored payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: Kind,
    pub algorithm: Algorithm,
    pub namespace: NamespaceId,
    /// Block hash, sidecar key, or BLAKE3 of the plain key.
    pub key: [u8; 32],
    pub part: Part,
    /// Length of the plain key that follows the header; zero for other kinds.
    pub plain_key_len: u16,
    pub sequence: u32,
    pub put_id: PutId,
    pub parent: Option<BlockHash>,
    pub created_at_ms: u64,
    /// Zero means never.
    pub expires_at_ms: u64,
    pub raw_len: u64,
    pub stored_len: u64,
    /// BLAKE3-256 of the raw payload.
    pub payload_hash: [u8; 32],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    version: U16,
    kind: u8,
    algorithm: u8,
    flags: U32,
    namespace: [u8; 32],
    key: [u8; 32],
    part: U16,
    plain_key_len: U16,
    sequence: U32,
    life: U64,
    counter: U64,
    parent: [u8; 32],
    created_at_ms: U64,
    expires_at_ms: U64,
    raw_len: U64,
    stored_len: U64,
    payload_hash: [u8; 32],
    reserved: [u8; 24],
    header_hash: [u8; 32],
}

const _: () = assert!(size_of::<Layout>() == HEADER_LEN);

impl Header {
    /// The header's bytes. Lengths are the caller's to keep within the limits; `decode` refuses what is not.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut layout = Layout {
            magic: MAGIC,
            version: VERSION.into(),
            kind: self.kind as u8,
            algorithm: self.algorithm as u8,
            flags: if self.parent.is_some() { FLAG_PARENT } else { 0 }.into(),
            namespace: self.namespace.0,
            key: self.key,
            part: self.part.0.into(),
            plain_key_len: self.plain_key_len.into(),
            sequence: self.sequence.into(),
            life: self.put_id.life.into(),
            counter: self.put_id.counter.into(),
            parent: self.parent.map_or([0; 32], |parent| parent.0),
            created_at_ms: self.created_at_ms.into(),
            expires_at_ms: self.expires_at_ms.into(),
            raw_len: self.raw_len.into(),
            stored_len: self.stored_len.into(),
            payload_hash: self.payload_hash,
            reserved: [0; 24],
            header_hash: [0; 32],
        };
        layout.header_hash = header_hash(layout.as_bytes());
        zerocopy::transmute!(layout)
    }

    /// Reads and checks a header. `bytes` may go on behind it.
    ///
    /// # Errors
    /// `Version` only where the header hash holds: a newer release wrote it. Everything else is damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "envelope header";
        let Ok((layout, _)) = Layout::ref_from_prefix(bytes) else {
            let got = bytes.len() as u64;
            return Err(DecodeError::Truncated { what: WHAT, needed: HEADER_LEN as u64, at: 0, got });
        };
        if layout.magic != MAGIC {
            return Err(DecodeError::BadMagic { what: WHAT, expected: MAGIC.to_vec(), got: layout.magic.to_vec() });
        }
        if header_hash(layout.as_bytes()) != layout.header_hash {
            return Err(DecodeError::Hash { what: WHAT });
        }
        let version = layout.version.get();
        if !(VERSION_MIN..=VERSION).contains(&version) {
            let (min, max) = (VERSION_MIN.into(), VERSION.into());
            return Err(DecodeError::Version { what: WHAT, got: version.into(), min, max });
        }
        layout.checked()
    }

    /// Bytes of the whole stored object: header, plain key, stored payload.
    pub fn object_len(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.plain_key_len) + self.stored_len
    }
}

impl Layout {
    fn checked(&self) -> Result<Header, DecodeError> {
        let kind = match self.kind {
            1 => Kind::Block,
            2 => Kind::Sidecar,
            3 => Kind::Plain,
            other => return Err(DecodeError::Unknown { what: "envelope kind", got: other.into() }),
        };
        let algorithm = match self.algorithm {
            0 => Algorithm::None,
            1 => Algorithm::Zstd,
            2 => Algorithm::Lz4,
            other => return Err(DecodeError::Unknown { what: "envelope algorithm", got: other.into() }),
        };
        let flags = self.flags.get();
        if flags & !FLAG_PARENT != 0 || self.reserved != [0; 24] {
            return Err(DecodeError::Unknown { what: "envelope flags", got: flags.into() });
        }
        if flags & FLAG_PARENT == 0 && self.parent != [0; 32] {
            let must = "1 where a parent is named, which is zero otherwise";
            return Err(DecodeError::Invalid { what: "envelope parent flag", got: 0, must });
        }
        let plain_key_len = self.plain_key_len.get();
        let key_len_ok = match kind {
            Kind::Plain => (1..=PLAIN_KEY_BYTES_MAX).contains(&usize::from(plain_key_len)),
            Kind::Block | Kind::Sidecar => plain_key_len == 0,
        };
        if !key_len_ok {
            let must = "1 to 1024 for a plain key, 0 for others";
            return Err(DecodeError::Invalid { what: "envelope plain key length", got: plain_key_len.into(), must });
        }
        let (raw_len, stored_len) = (self.raw_len.get(), self.stored_len.get());
        for (what, got) in [("envelope raw length", raw_len), ("envelope stored length", stored_len)] {
            if got > BLOCK_BYTES_MAX {
                return Err(DecodeError::TooLong { what, got, limit: BLOCK_BYTES_MAX });
            }
        }
        if algorithm == Algorithm::None && raw_len != stored_len {
            return Err(DecodeError::LengthMismatch { what: "uncompressed payload", said: raw_len, got: stored_len });
        }
        Ok(Header {
            kind,
            algorithm,
            namespace: NamespaceId(self.namespace),
            key: self.key,
            part: Part(self.part.get()),
            plain_key_len,
            sequence: self.sequence.get(),
            put_id: PutId { life: self.life.get(), counter: self.counter.get() },
            parent: (flags & FLAG_PARENT != 0).then_some(BlockHash(self.parent)),
            created_at_ms: self.created_at_ms.get(),
            expires_at_ms: self.expires_at_ms.get(),
            raw_len,
            stored_len,
            payload_hash: self.payload_hash,
        })
    }
}

fn header_hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes.get(..HASHED).unwrap_or(bytes)).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            kind: Kind::Block,
            algorithm: Algorithm::None,
            namespace: NamespaceId([1; 32]),
            key: [2; 32],
            part: Part(3),
            plain_key_len: 0,
            sequence: 4,
            put_id: PutId { life: 5, counter: 6 },
            parent: Some(BlockHash([7; 32])),
            created_at_ms: 8,
            expires_at_ms: 9,
            raw_len: 10,
            stored_len: 10,
            payload_hash: [11; 32],
        }
    }

    /// What version 1 wrote stays readable, and is still what is written.
    #[test]
    fn version_1_is_pinned() {
        let golden = include_bytes!("../golden/envelope-1.bin");
        assert_eq!(&sample().encode(), golden);
        assert_eq!(Header::decode(golden), Ok(sample()));
    }

    #[test]
    fn a_newer_version_is_told_from_a_rotten_one() {
        let mut bytes = sample().encode();
        bytes[8] = 2;
        assert_eq!(Header::decode(&bytes), Err(DecodeError::Hash { what: "envelope header" }));
        let hash = header_hash(&bytes);
        bytes[HASHED..].copy_from_slice(&hash);
        assert!(matches!(Header::decode(&bytes), Err(DecodeError::Version { got: 2, .. })));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(bit in 0usize..HEADER_LEN * 8) {
            let mut bytes = sample().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&bytes).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Header::decode(&bytes);
        }

        #[test]
        fn any_truncation_is_named(len in 0usize..HEADER_LEN) {
            let refused = matches!(Header::decode(&sample().encode()[..len]), Err(DecodeError::Truncated { .. }));
            prop_assert!(refused);
        }
    }
}
