//! Bringing what the journal acknowledged to the object store, in the background, in the order of acknowledgement.

use super::Store;
use super::journaled::{entry_of, plain_key_of};
use crate::index::committer::IndexChange;
use crate::index::rows::{Mark, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::journal::{Backlog, Journal, Pending, PendingPut};
use crate::keys::Key;
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::stats::Event;
use crate::world::{Clock, World};
use bettong_wire::PutId;
use bettong_wire::envelope::Algorithm;
use bettong_wire::request::Level;
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::PutPayload;
use std::time::Duration;

/// Puts that one round takes from the journal.
const ROUND: usize = 64;
/// Uploads at once: they share the object store with puts that somebody waits for.
const UPLOADS_AT_ONCE: usize = 8;
/// Pause after a round in which nothing got through; doubled up to the limit.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often an idle round is looked at again, besides being told.
const IDLE: Duration = Duration::from_secs(1);

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

impl<W: World> Store<W> {
    /// Starts the uploader; it ends with the store.
    pub(super) fn start_uploads(&self) {
        let Some(journal) = self.shared.journal.clone() else { return };
        let store = self.clone();
        self.shared.world.spawn(async move { store.upload_all(&journal).await });
    }

    /// Waits until everything that the journal had acknowledged when this was called is in the object store, at most
    /// `bound`; says what the journal still holds.
    pub async fn flush(&self, bound: Duration) -> Backlog {
        let Some(journal) = &self.shared.journal else { return Backlog::default() };
        let through = journal.synced_through();
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

    async fn upload_all(&self, journal: &Journal<W>) {
        let shared = &self.shared;
        let clock = shared.world.clock();
        let (mut after, mut pause) = (0, PAUSE_MIN);
        while self.is_running() {
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
            let uploads = round.iter().filter_map(|(_, pending)| match pending {
                Pending::Put(put) => {
                    Some(async move { (put.record.header.put_id, self.upload_pending(journal, put).await) })
                }
                Pending::Head(_) => None,
            });
            let uploads: Vec<_> = uploads.collect();
            let ended: Vec<(PutId, Uploaded)> = stream::iter(uploads).buffer_unordered(UPLOADS_AT_ONCE).collect().await;
            let done: Vec<PutId> =
                ended.iter().filter(|(_, ended)| *ended != Uploaded::Failed).map(|(put_id, _)| *put_id).collect();
            if done.is_empty() {
                continue;
            }
            pause = PAUSE_MIN;
            shared.world.at(Point::BeforeUploadDone).await;
            if let Err(error) = journal.upload_done(&done).await {
                tracing::warn!(%error, "finished uploads could not be journaled; they are done again after a restart");
            }
            if let Err(error) = journal.trim().await {
                tracing::warn!(%error, "dead segments of the journal could not be removed");
            }
        }
    }

    async fn upload_pending(&self, journal: &Journal<W>, put: &PendingPut) -> Uploaded {
        let shared = &self.shared;
        let header = &put.record.header;
        let (value_key, put_id) = (put.record.key(), header.put_id);
        // The namespace table is full only where this namespace is not in it, and then nobody reads it here.
        let Some(key) = shared.key(&value_key) else { return Uploaded::Failed };
        // Its put holds the key's lock from before the journal has it until the map shows it.
        if !self.shows(&key, put_id) && !self.shows_locked(&key, put_id).await {
            self.remove_unindexed(value_key, put_id);
            return Uploaded::Settled;
        }
        // Indexed before, though the journal could not be told: once is enough.
        if shared.map.get(&key, NodeNum::SELF).is_some_and(|entry| entry.level == Level::Object) {
            return Uploaded::Settled;
        }
        let body = match self.pending_body(journal, put).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                // Kept, with its segment: it may be a bad read, and a start must refuse what is really damaged.
                tracing::error!(%put_id, "a journaled put does not verify and memory has none: `bettong journal check`");
                shared.stats.count(Event::CorruptJournal);
                return Uploaded::Failed;
            }
            Err(error) => {
                tracing::warn!(%error, %put_id, "a journaled put cannot be read for its upload");
                return Uploaded::Failed;
            }
        };
        shared.world.at(Point::BeforeObjectPut).await;
        let path = shared.object_path(&value_key, put_id);
        let object: PutPayload = [put.record.head.clone(), body].into_iter().collect();
        if let Err(error) = shared.objects.put_unique(&path, object).await {
            tracing::debug!(%error, %put_id, "an upload failed; it is tried again");
            return Uploaded::Failed;
        }
        shared.world.at(Point::BetweenObjectAndIndex).await;
        let _guard = self.locks.lock([key]).await;
        if !self.shows(&key, put_id) {
            shared.world.reached(State::UploadSuperseded);
            self.remove_unindexed(value_key, put_id);
            return Uploaded::Settled;
        }
        let entry = Entry { level: Level::Object, ..entry_of(put) };
        let row = ValueRow { entry, plain_key: plain_key_of(put) };
        let hidden = shared.shadowed.lock().get(&key).copied();
        let named = IndexChange::Put { key: value_key, row };
        let wall_ms = shared.wall_ms();
        let buried =
            hidden.map(|old| IndexChange::Dead { key: value_key, put_id: old.put_id, wall_ms, mark: Mark::None });
        let coming = self.commits.announce();
        if let Err(error) = self.commits.commit(std::iter::once(named).chain(buried).collect(), coming).await {
            tracing::debug!(%error, %put_id, "an upload was not indexed; it is tried again");
            return Uploaded::Failed;
        }
        if let Some(old) = hidden {
            shared.shadowed.lock().remove(&key);
            self.remove_objects(vec![(value_key, old.put_id, Mark::None)]);
        }
        shared.stats.count(Event::Uploaded);
        shared.world.reached(State::Uploaded);
        Uploaded::Stored
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
        let body = journal.read_body(put).await?;
        Ok((*blake3::hash(&body).as_bytes() == put.record.body_hash()).then_some(body))
    }
}
