//! The pack: several small values of one namespace in one object, each with the envelope that it would have alone.
//!
//! ```text
//! offset  bytes  field                                   (integers are little-endian)
//!      0      8  magic "BETTPAK\x01"
//!      8      2  format version
//!     10      2  reserved, zero
//!     12      4  members, 1 to 4096
//!     16     32  namespace id
//!     48      8  put id of the pack: life
//!     56      8  put id of the pack: counter
//!     64      8  length of the table: 88 times the members
//!     72      8  length of the object
//!     80     16  reserved, zero
//!     96     32  BLAKE3-256 of bytes 0..96 and of the table
//!    128         the table, then the members' envelopes, each where the one before it ends
//! ```
//!
//! A row of the table:
//!
//! ```text
//! offset  bytes  field
//!      0      1  kind: 1 block, 2 sidecar
//!      1      1  reserved, zero
//!      2      2  part (blocks; else zero)
//!      4      4  sequence in the chain
//!      8     32  key: block hash or sidecar key
//!     40      8  put id of the member: life
//!     48      8  put id of the member: counter
//!     56      4  offset of its envelope in the object
//!     60      4  length of its envelope: header and stored payload
//!     64      4  raw length: payload bytes before compression
//!     68      4  parent tag: first four bytes of the parent's hash; zero where none is named
//!     72      8  expires at, Unix milliseconds; zero means never
//!     80      8  reserved, zero
//! ```
//!
//! Every version keeps magic, version, the length of the table and the hash where they are, so that a rotten version
//! number is told from a newer release's. The table says what an index needs; the envelopes prove the bytes.

use crate::envelope::{HEADER_LEN as ENVELOPE_LEN, Kind};
use crate::error::DecodeError;
use crate::ids::{NamespaceId, Part, PutId};
use crate::limits::BLOCK_BYTES_MAX;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the table.
pub const HEADER_LEN: usize = 128;
/// Bytes of one row of the table.
pub const ROW_LEN: usize = 88;
/// Members of one pack: the table of the largest is read in one request of 352 KiB.
pub const MEMBERS_MAX: usize = 4096;
/// Bytes of one pack, table included.
pub const BYTES_MAX: u64 = 64 << 20;
/// The version this release writes.
pub const VERSION: u16 = 1;
/// The oldest version this release reads.
pub const VERSION_MIN: u16 = 1;
const MAGIC: [u8; 8] = *b"BETTPAK\x01";
const HASHED: usize = 96;
const WHAT: &str = "pack";

/// One value in a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// A block or a sidecar: what is mutable is not packed.
    pub kind: Kind,
    pub part: Part,
    pub sequence: u32,
    pub key: [u8; 32],
    pub put_id: PutId,
    /// Where its envelope begins in the object.
    pub offset: u32,
    /// Bytes of its envelope.
    pub len: u32,
    pub raw_len: u32,
    pub parent_tag: u32,
    /// Unix milliseconds; zero means never.
    pub expires_at_ms: u64,
}

impl Member {
    /// Bytes of its payload as they are stored.
    pub fn stored_len(&self) -> u32 {
        self.len.saturating_sub(ENVELOPE_LEN as u32)
    }
}

/// What a pack holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pack {
    pub namespace: NamespaceId,
    /// Names the object; members have put ids of their own.
    pub put_id: PutId,
    /// In the order of their offsets.
    pub members: Vec<Member>,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    version: U16,
    reserved: [u8; 2],
    members: U32,
    namespace: [u8; 32],
    life: U64,
    counter: U64,
    table_len: U64,
    object_len: U64,
    reserved_2: [u8; 16],
    hash: [u8; 32],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Row {
    kind: u8,
    reserved: u8,
    part: U16,
    sequence: U32,
    key: [u8; 32],
    life: U64,
    counter: U64,
    offset: U32,
    len: U32,
    raw_len: U32,
    parent_tag: U32,
    expires_at_ms: U64,
    reserved_2: [u8; 8],
}

const _: () = assert!(size_of::<Layout>() == HEADER_LEN && size_of::<Row>() == ROW_LEN);

