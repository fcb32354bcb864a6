//! The one task that appends: takes what has gathered, appends it as one batch, syncs, applies it, acknowledges.
//!
//! One append is in flight at a time, so that a crash can tear one batch at most. A failed append or sync is final: its
//! segment is closed, and the next segment begins with the void that says so; until that is synced nothing is
//! acknowledged.

use super::batch::{FIXED_LEN, Link, seal};
use super::config::JournalConfig;
use super::error::{AppendError, OpenError};
use super::header::BATCH_COUNT_MAX;
use super::newest::Newest;
use super::queue::{Appended, Entry, Queue, Submission, Taken, Ticket, Waiting, batch_bytes};
use super::record::Record;
use super::recovery::{Cut, Found, Recovered};
use super::reserve::{self, Starved};
use super::state::{JournalState, Place};
use super::stats::JournalStats;
use super::{low_water, names};
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::vital::{self, End};
use crate::world::{Clock, Disk, DiskError, Mono, World};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Turns that the writer gives to others so that as many appends gather as the last batch acknowledged.
const GATHER_TURNS_MAX: u32 = 128;
/// Share of the last sync's time that gathering takes at most.
const GATHER_SHARE: u32 = 4;
/// What `Busy` hints at where the queue is full, and where the disk's share is. Milliseconds.
const RETRY_QUEUE_MS: u32 = 10;
const RETRY_BACKLOG_MS: u32 = 100;

/// What the callers and the writer share.
pub(super) struct Shared<W: World> {
    pub(super) world: W,
    pub(super) config: JournalConfig,
    queue: Mutex<Queue>,
    /// Something waits, or the queue is closed.
    wake: Notify,
    /// There may be room.
    pub(super) room: Notify,
    pub(super) ledger: Mutex<Ledger>,
    /// Whether the disk is full.
    starved: Starved,
    /// The durable low-water mark.
    low_water: tokio::sync::Mutex<u64>,
    /// How the writer ended, if it has.
    ended: tokio::sync::watch::Receiver<Option<End>>,
}

/// What is synced.
pub(super) struct Ledger {
    pub(super) state: JournalState,
    pub(super) synced_through: u64,
    /// Bytes of the segments on disk, by number.
    files: BTreeMap<u64, u64>,
    /// The newest segment that has begun.
    current: u64,
    counts: JournalStats,
}

/// The segment that is appended to.
struct Segment {
    number: u64,
    name: String,
    nonce: u64,
    /// Its length.
    offset: u64,
}

/// The writer's own state.
struct Writer<W: World> {
    shared: Arc<Shared<W>>,
    segment: Option<Segment>,
    next_segment: u64,
    next_sequence: u64,
    /// Hash of the last batch that counts.
    previous: [u8; 32],
    previous_nonce: u64,
    synced_through: u64,
    /// Where the log ended before the failure that the next segment's void tells of.
    cut: Option<Cut>,
    /// An append of several batches that has begun.
    begun: Option<Waiting>,
    groups: u64,
    /// Appends that the last batch acknowledged.
    expected: usize,
    sync_took: Duration,
    /// Something was synced since the last mark.
    unmarked: bool,
}

enum Next {
    Batch(Gathered),
    Mark,
    End,
}

/// The entries of one batch, and the appends that end with it.
struct Gathered {
    entries: Vec<Entry>,
    finished: Vec<Waiting>,
}

