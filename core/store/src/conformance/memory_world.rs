//! A world on a disk in memory, for one single-threaded runtime: the same calls make the same run.

use super::memory_disk::MemoryDisk;
use crate::world::{Clock, Mono, World};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

/// What one look at a timer that still waits adds to the time.
const STEP: Duration = Duration::from_micros(500);

/// Time that passes only where somebody waits for it.
#[derive(Clone, Default, Debug)]
pub struct SteppedClock {
    now_ns: Arc<AtomicU64>,
}

impl Clock for SteppedClock {
    fn mono(&self) -> Mono {
        Mono(self.now_ns.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.mono().0 / 1_000_000
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        let due = clock.mono().plus(duration);
        std::future::poll_fn(move |context| {
            if clock.mono() >= due {
                return Poll::Ready(());
            }
            clock.now_ns.fetch_add(STEP.as_nanos() as u64, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// `World` over a `MemoryDisk`. Its tasks die with the runtime.
#[derive(Clone, Debug)]
pub struct MemoryWorld {
    clock: SteppedClock,
    disk: MemoryDisk,
    runtime: tokio::runtime::Handle,
    drawn: Arc<AtomicU64>,
    violations: Arc<AtomicU64>,
}

impl MemoryWorld {
    /// `seed` decides what `random_u64` answers.
    pub fn new(disk: MemoryDisk, runtime: tokio::runtime::Handle, seed: u64) -> Self {
        let drawn = Arc::new(AtomicU64::new(seed));
        Self { clock: SteppedClock::default(), disk, runtime, drawn, violations: Arc::default() }
    }

    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }
}

impl World for MemoryWorld {
    type Clock = SteppedClock;
    type Disk = MemoryDisk;

    fn clock(&self) -> &SteppedClock {
        &self.clock
    }

    fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn random_u64(&self) -> u64 {
        let n = self.drawn.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&n.to_le_bytes()).as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        future
    }

    fn violated(&self, _what: &'static str) {
        self.violations.fetch_add(1, Ordering::Relaxed);
    }
}
