//! The one committer of a node: hands index changes to SlateDB in groups, then to the map, in one order.

use super::db::IndexHome;
use super::error::IndexError;
use super::rows::{
    ChangeBatch, DeadRow, FORMAT, FORMAT_KEY, Inheritance, InheritanceRow, Mark, PackRow, QuarantineRow, STATE_KEY,
    StateRow, ValueKey, ValueRow,
};
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::seldom::Seldom;
use crate::vital::{self, End};
use crate::world::{Clock, World};
use bettong_wire::PutId;
use object_store::path::Path;
use parking_lot::Mutex;
use slatedb::{Db, WriteBatch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// One change of the durable index.
#[derive(Clone, Debug)]
pub enum IndexChange {
    /// This node's entry of the key is now this one.
    Put { key: ValueKey, row: ValueRow },
    /// This node has no entry of the key; it was of `put_id`.
    Remove { key: ValueKey, put_id: PutId },
    /// The bytes of this node's entry of the key are at another place now; nothing else of it changes.
    Move { key: ValueKey, row: ValueRow },
    /// The put id is dead: never visible again. `pack` is where its bytes are, if not in an object of their own.
    Dead { key: ValueKey, put_id: PutId, wall_ms: u64, mark: Mark, pack: Option<PutId> },
    /// The mark of a dead put id is past its time.
    Forget { put_id: PutId },
    /// No copy of the put id verifies: never read again.
    Quarantine { key: ValueKey, put_id: PutId },
    /// A pack is in the bucket. In one batch with what names its members.
    Pack { pack: PutId, row: PackRow },
    /// A pack is gone from the bucket.
    PackGone { pack: PutId },
    /// A retired node is taken over so far.
    Inherit { node_id: String, state: Inheritance },
    /// Everything that a listing of the bucket showed is in the index: it need not be listed again.
    Complete,
    /// The bucket shows what the index lacks: until `Complete` it must be listed.
    Incomplete,
}

/// What becomes visible once it is durable. Called in the order of commits, from one task.
pub trait Visible: Send + Sync + 'static {
    fn show(&self, change: &IndexChange);

    /// Highest sequence number that the journal has synced; zero without a journal.
    fn journaled(&self) -> u64;

    /// A newer life of this node exists: nothing is served from now on.
    fn fenced(&self, why: &str);

    /// A task of the store has panicked: nothing is served from now on.
    fn broken(&self, task: &'static str);
}

/// Tells whether this process is still the node's newest life.
pub trait Succession: Send + Sync + 'static {
    /// `Ok(true)` where no newer life exists; an error where it cannot be told now.
    fn is_newest(&self) -> impl Future<Output = Result<bool, String>> + Send;

    /// Why a process that is not the newest life has to end.
    fn why_superseded(&self) -> impl Future<Output = String> + Send;
}

/// Why changes were not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("{waiting} index changes wait already, the limit is {limit}")]
    QueueFull { waiting: usize, limit: usize },
    /// They are not in the index and never will be.
    #[error("the index did not take the change: {0}")]
    Failed(IndexError),
    /// The process is fenced or closing: whether they are in the index is not known.
    #[error("the index is closed: {0}")]
    Closed(String),
}

impl From<CommitError> for IndexError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Failed(error) => error,
            CommitError::QueueFull { .. } | CommitError::Closed(_) => Self::Closed(error.to_string()),
        }
    }
}

struct Submission {
    changes: Vec<IndexChange>,
    done: oneshot::Sender<Result<(), CommitError>>,
}

/// Where changes are handed in.
#[derive(Clone)]
pub struct CommitQueue {
    sender: Arc<Mutex<Option<mpsc::Sender<Submission>>>>,
    /// Writers that will hand in soon: the committer waits for them a little.
    coming: Arc<AtomicUsize>,
    limit: usize,
    closing: Arc<AtomicBool>,
    trouble: Trouble,
}

/// Why the index takes no writes at the moment, if it does not.
type Trouble = Arc<Mutex<Option<String>>>;

