//! Forgetting versions: out of the index, then out of memory and disk, then out of the object store. A crash in between
//! leaves objects that nothing names but the rows of the dead, by which the next start removes them.

use super::Store;
use crate::index::Entry;
use crate::index::committer::{CommitError, IndexChange};
use crate::index::rows::Mark;
use crate::keys::Key;
use crate::locks::KeyGuard;
use crate::objects::names::PayloadName;
use crate::observe::{Forgetting, Point, Reason, Step};
use crate::world::World;
use bettong_wire::PutId;
use tokio::sync::OwnedSemaphorePermit;

/// A version that is to be forgotten, with its key's lock.
pub(super) struct Going {
    pub key: Key,
    pub entry: Entry,
    pub why: Reason,
    pub guard: KeyGuard,
}

impl<W: World> Store<W> {
    /// Forgets versions that are this node's and in the object store, all or none. They are out of the index, for good,
    /// when this returns; their objects follow while `permit` is held.
    pub(super) async fn forget(&self, going: Vec<Going>, permit: OwnedSemaphorePermit) -> Result<(), CommitError> {
        let shared = &self.shared;
        let wall_ms = shared.wall_ms();
        let mut changes = Vec::with_capacity(going.len() * 2);
        let mut objects = Vec::with_capacity(going.len());
        for Going { key, entry, why, .. } in &going {
            let (value_key, put_id) = (shared.value_key(key), entry.put_id);
            changes.push(IndexChange::Remove { key: value_key, put_id });
            // What is in a pack goes with the pack: its bytes stop counting now, and are in the bucket until then.
            let pack = entry.in_pack.map(|place| place.pack);
            changes.push(IndexChange::Dead { key: value_key, put_id, wall_ms, mark: Mark::None, pack });
            objects.push((value_key, put_id, Mark::None));
            shared.world.forgets(&self.forgetting(key, put_id, *why, Step::Begins));
        }
        let coming = self.commits.announce();
        self.commits.commit(changes, coming).await?;
        for Going { key, entry, why, .. } in &going {
            if let Some(disk) = &shared.disk {
                disk.remove(&shared.disk_key(key));
            }
            shared.world.forgets(&self.forgetting(key, entry.put_id, *why, Step::Done));
        }
        going.into_iter().for_each(|going| drop(going.guard));
        let store = self.clone();
        shared.world.spawn(async move {
            store.shared.world.at(Point::BetweenEvictAndObject).await;
            store.remove_objects_now(objects).await;
            drop(permit);
        });
        Ok(())
    }

    fn forgetting(&self, key: &Key, put_id: PutId, why: Reason, step: Step) -> Forgetting {
        let namespace = self.shared.namespace_id(key.ns);
        let name = PayloadName { namespace, kind: key.kind, hash: key.hash, part: key.part, put_id };
        Forgetting { name, why, step }
    }
}
