//! Virtual time, seen through a node's own imperfect clocks.

use bettong_core::world::{Clock, Mono};
use madsim::time::TimeHandle;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Wall time of the run's start by a perfect clock: 2026-01-01T00:00:00Z.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// A node's wall clock; it outlives the node's lives, and faults move it.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    state: Arc<Mutex<WallState>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct WallState {
    offset_ms: i64,
    /// Parts per million by which both of the node's clocks run fast (or slow).
    drift_ppm: i64,
}

impl WallClock {
    pub fn new(offset_ms: i64, drift_ppm: i64) -> Self {
        Self { state: Arc::new(Mutex::new(WallState { offset_ms, drift_ppm })) }
    }

    /// Moves the wall clock forward or back at once.
    pub fn jump(&self, by_ms: i64) {
        let mut state = self.state.lock();
        state.offset_ms = state.offset_ms.saturating_add(by_ms);
    }

    fn now_ms(&self) -> u64 {
        let state = *self.state.lock();
        let elapsed_ms = u64::try_from(stretch(elapsed(), state.drift_ppm).as_millis()).unwrap_or(u64::MAX);
        EPOCH_MS.saturating_add(elapsed_ms).saturating_add_signed(state.offset_ms)
    }
}

/// Virtual time since the run began.
pub fn elapsed() -> Duration {
    TimeHandle::try_current().map(|time| time.elapsed()).unwrap_or_default()
}

/// Unix milliseconds by a perfect clock.
pub fn perfect_wall_ms() -> u64 {
    WallClock::default().now_ms()
}

/// `duration` as a clock with this drift shows it.
fn stretch(duration: Duration, drift_ppm: i64) -> Duration {
    let nanos = i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    let stretched = nanos + nanos / 1_000_000 * i128::from(drift_ppm);
    Duration::from_nanos(u64::try_from(stretched.max(0)).unwrap_or(u64::MAX))
}

/// The clocks of one life of a node.
#[derive(Clone, Debug)]
pub struct SimClock {
    wall: WallClock,
    drift_ppm: i64,
    start: Duration,
}

impl SimClock {
    /// The node's wall clock.
    pub fn wall(&self) -> WallClock {
        self.wall.clone()
    }

    /// Monotone time begins now.
    pub fn start(wall: WallClock) -> Self {
        let drift_ppm = wall.state.lock().drift_ppm;
        Self { wall, drift_ppm, start: elapsed() }
    }
}

impl Clock for SimClock {
    fn mono(&self) -> Mono {
        Mono::default().plus(stretch(elapsed().saturating_sub(self.start), self.drift_ppm))
    }

    fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            let until = clock.mono().plus(duration);
            // A fast clock is there sooner, a slow one later: what is left is asked again until nothing is.
            loop {
                let left = until.since(clock.mono());
                madsim::time::sleep(left).await;
                if clock.mono() >= until {
                    return;
                }
            }
        }
    }
}
