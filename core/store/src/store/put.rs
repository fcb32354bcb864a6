//! Putting values. Nothing is visible to look-ups before it is safe at its level; a failed or unknown put is whole or
//! absent, never a part.

use super::Store;
use super::packs::{Item, Packing, groups};
use crate::index::committer::IndexChange;
use crate::index::rows::{Mark, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::keys::{Key, NsNum};
use crate::locks::KeyGuard;
use crate::objects::ObjectError;
use crate::observe::{Point, State};
use crate::seal::{SealMeta, Sealed, seal};
use crate::stats::{Event, Timed};
use crate::world::{Clock, Mono, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Target};
use bettong_wire::response::Stored;
use bettong_wire::{BlockHash, ErrorKind, Payload, PutId, ServiceError};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::oneshot;

/// Objects of one batch that are uploaded at once.
const UPLOADS_AT_ONCE: usize = 16;

/// What is to be put.
#[derive(Clone, Debug)]
pub struct PutSpec {
    pub ns: NsNum,
    pub target: Target,
    pub level: Level,
    /// Unix milliseconds; zero means never.
    pub expires_at_ms: u64,
    pub parent: Option<BlockHash>,
    pub sequence: u32,
}

/// Why a put was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Refused before anything was attempted: never served.
    #[error("{0}")]
    Refused(ServiceError),
    /// After an attempt: whole or absent.
    #[error("the outcome of the put is not known: {0}")]
    Unknown(String),
}

impl From<PutError> for ServiceError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Refused(error) => error,
            PutError::Unknown(_) => Self::new(ErrorKind::Retry, error.to_string()),
        }
    }
}

impl PutError {
    fn refused(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Refused(ServiceError::new(kind, message))
    }
}

/// First four bytes of a parent's hash: enough of a hint for eviction order.
pub(super) fn tag(parent: &BlockHash) -> u32 {
    let [a, b, c, d, ..] = parent.0;
    u32::from_le_bytes([a, b, c, d])
}

/// Where the task of a put says what became of it.
type Answer = oneshot::Sender<Result<Vec<Stored>, PutError>>;

/// A put that has its put id.
pub(super) struct Prepared {
    pub(super) key: Key,
    /// Its envelope, where it leaves memory: hashing waits until then.
    pub(super) sealed: Option<Sealed>,
    pub(super) payload: Payload,
    pub(super) row: ValueRow,
    /// The version that it replaces.
    pub(super) old: Option<Entry>,
}

impl<W: World> Store<W> {
    /// Puts one value, as `put_batch` does.
    pub async fn put(&self, spec: PutSpec, payload: Payload) -> Result<Stored, PutError> {
        let mut stored = self.put_batch(vec![(spec, payload)]).await?;
        stored.pop().ok_or_else(|| PutError::refused(ErrorKind::Internal, "a put without an answer"))
    }

    /// Puts several values: all or nothing in the index. All must ask for the same level. Work that has begun goes on
    /// when the returned future is dropped; work that still waits for a key's lock does not begin.
    pub async fn put_batch(&self, puts: Vec<(PutSpec, Payload)>) -> Result<Vec<Stored>, PutError> {
        let until = self.mono().plus(self.shared.config.read_deadline_default);
        self.put_batch_until(puts, until).await
    }

    /// As `put_batch`; where the journal is full the puts wait for room until `until`, and are then refused as busy.
    pub async fn put_batch_until(&self, puts: Vec<(PutSpec, Payload)>, until: Mono) -> Result<Vec<Stored>, PutError> {
        self.admit(&puts)?;
        let began = self.shared.world.clock().mono();
        let level = puts.first().map_or(Level::Memory, |(spec, _)| spec.level);
        puts.first().iter().for_each(|(spec, _)| self.shared.set_active(spec.ns));
        let keys: Vec<Key> = puts.iter().map(|(spec, _)| Key::of(spec.ns, &spec.target)).collect();
        let free = (level == Level::Memory).then(|| self.locks.try_lock_all(keys.iter().copied())).flatten();
        let result = match free {
            Some(guard) => self.put_at_once(puts, keys, guard).await,
            None => self.put_in_turn(puts, keys, until).await,
        };
        let what = match level {
            Level::Memory => Timed::PutMemory,
            Level::Journal => Timed::PutJournal,
            Level::Object => Timed::PutObject,
        };
        self.shared.stats.timed(what, self.shared.world.clock().mono().since(began));
        result
    }

