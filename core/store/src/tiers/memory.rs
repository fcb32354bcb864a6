//! The memory tier: payloads by put id, so that a version is never taken for another.

use crate::keys::Key;
use bettong_wire::{Payload, PutId};
use foyer::{Cache, CacheBuilder, Event, EventListener, LruConfig};
use parking_lot::Mutex;
use std::sync::Arc;

/// One: a shard is the unit of eviction, and one that is smaller than a block would take it in beyond its bound.
const SHARDS: usize = 1;

/// What keeping one value takes besides its payload: many short ones would else take far more than the tier may have.
const VALUE_BYTES: usize = 256;

#[derive(Clone)]
struct Held {
    key: Key,
    payload: Payload,
    /// Nothing else has these bytes: leaving memory means leaving the store.
    volatile: bool,
}

/// A value that left memory and was nowhere else.
pub type Lost = (Key, PutId);

#[derive(Default)]
struct Losses(Mutex<Vec<Lost>>);

impl EventListener for Losses {
    type Key = PutId;
    type Value = Held;

    fn on_leave(&self, reason: Event, put_id: &PutId, held: &Held) {
        if held.volatile && reason == Event::Evict {
            self.0.lock().push((held.key, *put_id));
        }
    }
}

/// Payloads in memory, bounded in bytes, least recently used out first.
pub struct MemoryTier {
    cache: Cache<PutId, Held>,
    losses: Arc<Losses>,
}

impl std::fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryTier({} of {} bytes)", self.cache.usage(), self.cache.capacity())
    }
}

impl MemoryTier {
    /// Holds at most `bytes` of payload, what keeping the values takes included.
    pub fn new(bytes: u64) -> Self {
        let losses = Arc::new(Losses::default());
        let cache = CacheBuilder::new(usize::try_from(bytes).unwrap_or(usize::MAX))
            .with_shards(SHARDS)
            .with_eviction_config(LruConfig { high_priority_pool_ratio: 0.0 })
            .with_weighter(|_: &PutId, held: &Held| held.payload.len().saturating_add(VALUE_BYTES))
            .with_event_listener(losses.clone())
            .build();
        Self { cache, losses }
    }

    pub fn get(&self, put_id: PutId) -> Option<Payload> {
        self.cache.get(&put_id).map(|held| held.value().payload.clone())
    }

    pub fn contains(&self, put_id: PutId) -> bool {
        self.cache.contains(&put_id)
    }

    /// Takes a payload in. With `volatile` its loss is reported by `take_losses`.
    pub fn insert(&self, key: Key, put_id: PutId, payload: Payload, volatile: bool) {
        self.cache.insert(put_id, Held { key, payload, volatile });
    }

    pub fn remove(&self, put_id: PutId) {
        self.cache.remove(&put_id);
    }

    /// Volatile values that were evicted since the last call.
    pub fn take_losses(&self) -> Vec<Lost> {
        std::mem::take(&mut *self.losses.0.lock())
    }

    /// Bytes held: payload, and what keeping the values takes.
    pub fn bytes(&self) -> u64 {
        self.cache.usage() as u64
    }

    pub fn capacity(&self) -> u64 {
        self.cache.capacity() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::Part;
    use bettong_wire::envelope::Kind;

    #[test]
    fn short_values_take_no_more_than_the_tier_may_have() {
        let tier = MemoryTier::new(1 << 20);
        let key = Key { ns: crate::keys::NsNum(0), kind: Kind::Block, part: Part(0), hash: [0; 32] };
        for counter in 0..100_000 {
            tier.insert(key, PutId { life: 1, counter }, Payload::from(vec![7]), true);
        }
        let held = (0..100_000).filter(|counter| tier.contains(PutId { life: 1, counter: *counter })).count();
        assert_eq!(held + tier.take_losses().len(), 100_000);
        assert!((3_000..4_200).contains(&held), "{held} values in a MiB");
    }
}
