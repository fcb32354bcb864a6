//! The real world: tokio's clock and tasks, files, a folder as an object store, the operating system's entropy.
//!
//! The one place of the core where the calls that `clippy.toml` bans are allowed.

mod clock;
mod disk;
mod folder;

pub use clock::RealClock;
pub use disk::FileDisk;
pub use folder::Folder;

use crate::observe::State;
use crate::world::World;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why the real world could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum RealWorldError {
    #[error("the operating system gave no entropy: {0}")]
    Entropy(getrandom::Error),
    #[error("{path}: {source}")]
    Directory { path: PathBuf, source: std::io::Error },
}

/// Production's world. Cheap to clone; all clones are the same world.
#[derive(Clone, Debug)]
pub struct RealWorld {
    inner: Arc<Inner>,
    background: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Inner {
    clock: RealClock,
    disk: FileDisk,
    rng: parking_lot::Mutex<ChaCha20Rng>,
    runtime: tokio::runtime::Handle,
    violations: AtomicU64,
}

impl RealWorld {
    /// A world whose `Disk` is the directory `root` (made where it is missing) and whose tasks run on `runtime`.
    pub fn new(root: PathBuf, runtime: tokio::runtime::Handle) -> Result<Self, RealWorldError> {
        let mut seed = [0; 32];
        #[expect(clippy::disallowed_methods, reason = "the world's own stream has to begin somewhere")]
        getrandom::fill(&mut seed).map_err(RealWorldError::Entropy)?;
        let disk = FileDisk::open(root.clone()).map_err(|source| RealWorldError::Directory { path: root, source })?;
        let background = runtime.clone();
        let inner = Inner {
            clock: RealClock::start(),
            disk,
            rng: parking_lot::Mutex::new(ChaCha20Rng::from_seed(seed)),
            runtime,
            violations: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), background })
    }

    /// Runs what nobody waits for on another runtime.
    #[must_use]
    pub fn with_background(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.background = runtime;
        self
    }

    /// Checked assertions that did not hold since the start.
    pub fn violations(&self) -> u64 {
        self.inner.violations.load(Ordering::Relaxed)
    }
}

impl World for RealWorld {
    type Clock = RealClock;
    type Disk = FileDisk;

    fn clock(&self) -> &RealClock {
        &self.inner.clock
    }

    fn disk(&self) -> &FileDisk {
        &self.inner.disk
    }

    fn random_u64(&self) -> u64 {
        self.inner.rng.lock().next_u64()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.inner.runtime.spawn(future);
    }

    fn spawn_behind(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(future);
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn reached(&self, _state: State) {}

    fn violated(&self, what: &'static str) {
        self.inner.violations.fetch_add(1, Ordering::Relaxed);
        tracing::error!(what, "a checked assertion does not hold");
    }
}