    /// Puts what only memory is to hold and whose keys nobody else has. Nearly always nothing has to be waited for: it is
    /// done here, because to hand it to another task takes longer than to do it. What has to be waited for is left to a task
    /// of the store, and goes on when the returned future is dropped.
    async fn put_at_once(
        &self,
        puts: Vec<(PutSpec, Payload)>,
        keys: Vec<Key>,
        guard: KeyGuard,
    ) -> Result<Vec<Stored>, PutError> {
        let (stored, fresh) = self.prepare_all(puts, keys, Level::Memory).inspect_err(|_| self.count_failed())?;
        let durable = self.show_in_memory(&fresh);
        if durable.is_empty() {
            self.count_stored(&fresh);
            return Ok(stored);
        }
        let store = self.clone();
        self.in_own_task(move |answer| async move {
            let _guard = guard;
            let replaced = store.replace_in_memory(&fresh, durable).await;
            let result = store.settled(&fresh, replaced).map(|()| stored);
            let _ = answer.send(result.inspect_err(|_| store.count_failed()));
        })
        .await
    }

    /// Puts in a task of the store, after whoever has one of the keys.
    async fn put_in_turn(
        &self,
        puts: Vec<(PutSpec, Payload)>,
        keys: Vec<Key>,
        until: Mono,
    ) -> Result<Vec<Stored>, PutError> {
        let store = self.clone();
        self.in_own_task(move |answer| async move {
            let _guard = store.locks.lock(keys.iter().copied()).await;
            // Begun after its caller has gone, it would undo what was done meanwhile.
            if answer.is_closed() {
                return;
            }
            let result = store.put_locked(puts, keys, until).await;
            let _ = answer.send(result.inspect_err(|_| store.count_failed()));
        })
        .await
    }

