//! A circuit breaker: a tier that failed several times in a row is not asked for a while, so that a broken tier costs a
//! miss and not a time-out.

use crate::world::Mono;
use parking_lot::Mutex;
use std::time::Duration;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 5;
/// First pause of an open breaker; doubled each time that its probe fails.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: how long after its return a tier may go unasked.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A probe that has not been heard of for this long is given up, and the next caller probes.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// Closed while the tier answers; open after `FAILURES_MAX` failures in a row; then one probe at a time decides.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<Circuit>);

#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    /// The pause and its end; `None` while closed.
    open: Option<(Duration, Mono)>,
    opened: u64,
}

impl Breaker {
    /// Whether the tier may be asked now. Of an open breaker whose pause is over one caller hears yes: its request is
    /// the probe.
    pub fn admits(&self, now: Mono) -> bool {
        let mut circuit = self.0.lock();
        match &mut circuit.open {
            None => true,
            Some((_, until)) if now < *until => false,
            Some((_, until)) => {
                *until = now.plus(PROBE_MAX);
                true
            }
        }
    }

    pub fn is_open(&self) -> bool {
        self.0.lock().open.is_some()
    }

    /// How often it has opened.
    pub fn opened(&self) -> u64 {
        self.0.lock().opened
    }

    /// The tier answered, if only to say no.
    pub fn answered(&self) {
        let mut circuit = self.0.lock();
        circuit.failures = 0;
        circuit.open = None;
    }

    /// The tier failed or did not answer. Says whether this opened the breaker.
    pub fn failed(&self, now: Mono) -> bool {
        let mut circuit = self.0.lock();
        circuit.failures = circuit.failures.saturating_add(1);
        if circuit.failures < FAILURES_MAX {
            return false;
        }
        let first = circuit.open.is_none();
        let pause = match circuit.open {
            None => PAUSE_MIN,
            // Requests that were under way when it opened: they say nothing new.
            Some((_, until)) if now < until && until.since(now) <= PAUSE_MAX => return false,
            Some((pause, _)) => (pause * 2).min(PAUSE_MAX),
        };
        circuit.open = Some((pause, now.plus(pause)));
        circuit.opened += u64::from(first);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        for n in 1..=FAILURES_MAX {
            assert_eq!(breaker.failed(at(0)), n == FAILURES_MAX);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let breaker = Breaker::default();
        for _ in 0..10 {
            (1..FAILURES_MAX).for_each(|_| assert!(!breaker.failed(at(0))));
            breaker.answered();
        }
        assert!(breaker.admits(at(0)));
        assert_eq!(breaker.opened(), 0);
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let breaker = opened();
        assert!(!breaker.admits(at(499)));
        assert!(breaker.admits(at(500)));
        assert!(!breaker.admits(at(501)), "a second probe beside the first");
        breaker.answered();
        assert!(breaker.admits(at(501)));
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_up_to_its_limit() {
        let breaker = opened();
        let (mut now, mut pause) = (0, 500);
        for _ in 0..8 {
            now += pause;
            assert!(breaker.admits(at(now)), "at {now}");
            breaker.failed(at(now));
            pause = (pause * 2).min(5000);
            assert!(!breaker.admits(at(now + pause - 1)), "at {now} + {pause}");
        }
        assert_eq!(breaker.opened(), 1);
    }

    #[test]
    fn a_probe_that_is_never_heard_of_is_replaced() {
        let breaker = opened();
        assert!(breaker.admits(at(500)));
        assert!(!breaker.admits(at(30_499)));
        assert!(breaker.admits(at(30_500)));
    }
}
