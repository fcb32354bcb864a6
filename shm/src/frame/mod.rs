//! The three kinds of ring frames: bytes inline, a reference to a slot, a reference into a mapping.
//!
//! Every frame begins with 8 bytes: total length u32 (a multiple of 4, these 8 bytes included), flags u8, reserved u8
//! (zero), inline length u16; little-endian. An invalid frame is an error that says why. It is never taken for an empty
//! ring: whether a ring is empty is a matter of its cursors, not of its bytes.

mod layout;
#[cfg(test)]
mod tests;

use bettong_wire::message::HEAD_BYTES;
use layout::{Header, MmapBody, SlotBody};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes with which every frame begins.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Bytes of a slot reference's frame.
pub const SLOT_REF_BYTES: usize = 20;
/// Bytes of a mapping reference's frame.
pub const MMAP_REF_BYTES: usize = 32;
/// Longest message that travels inline unless a session agrees otherwise. A longer one goes to a slot.
pub const INLINE_BYTES_DEFAULT: u16 = 256;
/// Flag: the frame refers to a slot.
pub const FLAG_SLOT: u8 = 1;
/// Flag: the frame refers into a mapping.
pub const FLAG_MMAP: u8 = 2;

// A message's head fits inline under any limit that makes sense.
const _: () = assert!(HEAD_BYTES <= INLINE_BYTES_DEFAULT as usize);

/// Names a filled slot of the pool. Valid only while its generation is the slot's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotRef {
    /// Size class.
    pub class: u8,
    /// Which extent of the class.
    pub extent: u8,
    pub slot: u32,
    pub generation: u32,
}

/// Names bytes of a mapping that both sides know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmapRef {
    pub map: u32,
    pub generation: u32,
    /// In bytes from the mapping's beginning.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
}

impl MmapRef {
    /// The range of bytes, where it lies within a mapping of `map_len` bytes.
    pub fn range(&self, map_len: u64) -> Option<std::ops::Range<u64>> {
        let end = self.offset.checked_add(u64::from(self.len))?;
        (end <= map_len).then_some(self.offset..end)
    }
}

/// One entry of a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    Inline(&'a [u8]),
    Slot(SlotRef),
    Mmap(MmapRef),
}

/// Why bytes are no frame. The session that sent them is closed with this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidFrame {
    #[error("a frame of {needed} bytes is cut short: {got} are there")]
    Truncated { needed: u64, got: u64 },
    #[error("a frame says that it has {total} bytes, which is no multiple of 4")]
    Unaligned { total: u32 },
    #[error("a frame says that it has {total} bytes, its kind has {expected}")]
    Total { total: u32, expected: u32 },
    #[error("a frame has the flags {flags:#04x}: one of slot (1) and mapping (2), or none, is known")]
    Flags { flags: u8 },
    #[error("{what} of a frame is {got}, it must be 0")]
    NotZero { what: &'static str, got: u64 },
    #[error("{len} bytes inline are over the limit of {limit}")]
    InlineTooLong { len: u64, limit: u16 },
}

