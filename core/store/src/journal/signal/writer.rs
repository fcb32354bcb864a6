//! Writing the signal journal: events are put into bounded buffers by whoever accesses something, and appended in
//! batches by one task. Nobody ever waits for it.

use super::codec::{SignalEvent, encode_batch};
use super::recovery::{SignalsRecovered, recover};
use crate::journal::header::BATCH_COUNT_MAX;
use crate::journal::{low_water, names};
use crate::race::timeout;
use crate::seldom::Seldom;
use crate::world::{Clock, Disk, DiskError, Mono, World};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Buffers that events are spread over, so that threads seldom meet. A power of two.
const SHARDS: usize = 16;

/// How the signal journal is opened.
#[derive(Clone, Debug)]
pub struct SignalConfig {
    /// Directory of the journal, below the world's disk.
    pub dir: String,
    /// A segment is closed once it has reached this length. Bytes.
    pub segment_bytes: u64,
    /// All segments together; the oldest go first. Bytes.
    pub bytes_max: u64,
    /// Events that wait to be appended; more are dropped and counted.
    pub buffer_events_max: usize,
    /// How often what waits is appended.
    pub append_every: Duration,
    /// How often what was appended is synced.
    pub sync_every: Duration,
}

impl Default for SignalConfig {
    fn default() -> Self {
        Self {
            dir: "signal".to_owned(),
            segment_bytes: 8 << 20,
            bytes_max: 64 << 20,
            buffer_events_max: 1 << 18,
            append_every: Duration::from_millis(100),
            sync_every: Duration::from_secs(1),
        }
    }
}

/// Numbers of the signal journal, since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SignalStats {
    pub appended: u64,
    /// Dropped because the buffers were full.
    pub dropped: u64,
    /// Lost because an append or a sync failed.
    pub failed: u64,
    pub disk_bytes: u64,
}

/// Events of some entities. A cache line of its own, so that no two are written by different threads at once.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<Vec<SignalEvent>>);

struct Shared {
    shards: [Shard; SHARDS],
    shard_max: usize,
    /// The writer has nothing to do and waits to be woken.
    asleep: AtomicBool,
    wake: Notify,
    closing: AtomicBool,
    appended: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    disk_bytes: AtomicU64,
    ended: Notify,
}

/// The signal journal, open for recording. All clones are the same journal.
#[derive(Clone)]
pub struct SignalJournal {
    shared: Arc<Shared>,
}

