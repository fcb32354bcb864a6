//! The index in memory: which values exist, with their metadata. At most 128 bytes an entry in all, key included.
//!
//! A shard is a table of 4-byte slot numbers over a slab that grows in chunks: the table's doubling costs little, and
//! the slab never moves or doubles. A key may have several entries, one for each node that names it.

use super::entry::{Entry, NodeNum, Packed};
use super::numbers::Numbers;
use crate::keys::{Key, NsNum};
use bettong_wire::PutId;
use bettong_wire::envelope::Kind;
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 16;
const CHUNK: usize = 1024;

/// The map. All methods are short and never wait for anything but a shard's lock.
#[derive(Debug)]
pub struct IndexMap {
    shards: Box<[RwLock<Shard>]>,
    numbers: RwLock<Numbers>,
    seed: u64,
    /// Entries that other nodes' indexes name.
    foreign: AtomicUsize,
    /// What this node's own entries take of the object store.
    own_object_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    table: HashTable<u32>,
    slots: Vec<Box<[Packed; CHUNK]>>,
    free: Vec<u32>,
    used: u32,
}

impl Shard {
    fn packed(&self, slot: u32) -> &Packed {
        &self.slots[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn packed_mut(&mut self, slot: u32) -> &mut Packed {
        &mut self.slots[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn find(&self, hash: u64, key: &Key, node: NodeNum) -> Option<u32> {
        let found = |slot: &u32| {
            let packed = self.packed(*slot);
            packed.is(key) && packed.node() == node
        };
        self.table.find(hash, found).copied()
    }

    /// Answers the entry that it replaces.
    fn put(&mut self, hash: u64, packed: Packed, key: &Key, seed: u64) -> Option<Packed> {
        if let Some(slot) = self.find(hash, key, packed.node()) {
            return Some(std::mem::replace(self.packed_mut(slot), packed));
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.used as usize == self.slots.len() * CHUNK {
                self.slots.push(Box::new([Packed::FREE; CHUNK]));
            }
            self.used += 1;
            self.used - 1
        });
        *self.packed_mut(slot) = packed;
        let slots = &self.slots;
        self.table
            .insert_unique(hash, slot, |slot| mix(&slots[*slot as usize / CHUNK][*slot as usize % CHUNK].key(), seed));
        None
    }

    fn remove(&mut self, hash: u64, slot: u32) {
        if let Ok(found) = self.table.find_entry(hash, |at| *at == slot) {
            found.remove();
            *self.packed_mut(slot) = Packed::FREE;
            self.free.push(slot);
        }
    }
}

/// Keyed, because callers choose the hashes. Block hashes are uniform already, so two words of them suffice.
fn mix(key: &Key, seed: u64) -> u64 {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&key.hash[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let tail = (u64::from(key.ns.0) << 24) ^ (u64::from(key.part.0) << 8) ^ (key.kind as u64);
    let a = u128::from(word(0) ^ seed) * u128::from((word(8) ^ seed.rotate_left(32)) | 1);
    let b = u128::from(word(16) ^ tail ^ seed.rotate_left(16)) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    (a as u64) ^ ((a >> 64) as u64) ^ (b as u64) ^ ((b >> 64) as u64)
}

/// The entry of a slot, which must be held still.
fn entry_of(packed: &Packed, numbers: &Numbers) -> Entry {
    packed.entry(numbers.life_of(packed.life()), numbers.pack_of(packed.pack()))
}

/// The low bits choose the bucket and the top seven the tag inside hashbrown; these choose the shard.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl IndexMap {
    /// An empty map whose hashing is keyed by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            numbers: RwLock::default(),
            seed,
            foreign: AtomicUsize::new(0),
            own_object_bytes: AtomicU64::new(0),
        }
    }

    /// Sets the entry of `key` for the entry's node, whatever was there.
    pub fn set(&self, key: &Key, entry: &Entry, accessed: u32) {
        let (life, pack) = {
            let mut numbers = self.numbers.write();
            let life = numbers.life(entry.put_id.life);
            (life, entry.in_pack.map_or(0, |place| numbers.enter(place.pack)))
        };
        let hash = mix(key, self.seed);
        let packed = Packed::new(key, entry, life, pack, accessed);
        let old = self.shards[shard_of(hash)].write().put(hash, packed, key, self.seed);
        match &old {
            Some(old) => self.leave(old.pack()),
            None if entry.node != NodeNum::SELF => drop(self.foreign.fetch_add(1, Ordering::Relaxed)),
            None => {}
        }
        // Added first: the sum never passes below zero.
        self.own_object_bytes.fetch_add(packed.own_object_bytes(), Ordering::Relaxed);
        self.own_object_bytes.fetch_sub(old.map_or(0, |old| old.own_object_bytes()), Ordering::Relaxed);
    }

    /// A name of `key` in 64 bits, for this process: keyed, so that nobody can choose it.
    pub fn name(&self, key: &Key) -> u64 {
        mix(key, self.seed)
    }

    /// This node's entry that has the name; of two that share one, either.
    pub fn named(&self, name: u64) -> Option<(Key, Entry)> {
        let shard = self.shards[shard_of(name)].read();
        let packed = shard.table.iter_hash(name).map(|slot| shard.packed(*slot));
        let packed =
            packed.into_iter().find(|held| held.node() == NodeNum::SELF && mix(&held.key(), self.seed) == name);
        packed.map(|packed| (packed.key(), entry_of(packed, &self.numbers.read())))
    }

    /// An entry left the pack of this number: after its slot says so, for a number may name another pack then.
    fn leave(&self, pack: u32) {
        if pack != 0 {
            self.numbers.write().leave(pack);
        }
    }

    /// The entry of `key` that `node` names.
    pub fn get(&self, key: &Key, node: NodeNum) -> Option<Entry> {
        let hash = mix(key, self.seed);
        let shard = self.shards[shard_of(hash)].read();
        let packed = shard.find(hash, key, node).map(|slot| *shard.packed(slot))?;
        Some(entry_of(&packed, &self.numbers.read()))
    }

    /// All entries of `key`, this node's first, then by node.
    pub fn versions(&self, key: &Key) -> Vec<Entry> {
        let hash = mix(key, self.seed);
        let shard = self.shards[shard_of(hash)].read();
        let numbers = self.numbers.read();
        let mut found: Vec<Entry> = shard
            .table
            .iter_hash(hash)
            .map(|slot| shard.packed(*slot))
            .filter(|packed| packed.is(key))
            .map(|packed| entry_of(packed, &numbers))
            .collect();
        found.sort_by_key(|entry| entry.node);
        found
    }

    /// Notes an access of this node's entry, for recency.
    pub fn touch(&self, key: &Key, accessed: u32) {
        let hash = mix(key, self.seed);
        let mut shard = self.shards[shard_of(hash)].write();
        if let Some(slot) = shard.find(hash, key, NodeNum::SELF) {
            shard.packed_mut(slot).accessed = accessed;
        }
    }

    /// When the entry was used last, as it was noted.
    pub fn accessed(&self, key: &Key, node: NodeNum) -> Option<u32> {
        let hash = mix(key, self.seed);
        let shard = self.shards[shard_of(hash)].read();
        shard.find(hash, key, node).map(|slot| shard.packed(slot).accessed)
    }

    /// Removes the entry of `key` for `node` if it is still of `put_id`; says whether it was.
    pub fn remove(&self, key: &Key, node: NodeNum, put_id: PutId) -> bool {
        let (mut pack, mut freed) = (0, 0);
        let removed = self.change(key, node, put_id, |shard, hash, slot| {
            (pack, freed) = (shard.packed(slot).pack(), shard.packed(slot).own_object_bytes());
            shard.remove(hash, slot);
        });
        self.leave(pack);
        self.own_object_bytes.fetch_sub(freed, Ordering::Relaxed);
        if removed && node != NodeNum::SELF {
            self.foreign.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// What this node's own entries take of the object store, as it is accounted for budgets. Bytes.
    pub fn own_object_bytes(&self) -> u64 {
        self.own_object_bytes.load(Ordering::Relaxed)
    }

    /// Entries that other nodes' indexes name.
    pub fn foreign(&self) -> usize {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Marks the entry as never to be read again if it is still of `put_id`; says whether it was.
    pub fn quarantine(&self, key: &Key, node: NodeNum, put_id: PutId) -> bool {
        self.change(key, node, put_id, |shard, _, slot| shard.packed_mut(slot).quarantine())
    }

    /// Changes where the bytes of an entry are if it is still of its put id; says whether it was. Recency stays.
    pub fn relocate(&self, key: &Key, entry: &Entry) -> bool {
        let pack = entry.in_pack.map_or(0, |place| self.numbers.write().enter(place.pack));
        let offset = entry.in_pack.map_or(0, |place| place.offset);
        // What is not used is given back.
        let mut left = pack;
        let moved = self.change(key, entry.node, entry.put_id, |shard, _, slot| {
            left = shard.packed_mut(slot).relocate(pack, offset);
        });
        self.leave(left);
        moved
    }

    /// Runs `then` while the entry of `put_id` cannot change; says whether it was still there. This is what keeps a read
    /// that began before a delete or a re-put from bringing the old version back.
    pub fn while_current(&self, key: &Key, node: NodeNum, put_id: PutId, then: impl FnOnce()) -> bool {
        self.change(key, node, put_id, |_, _, _| then())
    }

    fn change(&self, key: &Key, node: NodeNum, put_id: PutId, then: impl FnOnce(&mut Shard, u64, u32)) -> bool {
        let hash = mix(key, self.seed);
        let mut shard = self.shards[shard_of(hash)].write();
        let Some(slot) = shard.find(hash, key, node) else { return false };
        let packed = shard.packed(slot);
        let current = PutId { life: self.numbers.read().life_of(packed.life()), counter: packed.counter() };
        if current != put_id {
            return false;
        }
        then(&mut shard, hash, slot);
        true
    }

    /// Holds all shards still for a series of presence checks: one lock for each shard instead of one for each key.
    pub fn presence(&self, wall_ms: u64) -> Presence<'_> {
        Presence { shards: self.shards.iter().map(RwLock::read).collect(), seed: self.seed, wall_ms }
    }

    /// Entries in the map.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().table.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the map has allocated.
    pub fn bytes(&self) -> usize {
        let shard_bytes = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            shard.table.allocation_size()
                + shard.slots.len() * CHUNK * size_of::<Packed>()
                + shard.slots.capacity() * size_of::<usize>()
                + shard.free.capacity() * size_of::<u32>()
        };
        self.shards.iter().map(shard_bytes).sum::<usize>()
            + SHARDS * size_of::<RwLock<Shard>>()
            + self.numbers.read().bytes()
    }

    /// Walks entries from `cursor` on, at most `budget` slots, in an order that stays as long as an entry stays: an
    /// entry that is there all the time is met exactly once. Returns where the next walk starts, `None` at the end.
    pub fn walk(&self, cursor: Cursor, budget: usize, mut visit: impl FnMut(Key, Entry) -> bool) -> Option<Cursor> {
        let mut at = cursor;
        for _ in 0..budget {
            let shard = self.shards.get(at.shard as usize)?.read();
            if at.slot >= shard.used {
                at = Cursor { shard: at.shard + 1, slot: 0 };
                continue;
            }
            let packed = *shard.packed(at.slot);
            // While the shard is held still: what its numbers name does not change.
            let met = packed.in_use().then(|| (packed.key(), entry_of(&packed, &self.numbers.read())));
            drop(shard);
            if let Some((key, entry)) = met
                && !visit(key, entry)
            {
                return Some(at);
            }
            at.slot += 1;
        }
        ((at.shard as usize) < SHARDS).then_some(at)
    }

    /// Every entry that `wanted` accepts; for rare, whole passes.
    pub fn collect(&self, mut wanted: impl FnMut(&Key, &Entry) -> bool) -> Vec<(Key, Entry)> {
        let mut found = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.walk(at, 4096, |key, entry| {
                if wanted(&key, &entry) {
                    found.push((key, entry));
                }
                true
            });
        }
        found
    }
}

/// Where a walk stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    pub shard: u32,
    pub slot: u32,
}

/// The map held still for presence checks.
pub struct Presence<'a> {
    shards: Vec<RwLockReadGuard<'a, Shard>>,
    seed: u64,
    wall_ms: u64,
}

impl Presence<'_> {
    /// Whether any node has an entry of `key` that is neither expired nor quarantined.
    pub fn has(&self, key: &Key) -> bool {
        let hash = mix(key, self.seed);
        let Some(shard) = self.shards.get(shard_of(hash)) else { return false };
        let present = |slot: &u32| {
            let packed = shard.packed(*slot);
            packed.is(key) && packed.present(self.wall_ms)
        };
        shard.table.find(hash, present).is_some()
    }

    /// How many leading `hashes` are present in `ns`, for one part.
    pub fn prefix(&self, ns: NsNum, part: bettong_wire::Part, hashes: &[bettong_wire::BlockHash]) -> usize {
        let key = |hash: &bettong_wire::BlockHash| Key { ns, kind: Kind::Block, part, hash: hash.0 };
        hashes.iter().take_while(|hash| self.has(&key(hash))).count()
    }
}

#[cfg(test)]
mod tests;