/// Bytes of header and table of a pack of so many members: where the first envelope begins.
pub fn table_end(members: usize) -> u64 {
    HEADER_LEN as u64 + (members as u64).saturating_mul(ROW_LEN as u64)
}

/// Reads, from the first `HEADER_LEN` bytes, how many bytes header and table have. Nothing is verified yet.
///
/// # Errors
/// Bytes that are no pack's, or a length over the limits.
pub fn table_end_of(bytes: &[u8]) -> Result<u64, DecodeError> {
    let (layout, _) = prefix(bytes)?;
    let limit = (MEMBERS_MAX * ROW_LEN) as u64;
    let table_len = layout.table_len.get();
    if table_len > limit {
        return Err(DecodeError::TooLong { what: "pack table", got: table_len, limit });
    }
    Ok(HEADER_LEN as u64 + table_len)
}

fn prefix(bytes: &[u8]) -> Result<(&Layout, &[u8]), DecodeError> {
    let Ok((layout, rest)) = Layout::ref_from_prefix(bytes) else {
        let got = bytes.len() as u64;
        return Err(DecodeError::Truncated { what: WHAT, needed: HEADER_LEN as u64, at: 0, got });
    };
    if layout.magic != MAGIC {
        return Err(DecodeError::BadMagic { what: WHAT, expected: MAGIC.to_vec(), got: layout.magic.to_vec() });
    }
    Ok((layout, rest))
}

impl Pack {
    /// Bytes of the whole object.
    pub fn object_len(&self) -> u64 {
        let bodies: u64 = self.members.iter().map(|member| u64::from(member.len)).sum();
        table_end(self.members.len()) + bodies
    }

    /// Header and table. Counts and lengths are the caller's to keep within the limits; `decode` refuses what is not.
    pub fn encode(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.members.len() * ROW_LEN);
        for member in &self.members {
            let row = Row {
                kind: member.kind as u8,
                reserved: 0,
                part: member.part.0.into(),
                sequence: member.sequence.into(),
                key: member.key,
                life: member.put_id.life.into(),
                counter: member.put_id.counter.into(),
                offset: member.offset.into(),
                len: member.len.into(),
                raw_len: member.raw_len.into(),
                parent_tag: member.parent_tag.into(),
                expires_at_ms: member.expires_at_ms.into(),
                reserved_2: [0; 8],
            };
            table.extend_from_slice(row.as_bytes());
        }
        let mut layout = Layout {
            magic: MAGIC,
            version: VERSION.into(),
            reserved: [0; 2],
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX).into(),
            namespace: self.namespace.0,
            life: self.put_id.life.into(),
            counter: self.put_id.counter.into(),
            table_len: (table.len() as u64).into(),
            object_len: self.object_len().into(),
            reserved_2: [0; 16],
            hash: [0; 32],
        };
        layout.hash = hash(layout.as_bytes(), &table);
        [layout.as_bytes(), &table].concat()
    }

    /// Reads and checks header and table. `bytes` may go on behind them; `object_len` is what the object has in all.
    ///
    /// # Errors
    /// `Version` only where the hash holds: a newer release wrote it. Everything else is damage.
    pub fn decode(bytes: &[u8], object_len: u64) -> Result<Self, DecodeError> {
        let end = usize::try_from(table_end_of(bytes)?).unwrap_or(usize::MAX);
        let (layout, _) = prefix(bytes)?;
        let Some(table) = bytes.get(HEADER_LEN..end) else {
            let got = bytes.len() as u64;
            return Err(DecodeError::Truncated { what: "pack table", needed: end as u64, at: 0, got });
        };
        if hash(layout.as_bytes(), table) != layout.hash {
            return Err(DecodeError::Hash { what: WHAT });
        }
        let version = layout.version.get();
        if !(VERSION_MIN..=VERSION).contains(&version) {
            let (min, max) = (VERSION_MIN.into(), VERSION.into());
            return Err(DecodeError::Version { what: WHAT, got: version.into(), min, max });
        }
        layout.checked(table, object_len)
    }
}

