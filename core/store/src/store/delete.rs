//! Deleting by name, clearing tiers, and removing the objects of what is dead.

use super::{OpenError, Store};
use crate::index::committer::IndexChange;
use crate::index::rows::ValueKey;
use crate::index::{Entry, NodeNum};
use crate::keys::{Key, NsNum};
use crate::objects::{ObjectError, Page};
use crate::observe::{Point, State};
use crate::record::{self, RECORD_BYTES_MAX};
use crate::stats::{Event, Timed};
use crate::world::{Clock, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Tier};
use bettong_wire::{ErrorKind, NamespaceId, Part, PutId, ServiceError};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::oneshot;

/// What `node/{node id}/dead/{put id}` holds: the key, so that the node that wrote the object can remove it.
#[derive(Serialize, Deserialize)]
struct DeadRecord {
    kind: u8,
    namespace: String,
    hash: String,
    part: u16,
    wall_ms: u64,
}

/// Dead marks of one page of a listing.
const PAGE: usize = 1000;
/// Pause before the removal of an object is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_secs(5);
/// Attempts at one removal in this life; the next start resumes.
const REMOVAL_ATTEMPTS_MAX: u32 = 20;

impl<W: World> Store<W> {
    /// Deletes every version of `key` that this node knows; true where there was one. The work goes on when the returned
    /// future is dropped.
    pub async fn delete(&self, key: &Key) -> Result<bool, ServiceError> {
        let began = self.shared.world.clock().mono();
        let (answer, result) = oneshot::channel();
        let (store, key) = (self.clone(), *key);
        self.shared.world.spawn(async move {
            let _guard = store.locks.lock([key]).await;
            let _ = answer.send(store.delete_locked(&key).await);
        });
        let closing = || Err(ServiceError::new(ErrorKind::Retry, "the store is closing: the outcome is not known"));
        let result = result.await.unwrap_or_else(|_| closing());
        self.shared.stats.timed(Timed::Delete, self.shared.world.clock().mono().since(began));
        result
    }

