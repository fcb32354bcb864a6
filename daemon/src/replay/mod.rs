//! Replays a trace against a running daemon: look up each prompt's prefix, get the hits and verify every byte, put the
//! misses.

pub mod capacity;
pub mod counters;
pub mod early;
pub mod tally;
pub mod worker;

use crate::exit::{Exit, Failure, Outcome};
use crate::remote::{Access, Remote};
use crate::render::progress::Progress;
use crate::trace::TraceRequest;
use bettong_wire::ModelIdentity;
use bettong_wire::request::Level;
use capacity::Capacity;
use early::Early;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tally::Tally;

/// How a trace is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub block_bytes: u64,
    /// Blocks kept at most; `None` keeps all.
    pub capacity: Option<u64>,
    pub concurrency: usize,
    /// Trace time to real time; `None` goes as fast as it can.
    pub speed: Option<f64>,
    pub level: Level,
}

/// The identity that a replay's namespace has.
pub fn identity(kv_dtype: &str) -> ModelIdentity {
    ModelIdentity {
        model: "trace".to_owned(),
        kv_dtype: kv_dtype.to_owned(),
        layout: "opaque".to_owned(),
        block_tokens: crate::trace::BLOCK_TOKENS,
        parts: vec![0],
        ..ModelIdentity::default()
    }
}

/// Blocks whose put was acknowledged, in order of acknowledgement: (id, hash).
pub type Ledger = Arc<Mutex<Vec<(u64, bettong_wire::BlockHash)>>>;

/// What the workers of one replay share.
#[derive(Debug)]
pub struct Shared {
    pub settings: Settings,
    pub requests: Arc<[TraceRequest]>,
    next: AtomicUsize,
    capacity: Option<Mutex<Capacity>>,
    progress: Mutex<Progress>,
    /// What the requests that were finished did.
    tally: Mutex<Tally>,
    /// What the beginning brought.
    early: Mutex<Early>,
    pub ledger: Option<Ledger>,
    began: Instant,
}

impl Shared {
    pub fn new(requests: Arc<[TraceRequest]>, settings: Settings, what: &str, ledger: Option<Ledger>) -> Arc<Self> {
        let progress = Mutex::new(Progress::new(what, requests.len() as u64));
        let capacity = settings.capacity.map(|blocks| Mutex::new(Capacity::new(blocks)));
        let (next, tally, early) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        Arc::new(Self { settings, requests, next, capacity, progress, tally, early, ledger, began: Instant::now() })
    }

    /// Requests that were handed out so far.
    pub fn handed_out(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.requests.len())
    }

    /// What the requests that are finished did.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// What the beginning brought.
    pub fn early(&self) -> Early {
        *self.early.lock()
    }

    fn finished(&self, request: &Tally) {
        self.tally.lock().merge(request);
        self.progress.lock().advance(1);
    }

    /// The next request, when its time has come.
    async fn take(&self) -> Option<&TraceRequest> {
        let request = self.requests.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        if let Some(speed) = self.settings.speed {
            let due = Duration::from_secs_f64(request.timestamp_ms as f64 / 1000.0 / speed);
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
        Some(request)
    }
}

/// Replays to the end on `concurrency` sessions and answers how long it took. The first failure ends it; dropping it
/// ends it too.
pub async fn run(access: &Access, shared: &Arc<Shared>) -> Outcome<Duration> {
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..shared.settings.concurrency.max(1) {
        let remote = Remote::open(access, Some(identity("bf16"))).await?;
        let shared = shared.clone();
        workers.spawn(async move { worker::work(&remote, &shared).await });
    }
    let began = Instant::now();
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::new(Exit::Failed, format!("a replay worker: {error}")))??;
    }
    Ok(began.elapsed())
}