impl Layout {
    fn checked(&self, table: &[u8], object_len: u64) -> Result<Pack, DecodeError> {
        if self.reserved != [0; 2] || self.reserved_2 != [0; 16] {
            return Err(DecodeError::Unknown { what: "pack header", got: u16::from_le_bytes(self.reserved).into() });
        }
        let count = u64::from(self.members.get());
        if !(1..=MEMBERS_MAX as u64).contains(&count) {
            return Err(DecodeError::Invalid { what: "pack members", got: count, must: "1 to 4096" });
        }
        let said = self.object_len.get();
        if said > BYTES_MAX {
            return Err(DecodeError::TooLong { what: WHAT, got: said, limit: BYTES_MAX });
        }
        if said != object_len {
            return Err(DecodeError::LengthMismatch { what: WHAT, said, got: object_len });
        }
        let rows = match <[Row]>::ref_from_bytes(table) {
            Ok(rows) if rows.len() as u64 == count => rows,
            _ => {
                let got = table.len() as u64;
                return Err(DecodeError::LengthMismatch { what: "pack table", said: count * ROW_LEN as u64, got });
            }
        };
        let mut at = table_end(rows.len());
        let mut members = Vec::with_capacity(rows.len());
        for row in rows {
            let member = row.checked()?;
            if u64::from(member.offset) != at {
                let must = "the end of the member before it";
                return Err(DecodeError::Invalid { what: "pack member offset", got: member.offset.into(), must });
            }
            at += u64::from(member.len);
            members.push(member);
        }
        if at != said {
            return Err(DecodeError::LengthMismatch { what: "pack members", said: at, got: said });
        }
        let put_id = PutId { life: self.life.get(), counter: self.counter.get() };
        Ok(Pack { namespace: NamespaceId(self.namespace), put_id, members })
    }
}

impl Row {
    fn checked(&self) -> Result<Member, DecodeError> {
        let kind = match self.kind {
            1 => Kind::Block,
            2 => Kind::Sidecar,
            other => return Err(DecodeError::Unknown { what: "pack member kind", got: other.into() }),
        };
        if self.reserved != 0 || self.reserved_2 != [0; 8] {
            return Err(DecodeError::Unknown { what: "pack member", got: self.reserved.into() });
        }
        let part = self.part.get();
        if kind == Kind::Sidecar && part != 0 {
            return Err(DecodeError::Invalid { what: "pack member part", got: part.into(), must: "0 for a sidecar" });
        }
        let (len, raw_len) = (self.len.get(), self.raw_len.get());
        if u64::from(len) < ENVELOPE_LEN as u64 {
            let must = "at least the length of an envelope's header";
            return Err(DecodeError::Invalid { what: "pack member length", got: len.into(), must });
        }
        if u64::from(raw_len) > BLOCK_BYTES_MAX {
            let (got, limit) = (raw_len.into(), BLOCK_BYTES_MAX);
            return Err(DecodeError::TooLong { what: "pack member raw length", got, limit });
        }
        Ok(Member {
            kind,
            part: Part(part),
            sequence: self.sequence.get(),
            key: self.key,
            put_id: PutId { life: self.life.get(), counter: self.counter.get() },
            offset: self.offset.get(),
            len,
            raw_len,
            parent_tag: self.parent_tag.get(),
            expires_at_ms: self.expires_at_ms.get(),
        })
    }
}