/// Announces a submission; dropped once it is handed in or given up.
pub struct Coming(Arc<AtomicUsize>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CommitQueue {
    pub fn announce(&self) -> Coming {
        self.coming.fetch_add(1, Ordering::Relaxed);
        Coming(self.coming.clone())
    }

    /// Commits all `changes` or none, and answers once they are durable and visible.
    pub async fn commit(&self, changes: Vec<IndexChange>, coming: Coming) -> Result<(), CommitError> {
        let (done, answer) = oneshot::channel();
        self.send(Submission { changes, done })?;
        drop(coming);
        answer.await.unwrap_or_else(|_| Err(CommitError::Closed("the committer ended".to_owned())))
    }
}

impl CommitQueue {
    fn send(&self, submission: Submission) -> Result<(), CommitError> {
        let sender = self.sender.lock();
        let closed = |why: &str| CommitError::Closed(why.to_owned());
        match sender.as_ref().ok_or_else(|| closed("the store is closing"))?.try_send(submission) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(CommitError::QueueFull { waiting: self.limit, limit: self.limit })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(closed("the committer ended")),
        }
    }

    /// Why the index takes no writes at the moment: it failed, and could not be opened again so far. What is handed in
    /// waits until it can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub fn is_open(&self) -> bool {
        self.sender.lock().is_some()
    }

    /// Takes no more changes; the committer finishes what it has and closes the index.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.sender.lock().take();
    }
}

/// Limits of the committer, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct CommitLimits {
    pub wait_max: Duration,
    pub batch_max: usize,
    pub queue_max: usize,
    pub change_records_kept: Duration,
}

/// The committer's own state.
pub struct Committer<W: World, V, S> {
    pub home: IndexHome<W>,
    pub path: Path,
    pub db: Db,
    pub visible: Arc<V>,
    pub succession: S,
    pub limits: CommitLimits,
    pub life: u64,
    pub next_sequence: u64,
    /// Change records in the index, oldest first: sequence and time.
    pub records: VecDeque<(u64, u64)>,
    /// Set by `CommitQueue::close`: an index that cannot be opened is then given up.
    pub closing: Arc<AtomicBool>,
    pub trouble: Arc<Mutex<Option<String>>>,
    pub troubles: Troubles,
}

/// What may strike with every write, and with every attempt to go on.
#[derive(Default)]
pub struct Troubles {
    unwritten: Seldom,
    unopened: Seldom,
    unanswered: Seldom,
}

/// Attempts of one group: each ends with a re-opened index in which the group provably is not.
const GROUP_ATTEMPTS_MAX: u32 = 5;
/// Change records kept at most.
const RECORDS_MAX: usize = 65_536;
/// Pause between attempts to re-open the index.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// A database that failed is given this long to close before it is dropped.
const CLOSE_MAX: Duration = Duration::from_secs(5);

impl<W: World, V: Visible, S: Succession> Committer<W, V, S> {
    /// Starts the committer; it ends when its queue is closed, and closes the index.
    pub fn start(self) -> (CommitQueue, oneshot::Receiver<()>) {
        let (sender, receiver) = mpsc::channel(self.limits.queue_max);
        let coming = Arc::new(AtomicUsize::new(0));
        let sender = Arc::new(Mutex::new(Some(sender)));
        let (limit, closing, trouble) = (self.limits.queue_max, self.closing.clone(), self.trouble.clone());
        let queue = CommitQueue { sender, coming: coming.clone(), limit, closing, trouble };
        let (ended, end) = oneshot::channel();
        let (world, visible) = (self.home.world.clone(), self.visible.clone());
        world.clone().spawn(async move {
            if vital::run(&world, self.run(receiver, coming)).await == End::Panicked {
                visible.broken("the committer of the index");
            }
            let _ = ended.send(());
        });
        (queue, end)
    }

    async fn run(mut self, mut receiver: mpsc::Receiver<Submission>, coming: Arc<AtomicUsize>) {
        while let Some(first) = receiver.recv().await {
            let group = self.gather(first, &mut receiver, &coming).await;
            match self.commit(&group).await {
                Ok(()) => {
                    self.home.world.at(Point::BeforeAcknowledge).await;
                    group.into_iter().for_each(|submission| drop(submission.done.send(Ok(()))));
                }
                Err(error) => {
                    let closed = matches!(error, CommitError::Closed(_));
                    group.into_iter().for_each(|submission| drop(submission.done.send(Err(error.clone()))));
                    if closed {
                        return;
                    }
                }
            }
        }
        self.close_index().await;
    }