/// Begins a new segment behind what was found, and starts the writer.
pub(super) async fn start<W: World>(
    world: W,
    config: JournalConfig,
    found: Found,
) -> Result<(Recovered, Arc<Shared<W>>), OpenError> {
    let Found { recovered, state, files, unsynced, next_segment, next_sequence, previous, previous_nonce, low, .. } =
        found;
    let path = |number: u64| format!("{}/{}", config.dir, names::segment(number));
    for number in unsynced {
        world.disk().sync(&path(number)).await?;
    }
    if !files.is_empty() {
        world.disk().sync_dir(&config.dir).await?;
    }
    for number in recovered.dead.iter().copied() {
        low_water::remove(world.disk(), &path(number)).await?;
    }
    let (end, ended) = tokio::sync::watch::channel(None);
    let synced_through = recovered.end - 1;
    let ledger = Ledger { state, synced_through, files, current: low, counts: JournalStats::default() };
    let shared = Arc::new(Shared {
        world,
        config,
        queue: Mutex::default(),
        wake: Notify::new(),
        room: Notify::new(),
        ledger: Mutex::new(ledger),
        starved: Starved::default(),
        low_water: tokio::sync::Mutex::new(low),
        ended,
    });
    let mut writer = Writer {
        shared: shared.clone(),
        segment: None,
        next_segment,
        next_sequence,
        previous,
        previous_nonce,
        synced_through,
        cut: recovered.cut,
        begun: None,
        groups: 0,
        expected: 1,
        sync_took: Duration::ZERO,
        unmarked: false,
    };
    if let Err(error) = writer.begin_segment().await {
        let room =
            matches!(error, DiskError::NoSpace { .. }) && reserve::give(shared.world.disk(), &shared.config.dir).await;
        if !room {
            return Err(error.into());
        }
        writer.begin_segment().await?;
    }
    shared.take_reserve().await;
    let served = shared.clone();
    shared.world.spawn(async move {
        let how = vital::run(&served.world, writer.run()).await;
        served.forsake();
        let _ = end.send(Some(how));
    });
    Ok((recovered, shared))
}