fn hash(header: &[u8], table: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header.get(..HASHED).unwrap_or(header));
    hasher.update(table);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(n: u8, offset: u64, len: u32) -> Member {
        Member {
            kind: if n.is_multiple_of(2) { Kind::Block } else { Kind::Sidecar },
            part: Part(if n.is_multiple_of(2) { 3 } else { 0 }),
            sequence: 4,
            key: [n; 32],
            put_id: PutId { life: 5, counter: n.into() },
            offset: offset as u32,
            len,
            raw_len: 6,
            parent_tag: 7,
            expires_at_ms: 8,
        }
    }

    fn pack(lens: &[u32]) -> Pack {
        let mut at = table_end(lens.len());
        let mut members = Vec::new();
        for (n, len) in lens.iter().enumerate() {
            members.push(member(n as u8, at, *len));
            at += u64::from(*len);
        }
        Pack { namespace: NamespaceId([1; 32]), put_id: PutId { life: 2, counter: 3 }, members }
    }

    fn righted(mut bytes: Vec<u8>) -> Vec<u8> {
        let hash = hash(&bytes[..HASHED], &bytes[HEADER_LEN..]);
        bytes[HASHED..HEADER_LEN].copy_from_slice(&hash);
        bytes
    }

    /// What version 1 wrote stays readable, and is still what is written.
    #[test]
    fn version_1_is_pinned() {
        let golden = include_bytes!("../golden/pack-1.bin");
        let held = pack(&[300, 256]);
        assert_eq!(held.encode(), golden);
        assert_eq!(Pack::decode(golden, held.object_len()), Ok(held));
    }

    #[test]
    fn a_newer_version_is_told_from_a_rotten_one() {
        let held = pack(&[300]);
        let mut bytes = held.encode();
        bytes[8] = 2;
        assert_eq!(Pack::decode(&bytes, held.object_len()), Err(DecodeError::Hash { what: WHAT }));
        let newer = Pack::decode(&righted(bytes), held.object_len());
        assert!(matches!(newer, Err(DecodeError::Version { got: 2, .. })));
    }

    #[test]
    fn members_lie_one_behind_the_other_and_fill_the_object() {
        let held = pack(&[300, 256, 400]);
        let whole = held.object_len();
        for wrong in [whole - 1, whole + 1] {
            assert!(matches!(Pack::decode(&held.encode(), wrong), Err(DecodeError::LengthMismatch { .. })));
        }
        for shift in [-1i64, 1, 256] {
            let mut shifted = held.clone();
            shifted.members[1].offset = (i64::from(shifted.members[1].offset) + shift) as u32;
            assert!(matches!(Pack::decode(&shifted.encode(), whole), Err(DecodeError::Invalid { .. })), "{shift}");
        }
        let mut short = held.clone();
        short.members[2].len = 255;
        assert!(Pack::decode(&short.encode(), short.object_len()).is_err());
        let none = pack(&[]);
        assert!(matches!(Pack::decode(&none.encode(), none.object_len()), Err(DecodeError::Invalid { .. })));
        let many = pack(&vec![256; MEMBERS_MAX + 1]);
        assert!(matches!(Pack::decode(&many.encode(), many.object_len()), Err(DecodeError::TooLong { .. })));
        let long = pack(&[BYTES_MAX as u32]);
        assert!(matches!(Pack::decode(&long.encode(), long.object_len()), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn what_is_mutable_is_not_a_member() {
        let held = pack(&[300]);
        let mut bytes = held.encode();
        bytes[HEADER_LEN] = Kind::Plain as u8;
        let refused = Pack::decode(&righted(bytes), held.object_len());
        assert_eq!(refused, Err(DecodeError::Unknown { what: "pack member kind", got: 3 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lens in proptest::collection::vec(256u32..5000, 1..40)) {
            let held = pack(&lens);
            let bytes = held.encode();
            prop_assert_eq!(table_end_of(&bytes), Ok(bytes.len() as u64));
            prop_assert_eq!(Pack::decode(&bytes, held.object_len()), Ok(held));
        }

        #[test]
        fn any_flipped_bit_is_refused(bit in any::<prop::sample::Index>()) {
            let held = pack(&[300, 256]);
            let mut bytes = held.encode();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Pack::decode(&bytes, held.object_len()).is_err());
        }

        #[test]
        fn any_truncation_is_refused(len in any::<prop::sample::Index>()) {
            let held = pack(&[300, 256]);
            let bytes = held.encode();
            prop_assert!(Pack::decode(&bytes[..len.index(bytes.len())], held.object_len()).is_err());
        }

        /// With the hash put right, which no accident does.
        #[test]
        fn hostile_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            changed in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let _ = Pack::decode(&bytes, bytes.len() as u64);
            let held = pack(&[300, 256]);
            let mut bytes = held.encode();
            for (at, byte) in changed {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let bytes = righted(bytes);
            if let Ok(read) = Pack::decode(&bytes, held.object_len()) {
                prop_assert_eq!(read.encode(), bytes, "one spelling for one table");
            }
        }
    }
}
