//! The object store as the rest of the store sees it: bounded retries, time-outs, and outcomes that say what is known.

pub mod counting;
pub mod names;
mod records;

use crate::config::StoreConfig;
use crate::health::Breaker;
use crate::observe::State;
use crate::race::timeout;
use crate::world::{Clock, World};
use bytes::Bytes;
use counting::RequestCounts;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Why a request to the object store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("no such object")]
    NotFound,
    #[error("the object exists already")]
    AlreadyExists,
    /// The store cannot do this at all.
    #[error("the object store does not support this: {0}")]
    Unsupported(String),
    /// The store refused for a reason that a retry does not change.
    #[error("the object store refused: {0}")]
    Denied(String),
    /// Whether the request had its effect is not known (for a read: it failed).
    #[error("a request to the object store failed: {0}")]
    Unknown(String),
    /// The answer is longer than the caller allowed.
    #[error("the object has {got} bytes, at most {limit} were expected")]
    TooLong { got: u64, limit: u64 },
}

/// A request that carries bytes gets so much more time for them: a slow link is not a dead one. Bytes a second.
const BYTES_A_SECOND_MIN: u64 = 2 << 20;

/// Goes with a request whose answer is read for nothing but its bytes and how many the object has, not for times and tags.
/// What is longer than `max` bytes is answered as if this were not there, and so is everything by object stores that know
/// nothing of it.
#[derive(Debug, Clone, Copy)]
pub struct BytesOnly {
    pub max: u64,
}

impl BytesOnly {
    pub(crate) fn of(range: Option<Range<u64>>, max: u64) -> GetOptions {
        let mut options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        options.extensions.insert(Self { max });
        options
    }
}

/// Who goes first under pressure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits for the bytes, and can turn elsewhere.
    Load,
    /// Somebody needs the answer, however long it takes.
    Ask,
    /// May take a part of the places only.
    Store,
}

/// Requests to the object store, bounded in number, time and attempts.
#[derive(Clone)]
pub struct Objects<W: World> {
    world: W,
    store: Arc<dyn ObjectStore>,
    pub counts: Arc<RequestCounts>,
    /// Whether the object store answers at all.
    pub health: Arc<Breaker>,
    inflight: Arc<Semaphore>,
    /// The places among `inflight` that writes may take: under pressure reads always find some free.
    writes: Arc<Semaphore>,
    attempts_max: u32,
    attempt_timeout: Duration,
    backoff: Duration,
    /// Whether listings come in the order of names, as every cloud store's do and a file system's do not.
    ordered_listing: bool,
    page_max: usize,
    walk_page: usize,
}

impl<W: World> Objects<W> {
    pub fn new(
        world: W,
        store: Arc<dyn ObjectStore>,
        counts: Arc<RequestCounts>,
        config: &StoreConfig,
        ordered_listing: bool,
    ) -> Self {
        Self {
            ordered_listing,
            page_max: config.object_page_max,
            walk_page: config.object_walk_page,
            world,
            store,
            counts,
            health: Arc::default(),
            inflight: Arc::new(Semaphore::new(config.object_inflight_max)),
            writes: Arc::new(Semaphore::new((config.object_inflight_max - config.object_inflight_max / 4).max(1))),
            attempts_max: config.object_attempts_max,
            attempt_timeout: config.object_attempt_timeout,
            backoff: config.object_backoff,
        }
    }

    /// Writes an object whose name is used for these bytes only, so that a repeated attempt is harmless.
    pub async fn put_unique(&self, path: &Path, payload: PutPayload) -> Result<(), ObjectError> {
        self.attempt_within(Urgency::Store, self.bound(payload.content_length() as u64), || {
            let put = self.store.put(path, payload.clone());
            async move { put.await.map(|_| ()) }
        })
        .await
    }

    /// The time of one attempt that carries `bytes`.
    fn bound(&self, bytes: u64) -> Duration {
        self.attempt_timeout + Duration::from_millis(bytes.saturating_mul(1000) / BYTES_A_SECOND_MIN)
    }

