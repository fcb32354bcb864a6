//! How values are named inside the store: small integers for namespaces, one key for every kind of value.

use bettong_wire::envelope::Kind;
use bettong_wire::request::Target;
use bettong_wire::{BlockKey, NamespaceId, Part};

/// A namespace, as a small integer of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NsNum(pub u32);

impl NsNum {
    /// Of every namespace that has no number here: nothing was ever written to it, and nothing is found in it.
    pub const NONE: Self = Self(u32::MAX);
}

/// The key of one value: a block, a sidecar, or a plain key by its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub ns: NsNum,
    pub kind: Kind,
    /// Zero for sidecars and plain keys.
    pub part: Part,
    pub hash: [u8; 32],
}

impl Key {
    pub fn of(ns: NsNum, target: &Target) -> Self {
        match target {
            Target::Block(key) => Self::block(ns, *key),
            Target::Sidecar(key) => Self { ns, kind: Kind::Sidecar, part: Part(0), hash: key.0 },
            Target::Plain(key) => {
                Self { ns, kind: Kind::Plain, part: Part(0), hash: *blake3::hash(key.as_bytes()).as_bytes() }
            }
        }
    }

    pub fn block(ns: NsNum, key: BlockKey) -> Self {
        Self { ns, kind: Kind::Block, part: key.part, hash: key.hash.0 }
    }
}

/// The namespaces that this process has met, by number and by id.
#[derive(Debug, Default)]
pub struct NamespaceTable {
    ids: Vec<NamespaceId>,
    numbers: std::collections::BTreeMap<NamespaceId, NsNum>,
}

impl NamespaceTable {
    /// Namespaces one process holds at most; the key table would otherwise grow with whatever callers name.
    pub const MAX: usize = 65_536;
    /// Namespaces that one tenant adds to them at most: no tenant takes the table from the others.
    pub const MAX_OF_TENANT: u32 = 8_192;

    /// The number of `id`, given out on the first call. `None` where the table is full.
    pub fn number(&mut self, id: NamespaceId) -> Option<NsNum> {
        if let Some(number) = self.numbers.get(&id) {
            return Some(*number);
        }
        if self.ids.len() >= Self::MAX {
            return None;
        }
        let number = NsNum(u32::try_from(self.ids.len()).ok()?);
        self.ids.push(id);
        self.numbers.insert(id, number);
        Some(number)
    }

    pub fn get(&self, id: NamespaceId) -> Option<NsNum> {
        self.numbers.get(&id).copied()
    }

    pub fn id(&self, number: NsNum) -> Option<NamespaceId> {
        self.ids.get(usize::try_from(number.0).ok()?).copied()
    }
}
