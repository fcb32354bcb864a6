//! The 32 bytes with which every message begins.

use super::op::{MNEMONIC_NONE, OP_NONE, Op};
use crate::error::DecodeError;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a message's head.
pub const HEAD_BYTES: usize = 32;
/// Version of the message format, part of the magic.
pub const MESSAGE_VERSION: u16 = 1;
/// Flag: more frames of this message follow.
pub const FLAG_MORE: u8 = 1;
/// Flag: this frame goes on with the payloads of a message that began earlier; it has no archive.
pub const FLAG_CONTINUED: u8 = 2;

const FAMILY: [u8; 7] = *b"bettong";

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Request,
    Response,
}

impl Direction {
    fn mark(self) -> u8 {
        match self {
            Self::Request => b'>',
            Self::Response => b'<',
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Request => "the request's head",
            Self::Response => "the response's head",
        }
    }
}

/// A message's head as it stands on the wire; only `check` says whether it makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageHead {
    pub magic: [u8; 16],
    pub request_id: u64,
    pub op: u8,
    pub status: u8,
    pub detail: u8,
    pub flags: u8,
    /// Bytes of the archive that follows the head.
    pub archive_len: u32,
}

#[derive(FromBytes, IntoBytes)]
#[repr(C)]
struct HeadLayout {
    magic: [u8; 16],
    request_id: U64,
    op: u8,
    status: u8,
    detail: u8,
    flags: u8,
    archive_len: U32,
}

/// The magic of an operation's messages: family, direction, operation, version.
pub fn magic(op: Option<Op>, direction: Direction) -> [u8; 16] {
    let [f0, f1, f2, f3, f4, f5, f6] = FAMILY;
    let [m0, m1, m2, m3, m4, m5] = op.map_or(MNEMONIC_NONE, Op::mnemonic);
    let [v0, v1] = MESSAGE_VERSION.to_le_bytes();
    [f0, f1, f2, f3, f4, f5, f6, direction.mark(), m0, m1, m2, m3, m4, m5, v0, v1]
}

impl MessageHead {
    /// A head without status, detail, flags and archive.
    pub fn new(op: Option<Op>, direction: Direction, request_id: u64) -> Self {
        let code = op.map_or(OP_NONE, Op::code);
        Self { magic: magic(op, direction), request_id, op: code, status: 0, detail: 0, flags: 0, archive_len: 0 }
    }

    pub fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let Self { magic, request_id, op, status, detail, flags, archive_len } = *self;
        let (request_id, archive_len) = (request_id.into(), archive_len.into());
        zerocopy::transmute!(HeadLayout { magic, request_id, op, status, detail, flags, archive_len })
    }

    /// Takes the fields apart without judging them.
    pub fn from_bytes(bytes: &[u8; HEAD_BYTES]) -> Self {
        let layout: HeadLayout = zerocopy::transmute!(*bytes);
        let HeadLayout { magic, request_id, op, status, detail, flags, archive_len } = layout;
        let (request_id, archive_len) = (request_id.get(), archive_len.get());
        Self { magic, request_id, op, status, detail, flags, archive_len }
    }

    /// Reads the head at the beginning of `bytes`.
    pub fn read(bytes: &[u8], direction: Direction) -> Result<Self, DecodeError> {
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or(DecodeError::Truncated {
            what: direction.what(),
            needed: HEAD_BYTES as u64,
            at: 0,
            got: bytes.len() as u64,
        })?;
        Ok(Self::from_bytes(head))
    }

    pub fn more(&self) -> bool {
        self.flags & FLAG_MORE != 0
    }

    pub fn continued(&self) -> bool {
        self.flags & FLAG_CONTINUED != 0
    }

    /// Checks operation, magic and flags. A response may have no operation (`None`): it answers what could not be read.
    pub fn check(&self, direction: Direction) -> Result<Option<Op>, DecodeError> {
        let op = match (self.op, direction) {
            (OP_NONE, Direction::Response) => None,
            (code, _) => Some(Op::require(code)?),
        };
        self.check_magic(op, direction)?;
        if self.flags & !(FLAG_MORE | FLAG_CONTINUED) != 0 {
            return Err(DecodeError::Unknown { what: "a flag of the message's head", got: u64::from(self.flags) });
        }
        Ok(op)
    }

    fn check_magic(&self, op: Option<Op>, direction: Direction) -> Result<(), DecodeError> {
        let expected = magic(op, direction);
        if self.magic == expected {
            return Ok(());
        }
        let [.., v0, v1] = self.magic;
        if self.magic[..14] == expected[..14] {
            let version = u64::from(MESSAGE_VERSION);
            let got = u64::from(u16::from_le_bytes([v0, v1]));
            return Err(DecodeError::Version { what: direction.what(), got, min: version, max: version });
        }
        Err(DecodeError::BadMagic { what: direction.what(), expected: expected.to_vec(), got: self.magic.to_vec() })
    }
}
