//! One entry of the index, and its compact form in memory.

use crate::keys::{Key, NsNum};
use bettong_wire::envelope::{HEADER_LEN, Kind};
use bettong_wire::request::Level;
use bettong_wire::{Part, PutId};

/// What the index knows of one version of one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub put_id: PutId,
    pub level: Level,
    /// Payload bytes before and after compression.
    pub raw_len: u32,
    pub stored_len: u32,
    /// Position in the chain.
    pub sequence: u32,
    /// First four bytes of the parent's hash, little-endian; zero where there is none. A hint, never a proof.
    pub parent_tag: u32,
    /// Unix milliseconds; zero means never.
    pub expires_at_ms: u64,
    /// The node whose index names this version; zero is this node.
    pub node: NodeNum,
    /// No copy of this version verified: it is never read again.
    pub quarantined: bool,
    /// Where its envelope is in the object store; `None` is an object of its own.
    pub in_pack: Option<InPack>,
}

/// A place in a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InPack {
    /// The put id that names the pack.
    pub pack: PutId,
    pub offset: u32,
}

/// A node of the bucket, as a small integer of this process. Zero is this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeNum(pub u16);

impl NodeNum {
    pub const SELF: Self = Self(0);
}

impl Entry {
    pub fn is_expired(&self, wall_ms: u64) -> bool {
        self.is_expired_by(|| wall_ms)
    }

    /// As `is_expired`, for who looks at the clock only where that matters: most values never expire.
    pub fn is_expired_by(&self, wall_ms: impl FnOnce() -> u64) -> bool {
        self.expires_at_ms != 0 && self.expires_at_ms <= wall_ms()
    }

    /// What it takes of a budget: header and stored payload.
    pub fn object_bytes(&self) -> u64 {
        HEADER_LEN as u64 + u64::from(self.stored_len)
    }
}

/// An entry with its key as the map keeps it. Lives and packs are small integers of the map (see `Numbers`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    hash: [u8; 32],
    counter: u64,
    expires_at_ms: u64,
    pub(super) accessed: u32,
    ns: u32,
    life: u32,
    raw_len: u32,
    stored_len: u32,
    sequence: u32,
    parent_tag: u32,
    /// Zero is an object of its own.
    pack: u32,
    offset: u32,
    part: u16,
    node: u16,
    /// Kind in bits 0-1, level in bits 2-3, quarantined in bit 4, in use in bit 5.
    flags: u8,
}

const _: () = assert!(size_of::<Packed>() <= 96);

const QUARANTINED: u8 = 1 << 4;
const IN_USE: u8 = 1 << 5;

impl Packed {
    /// A slot that holds nothing.
    pub(super) const FREE: Self = Self {
        hash: [0; 32],
        counter: 0,
        expires_at_ms: 0,
        accessed: 0,
        ns: 0,
        life: 0,
        raw_len: 0,
        stored_len: 0,
        sequence: 0,
        parent_tag: 0,
        pack: 0,
        offset: 0,
        part: 0,
        node: 0,
        flags: 0,
    };

    /// `life` and `pack` are the numbers of the entry's life and, where it is in one, of its pack; else zero.
    pub(super) fn new(key: &Key, entry: &Entry, life: u32, pack: u32, accessed: u32) -> Self {
        let level = match entry.level {
            Level::Memory => 0,
            Level::Journal => 1,
            Level::Object => 2,
        };
        let quarantined = if entry.quarantined { QUARANTINED } else { 0 };
        Self {
            hash: key.hash,
            counter: entry.put_id.counter,
            expires_at_ms: entry.expires_at_ms,
            accessed,
            ns: key.ns.0,
            life,
            raw_len: entry.raw_len,
            stored_len: entry.stored_len,
            sequence: entry.sequence,
            parent_tag: entry.parent_tag,
            pack,
            offset: entry.in_pack.map_or(0, |place| place.offset),
            part: key.part.0,
            node: entry.node.0,
            flags: (key.kind as u8) | (level << 2) | quarantined | IN_USE,
        }
    }

    pub(super) fn in_use(&self) -> bool {
        self.flags & IN_USE != 0
    }

    pub(super) fn is(&self, key: &Key) -> bool {
        self.hash == key.hash && self.ns == key.ns.0 && self.part == key.part.0 && self.flags & 3 == key.kind as u8
    }

    pub(super) fn node(&self) -> NodeNum {
        NodeNum(self.node)
    }

    pub(super) fn life(&self) -> u32 {
        self.life
    }

    pub(super) fn pack(&self) -> u32 {
        self.pack
    }

    /// Puts the bytes at another place; answers the pack where they were.
    pub(super) fn relocate(&mut self, pack: u32, offset: u32) -> u32 {
        self.offset = offset;
        std::mem::replace(&mut self.pack, pack)
    }

    pub(super) fn counter(&self) -> u64 {
        self.counter
    }

    /// What it takes of this node's part of the object store; zero where it is another node's, or not there yet.
    pub(super) fn own_object_bytes(&self) -> u64 {
        let entry = self.entry(0, None);
        if entry.node == NodeNum::SELF && entry.level == Level::Object { entry.object_bytes() } else { 0 }
    }

    pub(super) fn present(&self, wall_ms: u64) -> bool {
        self.flags & QUARANTINED == 0 && (self.expires_at_ms == 0 || self.expires_at_ms > wall_ms)
    }

    pub(super) fn quarantine(&mut self) {
        self.flags |= QUARANTINED;
    }

    pub(super) fn key(&self) -> Key {
        let kind = match self.flags & 3 {
            1 => Kind::Block,
            2 => Kind::Sidecar,
            _ => Kind::Plain,
        };
        Key { ns: NsNum(self.ns), kind, part: Part(self.part), hash: self.hash }
    }

    pub(super) fn entry(&self, life: u64, pack: Option<PutId>) -> Entry {
        let level = match (self.flags >> 2) & 3 {
            0 => Level::Memory,
            1 => Level::Journal,
            _ => Level::Object,
        };
        Entry {
            put_id: PutId { life, counter: self.counter },
            level,
            raw_len: self.raw_len,
            stored_len: self.stored_len,
            sequence: self.sequence,
            parent_tag: self.parent_tag,
            expires_at_ms: self.expires_at_ms,
            node: NodeNum(self.node),
            quarantined: self.flags & QUARANTINED != 0,
            in_pack: pack.map(|pack| InPack { pack, offset: self.offset }),
        }
    }
}
