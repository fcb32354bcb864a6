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
use bettong_wire::{BlockHash, BlockKey, SidecarKey};

impl<W: World> Store<W> {
    /// Puts a quarantined value again, under a new put id, where a copy of it verifies. Says whether it did.
    pub(super) async fn heal(&self, key: &Key, entry: &Entry) -> bool {
        let shared = &self.shared;
        let Some(good) = self.good_copy(key, entry).await else { return false };
        let Some(target) = self.target(key) else { return false };
        let spec = PutSpec {
            ns: key.ns,
            target,
            level: Level::Object,
            expires_at_ms: entry.expires_at_ms,
            parent: good.parent,
            sequence: entry.sequence,
        };
        // Overwritten, deleted or healed meanwhile, it does not come back.
        let healed = self.put_in_place_of(entry.put_id, spec, good.payload).await.is_ok_and(|stored| stored.is_some());
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
