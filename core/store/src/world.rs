//! The seams through which the world gets in: clock, disk, randomness, and the executor that SlateDB needs.
//!
//! The world is chosen once, at the top. No function below asks which world it runs in.

use crate::observe::{Forgetting, Point, State};
use bytes::Bytes;
use std::future::Future;
use std::time::Duration;

/// A moment of monotone time: nanoseconds since the node's process began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Time from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Monotone and wall time. An implementation's `mono` never steps back within one process; its `wall_ms` may jump in
/// either direction at any time, and callers must survive that.
pub trait Clock: Send + Sync + 'static {
    fn mono(&self) -> Mono;

    /// Unix milliseconds by this node's wall clock.
    fn wall_ms(&self) -> u64;

    /// Completes no earlier than `duration` of monotone time from the first poll. Dropping it forgets the timer.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static;
}

/// Why a disk operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("{path}: no such file")]
    NotFound { path: String },
    #[error("{path}: exists already")]
    Exists { path: String },
    #[error("{path}: no space left: {detail}")]
    NoSpace { path: String, detail: String },
    /// The process or the system has no file descriptor left; it passes when others are closed.
    #[error("{path}: no file descriptor left: {detail}")]
    Descriptors { path: String, detail: String },
    #[error("{path}: {detail}")]
    Io { path: String, detail: String },
}

/// Named files under one directory. Names are relative, `/`-separated, without `.` or `..`; parent directories are made
/// by `create`.
///
/// What an implementation promises: bytes appended and then synced, of a file whose name is synced (`sync_dir` of its
/// directory), survive any crash. Anything else may be lost, torn by sector or reordered at a crash. After an error
/// from `sync`, nothing unsynced of that file may be relied upon, whatever a later `sync` answers.
#[allow(async_fn_in_trait, reason = "callers are generic over the one chosen world; Send is required below")]
pub trait Disk: Send + Sync + 'static {
    /// Creates an empty file; fails with `Exists` where the name is taken.
    fn create(&self, name: &str) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Appends to an existing file: all buffers, in order, as if they were one. After an error any part of them may have
    /// been appended.
    fn append(&self, name: &str, buffers: &[Bytes]) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Reads at most `len` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, name: &str, offset: u64, len: u64) -> impl Future<Output = Result<Bytes, DiskError>> + Send;

    /// Length of the file in bytes.
    fn len(&self, name: &str) -> impl Future<Output = Result<u64, DiskError>> + Send;

    /// Makes the file's bytes durable.
    fn sync(&self, name: &str) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Atomically gives `from` the name `to`, replacing what has it. Durable after `sync_dir` of the directory.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Names (relative to `dir`) of the files directly in `dir`, sorted; empty where `dir` does not exist.
    fn list(&self, dir: &str) -> impl Future<Output = Result<Vec<String>, DiskError>> + Send;

    /// What else is directly in `dir`, sorted: directories, and what no `create` made, as links, or names that are no text.
    /// A disk that can hold none of that says so.
    fn others(&self, _dir: &str) -> impl Future<Output = Result<Vec<String>, DiskError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    fn remove(&self, name: &str) -> impl Future<Output = Result<(), DiskError>> + Send;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &str) -> impl Future<Output = Result<(), DiskError>> + Send;
}

/// The chosen world.
pub trait World: Clone + Send + Sync + 'static {
    type Clock: Clock;
    type Disk: Disk;

    fn clock(&self) -> &Self::Clock;

    fn disk(&self) -> &Self::Disk;

    /// The next random number: from the operating system's entropy in production, from the run's seed in the simulator.
    fn random_u64(&self) -> u64;

    /// Runs a task of the store to its end, detached. In production on the storage runtime; in the simulator on this
    /// node, so that it dies with the node.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static);

    /// As `spawn`, for work that nobody waits for: in production it may be kept from running while others work.
    fn spawn_behind(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn(future);
    }

    /// Polls a call *into* SlateDB, which needs a real tokio context. The identity in production.
    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send;

    /// Polls a call that SlateDB makes *out* to this world (object store, clock), so that its wake-up reaches SlateDB's
    /// executor. The identity in production.
    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send;

    /// A named step of a protocol is reached. Costs nothing in production; in the simulator a plan may strike here, and
    /// then this future never completes.
    fn at(&self, _point: Point) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// An interesting state was (or was not) met. Costs nothing in production.
    fn reached(&self, _state: State) {}

    /// The node forgets a version by itself. Costs nothing in production.
    fn forgets(&self, _what: &Forgetting) {}

    /// `reached`, where the condition holds.
    fn reached_if(&self, condition: bool, state: State) {
        if condition {
            self.reached(state);
        }
    }

    /// A checked assertion does not hold. Counted and logged in production, fatal to the run in the simulator.
    fn violated(&self, what: &'static str);
}