impl<W: World> Shared<W> {
    pub(super) fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.config.dir)
    }

    /// Puts a submission in the queue, or gives it back with the reason.
    #[expect(clippy::result_large_err, reason = "the submission goes back to its caller, who tries again")]
    pub(super) fn submit(&self, submission: Submission) -> Result<Ticket, (Submission, AppendError)> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err((submission, AppendError::Closed));
        }
        if let Some(refused) = self.refused(&queue, &submission) {
            return Err((submission, refused));
        }
        let id = queue.next_id;
        queue.next_id += 1;
        queue.cost += submission.cost;
        queue.records += submission.records;
        let (done, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting { id, submission, done });
        drop(queue);
        self.wake.notify_one();
        Ok(Ticket { id, done: answer })
    }

    fn refused(&self, queue: &Queue, submission: &Submission) -> Option<AppendError> {
        let limit = self.config.queue_bytes_max;
        // What is larger than the queue goes in alone.
        if !queue.waiting.is_empty() && queue.cost + submission.cost > limit {
            let what = format!("{} bytes wait to be written", queue.cost);
            return Some(AppendError::Busy { what, limit, retry_after_ms: RETRY_QUEUE_MS });
        }
        if !submission.grows {
            return None;
        }
        if let Some(full) = self.starved.why() {
            return Some(AppendError::Disk(full));
        }
        let ledger = self.ledger.lock();
        let (bytes, records) = (ledger.files.values().sum::<u64>(), ledger.state.records());
        drop(ledger);
        let limit = self.config.bytes_max;
        if bytes + queue.taken.cost + queue.cost + submission.cost > limit {
            let what = format!("{bytes} bytes wait to be uploaded");
            return Some(AppendError::Busy { what, limit, retry_after_ms: RETRY_BACKLOG_MS });
        }
        let limit = self.config.records_max;
        if records + queue.taken.records + queue.records + submission.records > limit {
            let what = format!("{records} records wait to be uploaded");
            return Some(AppendError::Busy { what, limit, retry_after_ms: RETRY_BACKLOG_MS });
        }
        None
    }

    /// Waits for the answer; what has not been begun at the deadline is withdrawn.
    pub(super) async fn acknowledged(&self, mut ticket: Ticket, deadline: Mono) -> Result<Appended, AppendError> {
        let ended = || Err(AppendError::Unknown("the journal ended".to_owned()));
        let left = if deadline == Mono(u64::MAX) { Duration::MAX } else { deadline.since(self.world.clock().mono()) };
        if let Some(answer) = timeout(&self.world, left, &mut ticket.done).await {
            return answer.unwrap_or_else(|_| ended());
        }
        let mut queue = self.queue.lock();
        let Some(at) = queue.waiting.iter().position(|waiting| waiting.id == ticket.id) else {
            drop(queue);
            // Answered in this very moment, or still in flight.
            return ticket.done.try_recv().unwrap_or_else(|_| {
                Err(AppendError::Unknown("the deadline passed while it was being written".to_owned()))
            });
        };
        let waited = queue.waiting.len() as u64;
        if let Some(waiting) = queue.waiting.remove(at) {
            queue.cost -= waiting.submission.cost;
            queue.records -= waiting.submission.records;
        }
        drop(queue);
        self.room.notify_waiters();
        let limit = self.config.queue_bytes_max;
        let what = format!("{waited} appends wait to be written");
        Err(AppendError::Busy { what, limit, retry_after_ms: RETRY_QUEUE_MS })
    }

    /// What the writer took of these is in the files, or will never be.
    fn answered(&self, finished: &[Waiting]) {
        let mut queue = self.queue.lock();
        for Waiting { submission, .. } in finished {
            queue.taken.cost -= submission.cost;
            queue.taken.records -= submission.records;
        }
    }

    /// Nobody writes any more: who waits is told so.
    fn forsake(&self) {
        let mut queue = self.queue.lock();
        (queue.closed, queue.cost, queue.records, queue.taken) = (true, 0, 0, Taken::default());
        queue.waiting.clear();
        drop(queue);
        self.room.notify_waiters();
    }

    /// Waits for the writer's end.
    pub(super) async fn end(&self) -> End {
        let mut ended = self.ended.clone();
        // Where nobody is left who could say so, the runtime shuts down.
        ended.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or(End::Done)
    }

    fn count(&self, change: impl FnOnce(&mut JournalStats)) {
        change(&mut self.ledger.lock().counts);
    }

    /// Where the disk is full, what grows gives way to what ends something, and that gets the reserve, but not before it
    /// needs it: others may fill the same disk.
    async fn starve(&self, error: &DiskError, grows: bool) {
        if !matches!(error, DiskError::NoSpace { .. }) {
            return;
        }
        if !grows {
            reserve::give(self.world.disk(), &self.config.dir).await;
        }
        if self.starved.begin(error, self.world.clock().mono()) {
            self.world.reached(State::JournalStarved);
            // It is the writer that looks for room again, and it may wait for nothing but an append.
            self.wake.notify_one();
            let growing = self.queue.lock().take_growing();
            for waiting in growing {
                let _ = waiting.done.send(Err(AppendError::Disk(error.clone())));
            }
            self.room.notify_waiters();
        }
    }

    /// Takes the reserve; on a disk that is full, nothing that grows is taken until that succeeds.
    async fn take_reserve(&self) {
        match self.starved.try_to_end(&self.world, &self.config.dir).await {
            Ok(true) => self.room.notify_waiters(),
            Ok(false) => {}
            Err(full) => self.starve(&full, true).await,
        }
    }

    pub(super) async fn trim(&self) -> Result<u64, DiskError> {
        let mut low = self.low_water.lock().await;
        let (first, dead) = {
            let ledger = self.ledger.lock();
            let first = ledger.state.first_live(ledger.current).max(*low);
            (first, ledger.files.range(..first).map(|(number, _)| *number).collect::<Vec<_>>())
        };
        if dead.is_empty() {
            return Ok(0);
        }
        self.world.at(Point::BeforeLowWater).await;
        if first > *low {
            if let Err(error) = low_water::write(self.world.disk(), &self.config.dir, first).await {
                self.starve(&error, false).await;
                low_water::write(self.world.disk(), &self.config.dir, first).await?;
            }
            *low = first;
        }
        self.ledger.lock().state.forget_before(first);
        for number in dead.iter().copied() {
            self.world.at(Point::BeforeSegmentRemove).await;
            low_water::remove(self.world.disk(), &self.path(&names::segment(number))).await?;
            self.ledger.lock().files.remove(&number);
            self.count(|counts| counts.segments_removed += 1);
        }
        self.room.notify_waiters();
        Ok(dead.len() as u64)
    }

    pub(super) fn stats(&self) -> JournalStats {
        let waiting = self.queue.lock().waiting.len() as u64;
        let ledger = self.ledger.lock();
        JournalStats {
            waiting,
            disk_bytes: ledger.files.values().sum(),
            disk_bytes_max: self.config.bytes_max,
            disk_records: ledger.state.records(),
            backlog: ledger.state.backlog(),
            ..ledger.counts
        }
    }

    /// Whether the writer ended within `bound`.
    pub(super) async fn close(&self, bound: Duration) -> bool {
        self.queue.lock().closed = true;
        self.wake.notify_one();
        self.room.notify_waiters();
        timeout(&self.world, bound, self.end()).await.is_some()
    }
}