impl SignalJournal {
    /// Reads what the directory holds, giving every event with its sequence number to `each`, and begins a new segment
    /// with the first append. Damage is skipped and counted, never an error.
    pub async fn open<W: World>(
        world: W,
        config: SignalConfig,
        each: &mut (dyn FnMut(u64, SignalEvent) + Send + '_),
    ) -> Result<(SignalsRecovered, Self), DiskError> {
        let (recovered, files) = recover(&world, &config.dir, each).await?;
        let shared = Arc::new(Shared {
            shards: Default::default(),
            shard_max: config.buffer_events_max.div_ceil(SHARDS),
            asleep: AtomicBool::new(false),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            appended: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            disk_bytes: AtomicU64::new(files.values().sum()),
            ended: Notify::new(),
        });
        let next_segment = files.last_key_value().map_or(1, |(last, _)| last + 1);
        let writer = Writer {
            world: world.clone(),
            config,
            shared: shared.clone(),
            files,
            next_segment,
            open: None,
            next_sequence: recovered.end,
            synced_at: world.clock().mono(),
            unsynced: false,
            losses: Seldom::default(),
        };
        world.spawn(writer.run());
        Ok((recovered, Self { shared }))
    }

    /// Remembers an event. Never waits; where the buffers are full the event is dropped and counted.
    pub fn record(&self, event: SignalEvent) {
        let shared = &self.shared;
        // Neighbouring ids fall into different shards.
        let spread = event.entity.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let mut shard = shared.shards[spread as usize % SHARDS].0.lock();
        if shard.len() >= shared.shard_max {
            drop(shard);
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shard.push(event);
        drop(shard);
        // SeqCst on both sides: either the writer sees the event before it sleeps, or it is woken here.
        if shared.asleep.load(Ordering::SeqCst) && shared.asleep.swap(false, Ordering::SeqCst) {
            shared.wake.notify_one();
        }
    }

    pub fn stats(&self) -> SignalStats {
        let shared = &self.shared;
        SignalStats {
            appended: shared.appended.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            disk_bytes: shared.disk_bytes.load(Ordering::Relaxed),
        }
    }

    /// Appends and syncs what waits, and ends. Whether that was done within `bound`.
    pub async fn close<W: World>(&self, world: &W, bound: Duration) -> bool {
        let ended = self.shared.ended.notified();
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.wake.notify_one();
        timeout(world, bound, ended).await.is_some()
    }
}

struct Open {
    number: u64,
    path: String,
    len: u64,
}

struct Writer<W: World> {
    world: W,
    config: SignalConfig,
    shared: Arc<Shared>,
    /// Bytes of the segments on disk, by number.
    files: BTreeMap<u64, u64>,
    next_segment: u64,
    open: Option<Open>,
    next_sequence: u64,
    synced_at: Mono,
    unsynced: bool,
    /// A full disk loses some many times a second.
    losses: Seldom,
}

impl<W: World> Writer<W> {
    async fn run(mut self) {
        loop {
            // Read before the buffers are emptied: what was recorded before the close is written.
            let closing = self.shared.closing.load(Ordering::SeqCst);
            let events = self.drain();
            if !events.is_empty() {
                self.write(&events).await;
            }
            let due = self.world.clock().mono().since(self.synced_at) >= self.config.sync_every;
            if self.unsynced && (due || closing) {
                self.sync().await;
            }
            if closing {
                self.shared.ended.notify_one();
                return;
            }
            if events.is_empty() && !self.unsynced {
                self.sleep().await;
            } else {
                let pause = self.config.append_every;
                // A close does not wait for the next append.
                timeout(&self.world, pause, self.shared.wake.notified()).await;
            }
        }
    }

    /// Until something is recorded.
    async fn sleep(&self) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        let empty = self.shared.shards.iter().all(|shard| shard.0.lock().is_empty());
        if empty && !self.shared.closing.load(Ordering::SeqCst) {
            self.shared.wake.notified().await;
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// Empties the buffers; events in the order of their times.
    fn drain(&self) -> Vec<SignalEvent> {
        let mut events = Vec::new();
        for shard in &self.shared.shards {
            let mut held = shard.0.lock();
            let room = Vec::with_capacity(held.len());
            let taken = std::mem::replace(&mut *held, room);
            drop(held);
            events.extend(taken);
        }
        events.sort_by_key(|event| event.timestamp_ns);
        events
    }

    async fn write(&mut self, events: &[SignalEvent]) {
        let count = events.len() as u64;
        match self.append(events).await {
            Ok(()) => {
                self.shared.appended.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => self.fail(count, &error),
        }
        self.shared.disk_bytes.store(self.files.values().sum(), Ordering::Relaxed);
    }

    /// A segment that failed is left as it is: what verifies of it is read by the next start.
    fn fail(&mut self, events: u64, error: &DiskError) {
        if let Some(kept_back) = self.losses.due(self.world.clock().mono()) {
            tracing::warn!(%error, events, kept_back, "signals are lost");
        }
        self.shared.failed.fetch_add(events, Ordering::Relaxed);
        self.open = None;
        self.unsynced = false;
    }

    async fn append(&mut self, events: &[SignalEvent]) -> Result<(), DiskError> {
        if self.open.as_ref().is_some_and(|open| open.len >= self.config.segment_bytes) {
            self.sync().await;
            self.open = None;
        }
        self.trim().await?;
        let timestamp_ns = self.world.clock().wall_ms().saturating_mul(1_000_000);
        let mut bytes = Vec::with_capacity(events.len() * 22 + 64);
        for some in events.chunks(BATCH_COUNT_MAX.into()) {
            encode_batch(self.next_sequence, timestamp_ns, some, &mut bytes);
            self.next_sequence += some.len() as u64;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin().await?,
        };
        let len = bytes.len() as u64;
        self.world.disk().append(&open.path, &[bytes.into()]).await?;
        open.len += len;
        self.files.insert(open.number, open.len);
        self.open = Some(open);
        self.unsynced = true;
        Ok(())
    }

    async fn begin(&mut self) -> Result<Open, DiskError> {
        let number = self.next_segment;
        self.next_segment += 1;
        let path = format!("{}/{}", self.config.dir, names::segment(number));
        self.world.disk().create(&path).await?;
        self.files.insert(number, 0);
        self.world.disk().sync_dir(&self.config.dir).await?;
        Ok(Open { number, path, len: 0 })
    }

    /// Removes the oldest segments until there is room for another one.
    async fn trim(&mut self) -> Result<(), DiskError> {
        while self.files.values().sum::<u64>() + self.config.segment_bytes > self.config.bytes_max {
            let current = self.open.as_ref().map(|open| open.number);
            let Some((oldest, _)) = self.files.first_key_value().filter(|(number, _)| Some(**number) != current) else {
                return Ok(());
            };
            let oldest = *oldest;
            low_water::remove(self.world.disk(), &format!("{}/{}", self.config.dir, names::segment(oldest))).await?;
            self.files.remove(&oldest);
        }
        Ok(())
    }

    async fn sync(&mut self) {
        self.synced_at = self.world.clock().mono();
        self.unsynced = false;
        if let Some(open) = &self.open
            && let Err(error) = self.world.disk().sync(&open.path).await
        {
            self.fail(0, &error);
        }
    }
}
