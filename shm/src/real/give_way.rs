//! Letting others have this thread's core before it sleeps: the other side may be waiting for just that.

use std::time::{Duration, Instant};

/// Who gives way for longer than this has left the core to somebody who computes: the other side would have been given it
/// for much less, and woken this one.
const LONG: Duration = Duration::from_micros(500);
/// After that, it is not tried again so many times.
const SKIPS: u32 = 1024;

/// Gives way where that has not taken long.
#[derive(Debug, Default)]
pub struct GiveWay {
    skips: u32,
}

impl GiveWay {
    /// Lets others have the core; `false` where it is better to sleep, and nothing was done.
    pub fn give_way(&mut self) -> bool {
        if self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        #[expect(clippy::disallowed_methods, reason = "how long the system takes is known by its own clock only")]
        let began = Instant::now();
        std::thread::yield_now();
        self.took(began.elapsed());
        true
    }

    fn took(&mut self, time: Duration) {
        if time > LONG {
            self.skips = SKIPS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_kept_waiting_long_sleeps_for_a_while() {
        let mut way = GiveWay::default();
        way.took(LONG);
        assert!(way.give_way());
        way.took(LONG + Duration::from_nanos(1));
        assert!((0..SKIPS).all(|_| !way.give_way()) && way.give_way());
    }
}