    async fn delete_locked(&self, key: &Key) -> Result<bool, ServiceError> {
        let shared = &self.shared;
        let versions = shared.map.versions(key);
        let value_key = shared.value_key(key);
        let wall_ms = shared.wall_ms();
        shared.ghosts.lock().remove(key);
        let durable: Vec<&Entry> = versions.iter().filter(|entry| entry.level > Level::Memory).collect();
        // Versions that were overwritten are named too: a listing of the bucket must not find the last of them.
        let overwritten = shared.dead.lock().of_key(&value_key);
        if !durable.is_empty() {
            shared.world.at(Point::BeforeDeadMark).await;
            let ids: Vec<PutId> = durable.iter().map(|entry| entry.put_id).chain(overwritten).collect();
            self.mark_dead(&value_key, &ids, wall_ms).await.map_err(outcome_unknown)?;
            self.commit_dead(&value_key, &durable, wall_ms).await?;
        }
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

    async fn mark_dead(&self, key: &ValueKey, ids: &[PutId], wall_ms: u64) -> Result<(), ObjectError> {
        let shared = &self.shared;
        let held = DeadRecord {
            kind: key.kind as u8,
            namespace: key.namespace.to_hex(),
            hash: blake3::Hash::from_bytes(key.hash).to_hex().to_string(),
            part: key.part.0,
            wall_ms,
        };
        let bytes = record::encode(&held).map_err(ObjectError::Unknown)?;
        for put_id in ids {
            let path = shared.names.dead_mark(&shared.config.node_id, *put_id);
            shared.objects.put_unique(&path, bytes.clone().into()).await?;
        }
        Ok(())
    }

    async fn commit_dead(&self, key: &ValueKey, durable: &[&Entry], wall_ms: u64) -> Result<(), ServiceError> {
        let own = durable.iter().find(|entry| entry.node == NodeNum::SELF);
        let removed = own.map(|entry| IndexChange::Remove { key: *key, put_id: entry.put_id });
        let dead = durable.iter().map(|entry| IndexChange::Dead { key: *key, put_id: entry.put_id, wall_ms });
        let changes = removed.into_iter().chain(dead).collect();
        let coming = self.commits.announce();
        self.commits.commit(changes, coming).await.map_err(outcome_unknown)?;
        if let Some(own) = own {
            self.remove_objects(vec![(*key, own.put_id)]);
        }
        Ok(())
    }

    /// Removes objects that this node wrote and that are dead, in the background. What a crash interrupts, the next
    /// start resumes, because the dead rows are durable.
    pub(super) fn remove_objects(&self, objects: Vec<(ValueKey, PutId)>) {
        let store = self.clone();
        self.shared.world.spawn(async move {
            let shared = &store.shared;
            shared.world.at(Point::BeforeObjectDelete).await;
            for (key, put_id) in objects {
                let path = shared.object_path(&key, put_id);
                for _ in 0..REMOVAL_ATTEMPTS_MAX {
                    match shared.objects.remove(&path).await {
                        Ok(()) => break,
                        Err(error) => tracing::debug!(%error, %path, "a dead object is still there"),
                    }
                    shared.world.clock().sleep(REMOVAL_PAUSE).await;
                }
            }
        });
    }

    /// Removes again what was dead before this start; most of it is gone already.
    pub(super) fn resume_removals(&self) {
        let own: Vec<(ValueKey, PutId)> = {
            let dead = self.shared.dead.lock();
            dead.all().filter(|(_, put_id)| self.shared.is_own_life(put_id.life)).collect()
        };
        if !own.is_empty() {
            self.remove_objects(own);
        }
    }

    /// Applies the dead marks that `node_id` left in the bucket and that this node has not seen. Entries of this node
    /// that they name go from its index, and their objects from the bucket.
    pub(super) async fn apply_dead_marks(&self, node_id: &str) -> Result<(), OpenError> {
        let shared = &self.shared;
        let prefix = shared.names.dead_marks(node_id);
        let mut after = None;
        loop {
            let Page { objects, more } = shared.objects.list(&prefix, after.as_ref(), PAGE).await?;
            after = objects.last().map(|object| object.location.clone());
            for object in &objects {
                let Some(put_id) = object.location.filename().and_then(PutId::parse) else { continue };
                if shared.dead.lock().contains(put_id) {
                    continue;
                }
                let bytes = match shared.objects.get(&object.location, RECORD_BYTES_MAX).await {
                    Ok(bytes) => bytes,
                    Err(ObjectError::NotFound) => continue,
                    Err(error) => return Err(error.into()),
                };
                match record::decode::<DeadRecord>(&bytes).ok().and_then(|held| Some((held.key()?, held.wall_ms))) {
                    Some((key, wall_ms)) => self.apply_dead_mark(key, put_id, wall_ms).await,
                    None => tracing::warn!(path = %object.location, "a dead mark is damaged; it is read again later"),
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn apply_dead_mark(&self, key: ValueKey, put_id: PutId, wall_ms: u64) {
        let shared = &self.shared;
        let Some(map_key) = shared.key(&key) else { return };
        let _guard = self.locks.lock([map_key]).await;
        let own = shared.map.get(&map_key, NodeNum::SELF).filter(|entry| entry.put_id == put_id);
        shared.world.reached(State::DeadMarkOfPeer);
        let removed = own.map(|_| IndexChange::Remove { key, put_id });
        let changes = removed.into_iter().chain([IndexChange::Dead { key, put_id, wall_ms }]).collect();
        let coming = self.commits.announce();
        match self.commits.commit(changes, coming).await {
            Ok(()) if shared.is_own_life(put_id.life) => self.remove_objects(vec![(key, put_id)]),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "a dead mark is not applied yet"),
        }
    }

    /// Forgets dead marks that are past their time, in the bucket first.
    pub(super) async fn forget_old_marks(&self) {
        let shared = &self.shared;
        let kept_ms = u64::try_from(shared.config.dead_marks_kept.as_millis()).unwrap_or(u64::MAX);
        let old = shared.dead.lock().older_than(shared.wall_ms().saturating_sub(kept_ms));
        for put_id in old.into_iter().take(PAGE) {
            if shared.objects.remove(&shared.names.dead_mark(&shared.config.node_id, put_id)).await.is_err() {
                return;
            }
            let coming = self.commits.announce();
            if self.commits.commit(vec![IndexChange::Forget { put_id }], coming).await.is_err() {
                return;
            }
        }
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
                        shared.ghosts.lock().insert(key, shared.config.ghosts_max);
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
    fn key(&self) -> Option<ValueKey> {
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
