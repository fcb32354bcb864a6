//! One lock for each key: mutations of a key hold it from drawing the put id until they are visible or failed. And one for
//! each of whatever else has a name.

use crate::keys::Key;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

type Slot = Arc<tokio::sync::Mutex<()>>;
type Slots<K> = Arc<Mutex<BTreeMap<K, Slot>>>;

/// The locks that somebody holds or waits for; a lock nobody wants takes no memory.
#[derive(Debug)]
pub struct KeyLocks<K: Copy + Ord = Key> {
    slots: Slots<K>,
}

/// Holds the locks of some keys.
pub struct KeyGuard<K: Copy + Ord = Key> {
    slots: Slots<K>,
    held: Vec<(K, Option<OwnedMutexGuard<()>>)>,
}

impl<K: Copy + Ord> Default for KeyLocks<K> {
    fn default() -> Self {
        Self { slots: Slots::default() }
    }
}

impl<K: Copy + Ord> KeyLocks<K> {
    /// Locks all `keys`, in their order, so that two batches never wait for each other.
    pub async fn lock(&self, keys: impl IntoIterator<Item = K>) -> KeyGuard<K> {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        let mut guard = KeyGuard { slots: self.slots.clone(), held: Vec::with_capacity(keys.len()) };
        for key in keys {
            let slot = self.slots.lock().entry(key).or_default().clone();
            // Registered first, so that a waiter that is dropped while it waits cleans up after itself.
            guard.held.push((key, None));
            let lock = slot.lock_owned().await;
            if let Some(last) = guard.held.last_mut() {
                last.1 = Some(lock);
            }
        }
        guard
    }

    /// Locks all `keys` where nobody holds one of them or waits for it.
    pub fn try_lock_all(&self, keys: impl IntoIterator<Item = K>) -> Option<KeyGuard<K>> {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort();
        keys.dedup();
        let mut guard = KeyGuard { slots: self.slots.clone(), held: Vec::with_capacity(keys.len()) };
        for key in keys {
            guard.held.append(&mut self.try_lock(key)?.held);
        }
        Some(guard)
    }

    /// Locks `key` where nobody holds it or waits for it.
    pub fn try_lock(&self, key: K) -> Option<KeyGuard<K>> {
        let mut slots = self.slots.lock();
        let slot = slots.entry(key).or_default().clone();
        // Two: the map's own reference and this one.
        let free = Arc::strong_count(&slot) == 2;
        let lock = free.then(|| slot.try_lock_owned().ok()).flatten()?;
        drop(slots);
        Some(KeyGuard { slots: self.slots.clone(), held: vec![(key, Some(lock))] })
    }
}

impl<K: Copy + Ord> Drop for KeyGuard<K> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        for (key, lock) in self.held.drain(..) {
            drop(lock);
            // The map's own reference is the only one left: nobody holds it, nobody waits.
            if slots.get(&key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
                slots.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::NsNum;
    use bettong_wire::Part;
    use bettong_wire::envelope::Kind;
    use futures::FutureExt;
    use futures::executor::block_on;

    fn key(n: u8) -> Key {
        Key { ns: NsNum(0), kind: Kind::Block, part: Part(0), hash: [n; 32] }
    }

    #[test]
    fn a_key_is_held_by_one_and_forgotten_after_the_last() {
        let locks = KeyLocks::default();
        let first = block_on(locks.lock([key(2), key(1), key(2)]));
        let mut second = Box::pin(locks.lock([key(1)]));
        assert!(second.as_mut().now_or_never().is_none());
        let mut given_up = Box::pin(locks.lock([key(2)]));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        assert!(locks.try_lock(key(1)).is_none() && locks.try_lock(key(2)).is_none());
        let third = locks.try_lock(key(3)).unwrap();
        assert!(locks.try_lock_all([key(4), key(2), key(5)]).is_none() && locks.try_lock_all([key(3)]).is_none());
        let others = locks.try_lock_all([key(5), key(4), key(5)]).unwrap();
        assert!(locks.try_lock(key(4)).is_none() && locks.try_lock(key(5)).is_none());
        drop(others);
        assert!(locks.try_lock(key(3)).is_none());
        drop(third);
        drop(first);
        drop(block_on(second));
        assert!(locks.slots.lock().is_empty());
    }
}
