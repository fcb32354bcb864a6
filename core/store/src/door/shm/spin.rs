//! Whether the next request is worth being looked for, or slept for.
//!
//! It is looked for where the one before came soon. Looking keeps a core that the client may be waiting for: where it finds
//! nothing in time, twice as many requests must come soon before it is tried again.

use crate::world::Mono;
use bettong_shm::session::ALONE;
use std::time::Duration;

/// What it may take to wake who sleeps: a request that was slept for came that much later than it was sent.
const WAKING_MAX: Duration = Duration::from_micros(100);
/// After so many waits that were spun in vain, as many times two as this says are slept through.
const MISSES_MAX: u32 = 6;
/// Of waits that are spun after so many misses, one in so many is spun to its end.
const FULL_EVERY: u32 = 8;

#[derive(Debug)]
pub(super) struct Spin {
    time_max: Duration,
    wait: Wait,
    /// Whether the last request was sent in a time that one is looked for, as far as can be told.
    soon: bool,
    /// Waits that were spun in vain since the last that was not.
    misses: u32,
    /// Waits after a request that came soon, to be slept through before one is spun again.
    skips: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Wait {
    NotBegun,
    Spinning { since: Mono },
    Asleep { since: Mono },
}

impl Spin {
    /// Spins a wait for at most `time_max`.
    pub fn new(time_max: Duration) -> Self {
        Self { time_max, wait: Wait::NotBegun, soon: true, misses: 0, skips: 0 }
    }

    /// Whether this wait is being spun.
    pub fn is_on(&self) -> bool {
        matches!(self.wait, Wait::Spinning { .. })
    }

    /// Nothing has come. Whether to look again at once. What the client waits for itself is slept through, and counts for
    /// nothing: a wait begins when all is answered.
    pub fn again(&mut self, client_waits: bool, now: impl FnOnce() -> Mono) -> bool {
        match self.wait {
            Wait::Asleep { .. } => {}
            Wait::NotBegun if client_waits => {}
            Wait::NotBegun if self.time_max.is_zero() => {}
            Wait::NotBegun => {
                let since = now();
                if self.soon && self.skips == 0 {
                    self.wait = Wait::Spinning { since };
                    return true;
                }
                self.skips = self.skips.saturating_sub(self.soon.into());
                self.wait = Wait::Asleep { since };
            }
            Wait::Spinning { since } if now().since(since) < self.limit() => return true,
            Wait::Spinning { since } => {
                self.misses = self.misses.saturating_add(1);
                self.skips = (1 << self.misses.min(MISSES_MAX)) - 1;
                self.wait = Wait::Asleep { since };
            }
        }
        false
    }

    /// For how long a wait is spun. Where that was in vain for long, the client may be waiting for this very core, and only now
    /// and then it is tried for as long as it may be.
    fn limit(&self) -> Duration {
        let is_short = self.misses >= MISSES_MAX && !self.misses.is_multiple_of(FULL_EVERY);
        if is_short { self.time_max.min(ALONE) } else { self.time_max }
    }

    /// A request has come: this wait is over.
    pub fn found(&mut self, now: impl FnOnce() -> Mono) {
        match std::mem::replace(&mut self.wait, Wait::NotBegun) {
            Wait::NotBegun => {}
            Wait::Spinning { .. } => (self.soon, self.misses, self.skips) = (true, 0, 0),
            Wait::Asleep { since } => self.soon = now().since(since) < self.time_max + WAKING_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(100);
    /// What it takes to wake who sleeps, in microseconds.
    const WAKING: u64 = 8;

    /// Waits until it sleeps or a request comes after so many microseconds; answers how long it spun.
    fn wait(spin: &mut Spin, comes_after: u64) -> u64 {
        wait_and_wake(spin, comes_after, WAKING)
    }

    fn wait_and_wake(spin: &mut Spin, comes_after: u64, waking: u64) -> u64 {
        let mut us = 0;
        while us < comes_after && spin.again(false, || Mono(us * 1000)) {
            us += 1;
        }
        spin.found(|| Mono((comes_after + waking) * 1000));
        us
    }

    /// Waits for one who cannot come while it is spun, for want of the core, and comes 1 us after.
    fn wait_on_its_core(spin: &mut Spin) -> u64 {
        let mut us = 0;
        while spin.again(false, || Mono(us * 1000)) {
            us += 1;
        }
        spin.found(|| Mono((us + 1 + WAKING) * 1000));
        us
    }

    #[test]
    fn who_comes_soon_is_always_looked_for() {
        let mut spin = Spin::new(MAX);
        assert!((0..1000).all(|_| wait(&mut spin, 3) == 3));
        assert_eq!(wait(&mut Spin::new(Duration::ZERO), 3), 0);
    }

    #[test]
    fn who_comes_late_is_slept_for_and_found_again_at_once_when_not() {
        let mut spin = Spin::new(MAX);
        assert_eq!(wait(&mut spin, 250), 100);
        assert!((0..1000).all(|_| wait(&mut spin, 250) == 0));
        // One short wait says so, one is slept through for the spin in vain.
        assert_eq!([0; 3].map(|_| wait(&mut spin, 60)), [0, 0, 60]);
        assert!((0..100).all(|_| wait(&mut spin, 60) == 60));
    }

    #[test]
    fn who_comes_soon_is_found_again_however_long_it_takes_to_wake() {
        for (time_max, comes_after, waking) in [(20, 3, 40), (30, 3, 99), (100, 60, 50), (100, 80, 99)] {
            let mut spin = Spin::new(Duration::from_micros(time_max));
            wait_and_wake(&mut spin, 5000, waking);
            assert_eq!([0; 3].map(|_| wait_and_wake(&mut spin, comes_after, waking)), [0, 0, comes_after]);
        }
    }

    #[test]
    fn how_long_an_answer_takes_says_nothing() {
        let mut spin = Spin::new(MAX);
        for _ in 0..100 {
            for us in 0..500 {
                assert!(!spin.again(true, || Mono(us * 1000)));
            }
            assert_eq!(wait(&mut spin, 3), 3);
        }
    }

    #[test]
    fn what_is_in_vain_again_and_again_is_tried_seldom_and_shortly() {
        let takes_turns = |spin: &mut Spin| wait(spin, 250) + wait(spin, 60);
        let is_no_sooner = |spin: &mut Spin| wait(spin, 150) + wait(spin, 150);
        let needs_the_core = |spin: &mut Spin| wait_on_its_core(spin) + wait_on_its_core(spin);
        for pair in [&takes_turns as &dyn Fn(&mut Spin) -> u64, &is_no_sooner, &needs_the_core] {
            let mut spin = Spin::new(MAX);
            let spun: Vec<u64> = (0..5000).map(|_| pair(&mut spin)).filter(|us| *us > 0).collect();
            assert!((50..200).contains(&spun.len()), "{} of 5000", spun.len());
            let short = spun.iter().filter(|us| **us == 20).count();
            assert!(spun.iter().all(|us| [20, 100].contains(us)) && short > spun.len() * 3 / 4, "{spun:?}");
            // Who comes soon from now on is looked for before long.
            assert!((0..1000).any(|_| wait(&mut spin, 60) == 60));
            assert!((0..100).all(|_| wait(&mut spin, 60) == 60));
        }
    }
}
