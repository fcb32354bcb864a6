//! The 16 bytes with which every frame begins.

use crate::error::DecodeError;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

pub const FRAME_HEADER_BYTES: usize = 16;
pub const FRAME_MAGIC: [u8; 4] = *b"BTNF";
pub const FRAME_VERSION: u8 = 1;
/// Flag: the frame ends with the CRC32C of all payload bytes of its message. Only a message's last frame bears it.
pub const FRAME_FLAG_PAYLOAD_CRC: u8 = 1;
/// Bytes of that checksum.
pub(super) const TRAILER_BYTES: u64 = 4;

const WHAT: &str = "a frame's header";

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    pub flags: u8,
    /// CRC32C of the header without this field, then of the message's head and archive.
    pub crc: u32,
    /// Bytes that follow the header.
    pub len: u32,
}

#[derive(FromBytes, IntoBytes, Clone, Copy)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: u8,
    flags: u8,
    reserved: [u8; 2],
    crc: U32,
    len: U32,
}

impl FrameHeader {
    pub fn to_bytes(&self) -> [u8; FRAME_HEADER_BYTES] {
        let (magic, version, reserved) = (FRAME_MAGIC, FRAME_VERSION, [0; 2]);
        let (crc, len) = (self.crc.into(), self.len.into());
        zerocopy::transmute!(Layout { magic, version, flags: self.flags, reserved, crc, len })
    }

    pub fn from_bytes(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, DecodeError> {
        let layout: Layout = zerocopy::transmute!(*bytes);
        if layout.magic != FRAME_MAGIC {
            let (expected, got) = (FRAME_MAGIC.to_vec(), layout.magic.to_vec());
            return Err(DecodeError::BadMagic { what: WHAT, expected, got });
        }
        if layout.version != FRAME_VERSION {
            let (got, known) = (u64::from(layout.version), u64::from(FRAME_VERSION));
            return Err(DecodeError::Version { what: WHAT, got, min: known, max: known });
        }
        if layout.flags & !FRAME_FLAG_PAYLOAD_CRC != 0 {
            return Err(DecodeError::Unknown { what: "a flag of a frame", got: u64::from(layout.flags) });
        }
        if layout.reserved != [0; 2] {
            let got = u64::from(u16::from_le_bytes(layout.reserved));
            return Err(DecodeError::Invalid { what: "the reserved field of a frame", got, must: "0" });
        }
        Ok(Self { flags: layout.flags, crc: layout.crc.get(), len: layout.len.get() })
    }

    /// The header of a frame of `len` bytes whose message (head and archive) is `message`.
    pub fn seal(flags: u8, len: u32, message: &[u8]) -> Self {
        let header = Self { flags, crc: 0, len };
        Self { crc: crc32c::crc32c_append(header.crc_of_header(), message), ..header }
    }

    /// The checksum of the header's own bytes, from which the message's checksum goes on.
    pub(super) fn crc_of_header(&self) -> u32 {
        let bytes = self.to_bytes();
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..8]), &bytes[12..])
    }

    pub fn has_trailer(&self) -> bool {
        self.flags & FRAME_FLAG_PAYLOAD_CRC != 0
    }
}