impl<W: World> Writer<W> {
    async fn run(mut self) {
        loop {
            match self.next().await {
                Next::Batch(gathered) => self.write(gathered).await,
                Next::Mark => self.mark().await,
                Next::End => return,
            }
        }
    }

    /// What is to be written next. Waits for it.
    async fn next(&mut self) -> Next {
        loop {
            if self.shared.starved.is_due(self.shared.world.clock().mono()) {
                self.shared.take_reserve().await;
            }
            self.gather_more().await;
            if let Some(gathered) = self.take() {
                return Next::Batch(gathered);
            }
            let closed = self.shared.queue.lock().closed;
            if closed {
                return if self.unmarked { Next::Mark } else { Next::End };
            }
            // A wake-up that came before this point is kept by the Notify.
            let woken = self.shared.wake.notified();
            if self.shared.starved.why().is_some() {
                let _ = timeout(&self.shared.world, reserve::PAUSE, woken).await;
            } else if !self.unmarked {
                woken.await;
            } else if timeout(&self.shared.world, self.shared.config.idle_mark, woken).await.is_none() {
                return Next::Mark;
            }
        }
    }

    /// Gives the appenders that the last batch acknowledged a moment to come back: otherwise the first of them would be
    /// synced alone, and all others wait for it.
    async fn gather_more(&mut self) {
        if self.begun.is_some() || self.expected <= 1 {
            return;
        }
        let began = self.shared.world.clock().mono();
        let most = self.sync_took / GATHER_SHARE;
        for _ in 0..GATHER_TURNS_MAX {
            let waiting = self.shared.queue.lock().waiting.len();
            if waiting >= self.expected || self.shared.world.clock().mono().since(began) > most {
                return;
            }
            one_turn().await;
        }
    }

    /// The entries of the next batch: of an append that has begun, then of those that wait, in order.
    fn take(&mut self) -> Option<Gathered> {
        let config = &self.shared.config;
        let mut queue = self.shared.queue.lock();
        let (mut entries, mut finished) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        loop {
            let begun = self.begun.take();
            let fresh = begun.is_none();
            let Some(mut waiting) = begun.or_else(|| queue.waiting.pop_front()) else { break };
            let piece = waiting.submission.pieces.front().map(Vec::as_slice).unwrap_or_default();
            let more: u64 = piece.iter().map(|entry| entry.body.len() as u64).sum();
            let fits = entries.len() + piece.len() <= BATCH_COUNT_MAX.into() && bytes + more <= config.batch_bytes_max;
            if !entries.is_empty() && !fits {
                if fresh {
                    queue.waiting.push_front(waiting);
                } else {
                    self.begun = Some(waiting);
                }
                break;
            }
            if fresh {
                queue.cost -= waiting.submission.cost;
                queue.records -= waiting.submission.records;
                queue.taken.cost += waiting.submission.cost;
                queue.taken.records += waiting.submission.records;
                if waiting.submission.grouped {
                    self.groups += 1;
                    waiting.submission.name_group(self.groups);
                }
            }
            let start = entries.len() as u64;
            entries.extend(waiting.submission.pieces.pop_front().unwrap_or_default());
            waiting.submission.own = start..entries.len() as u64;
            bytes += more;
            if waiting.submission.pieces.is_empty() {
                finished.push(waiting);
            } else {
                self.begun = Some(waiting);
                break;
            }
        }
        drop(queue);
        if entries.is_empty() {
            return None;
        }
        self.shared.room.notify_waiters();
        Some(Gathered { entries, finished })
    }