    /// Creates an object unless the name is taken. After an unknown outcome the next attempt may find its own work:
    /// the caller tells by reading.
    pub async fn create(&self, path: &Path, payload: PutPayload) -> Result<(), ObjectError> {
        self.attempt(Urgency::Store, || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = self.store.put_opts(path, payload.clone(), options);
            async move { put.await.map(|_| ()) }
        })
        .await
    }

    /// As `get`, for a read that has somewhere else to turn: not even tried while the object store is known to be down.
    pub async fn load(&self, path: &Path, limit: u64) -> Result<Bytes, ObjectError> {
        if !self.health.admits(self.world.clock().mono()) {
            self.world.reached(State::BreakerRefused);
            return Err(not_asked());
        }
        self.read(Urgency::Load, path, limit).await
    }

    /// The object's bytes, at most `limit`; a longer object is refused before its body is read.
    pub async fn get(&self, path: &Path, limit: u64) -> Result<Bytes, ObjectError> {
        self.read(Urgency::Ask, path, limit).await
    }

    async fn read(&self, urgency: Urgency, path: &Path, limit: u64) -> Result<Bytes, ObjectError> {
        let body = self
            .attempt_within(urgency, self.bound(limit), || async move {
                let answer = self.store.get_opts(path, BytesOnly::of(None, limit)).await?;
                if answer.meta.size > limit {
                    return Ok(Err(answer.meta.size));
                }
                answer.bytes().await.map(Ok)
            })
            .await?;
        match body {
            Ok(bytes) if bytes.len() as u64 <= limit => Ok(bytes),
            Ok(bytes) => Err(ObjectError::TooLong { got: bytes.len() as u64, limit }),
            Err(got) => Err(ObjectError::TooLong { got, limit }),
        }
    }

    /// Bytes `from..from + len` of the object, or fewer where it ends before, for a read that has somewhere else to turn,
    /// as `load`. An object that ends before `from` fails.
    pub async fn load_range(&self, path: &Path, from: u64, len: u64) -> Result<Bytes, ObjectError> {
        if !self.health.admits(self.world.clock().mono()) {
            self.world.reached(State::BreakerRefused);
            return Err(not_asked());
        }
        self.read_range(Urgency::Load, path, from..from.saturating_add(len)).await
    }

    /// The first `len` bytes of the object, or fewer where it is shorter.
    pub async fn get_head(&self, path: &Path, len: u64) -> Result<Bytes, ObjectError> {
        self.read_range(Urgency::Ask, path, 0..len).await
    }

    async fn read_range(&self, urgency: Urgency, path: &Path, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let max = range.end - range.start;
        self.attempt(urgency, || {
            let answer = self.store.get_opts(path, BytesOnly::of(Some(range.clone()), max));
            async move { answer.await?.bytes().await }
        })
        .await
    }

    /// What the object store says of the object besides its bytes.
    pub async fn meta(&self, path: &Path) -> Result<ObjectMeta, ObjectError> {
        self.attempt(Urgency::Load, || self.store.head(path)).await
    }

    /// Removes the object. An object that is not there counts as removed.
    pub async fn remove(&self, path: &Path) -> Result<(), ObjectError> {
        match self.attempt(Urgency::Store, || self.store.delete(path)).await {
            Err(ObjectError::NotFound) => Ok(()),
            other => other,
        }
    }

    /// The objects under `prefix` whose names sort after `offset`, ascending by name: a page of `limit`, or a larger one
    /// where each page costs a walk over everything. `more` says whether the listing went on.
    pub async fn list(&self, prefix: &Path, offset: Option<&Path>, limit: usize) -> Result<Page, ObjectError> {
        let limit = if self.ordered_listing { limit } else { limit.max(self.walk_page) };
        // A long listing may take long, as long as it moves: the time-out is for each object.
        let mut objects = self
            .attempt_within(Urgency::Ask, Duration::MAX, || async {
                let mut stream = match offset {
                    Some(offset) => self.store.list_with_offset(Some(prefix), offset),
                    None => self.store.list(Some(prefix)),
                };
                let mut objects = SmallestNames::new(limit);
                loop {
                    match timeout(&self.world, self.attempt_timeout, stream.next()).await {
                        Some(Some(object)) => objects.push(object?),
                        Some(None) => break,
                        None => return Err(stalled(self.attempt_timeout)),
                    }
                    if self.ordered_listing && objects.sorted.len() > limit {
                        break;
                    }
                }
                objects.shrink();
                Ok(objects)
            })
            .await?;
        objects.sorted.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(Page { more: objects.dropped, objects: objects.sorted })
    }

    /// As `list`, for whoever comes again for what is behind: at most `limit` names, or fewer.
    pub async fn page(&self, prefix: &Path, offset: Option<&Path>, limit: usize) -> Result<Page, ObjectError> {
        self.list(prefix, offset, limit.min(self.page_max)).await
    }

    /// The names of the folders directly under `prefix`.
    pub async fn folders(&self, prefix: &Path) -> Result<Vec<String>, ObjectError> {
        let listing = self.attempt(Urgency::Ask, || self.store.list_with_delimiter(Some(prefix))).await?;
        let mut names: Vec<String> =
            listing.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Runs one request with its bounds: a place among those under way, a time-out for each attempt, pauses between.
    async fn attempt<T, F>(&self, urgency: Urgency, request: impl FnMut() -> F) -> Result<T, ObjectError>
    where
        F: Future<Output = object_store::Result<T>> + Send,
        T: Send,
    {
        self.attempt_within(urgency, self.attempt_timeout, request).await
    }

    async fn attempt_within<T, F>(
        &self,
        urgency: Urgency,
        bound: Duration,
        mut request: impl FnMut() -> F,
    ) -> Result<T, ObjectError>
    where
        F: Future<Output = object_store::Result<T>> + Send,
        T: Send,
    {
        let mut last = ObjectError::Unknown("no attempt was made".to_owned());
        for attempt in 0..self.attempts_max {
            if attempt > 0 {
                self.counts.retried();
                self.world.clock().sleep(self.pause(attempt)).await;
            }
            // A place for each attempt: one that pauses holds up nobody.
            let _share = match urgency {
                Urgency::Store => Some(self.writes.acquire().await.map_err(|_| closing())?),
                Urgency::Load | Urgency::Ask => None,
            };
            let Ok(_place) = self.inflight.acquire().await else { return Err(closing()) };
            let outcome = timeout(&self.world, bound, request()).await;
            match outcome.map(|answer| answer.map_err(classify)) {
                Some(Ok(value)) => {
                    self.health.answered();
                    return Ok(value);
                }
                Some(Err(ObjectError::Unknown(error))) => last = ObjectError::Unknown(error),
                Some(Err(refused @ ObjectError::Denied(_))) => {
                    self.count_failure();
                    return Err(refused);
                }
                Some(Err(known)) => {
                    self.health.answered();
                    return Err(known);
                }
                None => last = ObjectError::Unknown(format!("no answer within {bound:?}")),
            }
            self.count_failure();
            // Others wait for its place.
            if urgency == Urgency::Load && self.health.is_open() {
                break;
            }
        }
        Err(last)
    }

    fn count_failure(&self) {
        let opened = self.health.failed(self.world.clock().mono());
        self.world.reached_if(opened, State::BreakerOpened);
    }

    /// Doubles with each attempt, at most 64 times the first, and is drawn from its upper half.
    fn pause(&self, attempt: u32) -> Duration {
        let full = self.backoff.saturating_mul(1 << (attempt - 1).min(6));
        let half_us = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(half_us + self.world.random_u64() % half_us)
    }
}

