//! Latencies of many operations in bounded memory.

use std::time::Duration;

/// Sub-buckets of each power of two: 32 keep a quantile within 3 % of the truth.
const STEPS_LOG2: u32 = 5;
const BUCKETS: usize = 64 << STEPS_LOG2;

/// A histogram of nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }
}

fn bucket_of(ns: u64) -> usize {
    let power = ns.max(1).ilog2();
    let bucket = match power.checked_sub(STEPS_LOG2) {
        // Below 2^STEPS_LOG2 every value has its own bucket.
        None => ns,
        Some(shift) => (u64::from(shift + 1) << STEPS_LOG2) + (ns >> shift) - (1 << STEPS_LOG2),
    };
    usize::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let (bucket, steps) = (bucket as u64, 1_u64 << STEPS_LOG2);
    match (bucket >> STEPS_LOG2).checked_sub(1) {
        None => bucket,
        Some(shift) => ((u128::from(steps + (bucket & (steps - 1)) + 1) << shift) - 1).try_into().unwrap_or(u64::MAX),
    }
}

impl Latency {
    pub fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(ns)) {
            *bucket += 1;
            self.count += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The quantile `q` (0.0 to 1.0); zero where nothing was recorded.
    pub fn quantile(&self, q: f64) -> Duration {
        let wanted = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, more) in self.buckets.iter().enumerate() {
            seen += more;
            if seen >= wanted {
                return Duration::from_nanos(top_of(bucket));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_close_to_its_top() {
        for ns in (0..70_000).chain([1 << 40, u64::MAX / 2, u64::MAX]) {
            let top = top_of(bucket_of(ns));
            assert!(top >= ns && top - ns <= ns / 31 + 1, "{ns} in a bucket up to {top}");
        }
    }

    #[test]
    fn quantiles_come_from_what_was_recorded() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=100).for_each(|us| latency.record(Duration::from_micros(us)));
        let p50 = latency.quantile(0.5).as_nanos();
        assert!((50_000..=52_000).contains(&p50), "{p50}");
        assert!(latency.quantile(1.0) >= Duration::from_micros(100));
        let mut twice = latency.clone();
        twice.merge(&latency);
        assert_eq!((twice.count(), twice.quantile(0.5)), (200, latency.quantile(0.5)));
    }
}