    /// Runs a put in a task of the store, where it goes on when the returned future is dropped.
    async fn in_own_task<F>(&self, put: impl FnOnce(Answer) -> F) -> Result<Vec<Stored>, PutError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        self.shared.world.spawn(put(answer));
        result.await.unwrap_or_else(|_| Err(PutError::Unknown("the store is closing".to_owned())))
    }

    /// Puts a value in the place of this node's own damaged version `damaged`; `None` where that was replaced or deleted
    /// meanwhile, and nothing is put.
    pub(super) async fn put_in_place_of(
        &self,
        damaged: PutId,
        spec: PutSpec,
        payload: Payload,
    ) -> Result<Option<Stored>, PutError> {
        let puts = vec![(spec, payload)];
        self.admit(&puts)?;
        let keys: Vec<Key> = puts.iter().map(|(spec, _)| Key::of(spec.ns, &spec.target)).collect();
        let _guard = self.locks.lock(keys.iter().copied()).await;
        let held = keys.first().and_then(|key| self.shared.map.get(key, NodeNum::SELF));
        if !held.is_some_and(|held| held.put_id == damaged && held.quarantined) {
            return Ok(None);
        }
        let until = self.mono().plus(self.shared.config.read_deadline_default);
        Ok(self.put_locked(puts, keys, until).await?.pop())
    }

    /// Everything that can be refused before an attempt.
    fn admit(&self, puts: &[(PutSpec, Payload)]) -> Result<(), PutError> {
        let shared = &self.shared;
        if let Some(fate) = &*shared.fate.borrow() {
            return Err(PutError::refused(ErrorKind::Unavailable, format!("this node takes no puts: {fate}")));
        }
        for (_, payload) in puts {
            let (len, limit) = (payload.len() as u64, shared.config.payload_bytes_max);
            if len > limit {
                let message = format!("a payload of {len} bytes is over the limit of {limit} bytes");
                return Err(PutError::Refused(ServiceError::too_large(message, limit)));
            }
        }
        // Refused before its object is written: while the index takes no writes, each would stay behind as an orphan.
        if puts.iter().any(|(spec, _)| spec.level == Level::Object) {
            self.index_takes_writes().map_err(PutError::Refused)?;
        }
        let (held, limit) = (shared.map.len(), shared.config.index_entries_max);
        if held.saturating_add(puts.len()) > limit {
            let message = format!("the index holds {held} values, the limit is {limit}");
            return Err(PutError::Refused(ServiceError::busy(message, 1000)));
        }
        let (held, limit) = (shared.plain.lock().len(), shared.config.plain_keys_max);
        if puts.iter().any(|(spec, _)| matches!(spec.target, Target::Plain(_))) && held >= limit {
            let message = format!("{held} plain keys are held, the limit is {limit}");
            return Err(PutError::Refused(ServiceError::busy(message, 1000)));
        }
        Ok(())
    }

    /// Needs the locks of all `keys`.
    pub(super) async fn put_locked(
        &self,
        puts: Vec<(PutSpec, Payload)>,
        keys: Vec<Key>,
        until: Mono,
    ) -> Result<Vec<Stored>, PutError> {
        let level = puts.first().map_or(Level::Memory, |(spec, _)| spec.level);
        let (stored, mut fresh) = self.prepare_all(puts, keys, level)?;
        let put = match level {
            Level::Memory => {
                let durable = self.show_in_memory(&fresh);
                self.replace_in_memory(&fresh, durable).await
            }
            Level::Journal => self.put_in_journal(&fresh, until).await,
            Level::Object => self.put_in_objects(&mut fresh).await,
        };
        self.settled(&fresh, put)?;
        Ok(stored)
    }

    /// The puts that have to be made, each with its put id, and the answers to all. Needs the locks of all `keys`.
    fn prepare_all(
        &self,
        puts: Vec<(PutSpec, Payload)>,
        keys: Vec<Key>,
        level: Level,
    ) -> Result<(Vec<Stored>, Vec<Prepared>), PutError> {
        let shared = &self.shared;
        let mut stored = Vec::with_capacity(puts.len());
        let mut fresh: Vec<Prepared> = Vec::new();
        for ((spec, payload), key) in puts.into_iter().zip(keys) {
            let held = shared.map.get(&key, NodeNum::SELF);
            if let Some(put_id) = held.as_ref().and_then(|held| self.satisfies(&key, held, level)) {
                shared.used(&key);
                stored.push(Stored { put_id, already: true });
                continue;
            }
            if let Some(twin) = fresh.iter().find(|twin| twin.key == key && key.kind != Kind::Plain) {
                stored.push(Stored { put_id: twin.row.entry.put_id, already: true });
                continue;
            }
            let payload = self.in_memory(payload, level)?;
            let prepared = self.prepare(spec, key, payload, held);
            stored.push(Stored { put_id: prepared.row.entry.put_id, already: false });
            fresh.push(prepared);
        }
        let already = (stored.len() - fresh.len()) as u64;
        shared.stats.add(Event::PutsAlready, already);
        shared.world.reached_if(already > 0, State::PutAlreadyStored);
        Ok((stored, fresh))
    }

    /// What is kept in mind of puts that were attempted.
    fn settled(&self, fresh: &[Prepared], put: Result<(), PutError>) -> Result<(), PutError> {
        if matches!(put, Err(PutError::Unknown(_))) {
            let mut unresolved = self.shared.unresolved.lock();
            fresh.iter().for_each(|put| unresolved.insert(put.key));
        }
        put.inspect(|()| self.count_stored(fresh))
    }

    fn count_stored(&self, fresh: &[Prepared]) {
        self.shared.stats.add(Event::PutsStored, fresh.len() as u64);
        self.shared.stats.add(Event::PutBytes, fresh.iter().map(|put| put.payload.len() as u64).sum());
    }

    fn count_failed(&self) {
        self.shared.stats.count(Event::PutsFailed);
    }

    /// The put id of an entry that makes this put unnecessary: blocks and sidecars are immutable. Another node's entry
    /// never satisfies a put, and neither does one whose bytes are gone.
    fn satisfies(&self, key: &Key, held: &Entry, level: Level) -> Option<PutId> {
        let there = held.level > Level::Memory || self.shared.memory.contains(held.put_id);
        let good = key.kind != Kind::Plain
            && !held.quarantined
            && !held.is_expired(self.shared.wall_ms())
            && held.level >= level
            && there;
        good.then_some(held.put_id)
    }

    /// The payload where the memory tier can keep it. Where there is no room it stays what it was: only a put that nothing
    /// else keeps is refused.
    fn in_memory(&self, payload: Payload, level: Level) -> Result<Payload, PutError> {
        let placed = self.shared.memory.admit(payload.clone());
        self.shared.settle_losses();
        match placed {
            Err(error) if level == Level::Memory => Err(PutError::Refused(error.into())),
            placed => Ok(placed.unwrap_or(payload)),
        }
    }

    fn prepare(&self, spec: PutSpec, key: Key, payload: Payload, old: Option<Entry>) -> Prepared {
        let shared = &self.shared;
        let put_id = shared.draw_put_id();
        let plain_key = match spec.target {
            Target::Plain(key) => key,
            Target::Block(_) | Target::Sidecar(_) => String::new(),
        };
        let sealed = (spec.level > Level::Memory).then(|| {
            let meta = SealMeta {
                kind: key.kind,
                namespace: shared.namespace_id(key.ns),
                hash: key.hash,
                part: key.part,
                plain_key: plain_key.clone(),
                sequence: spec.sequence,
                put_id,
                parent: spec.parent,
                created_at_ms: shared.wall_ms(),
                expires_at_ms: spec.expires_at_ms,
            };
            seal(&meta, &payload, shared.config.compression)
        });
        let raw_len = payload.len() as u64;
        let stored_len = sealed.as_ref().map_or(raw_len, |sealed| sealed.header.stored_len);
        let entry = Entry {
            put_id,
            level: spec.level,
            raw_len: u32::try_from(raw_len).unwrap_or(u32::MAX),
            stored_len: u32::try_from(stored_len).unwrap_or(u32::MAX),
            sequence: spec.sequence,
            parent_tag: spec.parent.as_ref().map_or(0, tag),
            expires_at_ms: spec.expires_at_ms,
            node: NodeNum::SELF,
            quarantined: false,
            in_pack: None,
        };
        Prepared { key, sealed, payload, row: ValueRow { entry, plain_key }, old }
    }

    /// Level `memory`: visible as soon as the bytes are in the tier and no durable older version can come back at a
    /// restart. A reader never meets a gap between the two. Answers which are not visible yet, and their durable versions.
    fn show_in_memory(&self, fresh: &[Prepared]) -> Vec<(usize, Vec<Entry>)> {
        let shared = &self.shared;
        let mut left = Vec::new();
        for (at, put) in fresh.iter().enumerate() {
            let Prepared { key, payload, row, old, .. } = put;
            shared.memory.insert(*key, row.entry.put_id, payload.clone(), true);
            let durable = self.durable_versions(key, *old);
            // An earlier put or burial that failed may have left a durable version that the map does not show.
            let doubtful = shared.unresolved.lock().contains(key);
            if durable.is_empty() && !doubtful {
                shared.show_entry(key, &row.entry, &row.plain_key);
                old.iter().for_each(|old| shared.memory.remove(old.put_id));
                self.hide_if_evicted(put);
            } else {
                left.push((at, durable));
            }
        }
        shared.settle_losses();
        left
    }

    /// Makes those visible that `show_in_memory` has left.
    async fn replace_in_memory(&self, fresh: &[Prepared], left: Vec<(usize, Vec<Entry>)>) -> Result<(), PutError> {
        let mut failed = None;
        for (put, durable) in left.iter().filter_map(|(at, durable)| Some((fresh.get(*at)?, durable))) {
            if let Err(error) = self.replace_durable(put, durable).await {
                failed = failed.or(Some(error));
            }
            self.hide_if_evicted(put);
        }
        self.shared.settle_losses();
        failed.map_or(Ok(()), |error| Err(PutError::Unknown(error)))
    }

    /// Evicted before it was shown, its loss found nothing to hide.
    fn hide_if_evicted(&self, put: &Prepared) {
        let put_id = put.row.entry.put_id;
        if !self.shared.memory.contains(put_id) {
            self.shared.hide_entry(&put.key, NodeNum::SELF, put_id);
        }
    }

    /// Buries the durable versions; the new one is shown in the moment in which they are durably gone, because whoever
    /// has seen it must not see an older one again.
    async fn replace_durable(&self, put: &Prepared, durable: &[Entry]) -> Result<(), String> {
        let shared = &self.shared;
        shared.replacing.lock().insert(put.key, put.row.clone());
        let buried = self.bury_by_name(&put.key, durable).await;
        if shared.replacing.lock().remove(&put.key).is_some() {
            shared.memory.remove(put.row.entry.put_id);
        }
        if buried.is_ok() {
            shared.unresolved.lock().remove(&put.key);
        }
        buried
    }

    /// Level `object`: every payload object is confirmed, then one durable index batch names them all.
    async fn put_in_objects(&self, fresh: &mut [Prepared]) -> Result<(), PutError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let coming = self.commits.announce();
        let packings = self.pack_together(fresh);
        let fresh = &*fresh;
        let packs = packings.iter().map(|packing| self.write_pack(packing).boxed());
        let alone = fresh.iter().filter(|put| put.row.entry.in_pack.is_none()).map(|put| self.upload(put).boxed());
        let mut uploads = stream::iter(packs.chain(alone).collect::<Vec<_>>()).buffered(UPLOADS_AT_ONCE);
        while let Some(uploaded) = uploads.next().await {
            uploaded.map_err(|error| self.upload_failed(&error))?;
        }
        shared.world.at(Point::BetweenObjectAndIndex).await;
        let named = packings.iter().map(Packing::named);
        let values = fresh.iter().flat_map(|put| {
            let named = IndexChange::Put { key: shared.value_key(&put.key), row: put.row.clone() };
            std::iter::once(named).chain(self.bury(put))
        });
        let changes = named.chain(values).collect();
        // In memory before it is visible, so that the first look-up finds it there.
        for Prepared { key, payload, row, .. } in fresh {
            shared.memory.insert(*key, row.entry.put_id, payload.clone(), false);
        }
        if let Err(error) = self.commits.commit(changes, coming).await {
            fresh.iter().for_each(|put| shared.memory.remove(put.row.entry.put_id));
            shared.world.reached(State::PutUnknown);
            return Err(PutError::Unknown(error.to_string()));
        }
        // All of them are visible, whatever the journal says of one.
        let mut failed = None;
        for put in fresh {
            self.account(put);
            if let (Some(disk), Some(sealed)) = (&shared.disk, &put.sealed) {
                disk.store(shared.disk_key(&put.key), sealed);
            }
            self.remove_object_later(put);
            let journaled = self.journal_overwrite(&put.key, put.row.entry.put_id, Level::Object).await;
            failed = failed.or(journaled.err());
        }
        shared.settle_losses();
        failed.map_or(Ok(()), |error| Err(PutError::Unknown(error.to_string())))
    }

    /// Makes packs of the values that are small enough and gives these their places.
    fn pack_together(&self, fresh: &mut [Prepared]) -> Vec<Packing> {
        let header = |put: &Prepared| put.sealed.as_ref().map_or(0, |sealed| self.packable(&sealed.header));
        let sizes: Vec<_> = fresh.iter().map(|put| (put.key.ns, header(put))).collect();
        let groups = groups(&sizes, self.shared.config.pack_bytes);
        let packed = groups.into_iter().map(|group| {
            let sealed = group.iter().filter_map(|at| fresh[*at].sealed.as_ref());
            let item =
                |sealed: &Sealed| Item { header: sealed.header.clone(), pieces: sealed.parts().map(Bytes::clone) };
            let items = sealed.map(item).collect();
            let packing = self.pack(self.shared.namespace_id(fresh[group[0]].key.ns), items);
            for (at, place) in group.into_iter().zip(&packing.places) {
                fresh[at].row.entry.in_pack = Some(*place);
            }
            packing
        });
        packed.collect()
    }

    async fn upload(&self, put: &Prepared) -> Result<(), ObjectError> {
        let shared = &self.shared;
        let Some(sealed) = &put.sealed else { return Ok(()) };
        let point = if put.key.kind == Kind::Sidecar { Point::BeforeSidecarPut } else { Point::BeforeObjectPut };
        shared.world.at(point).await;
        let path = shared.object_path(&shared.value_key(&put.key), put.row.entry.put_id);
        shared.objects.put_unique(&path, sealed.to_put_payload()).await
    }

    fn upload_failed(&self, error: &ObjectError) -> PutError {
        self.shared.world.reached(State::PutUnknown);
        PutError::Unknown(error.to_string())
    }

    /// Names the replaced durable version dead, so that its object goes whatever happens next.
    fn bury(&self, put: &Prepared) -> Option<IndexChange> {
        let old = self.indexed(&put.key, put.old)?;
        let (key, put_id, wall_ms) = (self.shared.value_key(&put.key), old.put_id, self.shared.wall_ms());
        let pack = old.in_pack.map(|place| place.pack);
        Some(IndexChange::Dead { key, put_id, wall_ms, mark: Mark::None, pack })
    }

    fn remove_object_later(&self, put: &Prepared) {
        if let Some(old) = self.indexed(&put.key, put.old) {
            self.shared.shadowed.lock().remove(&put.key);
            self.remove_objects(vec![(self.shared.value_key(&put.key), old.put_id, Mark::None)]);
        }
    }
}
