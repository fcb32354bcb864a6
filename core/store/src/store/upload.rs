//! Bringing what the journal acknowledged to the object store, in the background, in the order of acknowledgement.

use super::Store;
use super::journaled::{entry_of, plain_key_of};
use super::packs::{Item, Packing, groups};
use crate::index::committer::IndexChange;
use crate::index::rows::{DeadRow, Mark, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::journal::{Backlog, Journal, Pending, PendingPut};
use crate::keys::{Key, NsNum};
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::seal::compress;
use crate::seldom::Seldom;
use crate::stats::Event;
use crate::world::{Clock, World};
use bettong_wire::PutId;
use bettong_wire::envelope::Algorithm;
use bettong_wire::request::Level;
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::PutPayload;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Puts that one round takes from the journal.
const ROUND: usize = 64;
/// Uploads at once: they share the object store with puts that somebody waits for.
const UPLOADS_AT_ONCE: usize = 8;
/// An object that is written waits so long for others to be named in the index with it: until then its put is served
/// from the journal.
const NAMED_WITHIN: Duration = Duration::from_millis(50);
/// Pause after a round in which nothing got through; doubled up to the limit.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often an idle round is looked at again, besides being told.
const IDLE: Duration = Duration::from_secs(1);

/// Uploads that nobody waits for take one part in so many of the time where hits are many. Each sync keeps a core in the
/// kernel, whatever its thread's priority is, and so shows in the slowest of the hits.
const GIVEN_WAY: u32 = 8;
/// Longest that they give way at a time.
const GIVE_WAY_MAX: Duration = Duration::from_secs(1);

/// How long a round of uploads that took `took`, and saw so many hits, gives way before the next, if `busy` hits a second
/// are many.
fn give_way(took: Duration, hits: u64, busy: u64) -> Duration {
    let is_busy = u128::from(hits) * 1000 >= u128::from(busy) * took.as_millis().max(1);
    if is_busy { (took * (GIVEN_WAY - 1)).min(GIVE_WAY_MAX) } else { Duration::ZERO }
}

/// What may strike with every upload while a disk is full.
#[derive(Default)]
pub(super) struct Troubles {
    unrecorded: Seldom,
    untrimmed: Seldom,
    unread: Seldom,
}

/// How an upload ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uploaded {
    /// In the object store and in the index.
    Stored,
    /// Overwritten, deleted or beyond repair: the journal need not keep it.
    Settled,
    /// Still to be done.
    Failed,
}

/// A pending put with its stored bytes.
struct Upload<'a> {
    put: &'a PendingPut,
    key: Key,
    body: Bytes,
}

impl Upload<'_> {
    fn put_id(&self) -> PutId {
        self.put.record.header.put_id
    }

    fn item(&self) -> Item {
        Item { header: self.put.record.header.clone(), pieces: [self.put.record.head.clone(), self.body.clone()] }
    }
}

/// Where uploads run: behind everything else, or beside it, where somebody waits for them or for the room they make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Behind,
    Ahead,
}

/// Counted while it lives.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Puts whose bytes are in the object store, in one object, and that the index does not name yet.
struct Written<'a> {
    uploads: Vec<(&'a PendingPut, Key)>,
    packing: Option<Packing>,
}

impl Written<'_> {
    fn keys(&self) -> impl Iterator<Item = Key> {
        self.uploads.iter().map(|(_, key)| *key)
    }
}

impl<W: World> Store<W> {
    /// Starts the uploader; it ends with the store.
    pub(super) fn start_uploads(&self) {
        let Some(journal) = self.shared.journal.clone() else { return };
        self.upload_on(journal, Place::Behind);
    }

    fn upload_on(&self, journal: Journal<W>, place: Place) {
        let store = self.clone();
        let uploads = async move {
            if let Some(other) = store.upload_all(&journal, place).await {
                store.upload_on(journal, other);
            }
        };
        match place {
            Place::Behind => self.shared.spawn_vital_behind("the uploader", uploads),
            Place::Ahead => self.shared.spawn_vital("the uploader", uploads),
        }
    }

