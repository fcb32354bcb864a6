//! Deleting by name, clearing tiers, and removing the objects of what is dead.

use super::lives::Owner;
use super::open::of_index;
use super::shared::Owed;
use super::{OpenError, Store};
use crate::index::committer::IndexChange;
use crate::index::rows::{DeadRow, Mark, ValueKey};
use crate::index::{Entry, NodeNum};
use crate::keys::{Key, NsNum};
use crate::objects::{ObjectError, Page};
use crate::observe::{Point, State};
use crate::record;
use crate::stats::{Event, Timed};
use crate::world::{Clock, Mono, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Tier};
use bettong_wire::{ErrorKind, NamespaceId, Part, PutId, ServiceError};
use futures::{StreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;

/// What `node/{node id}/dead/{put id}` holds: the key, so that the node that wrote the object can remove it.
#[derive(Serialize, Deserialize)]
pub(super) struct DeadRecord {
    kind: u8,
    namespace: String,
    hash: String,
    part: u16,
    wall_ms: u64,
    /// Every version of the key that the marking node wrote up to this order (life ordinal, counter) is dead too.
    ordinal: u64,
    counter: u64,
}

/// Dead marks of one page of a listing.
const PAGE: usize = 1000;
/// Marks that are read and applied at once.
const MARKS_AT_ONCE: usize = 32;
/// Objects that are removed at once.
const REMOVALS_AT_ONCE: usize = 16;
/// Rows of dead put ids that go from the index at once.
const ROWS_AT_ONCE: usize = 64;
/// Pause before the removal of an object is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_secs(5);
/// Old marks of this node that one refresh looks at.
const MARKS_A_ROUND: usize = 64;
/// Monotone time throughout which the wall clock must say that a mark is old.
const CLOCK_BELIEVED_AFTER: Duration = Duration::from_secs(3600);
/// Attempts at one removal in this life; the next start resumes.
const REMOVAL_ATTEMPTS_MAX: u32 = 20;

impl<W: World> Store<W> {
    /// Deletes every version of `key`, also such as this node does not know; true where there was one that it knows. Work that has begun goes on when
    /// the returned future is dropped; work that still waits for the key's lock does not begin.
    pub async fn delete(&self, key: &Key) -> Result<bool, ServiceError> {
        let began = self.shared.world.clock().mono();
        let (answer, result) = oneshot::channel();
        let (store, key) = (self.clone(), *key);
        self.shared.world.spawn(async move {
            let _guard = store.locks.lock([key]).await;
            // Begun after its caller has gone, it would delete what was put meanwhile.
            if !answer.is_closed() {
                let _ = answer.send(store.delete_locked(&key).await);
            }
        });
        let closing = || Err(ServiceError::new(ErrorKind::Retry, "the store is closing: the outcome is not known"));
        let result = result.await.unwrap_or_else(|_| closing());
        self.shared.stats.timed(Timed::Delete, self.shared.world.clock().mono().since(began));
        result
    }

    async fn delete_locked(&self, key: &Key) -> Result<bool, ServiceError> {
        let shared = &self.shared;
        let versions = shared.map.versions(key);
        let wall_ms = shared.wall_ms();
        shared.ghosts.lock().remove(key);
        let mut durable: Vec<Entry> = versions.iter().filter(|entry| entry.level > Level::Memory).copied().collect();
        durable.extend(shared.shadowed.lock().get(key).copied());
        // An earlier life may have ended between an object and its entry: nothing here knows of it, and a listing of the
        // bucket would find it.
        let doubtful = shared.lives.read().has_earlier() || shared.unresolved.lock().contains(key);
        let lingers = !shared.dead.lock().lingering(&shared.value_key(key)).is_empty();
        if !durable.is_empty() || doubtful || lingers {
            self.index_takes_writes()?;
            self.bury_by_name(key, &durable).await.map_err(outcome_unknown)?;
            shared.unresolved.lock().remove(key);
        }
        // What an earlier delete of this key still owes to the bucket is part of this one.
        self.settle_owed(&shared.value_key(key)).await.map_err(outcome_unknown)?;
        for entry in &versions {
            shared.hide_entry(key, entry.node, entry.put_id);
        }
        if let Some(disk) = &shared.disk {
            disk.remove(&shared.disk_key(key));
        }
        let existed = versions.iter().any(|entry| !entry.is_expired(wall_ms));
        if existed {
            shared.stats.count(Event::Deleted);
        }
        Ok(existed)
    }

    /// Makes `versions` of a key dead, and what is left of older ones: first in the index, so that nothing here relies on
    /// them any more, then by marks in the bucket. A mark that is not confirmed is owed, and written until it is; the
    /// index remembers it. Needs the key's lock.
    pub(super) async fn bury_by_name(&self, key: &Key, versions: &[Entry]) -> Result<(), String> {
        let shared = &self.shared;
        let value_key = shared.value_key(key);
        let wall_ms = shared.wall_ms();
        // Drawn under the key's lock: every earlier write of this node is below it, known or not.
        let horizon = shared.draw_put_id();
        let own = versions.iter().find(|entry| entry.node == NodeNum::SELF);
        let shown = versions.iter().map(|entry| (entry.put_id, entry.in_pack.map(|place| place.pack)));
        let named: BTreeMap<PutId, Option<PutId>> =
            shared.dead.lock().lingering(&value_key).into_iter().chain(shown).chain([(horizon, None)]).collect();
        let ids: Vec<PutId> = named.keys().copied().collect();
        // Even where the map shows no durable version of this node: a row may be there that a failed burial left.
        let removed = IndexChange::Remove { key: value_key, put_id: own.map_or(horizon, |entry| entry.put_id) };
        let dead = |(put_id, pack): (PutId, Option<PutId>)| IndexChange::Dead {
            key: value_key,
            put_id,
            wall_ms,
            mark: Mark::Own,
            pack,
        };
        let changes = std::iter::once(removed).chain(named.into_iter().map(dead)).collect();
        shared.world.at(Point::BeforeDeadMark).await;
        let coming = self.commits.announce();
        self.commits.commit(changes, coming).await.map_err(|error| error.to_string())?;
        shared.owed.lock().extend(ids.iter().map(|put_id| (*put_id, Owed { key: value_key, horizon, wall_ms })));
        let own = versions.iter().filter(|entry| entry.node == NodeNum::SELF);
        self.remove_objects(own.map(|entry| (value_key, entry.put_id, Mark::Own)).collect());
        shared.shadowed.lock().remove(key);
        // Rows first: of a delete that a crash cuts here the journal alone would bring an older version back.
        self.journal_delete(key, horizon).await.map_err(|error| format!("the journal: {error}"))?;
        let settled = self.settle_owed(&value_key).await;
        if settled.is_err() {
            ids.into_iter().for_each(|put_id| self.owe_mark(put_id));
        }
        settled
    }

    /// Writes the marks that are owed for a key.
    async fn settle_owed(&self, key: &ValueKey) -> Result<(), String> {
        let shared = &self.shared;
        let owed: Vec<(PutId, Owed)> = {
            let owed = shared.owed.lock();
            owed.iter().filter(|(_, owed)| owed.key == *key).map(|(put_id, owed)| (*put_id, owed.clone())).collect()
        };
        let written = owed.into_iter().map(|(put_id, owed)| async move {
            let written = self.write_mark(&owed.key, put_id, owed.horizon, owed.wall_ms).await;
            written.map(|()| {
                shared.owed.lock().remove(&put_id);
            })
        });
        let written = futures::future::join_all(written).await;
        written.into_iter().collect::<Result<(), ObjectError>>().map_err(|error| format!("a dead mark: {error}"))
    }

    async fn write_mark(&self, key: &ValueKey, put_id: PutId, horizon: PutId, wall_ms: u64) -> Result<(), ObjectError> {
        let shared = &self.shared;
        let (ordinal, counter) = shared.order(horizon);
        let held = DeadRecord {
            kind: key.kind as u8,
            namespace: key.namespace.to_hex(),
            hash: blake3::Hash::from_bytes(key.hash).to_hex().to_string(),
            part: key.part.0,
            wall_ms,
            ordinal,
            counter,
        };
        let bytes = record::encode(&held).map_err(ObjectError::Unknown)?;
        let path = shared.names.dead_mark(&shared.config.node_id, put_id);
        shared.objects.put_unique(&path, bytes.into()).await
    }

    /// Writes an owed mark until it is confirmed, in the background.
    fn owe_mark(&self, put_id: PutId) {
        let store = self.clone();
        self.shared.world.spawn(async move {
            let shared = &store.shared;
            while store.is_running() {
                let Some(owed) = shared.owed.lock().get(&put_id).cloned() else { return };
                match store.write_mark(&owed.key, put_id, owed.horizon, owed.wall_ms).await {
                    Ok(()) => drop(shared.owed.lock().remove(&put_id)),
                    Err(error) => tracing::warn!(%error, %put_id, "a dead mark is still owed"),
                }
                shared.world.clock().sleep(REMOVAL_PAUSE).await;
            }
        });
    }

    /// Removes objects that this node wrote and that are dead, in the background. What a crash interrupts, the next
    /// start resumes, because the dead rows are durable. The row of an overwritten version goes with its object; what is
    /// in a pack goes with the pack, which is rewritten or removed when enough of it is dead.
    pub(super) fn remove_objects(&self, objects: Vec<(ValueKey, PutId, Mark)>) {
        let store = self.clone();
        self.shared.world.spawn_behind(async move { store.remove_objects_now(objects).await });
    }

    /// As `remove_objects`; ends when they are gone, or were tried long enough.
    pub(super) async fn remove_objects_now(&self, mut objects: Vec<(ValueKey, PutId, Mark)>) {
        let shared = &self.shared;
        shared.world.at(Point::BeforeObjectDelete).await;
        objects.retain(|(_, put_id, _)| shared.dead.lock().get(*put_id).is_none_or(|row| row.pack.is_none()));
        let removed = objects.into_iter().map(|(key, put_id, mark)| async move {
            (self.remove_object(&key, put_id).await && mark == Mark::None).then_some(put_id)
        });
        let removed = stream::iter(removed.collect::<Vec<_>>()).buffer_unordered(REMOVALS_AT_ONCE);
        // The rows of a batch go together: what is slow holds up no object, only rows.
        let mut removed = removed.filter_map(std::future::ready).chunks(ROWS_AT_ONCE);
        while let Some(mut forgotten) = removed.next().await {
            // A delete that came meanwhile named it: its row is the mark's then.
            forgotten.retain(|put_id| shared.dead.lock().get(*put_id).is_some_and(|row| row.mark == Mark::None));
            let changes = forgotten.into_iter().map(|put_id| IndexChange::Forget { put_id }).collect();
            let coming = self.commits.announce();
            let _ = self.commits.commit(changes, coming).await;
        }
    }

    /// Removes, in the background, an object of this node that no index entry ever named.
    pub(super) fn remove_unindexed(&self, key: ValueKey, put_id: PutId) {
        let store = self.clone();
        self.shared.world.spawn(async move {
            store.remove_object(&key, put_id).await;
        });
    }

    /// The durable versions of this node: what the map shows of `shown` and what a journaled put hides.
    pub(super) fn durable_versions(&self, key: &Key, shown: Option<Entry>) -> Vec<Entry> {
        let hidden = self.shared.shadowed.lock().get(key).copied();
        shown.into_iter().filter(|entry| entry.level > Level::Memory).chain(hidden).collect()
    }

    async fn remove_object(&self, key: &ValueKey, put_id: PutId) -> bool {
        let shared = &self.shared;
        self.remove_at(&shared.object_path(key, put_id)).await
    }

    /// Removes an object that is dead, or that nothing names; says whether it is gone.
    pub(super) async fn remove_at(&self, path: &Path) -> bool {
        let shared = &self.shared;
        for _ in 0..REMOVAL_ATTEMPTS_MAX {
            match shared.objects.remove(path).await {
                Ok(()) => return true,
                Err(error) => tracing::debug!(%error, %path, "a dead object is still there"),
            }
            if !self.is_running() {
                return false;
            }
            shared.world.clock().sleep(REMOVAL_PAUSE).await;
        }
        false
    }

    /// Removes again what was dead before this start; most of it is gone already.
    pub(super) fn resume_removals(&self) {
        let own: Vec<(ValueKey, PutId, Mark)> = {
            let dead = self.shared.dead.lock();
            let own = dead.all().filter(|(put_id, _)| self.shared.is_own_life(put_id.life));
            own.map(|(put_id, row)| (row.key, put_id, row.mark)).collect()
        };
        if !own.is_empty() {
            self.remove_objects(own);
        }
    }

    /// At a start: the marks of all nodes, this one's first. With `horizons` a delete of this node buries every older
    /// version that a listing shows. Marks that this node owes are written.
    pub(super) async fn apply_all_dead_marks(&self, horizons: bool) -> Result<(), OpenError> {
        let shared = &self.shared;
        let own = self.apply_dead_marks(&shared.config.node_id, horizons.then_some(Owner::SELF)).await?;
        let owed: Vec<(ValueKey, PutId, u64)> = {
            let dead = shared.dead.lock();
            let owed = dead.all().filter(|(put_id, row)| row.mark == Mark::Own && !own.contains(put_id));
            owed.map(|(put_id, row)| (row.key, put_id, row.wall_ms)).collect()
        };
        for (key, put_id, wall_ms) in owed {
            // Its own put id is a right horizon: everything that the mark's delete named was written before it.
            shared.owed.lock().insert(put_id, Owed { key, horizon: put_id, wall_ms });
            self.owe_mark(put_id);
        }
        for node_id in shared.objects.folders(&shared.names.nodes()).await? {
            let retired = shared.lives.read().owner(&node_id).filter(|_| horizons);
            if node_id != shared.config.node_id
                && let Err(error) = self.apply_dead_marks(&node_id, retired).await
            {
                tracing::warn!(%error, node_id, "a node's dead marks cannot all be read; they are read again later");
            }
        }
        Ok(())
    }

    /// Applies the dead marks that `node_id` left in the bucket and that this node has not seen; answers all of them. With
    /// `horizons`, which says who `node_id` is, all of them also bury what is older.
    /// Entries of this node that they name go from its index, and their objects from the bucket.
    pub(super) async fn apply_dead_marks(
        &self,
        node_id: &str,
        horizons: Option<Owner>,
    ) -> Result<BTreeSet<PutId>, OpenError> {
        let shared = &self.shared;
        let mark = if node_id == shared.config.node_id { Mark::Own } else { Mark::Foreign };
        let prefix = shared.names.dead_marks(node_id);
        let mut after = None;
        let mut listed = BTreeSet::new();
        let mut failed = None;
        loop {
            let Page { objects, more } = shared.objects.page(&prefix, after.as_ref(), PAGE).await?;
            after = objects.last().map(|object| object.location.clone());
            let named = objects.into_iter().filter_map(|object| {
                let put_id = object.location.filename().and_then(PutId::parse)?;
                Some((put_id, object.location))
            });
            let named: Vec<(PutId, Path)> = named.collect();
            listed.extend(named.iter().map(|(put_id, _)| *put_id));
            let unseen =
                named.into_iter().filter(|(put_id, _)| horizons.is_some() || !shared.dead.lock().contains(*put_id));
            let applied = unseen.map(|(put_id, path)| self.apply_dead_mark(put_id, path, mark, horizons));
            let mut applied = stream::iter(applied.collect::<Vec<_>>()).buffered(MARKS_AT_ONCE);
            // One mark that does not verify holds up no other.
            while let Some(applied) = applied.next().await {
                failed = failed.or(applied.err());
            }
            if !more {
                return failed.map_or(Ok(listed), Err);
            }
        }
    }

    async fn apply_dead_mark(
        &self,
        put_id: PutId,
        path: Path,
        mark: Mark,
        horizons: Option<Owner>,
    ) -> Result<(), OpenError> {
        let shared = &self.shared;
        let Some(held) = shared.objects.find_record::<DeadRecord>(&path).await? else { return Ok(()) };
        let Some(key) = held.key() else {
            return Err(ObjectError::Denied(format!("{path} is not a dead mark")).into());
        };
        if let Some(owner) = horizons {
            // What the marking node wrote before its delete, and what is older than the version that the mark names.
            let named = shared.lives.read().place(put_id);
            let mut horizons = shared.horizons.lock();
            for (owner, order) in [(owner, (held.ordinal, held.counter))].into_iter().chain(named) {
                let horizon = horizons.entry((owner, key)).or_default();
                *horizon = (*horizon).max(order);
            }
        }
        let Some(map_key) = shared.key(&key) else { return Ok(()) };
        let _guard = self.locks.lock([map_key]).await;
        if shared.dead.lock().contains(put_id) {
            return Ok(());
        }
        let own = shared.map.get(&map_key, NodeNum::SELF).filter(|entry| entry.put_id == put_id);
        shared.world.reached_if(mark == Mark::Foreign, State::DeadMarkOfPeer);
        let removed = own.map(|_| IndexChange::Remove { key, put_id });
        let versions = shared.map.versions(&map_key);
        let place = versions.iter().find(|entry| entry.put_id == put_id).and_then(|entry| entry.in_pack);
        let pack = place.map(|place| place.pack);
        let dead = IndexChange::Dead { key, put_id, wall_ms: held.wall_ms, mark, pack };
        let coming = self.commits.announce();
        let committed = self.commits.commit(removed.into_iter().chain([dead]).collect(), coming).await;
        committed.map_err(|error| of_index(shared.conditional_create, error))?;
        if shared.is_own_life(put_id.life) {
            self.remove_objects(vec![(key, put_id, mark)]);
        }
        Ok(())
    }

    /// Forgets marks: this node's own once they are past their time, in the bucket first; others' once they are not in
    /// `listed` any more. `old` remembers since when the wall clock says that a mark is old: only a clock that stays
    /// there is believed, so that a jump brings nothing back.
    pub(super) async fn forget_marks(&self, old: &mut BTreeMap<PutId, Mono>, listed: Option<&BTreeSet<PutId>>) {
        let shared = &self.shared;
        let kept_ms = u64::try_from(shared.config.dead_marks_kept.as_millis()).unwrap_or(u64::MAX);
        let before_ms = shared.wall_ms().saturating_sub(kept_ms);
        let now = shared.world.clock().mono();
        let mut said = BTreeMap::new();
        let mut gone = Vec::new();
        let mut after = None;
        // Until a retired node is wholly taken over, what was deleted meanwhile must be known.
        let may_forget = shared.lives.read().all_taken_over();
        loop {
            let rows = shared.dead.lock().page(after, PAGE);
            let Some((last, _)) = rows.last() else { break };
            after = Some(*last);
            for (put_id, row) in rows {
                match row.mark {
                    Mark::Own if may_forget && row.wall_ms < before_ms && !shared.owed.lock().contains_key(&put_id) => {
                        said.insert(put_id, row);
                    }
                    Mark::Foreign if listed.is_some_and(|listed| !listed.contains(&put_id)) => gone.push(put_id),
                    Mark::None | Mark::Own | Mark::Foreign => {}
                }
            }
            tokio::task::yield_now().await;
        }
        old.retain(|put_id, _| said.contains_key(put_id));
        let mut asked = 0;
        for (put_id, row) in said {
            let since = *old.entry(put_id).or_insert(now);
            if now.since(since) >= CLOCK_BELIEVED_AFTER && asked < MARKS_A_ROUND {
                asked += 1;
                if self.forget_mark(&row, put_id).await {
                    gone.push(put_id);
                }
            }
        }
        for forgotten in gone.chunks(PAGE) {
            let changes = forgotten.iter().map(|put_id| IndexChange::Forget { put_id: *put_id }).collect();
            let coming = self.commits.announce();
            if self.commits.commit(changes, coming).await.is_err() {
                return;
            }
        }
    }

    /// Removes an old mark of this node, once the object that it names is gone; of a value in a pack, the pack.
    async fn forget_mark(&self, row: &DeadRow, put_id: PutId) -> bool {
        let shared = &self.shared;
        if let Some(pack) = row.pack {
            let pack = shared.names.pack(row.key.namespace, pack);
            if !matches!(shared.objects.get_head(&pack, 1).await, Err(ObjectError::NotFound)) {
                return false;
            }
        }
        let object = shared.object_path(&row.key, put_id);
        if shared.is_own_life(put_id.life) && shared.objects.remove(&object).await.is_err() {
            return false;
        }
        let gone = matches!(shared.objects.get_head(&object, 1).await, Err(ObjectError::NotFound));
        gone && shared.objects.remove(&shared.names.dead_mark(&shared.config.node_id, put_id)).await.is_ok()
    }

    /// Empties one tier of one namespace; says how many values it concerned. The object tier is emptied by deleting
    /// every value by name.
    pub async fn clear(&self, ns: NsNum, tier: Tier) -> Result<u64, ServiceError> {
        let shared = &self.shared;
        let held = shared.map.collect(|key, _| key.ns == ns);
        match tier {
            Tier::Memory => {
                let mut cleared = 0;
                for (key, entry) in held {
                    cleared += u64::from(shared.memory.contains(entry.put_id));
                    shared.memory.remove(entry.put_id);
                    if entry.level == Level::Memory && shared.hide_entry(&key, entry.node, entry.put_id) {
                        shared.ghosts.lock().insert(key, Level::Memory, shared.config.ghosts_max);
                    }
                }
                Ok(cleared)
            }
            Tier::Disk => {
                let Some(disk) = &shared.disk else { return Ok(0) };
                let keys: Vec<_> = held.iter().map(|(key, _)| shared.disk_key(key)).collect();
                let there: Vec<_> = keys.iter().filter(|key| disk.may_contain(key)).collect();
                there.iter().for_each(|key| disk.remove(key));
                Ok(there.len() as u64)
            }
            Tier::Object => {
                let mut keys: Vec<Key> = held.into_iter().map(|(key, _)| key).collect();
                keys.sort();
                keys.dedup();
                let mut deleted = 0;
                for key in keys {
                    deleted += u64::from(self.delete(&key).await?);
                }
                Ok(deleted)
            }
        }
    }
}

impl DeadRecord {
    pub(super) fn key(&self) -> Option<ValueKey> {
        let kind = match self.kind {
            1 => Kind::Block,
            2 => Kind::Sidecar,
            3 => Kind::Plain,
            _ => return None,
        };
        let hash = *blake3::Hash::from_hex(&self.hash).ok()?.as_bytes();
        Some(ValueKey { kind, namespace: NamespaceId::from_hex(&self.namespace)?, hash, part: Part(self.part) })
    }
}

fn outcome_unknown(error: impl std::fmt::Display) -> ServiceError {
    ServiceError::new(ErrorKind::Retry, format!("the outcome of the delete is not known: {error}"))
}