    async fn write(&mut self, gathered: Gathered) {
        let Gathered { entries, mut finished } = gathered;
        let len = batch_bytes(&entries);
        let full = |segment: &Segment| {
            segment.offset > FIXED_LEN as u64 && segment.offset + len > self.shared.config.segment_bytes
        };
        if self.segment.as_ref().is_some_and(full) {
            self.segment = None;
        }
        if self.segment.is_none()
            && let Err(error) = self.begin_segment().await
        {
            // An append of several batches may have been written in part, never its commit.
            finished.extend(self.begun.take());
            self.shared.starve(&error, finished.iter().any(|waiting| waiting.submission.grows)).await;
            self.shared.ledger.lock().state.abandon_groups();
            self.shared.answered(&finished);
            for waiting in finished.into_iter().chain(self.refuse_waiting()) {
                let _ = waiting.done.send(Err(AppendError::Disk(error.clone())));
            }
            self.shared.world.clock().sleep(self.shared.config.retry_pause).await;
            return;
        }
        let (records, bodies): (Vec<Record>, Vec<Bytes>) =
            entries.into_iter().map(|entry| (entry.record, entry.body)).unzip();
        match self.append(&records, bodies).await {
            Ok(first) => {
                self.expected = finished.len().max(1);
                self.unmarked = true;
                self.shared.count(|counts| {
                    counts.appends += finished.len() as u64;
                    counts.records += records.len() as u64;
                    counts.syncs += 1;
                });
                self.shared.world.at(Point::BeforeJournalAcknowledge).await;
                self.shared.answered(&finished);
                if let Some(begun) = &mut self.begun {
                    begun.submission.numbered(first);
                }
                for mut waiting in finished {
                    let appended = waiting.submission.numbered(first);
                    let _ = waiting.done.send(Ok(appended));
                }
            }
            Err(error) => {
                finished.extend(self.begun.take());
                self.shared.starve(&error, finished.iter().any(|waiting| waiting.submission.grows)).await;
                self.shared.ledger.lock().state.abandon_groups();
                self.shared.answered(&finished);
                for waiting in finished {
                    let _ = waiting.done.send(Err(AppendError::Unknown(error.to_string())));
                }
            }
        }
        self.shared.room.notify_waiters();
    }

    /// Empties the queue.
    fn refuse_waiting(&self) -> Vec<Waiting> {
        let mut queue = self.shared.queue.lock();
        (queue.cost, queue.records) = (0, 0);
        queue.waiting.drain(..).collect()
    }

    /// A batch that says that what was before it is synced. A failure costs nothing but the segment.
    async fn mark(&mut self) {
        self.unmarked = false;
        self.expected = 1;
        if self.segment.is_some() && self.append(&[Record::Mark], Vec::new()).await.is_ok() {
            self.shared.count(|counts| counts.marks += 1);
        }
    }

    /// Appends, syncs and applies one batch to the segment that is open; returns its first sequence number. A failure
    /// closes the segment.
    async fn append(&mut self, records: &[Record], bodies: Vec<Bytes>) -> Result<u64, DiskError> {
        let Some(mut segment) = self.segment.take() else {
            return Err(DiskError::Io {
                path: self.shared.config.dir.clone(),
                detail: "no segment is open".to_owned(),
            });
        };
        let first = self.next_sequence;
        self.next_sequence += records.len() as u64;
        let link = Link { previous: self.previous, synced_through: self.synced_through, nonce: segment.nonce };
        let (header, head) = seal(&link, first, self.now_ns(), records);
        let head_len = head.len() as u64;
        match self.append_and_sync(&segment.name, head, bodies).await {
            Ok(len) => {
                self.apply(&segment, first, head_len, len, records);
                self.previous = header.hash;
                segment.offset += len;
                self.segment = Some(segment);
                Ok(first)
            }
            Err(error) => {
                self.shared.count(|counts| counts.failures += 1);
                // What landed of it is void, and takes room until the segment dies.
                if let Ok(len) = self.shared.world.disk().len(&segment.name).await {
                    self.shared.ledger.lock().files.insert(segment.number, len);
                }
                self.cut = Some(Cut { segment: segment.number, offset: segment.offset, sequence: first });
                Err(error)
            }
        }
    }