    /// Where uploads belong: a machine that is busy may leave nothing for what runs behind everything else.
    fn upload_place(&self, journal: &Journal<W>) -> Place {
        let flushing = self.shared.flushes.load(Ordering::Relaxed) > 0;
        let half = self.shared.config.journal_bytes_max / 2;
        if flushing || journal.stats().disk_bytes > half { Place::Ahead } else { Place::Behind }
    }

    /// Waits until everything that the journal had acknowledged when this was called is in the object store, at most
    /// `bound`; says what the journal still holds.
    pub async fn flush(&self, bound: Duration) -> Backlog {
        let Some(journal) = &self.shared.journal else { return Backlog::default() };
        let through = journal.synced_through();
        let _waiting = Waiting::of(&self.shared.flushes);
        let waited = async {
            while self.is_running() && self.oldest_pending().is_some_and(|oldest| oldest <= through) {
                self.shared.uploads.notify_one();
                self.shared.world.clock().sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(&self.shared.world, bound, waited).await;
        journal.state(|state| state.backlog())
    }

    /// Journal sequence number of the oldest put that is not in the object store.
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        let journal = self.shared.journal.as_ref()?;
        journal.state(|state| state.next_pending(0, 1)).first().map(|(sequence, _)| *sequence)
    }

    /// Uploads round after round, until the store ends or the uploads belong elsewhere.
    async fn upload_all(&self, journal: &Journal<W>, place: Place) -> Option<Place> {
        let shared = &self.shared;
        let clock = shared.world.clock();
        let (mut after, mut pause) = (0, PAUSE_MIN);
        while self.is_running() {
            let belongs = self.upload_place(journal);
            if belongs != place {
                shared.world.reached_if(belongs == Place::Ahead, State::UploadsAhead);
                return Some(belongs);
            }
            let round = journal.state(|state| state.next_pending(after, ROUND));
            let Some((last, _)) = round.last() else {
                if after == 0 {
                    let _ = timeout(&shared.world, IDLE, shared.uploads.notified()).await;
                } else if std::mem::take(&mut after) != 0 && journal.state(|state| state.backlog().puts) > 0 {
                    // The end was reached and something is left: it failed.
                    clock.sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                continue;
            };
            after = *last;
            let (began, hits) = (clock.mono(), shared.stats.hits());
            let puts = round.iter().filter_map(|(_, pending)| match pending {
                Pending::Put(put) => Some(&**put),
                Pending::Head(_) => None,
            });
            let ended = self.upload_round(journal, puts.collect()).await;
            let done: Vec<PutId> =
                ended.iter().filter(|(_, ended)| *ended != Uploaded::Failed).map(|(put_id, _)| *put_id).collect();
            if done.is_empty() {
                continue;
            }
            pause = PAUSE_MIN;
            shared.world.at(Point::BeforeUploadDone).await;
            // Where the disk is full, what is kept for that is given back by the first attempt.
            let mut recorded = journal.upload_done(&done).await;
            if recorded.is_err() {
                recorded = journal.upload_done(&done).await;
            }
            if let Err(error) = recorded {
                let troubles = &shared.upload_troubles;
                if let Some(kept_back) = troubles.unrecorded.due(self.mono()) {
                    let what = "finished uploads could not be journaled; they are done again after a restart";
                    tracing::warn!(%error, kept_back, what);
                }
            }
            if let Err(error) = journal.trim().await
                && let Some(kept_back) = shared.upload_troubles.untrimmed.due(self.mono())
            {
                tracing::warn!(%error, kept_back, "dead segments of the journal could not be removed");
            }
            if place == Place::Behind {
                let idle =
                    give_way(clock.mono().since(began), shared.stats.hits() - hits, shared.config.uploads_busy_hits);
                self.await_uploads_ahead(journal, idle).await;
            }
        }
        None
    }

    /// Waits for `idle`, or until uploads belong ahead.
    async fn await_uploads_ahead(&self, journal: &Journal<W>, idle: Duration) {
        let ahead = async {
            while self.upload_place(journal) == Place::Behind {
                self.shared.uploads.notified().await;
            }
        };
        if !idle.is_zero() {
            self.shared.world.reached(State::UploadsGaveWay);
            let _ = timeout(&self.shared.world, idle, ahead).await;
        }
    }

    /// Writes the objects of a round and names them in the index, several in one commit. Says how each put ended.
    async fn upload_round(&self, journal: &Journal<W>, puts: Vec<&PendingPut>) -> Vec<(PutId, Uploaded)> {
        let (written, mut arrived) = mpsc::channel(ROUND);
        let groups: Vec<_> = self.together(puts).into_iter().map(|group| self.write_group(journal, group)).collect();
        let write = async move {
            let mut groups = stream::iter(groups).buffer_unordered(UPLOADS_AT_ONCE);
            while let Some(group) = groups.next().await {
                let _ = written.send(group).await;
            }
        };
        let name = async {
            let (mut ended, mut busy) = (Vec::new(), Vec::new());
            while let Some(first) = arrived.recv().await {
                let mut groups = vec![first];
                let more = async {
                    while let Some(group) = arrived.recv().await {
                        groups.push(group);
                    }
                };
                let _ = timeout(&self.shared.world, NAMED_WITHIN, more).await;
                let (written, others): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
                ended.extend(others.into_iter().flatten());
                let (mut free, mut guards) = (Vec::new(), Vec::new());
                for written in written.into_iter().flatten() {
                    match written.keys().map(|key| self.locks.try_lock(key)).collect::<Option<Vec<_>>>() {
                        Some(guard) => {
                            guards.extend(guard);
                            free.push(written);
                        }
                        None => busy.push(written),
                    }
                }
                ended.extend(self.name_written(free).await);
            }
            // Whoever holds such a key may hold it for long: nobody else waits for that.
            for written in busy {
                let _guard = self.locks.lock(written.keys()).await;
                ended.extend(self.name_written(vec![written]).await);
            }
            ended
        };
        futures::future::join(write, name).await.1
    }

    /// Divides a round into what shares a pack and what goes alone, in the order of acknowledgement.
    fn together<'a>(&self, puts: Vec<&'a PendingPut>) -> Vec<Vec<&'a PendingPut>> {
        let size = |put: &&PendingPut| {
            // One that nobody is shown any more would be dead in its pack from the start.
            let key = self.shared.key(&put.record.key()).filter(|key| self.shows(key, put.record.header.put_id));
            key.map_or((NsNum(0), 0), |key| (key.ns, self.packable(&put.record.header)))
        };
        let sizes: Vec<(NsNum, u64)> = puts.iter().map(size).collect();
        let mut of: Vec<Option<usize>> = vec![None; puts.len()];
        let groups = groups(&sizes, self.shared.config.pack_bytes);
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|at| of[*at] = Some(number));
        }
        let mut together: Vec<Vec<&PendingPut>> = groups.iter().map(|_| Vec::new()).collect();
        let mut alone = Vec::new();
        for (put, group) in puts.into_iter().zip(of) {
            match group {
                Some(number) => together[number].push(put),
                None => alone.push(vec![put]),
            }
        }
        together.extend(alone);
        together
    }

    /// Writes puts into one object: several as a pack, one as an object of its own. Answers what was written, and how the
    /// uploads of the others ended.
    async fn write_group<'a>(
        &self,
        journal: &Journal<W>,
        puts: Vec<&'a PendingPut>,
    ) -> (Option<Written<'a>>, Vec<(PutId, Uploaded)>) {
        let shared = &self.shared;
        let mut ended = Vec::with_capacity(puts.len());
        let mut loaded = Vec::with_capacity(puts.len());
        for put in puts {
            match self.load_pending(journal, put).await {
                Ok(upload) => loaded.push(upload),
                Err(outcome) => ended.push((put.record.header.put_id, outcome)),
            }
        }
        let Some(first) = loaded.first() else { return (None, ended) };
        shared.world.at(Point::BeforeObjectPut).await;
        let (packing, written) = if loaded.len() > 1 {
            let namespace = first.put.record.header.namespace;
            let packing = self.pack(namespace, loaded.iter().map(Upload::item).collect());
            let written = self.write_pack(&packing).await;
            (Some(packing), written)
        } else {
            let path = shared.object_path(&first.put.record.key(), first.put_id());
            let object: PutPayload = first.item().pieces.into_iter().collect();
            (None, shared.objects.put_unique(&path, object).await)
        };
        if let Err(error) = written {
            tracing::debug!(%error, puts = loaded.len(), "an upload failed; it is tried again");
            ended.extend(loaded.iter().map(|upload| (upload.put_id(), Uploaded::Failed)));
            return (None, ended);
        }
        shared.world.at(Point::BetweenObjectAndIndex).await;
        // The stored bytes are in the object: nothing needs them here any more.
        let uploads = loaded.into_iter().map(|upload| (upload.put, upload.key)).collect();
        (Some(Written { uploads, packing }), ended)
    }

    /// Names what is written in the index, in one commit: each would cost a write of the index of its own. Needs the locks
    /// of its keys.
    async fn name_written(&self, written: Vec<Written<'_>>) -> Vec<(PutId, Uploaded)> {
        let shared = &self.shared;
        let mut ended = Vec::new();
        let (mut changes, mut named, mut buried) = (Vec::new(), Vec::new(), Vec::new());
        for Written { uploads, packing } in &written {
            let (before, mut dead) = (named.len(), Vec::new());
            changes.extend(packing.iter().map(Packing::named));
            for (at, (put, key)) in uploads.iter().enumerate() {
                let (put_id, value_key) = (put.record.header.put_id, put.record.key());
                let place = packing.as_ref().map(|packing| packing.places[at]);
                if !self.shows(key, put_id) {
                    shared.world.reached(State::UploadSuperseded);
                    match place {
                        None => self.remove_unindexed(value_key, put_id),
                        // Its bytes are in the pack for as long as that is there: whoever forgets it must know.
                        Some(place) => {
                            let (wall_ms, mark, pack) = (shared.wall_ms(), Mark::None, Some(place.pack));
                            dead.extend(self.dead_in_pack(put_id, DeadRow { wall_ms, mark, key: value_key, pack }));
                        }
                    }
                    ended.push((put_id, Uploaded::Settled));
                    continue;
                }
                let entry = Entry { level: Level::Object, in_pack: place, ..entry_of(put) };
                let row = ValueRow { entry, plain_key: plain_key_of(put) };
                changes.push(IndexChange::Put { key: value_key, row });
                if let Some(old) = shared.shadowed.lock().get(key).copied() {
                    let (wall_ms, pack) = (shared.wall_ms(), old.in_pack.map(|place| place.pack));
                    let (put_id, mark) = (old.put_id, Mark::None);
                    changes.push(IndexChange::Dead { key: value_key, put_id, wall_ms, mark, pack });
                    buried.push((*key, value_key, put_id));
                }
                named.push(put_id);
            }
            match packing.as_ref().filter(|_| named.len() == before) {
                Some(packing) => {
                    changes.pop();
                    self.remove_unnamed(packing);
                }
                None => changes.extend(dead),
            }
        }
        if named.is_empty() {
            return ended;
        }
        let coming = self.commits.announce();
        if let Err(error) = self.commits.commit(changes, coming).await {
            tracing::debug!(%error, puts = named.len(), "uploads were not indexed; they are tried again");
            ended.extend(named.into_iter().map(|put_id| (put_id, Uploaded::Failed)));
            return ended;
        }
        for (key, value_key, old) in buried {
            shared.shadowed.lock().remove(&key);
            self.remove_objects(vec![(value_key, old, Mark::None)]);
        }
        shared.stats.add(Event::Uploaded, named.len() as u64);
        shared.world.reached(State::Uploaded);
        ended.extend(named.into_iter().map(|put_id| (put_id, Uploaded::Stored)));
        ended
    }

    /// What is to be written of a pending put; or how its upload ended before it began.
    async fn load_pending<'a>(&self, journal: &Journal<W>, put: &'a PendingPut) -> Result<Upload<'a>, Uploaded> {
        let shared = &self.shared;
        let (value_key, put_id) = (put.record.key(), put.record.header.put_id);
        // The namespace table is full only where this namespace is not in it, and then nobody reads it here.
        let key = shared.key(&value_key).ok_or(Uploaded::Failed)?;
        // Its put holds the key's lock from before the journal has it until the map shows it.
        if !self.shows(&key, put_id) && !self.shows_locked(&key, put_id).await {
            self.remove_unindexed(value_key, put_id);
            return Err(Uploaded::Settled);
        }
        // Indexed before, though the journal could not be told: once is enough.
        if shared.map.get(&key, NodeNum::SELF).is_some_and(|entry| entry.level == Level::Object) {
            return Err(Uploaded::Settled);
        }
        match self.pending_body(journal, put).await {
            Ok(Some(body)) => Ok(Upload { put, key, body }),
            Ok(None) => {
                // Kept, with its segment: it may be a bad read, and a start must refuse what is really damaged.
                tracing::error!(%put_id, "a journaled put does not verify and memory has none: `bettong journal check`");
                shared.stats.count(Event::CorruptJournal);
                Err(Uploaded::Failed)
            }
            Err(error) => {
                if let Some(kept_back) = shared.upload_troubles.unread.due(self.mono()) {
                    tracing::warn!(%error, %put_id, kept_back, "a journaled put cannot be read for its upload");
                }
                Err(Uploaded::Failed)
            }
        }
    }

    async fn shows_locked(&self, key: &Key, put_id: PutId) -> bool {
        let _guard = self.locks.lock([*key]).await;
        self.shows(key, put_id)
    }

    /// The stored bytes of a journaled put, from memory where it has them; `None` where they do not verify.
    async fn pending_body(
        &self,
        journal: &Journal<W>,
        put: &PendingPut,
    ) -> Result<Option<Bytes>, crate::world::DiskError> {
        let shared = &self.shared;
        let header = &put.record.header;
        if header.algorithm == Algorithm::None
            && let Some(payload) = shared.memory.get(header.put_id)
        {
            return Ok(Some(payload.into_bytes()));
        }
        let verifies = |body: &Bytes| *blake3::hash(body).as_bytes() == put.record.body_hash();
        let body = journal.read_body(put).await?;
        if verifies(&body) {
            return Ok(Some(body));
        }
        // What memory has is compressed to the same bytes again.
        let payload = shared.memory.get(header.put_id);
        let again = payload.and_then(|payload| compress(payload.as_ref(), header.algorithm)).map(Bytes::from);
        Ok(again.filter(verifies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_give_way_to_many_hits_and_never_for_long() {
        let took = Duration::from_millis(20);
        assert_eq!(give_way(took, 19, 1000), Duration::ZERO);
        assert_eq!(give_way(took, 20, 1000), took * 7);
        assert_eq!(give_way(Duration::from_secs(9), 9000, 1000), GIVE_WAY_MAX);
        assert_eq!(give_way(Duration::from_secs(9), 8999, 1000), Duration::ZERO);
        assert_eq!(give_way(Duration::ZERO, 1000, 1), Duration::ZERO);
    }
}