    /// The first submission, what waits behind it, and what is announced and comes within the longest wait.
    async fn gather(
        &self,
        first: Submission,
        receiver: &mut mpsc::Receiver<Submission>,
        coming: &AtomicUsize,
    ) -> Vec<Submission> {
        let mut size = first.changes.len();
        let mut group = vec![first];
        let clock = self.home.world.clock();
        let until = clock.mono().plus(self.limits.wait_max);
        while size < self.limits.batch_max {
            let next = match receiver.try_recv() {
                Ok(next) => next,
                Err(_) => {
                    let left = until.since(clock.mono());
                    if coming.load(Ordering::Relaxed) == 0 || left.is_zero() {
                        break;
                    }
                    match timeout(&self.home.world, left, receiver.recv()).await {
                        Some(Some(next)) => next,
                        _ => break,
                    }
                }
            };
            size += next.changes.len();
            group.push(next);
        }
        self.home.world.reached_if(group.len() > 1, State::GroupCommitted);
        group
    }

    async fn commit(&mut self, group: &[Submission]) -> Result<(), CommitError> {
        let changes: Vec<&IndexChange> = group.iter().flat_map(|submission| &submission.changes).collect();
        let mut last = IndexError::Closed("no attempt was made".to_owned());
        for _ in 0..GROUP_ATTEMPTS_MAX {
            self.home.world.at(Point::BeforeIndexWrite).await;
            let sequence = self.next_sequence;
            let (batch, wall_ms, trimmed) = self.batch(&changes, sequence);
            self.next_sequence += 1;
            let durable = match self.write(batch).await {
                Ok(()) => true,
                Err(error) => {
                    if let Some(kept_back) = self.troubles.unwritten.due(self.home.world.clock().mono()) {
                        tracing::warn!(%error, kept_back, "an index write failed; re-opening the index");
                    }
                    last = error.into();
                    self.reopen(sequence, &last.to_string()).await?
                }
            };
            if durable {
                self.records.drain(..trimmed.min(self.records.len()));
                self.records.push_back((sequence, wall_ms));
                self.home.world.at(Point::BeforeVisible).await;
                changes.iter().for_each(|change| self.visible.show(change));
                return Ok(());
            }
        }
        Err(CommitError::Failed(last))
    }

    async fn write(&self, batch: WriteBatch) -> Result<(), slatedb::Error> {
        let db = &self.db;
        let write = async move {
            let handle = db.write(batch).await?;
            db.flush().await?;
            handle.await_durable().await
        };
        self.home.world.enter(Box::pin(write)).await
    }

