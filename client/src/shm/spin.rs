//! Whether an answer is worth being looked for, or slept for.

use bettong_shm::session::ALONE;
use std::time::{Duration, Instant};

/// After so many waits in a row that were spun in vain, as many times two as this says are slept through.
const MISSES_MAX: u32 = 6;

/// Spins where spinning found something the last time; where it did not, it is tried again after twice as many waits.
///
/// It goes by the machine's clock and not by tokio's: where that one is stopped, a spin has to end all the same.
#[derive(Debug)]
pub(super) struct Spin {
    time_max: Duration,
    wait: Wait,
    /// Waits in a row that were spun in vain.
    misses: u32,
    /// Waits that are slept through before one is spun again.
    skips: u32,
}

#[derive(Debug)]
enum Wait {
    NotBegun,
    Spinning {
        since: Instant,
    },
    /// Not slept yet.
    Spun,
    Asleep,
}

/// What to do where nothing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again at once.
    Look,
    /// Sleep for a moment, where there is nothing else to do, or sleep; and say so by `dozed`.
    Doze,
    Sleep,
}

impl Spin {
    /// Spins a wait for at most `time_max`.
    pub fn new(time_max: Duration) -> Self {
        Self { time_max, wait: Wait::NotBegun, misses: 0, skips: 0 }
    }

    /// Nothing has come. Others have had the core meanwhile where that has been so for long.
    pub fn next(&mut self) -> Next {
        match self.wait {
            Wait::Spun => return Next::Doze,
            Wait::Asleep => return Next::Sleep,
            Wait::NotBegun if self.time_max.is_zero() => {}
            Wait::NotBegun if self.skips > 0 => self.skips -= 1,
            Wait::NotBegun => {
                self.wait = Wait::Spinning { since: Instant::now() };
                return Next::Look;
            }
            Wait::Spinning { since } => {
                let spun = since.elapsed();
                if spun < self.time_max {
                    if spun >= ALONE {
                        std::thread::yield_now();
                    }
                    return Next::Look;
                }
                self.misses = (self.misses + 1).min(MISSES_MAX);
                self.skips = (1 << self.misses) - 1;
            }
        }
        self.wait = Wait::Spun;
        Next::Doze
    }

    /// It has dozed, or cannot: the next time, it sleeps.
    pub fn dozed(&mut self) {
        if let Wait::Spun = self.wait {
            self.wait = Wait::Asleep;
        }
    }

    /// Something has come: this wait is over.
    pub fn found(&mut self) {
        if let Wait::Spinning { .. } = self.wait {
            (self.misses, self.skips) = (0, 0);
        }
        self.wait = Wait::NotBegun;
    }

    /// Something more is waited for, which may come soon.
    pub fn asked(&mut self) {
        if let Wait::Spun | Wait::Asleep = self.wait {
            self.wait = Wait::NotBegun;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_OVER: Duration = Duration::from_secs(3600);
    const OVER: Duration = Duration::from_nanos(1);

    #[test]
    fn a_wait_is_spun_until_it_is_over() {
        let mut spin = Spin::new(NEVER_OVER);
        for _ in 0..3 {
            assert!((0..1000).all(|_| spin.next() == Next::Look));
            spin.found();
        }
    }

    #[test]
    fn who_does_not_spin_dozes_once_in_a_wait() {
        let mut spin = Spin::new(Duration::ZERO);
        for _ in 0..3 {
            assert_eq!([(); 2].map(|()| spin.next()), [Next::Doze; 2]);
            spin.dozed();
            assert_eq!([(); 2].map(|()| spin.next()), [Next::Sleep; 2]);
            spin.found();
        }
    }

    #[test]
    fn what_is_spun_in_vain_is_slept_for_more_and_more_often() {
        let mut spin = Spin::new(OVER);
        let mut waits = Vec::new();
        for _ in 0..200 {
            let mut spun = 0;
            while spin.next() == Next::Look {
                spun += 1;
            }
            waits.push(spun > 0);
            spin.found();
        }
        let spun = waits.iter().filter(|spun| **spun).count();
        assert!(waits[0] && (5..10).contains(&spun), "{spun} of 200");
        // One that finds something is followed by others.
        while spin.next() != Next::Look {
            spin.found();
        }
        spin.found();
        assert_eq!(spin.next(), Next::Look);
    }

    #[test]
    fn who_asks_for_more_while_it_sleeps_spins_again() {
        let mut spin = Spin::new(NEVER_OVER);
        for (wait, next) in [(Wait::Spun, Next::Doze), (Wait::Asleep, Next::Sleep)] {
            spin.wait = wait;
            assert_eq!(spin.next(), next);
            spin.asked();
            assert_eq!(spin.next(), Next::Look);
        }
    }
}
