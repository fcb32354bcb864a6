//! A log that says the same thing seldom.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Lets a message through once in a while, however often it is due: what strikes with every connection would fill a disk
/// with its log.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    kept_back: u64,
}

impl Seldom {
    /// At least `pause` lies between two messages.
    pub fn new(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Whether to say it now; if so, how often it was kept back since the last time.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        if state.said.is_some_and(|said| now.saturating_duration_since(said) < self.pause) {
            state.kept_back += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_seldom() {
        let (seldom, begin) = (Seldom::new(Duration::from_secs(10)), Instant::now());
        let said = [0, 1, 9, 10, 11, 30].map(|second| seldom.due(begin + Duration::from_secs(second)));
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
