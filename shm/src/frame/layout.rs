//! The frames' bytes, field by field.

use super::{MmapRef, SlotRef};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Header {
    pub total: U32,
    pub flags: u8,
    pub reserved: u8,
    pub inline_len: U16,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct SlotBody {
    class: u8,
    extent: u8,
    pub reserved: U16,
    slot: U32,
    generation: U32,
}

#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct MmapBody {
    map: U32,
    generation: U32,
    offset: U64,
    len: U32,
    pub reserved: U32,
}

impl Header {
    /// `total` is at most 65,544: a header and the longest inline message.
    pub fn new(total: usize, flags: u8, inline_len: u16) -> Self {
        let total = U32::new(u32::try_from(total).unwrap_or(u32::MAX));
        Self { total, flags, reserved: 0, inline_len: inline_len.into() }
    }
}

impl From<SlotRef> for SlotBody {
    fn from(SlotRef { class, extent, slot, generation }: SlotRef) -> Self {
        Self { class, extent, reserved: U16::ZERO, slot: slot.into(), generation: generation.into() }
    }
}

impl From<SlotBody> for SlotRef {
    fn from(body: SlotBody) -> Self {
        let SlotBody { class, extent, slot, generation, .. } = body;
        Self { class, extent, slot: slot.get(), generation: generation.get() }
    }
}

impl From<MmapRef> for MmapBody {
    fn from(MmapRef { map, generation, offset, len }: MmapRef) -> Self {
        let (map, generation) = (map.into(), generation.into());
        Self { map, generation, offset: offset.into(), len: len.into(), reserved: U32::ZERO }
    }
}

impl From<MmapBody> for MmapRef {
    fn from(body: MmapBody) -> Self {
        let MmapBody { map, generation, offset, len, .. } = body;
        Self { map: map.get(), generation: generation.get(), offset: offset.get(), len: len.get() }
    }
}
