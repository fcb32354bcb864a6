//! What one seed decides: names, sizes, operations and moments. The schedule of the operating system it does not decide,
//! so a seed repeats the moments, not the run.

use crate::trace::payload::mix;
use std::time::Duration;

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// The earliest moment.
const MOMENT_MIN: Duration = Duration::from_micros(10);

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The stream `number` of a seed.
    pub fn new(seed: u64, number: u64) -> Self {
        Self(mix(seed ^ mix(number.wrapping_add(STEP))))
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Less than `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(items.len() as u64);
        items.get(usize::try_from(at).ok()?)
    }

    /// From 0 to 1, 1 excluded.
    pub fn share(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1_u64 << 32) as f64
    }

    /// From microseconds to `max`, every order of magnitude as likely as every other.
    pub fn moment(&mut self, max: Duration) -> Duration {
        let range = (max.as_secs_f64() / MOMENT_MIN.as_secs_f64()).max(1.0);
        MOMENT_MIN.mul_f64(range.powf(self.share()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_span_their_orders_of_magnitude_and_repeat() {
        let moments = |seed| -> Vec<Duration> {
            let mut dice = Dice::new(seed, 1);
            (0..1000).map(|_| dice.moment(Duration::from_millis(100))).collect()
        };
        let drawn = moments(7);
        assert_eq!(drawn, moments(7));
        assert_ne!(drawn, moments(8));
        assert!(drawn.iter().all(|moment| (MOMENT_MIN..=Duration::from_millis(100)).contains(moment)));
        for (from, to) in [(10, 100), (100, 1_000), (1_000, 10_000), (10_000, 100_000)] {
            let inside = drawn.iter().filter(|moment| (from..to).contains(&moment.as_micros())).count();
            assert!((150..350).contains(&inside), "{inside} between {from} and {to} us");
        }
    }
}