impl Frame<'_> {
    /// Bytes of this frame in the ring. `None` where an inline message is longer than any frame can hold.
    pub fn total(&self) -> Option<usize> {
        match self {
            Self::Inline(bytes) => u16::try_from(bytes.len()).ok().map(inline_total),
            Self::Slot(_) => Some(SLOT_REF_BYTES),
            Self::Mmap(_) => Some(MMAP_REF_BYTES),
        }
    }

    /// Appends the frame's bytes. Fails where an inline message is over `inline_max`: it belongs into a slot.
    pub fn encode(&self, inline_max: u16, out: &mut Vec<u8>) -> Result<(), InvalidFrame> {
        match self {
            Self::Inline(bytes) => {
                let len = u16::try_from(bytes.len()).ok().filter(|len| *len <= inline_max);
                let over = InvalidFrame::InlineTooLong { len: bytes.len() as u64, limit: inline_max };
                let len = len.ok_or(over)?;
                let total = inline_total(len);
                let end = out.len() + total;
                out.extend_from_slice(Header::new(total, 0, len).as_bytes());
                out.extend_from_slice(bytes);
                out.resize(end, 0);
            }
            Self::Slot(slot) => {
                out.extend_from_slice(Header::new(SLOT_REF_BYTES, FLAG_SLOT, 0).as_bytes());
                out.extend_from_slice(SlotBody::from(*slot).as_bytes());
            }
            Self::Mmap(mmap) => {
                out.extend_from_slice(Header::new(MMAP_REF_BYTES, FLAG_MMAP, 0).as_bytes());
                out.extend_from_slice(MmapBody::from(*mmap).as_bytes());
            }
        }
        Ok(())
    }
}

impl<'a> Frame<'a> {
    /// Reads the frame at the beginning of `bytes`, which end where the writer's cursor stands. Answers the frame and how
    /// many bytes it takes.
    pub fn decode(bytes: &'a [u8], inline_max: u16) -> Result<(Self, usize), InvalidFrame> {
        let got = bytes.len() as u64;
        let truncated = |needed: usize| InvalidFrame::Truncated { needed: needed as u64, got };
        let (header, rest) = Header::read_from_prefix(bytes).map_err(|_| truncated(FRAME_HEADER_BYTES))?;
        let total = header.total.get();
        if total % 4 != 0 {
            return Err(InvalidFrame::Unaligned { total });
        }
        must_be_zero("the reserved byte", u64::from(header.reserved))?;
        let inline_len = header.inline_len.get();
        let expected = match header.flags {
            0 if inline_len > inline_max => {
                return Err(InvalidFrame::InlineTooLong { len: u64::from(inline_len), limit: inline_max });
            }
            0 => inline_total(inline_len),
            FLAG_SLOT => SLOT_REF_BYTES,
            FLAG_MMAP => MMAP_REF_BYTES,
            flags => return Err(InvalidFrame::Flags { flags }),
        };
        if u64::from(total) != expected as u64 {
            // Every kind's length is far below 4 GiB.
            return Err(InvalidFrame::Total { total, expected: u32::try_from(expected).unwrap_or(u32::MAX) });
        }
        let frame = match header.flags {
            0 => {
                let body = rest.get(..expected - FRAME_HEADER_BYTES).ok_or_else(|| truncated(expected))?;
                let (message, padding) =
                    body.split_at_checked(usize::from(inline_len)).ok_or_else(|| truncated(expected))?;
                let dirty = padding.iter().find(|byte| **byte != 0).copied().unwrap_or(0);
                must_be_zero("the padding", u64::from(dirty))?;
                Self::Inline(message)
            }
            FLAG_SLOT => {
                must_be_zero("the inline length of a reference", u64::from(inline_len))?;
                let (body, _) = SlotBody::read_from_prefix(rest).map_err(|_| truncated(expected))?;
                must_be_zero("the reserved field", u64::from(body.reserved.get()))?;
                Self::Slot(body.into())
            }
            _ => {
                must_be_zero("the inline length of a reference", u64::from(inline_len))?;
                let (body, _) = MmapBody::read_from_prefix(rest).map_err(|_| truncated(expected))?;
                must_be_zero("the reserved field", u64::from(body.reserved.get()))?;
                Self::Mmap(body.into())
            }
        };
        Ok((frame, expected))
    }
}

/// Header and message, rounded up to a multiple of 4.
fn inline_total(len: u16) -> usize {
    (FRAME_HEADER_BYTES + usize::from(len)).next_multiple_of(4)
}

fn must_be_zero(what: &'static str, got: u64) -> Result<(), InvalidFrame> {
    if got == 0 { Ok(()) } else { Err(InvalidFrame::NotZero { what, got }) }
}