/// One page of a listing.
#[derive(Debug)]
pub struct Page {
    pub objects: Vec<ObjectMeta>,
    pub more: bool,
}

/// Keeps the `limit` smallest names of a stream in any order, in memory bounded by twice the limit.
struct SmallestNames {
    sorted: Vec<ObjectMeta>,
    limit: usize,
    dropped: bool,
}

impl SmallestNames {
    fn new(limit: usize) -> Self {
        Self { sorted: Vec::new(), limit: limit.max(1), dropped: false }
    }

    fn push(&mut self, object: ObjectMeta) {
        self.sorted.push(object);
        if self.sorted.len() >= self.limit.saturating_mul(2) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.sorted.len() > self.limit {
            self.sorted.sort_by(|a, b| a.location.cmp(&b.location));
            self.sorted.truncate(self.limit);
            self.dropped = true;
        }
    }
}

/// What a request that does not move any more is given up with.
pub(crate) fn stalled(after: Duration) -> object_store::Error {
    object_store::Error::Generic { store: "bettong", source: format!("no answer within {after:?}").into() }
}

fn closing() -> ObjectError {
    ObjectError::Unknown("the store is closing".to_owned())
}

fn not_asked() -> ObjectError {
    ObjectError::Unknown("it has failed several times in a row and is not asked now".to_owned())
}

fn classify(error: object_store::Error) -> ObjectError {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => ObjectError::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => ObjectError::AlreadyExists,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => ObjectError::Unsupported(error.to_string()),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ObjectError::Denied(error.to_string()),
        other => ObjectError::Unknown(other.to_string()),
    }
}
