//! A log that says the same thing seldom.

use crate::world::Mono;
use parking_lot::Mutex;
use std::time::Duration;

/// Pause between two messages where nobody asks for another.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets a message through once in a while, however often it is due: what strikes with every connection, or many times a
/// second while a disk is full, would fill a disk with its log.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said: Option<Mono>,
    kept_back: u64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new(PAUSE)
    }
}

impl Seldom {
    /// At least `pause` lies between two messages.
    pub fn new(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Whether to say it now; if so, how often it was kept back since the last time.
    pub fn due(&self, now: Mono) -> Option<u64> {
        let mut state = self.state.lock();
        if state.said.is_some_and(|said| now.since(said) < self.pause) {
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
        let seldom = Seldom::new(Duration::from_secs(10));
        let said = [0, 1, 9, 10, 11, 30].map(|second| seldom.due(Mono(7).plus(Duration::from_secs(second))));
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