    /// The rows of one group, with its change record and the state; and how many old change records it removes.
    fn batch(&self, changes: &[&IndexChange], sequence: u64) -> (WriteBatch, u64, usize) {
        let wall_ms = self.home.floor.raise(self.home.world.clock().wall_ms());
        let mut batch = WriteBatch::new();
        let mut rows = Vec::new();
        for change in changes {
            match change {
                IndexChange::Put { key, row } | IndexChange::Move { key, row } => {
                    let value = row.encode();
                    batch.put_bytes(key.encode(), value.clone());
                    rows.push((*key, Some(value)));
                }
                IndexChange::Remove { key, .. } => {
                    batch.delete(key.encode());
                    rows.push((*key, None));
                }
                IndexChange::Dead { key, put_id, wall_ms, mark, pack } => {
                    let row = DeadRow { wall_ms: *wall_ms, mark: *mark, key: *key, pack: *pack };
                    batch.put_bytes(DeadRow::key(*put_id), row.encode());
                    batch.delete(QuarantineRow::key(*put_id));
                }
                IndexChange::Forget { put_id } => batch.delete(DeadRow::key(*put_id)),
                IndexChange::Quarantine { put_id, .. } => {
                    batch.put_bytes(QuarantineRow::key(*put_id), bytes::Bytes::from_static(&[1]));
                }
                IndexChange::Pack { pack, row } => batch.put_bytes(PackRow::key(*pack), row.encode()),
                IndexChange::PackGone { pack } => batch.delete(PackRow::key(*pack)),
                IndexChange::Inherit { node_id, state } => {
                    batch.put_bytes(InheritanceRow::key(node_id), state.encode());
                }
                IndexChange::Complete => batch.put(FORMAT_KEY, FORMAT.to_le_bytes()),
                IndexChange::Incomplete => batch.delete(FORMAT_KEY),
            }
        }
        let kept_ms = u64::try_from(self.limits.change_records_kept.as_millis()).unwrap_or(u64::MAX);
        let old = |(_, at): &&(u64, u64)| at.saturating_add(kept_ms) < wall_ms;
        // A bounded number at a time: a long idle node does not pay for its past in one batch.
        // Neither time alone (a clock that once jumped ahead stands still) nor number alone decides.
        let over = self.records.len().saturating_sub(RECORDS_MAX).min(64);
        let trimmed = self.records.iter().take(64).take_while(old).count().max(over);
        for (old_sequence, _) in self.records.iter().take(trimmed) {
            batch.delete(ChangeBatch::key(*old_sequence));
        }
        batch.put_bytes(ChangeBatch::key(sequence), ChangeBatch { wall_ms, life: self.life, rows }.encode());
        let state = StateRow {
            clock_ms: wall_ms,
            life: self.life,
            change_sequence: sequence + 1,
            journaled: self.visible.journaled(),
            taken_over: false,
        };
        batch.put_bytes(STATE_KEY.into(), state.encode());
        (batch, wall_ms, trimmed)
    }

    /// Opens the index again and says whether the batch of `sequence` is in it. Ends only with an open index, because
    /// this process is no longer the node's newest life, or because the store closes.
    ///
    /// The newest life is asked for after the index is open: an older life that opens later than a newer one has fenced
    /// it, but learns here that it must not write.
    async fn reopen(&mut self, sequence: u64, why: &str) -> Result<bool, CommitError> {
        let world = self.home.world.clone();
        self.close_index().await;
        loop {
            if self.closing.load(Ordering::Relaxed) {
                return Err(CommitError::Closed("the store is closing".to_owned()));
            }
            match self.home.open(self.path.clone()).await {
                Ok(db) => {
                    self.db = db;
                    match self.look_for(sequence).await {
                        Ok(found) => {
                            self.trouble.lock().take();
                            world.reached(State::IndexReopened);
                            return Ok(found);
                        }
                        Err(LookError::Superseded) => {
                            self.close_index().await;
                            let why = self.succession.why_superseded().await;
                            self.visible.fenced(&why);
                            return Err(CommitError::Closed(why));
                        }
                        Err(LookError::Unanswered(error)) => {
                            if let Some(kept_back) = self.troubles.unanswered.due(world.clock().mono()) {
                                tracing::warn!(error, why, kept_back, "the re-opened index does not answer");
                            }
                            *self.trouble.lock() = Some(error);
                            self.close_index().await;
                        }
                    }
                }
                Err(error) => {
                    if let Some(kept_back) = self.troubles.unopened.due(world.clock().mono()) {
                        tracing::warn!(%error, why, kept_back, "the index cannot be re-opened yet");
                    }
                    *self.trouble.lock() = Some(error.to_string());
                }
            }
            world.clock().sleep(REOPEN_PAUSE).await;
        }
    }

    async fn look_for(&self, sequence: u64) -> Result<bool, LookError> {
        match self.succession.is_newest().await {
            Ok(true) => {}
            Ok(false) => return Err(LookError::Superseded),
            Err(error) => return Err(LookError::Unanswered(error)),
        }
        let row = self.home.world.enter(self.db.get(ChangeBatch::key(sequence))).await;
        let row = row.map_err(|error| LookError::Unanswered(error.to_string()))?;
        Ok(row.as_deref().and_then(ChangeBatch::decode).is_some_and(|record| record.life == self.life))
    }

    async fn close_index(&self) {
        let world = &self.home.world;
        match timeout(world, CLOSE_MAX, world.enter(self.db.close())).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "the index did not close cleanly"),
            None => tracing::warn!("the index did not close within {CLOSE_MAX:?}"),
        }
    }
}

enum LookError {
    Superseded,
    Unanswered(String),
}
