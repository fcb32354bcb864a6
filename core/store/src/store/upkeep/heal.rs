//! Healing: a verified copy from another tier or node takes the place of an object that does not verify.

use super::super::Store;
use super::super::fetch::{Good, ObjectRead};
use super::super::put::PutSpec;
use crate::index::{Entry, NodeNum};
use crate::keys::Key;
use crate::observe::State;
use crate::stats::Event;
use crate::world::World;
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Target, Tier};
use bettong_wire::{BlockHash, BlockKey, PutId, SidecarKey};

impl<W: World> Store<W> {
    /// Puts a quarantined value again, under a new put id, where a copy of it verifies. Says whether it did.
    pub(super) async fn heal(&self, key: &Key, entry: &Entry) -> bool {
        let Some(good) = self.good_copy(key, entry).await else { return false };
        self.put_again(key, entry.put_id, entry, good).await
    }

    /// This node's own copy is quarantined and `entry`'s, another node's, is good: put it again, unless the own entry is
    /// replaced or deleted first.
    pub(in super::super) fn heal_own(&self, key: &Key, entry: &Entry, good: &Good) {
        // Another node's plain key may hold something else.
        if key.kind == Kind::Plain {
            return;
        }
        let damaged = |own: &Entry| own.quarantined && !own.is_expired(self.shared.wall_ms());
        let Some(own) = self.shared.map.get(key, NodeNum::SELF).filter(damaged) else { return };
        let (store, key, entry, good) = (self.clone(), *key, *entry, good.clone());
        self.shared.world.spawn(async move {
            store.put_again(&key, own.put_id, &entry, good).await;
        });
    }

    /// Puts a good copy of `entry` in the place of the put that is damaged, under a new put id. Says whether it did:
    /// overwritten, deleted or healed meanwhile, the value does not come back.
    async fn put_again(&self, key: &Key, damaged: PutId, entry: &Entry, good: Good) -> bool {
        let shared = &self.shared;
        let Some(target) = self.target(key) else { return false };
        let spec = PutSpec {
            ns: key.ns,
            target,
            level: Level::Object,
            expires_at_ms: entry.expires_at_ms,
            parent: good.parent,
            sequence: entry.sequence,
        };
        let healed = self.put_in_place_of(damaged, spec, good.payload).await.is_ok_and(|stored| stored.is_some());
        if healed {
            shared.stats.count(Event::Healed);
            shared.world.reached(State::Healed);
        }
        healed
    }

    /// A copy on disk, of another node, or in memory, which does not know the parent.
    async fn good_copy(&self, key: &Key, entry: &Entry) -> Option<Good> {
        let shared = &self.shared;
        if let Some((header, payload)) = self.fetch_from_disk(key, &self.expected(key, entry)).await {
            return Some(Good::new(&header, payload, Tier::Disk));
        }
        let in_memory = shared.memory.get(entry.put_id);
        if let Some(payload) = in_memory.clone().filter(|_| entry.parent_tag == 0) {
            return Some(Good { payload, tier: Tier::Memory, parent: None });
        }
        let wall_ms = shared.wall_ms();
        // A plain key may hold something else on every node.
        for other in shared.map.versions(key).iter().filter(|_| key.kind != Kind::Plain) {
            let readable = other.node != NodeNum::SELF && !other.quarantined && !other.is_expired(wall_ms);
            if readable && let ObjectRead::Good(good, _) = self.read_object(key, other).await {
                return Some(good);
            }
        }
        in_memory.map(|payload| Good { payload, tier: Tier::Memory, parent: None })
    }

    fn target(&self, key: &Key) -> Option<Target> {
        Some(match key.kind {
            Kind::Block => Target::Block(BlockKey { hash: BlockHash(key.hash), part: key.part }),
            Kind::Sidecar => Target::Sidecar(SidecarKey(key.hash)),
            Kind::Plain => Target::Plain(self.shared.plain.lock().name(key)?.to_string()),
        })
    }
}
