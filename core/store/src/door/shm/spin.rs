//! Whether the next request is worth being looked for, or slept for.
//!
//! Looking keeps a core that the client may be waiting for: where it finds nothing in time, it is tried again only after
//! twice as many waits.

use crate::world::Mono;
use bettong_shm::session::ALONE;
use std::time::Duration;

/// After so many waits in a row that were spun in vain, as many times two as this says are slept through.
const MISSES_MAX: u32 = 6;
/// Of waits that are spun after so many misses, one in so many is spun to its end.
const FULL_EVERY: u32 = 8;

#[derive(Debug)]
pub(super) struct Spin {
    time_max: Duration,
    wait: Wait,
    /// Waits in a row that were spun in vain.
    misses: u32,
    /// Waits that are slept through before one is spun again.
    skips: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Wait {
    NotBegun,
    Spinning { since: Mono },
    Asleep,
}

impl Spin {
    /// Spins a wait for at most `time_max`.
    pub fn new(time_max: Duration) -> Self {
        Self { time_max, wait: Wait::NotBegun, misses: 0, skips: 0 }
    }

    /// Whether this wait is being spun.
    pub fn is_on(&self) -> bool {
        matches!(self.wait, Wait::Spinning { .. })
    }

    /// Nothing has come. Whether to look again at once.
    pub fn again(&mut self, now: impl FnOnce() -> Mono) -> bool {
        match self.wait {
            Wait::Asleep => return false,
            Wait::NotBegun if self.time_max.is_zero() => {}
            Wait::NotBegun if self.skips > 0 => self.skips -= 1,
            Wait::NotBegun => {
                self.wait = Wait::Spinning { since: now() };
                return true;
            }
            Wait::Spinning { since } if now().since(since) < self.limit() => return true,
            Wait::Spinning { .. } => {
                self.misses = self.misses.saturating_add(1);
                self.skips = (1 << self.misses.min(MISSES_MAX)) - 1;
            }
        }
        self.wait = Wait::Asleep;
        false
    }

    /// For how long a wait is spun. Where nothing has come in time for long, the client may be waiting for this very core,
    /// and only now and then it is tried for as long as it may be.
    fn limit(&self) -> Duration {
        let is_short = self.misses >= MISSES_MAX && !self.misses.is_multiple_of(FULL_EVERY);
        if is_short { self.time_max.min(ALONE) } else { self.time_max }
    }

    /// A request has come: this wait is over.
    pub fn found(&mut self) {
        if self.is_on() {
            (self.misses, self.skips) = (0, 0);
        }
        self.wait = Wait::NotBegun;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(100);

    /// Waits until it sleeps or a request comes after so many microseconds; answers how long it spun.
    fn wait(spin: &mut Spin, comes_after: u64) -> u64 {
        let mut us = 0;
        while us < comes_after && spin.again(|| Mono(us * 1000)) {
            us += 1;
        }
        spin.found();
        us
    }

    #[test]
    fn who_comes_soon_is_always_looked_for() {
        let mut spin = Spin::new(MAX);
        assert!((0..1000).all(|_| wait(&mut spin, 3) == 3));
        assert_eq!(wait(&mut Spin::new(Duration::ZERO), 3), 0);
    }

    #[test]
    fn who_comes_late_is_slept_for_and_tried_now_and_then() {
        let mut spin = Spin::new(MAX);
        let spun = (0..1000).filter(|_| wait(&mut spin, 150) > 0).count();
        assert!((10..30).contains(&spun), "{spun} of 1000");
        // What was in vain for so long is tried for a moment.
        let tries: Vec<u64> = (0..5000).map(|_| wait(&mut spin, 150)).filter(|us| *us > 0).collect();
        let short = tries.iter().filter(|us| **us == 20).count();
        assert!(tries.iter().all(|us| [20, 100].contains(us)) && short > tries.len() * 3 / 4, "{tries:?}");
        // One that comes neither soon nor late is found again.
        assert!((0..1000).any(|_| wait(&mut spin, 60) == 60));
        assert!((0..100).all(|_| wait(&mut spin, 60) == 60));
        (0..1000).for_each(|_| _ = wait(&mut spin, 150));
        // One that comes soon while it is tried is looked for from then on.
        while wait(&mut spin, 3) == 0 {}
        assert!((0..100).all(|_| wait(&mut spin, 3) == 3));
    }
}