    /// Begins the next segment: durable, and empty but for what it says of itself and of what is void before it.
    async fn begin_segment(&mut self) -> Result<(), DiskError> {
        let shared = self.shared.clone();
        let (disk, config) = (shared.world.disk(), &shared.config);
        let number = self.next_segment;
        self.next_segment += 1;
        let first = self.next_sequence;
        let mut records = vec![Record::Segment { life: config.life, number, previous_nonce: self.previous_nonce }];
        if let Some(Cut { segment, offset, sequence }) = self.cut {
            records.push(Record::Void { from: sequence, to: first, segment, offset });
        }
        // The numbers are used up even where this fails: what was written of them may still be found.
        self.next_sequence += records.len() as u64;
        let segment =
            Segment { number, name: shared.path(&names::segment(number)), nonce: shared.world.random_u64(), offset: 0 };
        let link = Link { previous: self.previous, synced_through: self.synced_through, nonce: segment.nonce };
        let (header, head) = seal(&link, first, self.now_ns(), &records);
        shared.world.at(Point::BeforeSegmentBegin).await;
        let (mut created, mut whole) = (false, false);
        let begun = async {
            disk.create(&segment.name).await?;
            created = true;
            let len = self.append_and_sync(&segment.name, head, Vec::new()).await?;
            disk.sync_dir(&config.dir).await?;
            whole = true;
            Newest { segment: number, nonce: segment.nonce }.write(disk, &config.dir).await.map(|()| len)
        };
        match begun.await {
            Ok(len) => {
                self.apply(&segment, first, len, len, &records);
                shared.ledger.lock().current = number;
                shared.count(|counts| counts.segments_begun += 1);
                self.previous = header.hash;
                self.previous_nonce = segment.nonce;
                self.cut = None;
                self.segment = Some(Segment { offset: len, ..segment });
                Ok(())
            }
            Err(error) => {
                // The next segment's void covers it: where it cannot be removed, it is passed over, or follows as an empty
                // one. The mark may name it already: then it stays.
                if created && !whole {
                    let _ = low_water::remove(disk, &segment.name).await;
                }
                shared.count(|counts| counts.failures += 1);
                let end = shared.ledger.lock().files.last_key_value().map(|(number, len)| (*number, *len));
                if let (None, Some((segment, offset))) = (self.cut, end) {
                    self.cut = Some(Cut { segment, offset, sequence: first });
                }
                Err(error)
            }
        }
    }

    async fn append_and_sync(&mut self, name: &str, head: Bytes, bodies: Vec<Bytes>) -> Result<u64, DiskError> {
        let world = self.shared.world.clone();
        let mut buffers = Vec::with_capacity(1 + bodies.len());
        buffers.push(head);
        buffers.extend(bodies.into_iter().filter(|body| !body.is_empty()));
        let len = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        world.at(Point::BeforeJournalAppend).await;
        let began = world.clock().mono();
        world.disk().append(name, &buffers).await?;
        drop(buffers);
        world.at(Point::BetweenAppendAndSync).await;
        world.disk().sync(name).await?;
        self.sync_took = world.clock().mono().since(began);
        Ok(len)
    }

    /// What is synced counts.
    fn apply(&mut self, segment: &Segment, first: u64, head_len: u64, len: u64, records: &[Record]) {
        let mut ledger = self.shared.ledger.lock();
        let mut offset = segment.offset + head_len;
        for (record, sequence) in records.iter().zip(first..) {
            ledger.state.apply(Place { sequence, segment: segment.number, offset }, record);
            offset += record.body_len();
        }
        self.synced_through = first + records.len() as u64 - 1;
        ledger.synced_through = self.synced_through;
        *ledger.files.entry(segment.number).or_default() += len;
        ledger.counts.bytes += len;
        ledger.counts.sync_us = u64::try_from(self.sync_took.as_micros()).unwrap_or(u64::MAX);
    }

    fn now_ns(&self) -> u64 {
        self.shared.world.clock().wall_ms().saturating_mul(1_000_000)
    }
}

/// Lets every other task that is ready run once.
async fn one_turn() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
