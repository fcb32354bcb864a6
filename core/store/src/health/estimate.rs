//! How long a read takes, by tier and size: moving averages from which a get is declined at once when it would take
//! longer than its caller allows.

use crate::world::Mono;
use bettong_wire::request::Tier;
use parking_lot::Mutex;
use std::time::Duration;

/// Classes of size, each four times the one before; the first ends at `CLASS_BYTES_MIN`.
const CLASSES: usize = 9;
const CLASS_BYTES_MIN: u64 = 4096;
/// The newest read weighs one part in this many.
const WEIGHT: u64 = 8;
/// Without a read for this long one caller is let through, whatever the estimate says: it is how a tier that became
/// faster is noticed.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Moving estimates of the disk and the object tier.
#[derive(Debug, Default)]
pub struct Estimates {
    disk: Mutex<[Cell; CLASSES]>,
    object: Mutex<[Cell; CLASSES]>,
}

/// Nothing is known while `us` is zero.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    us: u64,
    at: Mono,
}

fn class(bytes: u64) -> usize {
    let units = bytes.div_ceil(CLASS_BYTES_MIN).max(1);
    let class = units.next_power_of_two().ilog2().div_ceil(2);
    (class as usize).min(CLASSES - 1)
}

impl Estimates {
    fn of(&self, tier: Tier) -> Option<&Mutex<[Cell; CLASSES]>> {
        match tier {
            Tier::Memory => None,
            Tier::Disk => Some(&self.disk),
            Tier::Object => Some(&self.object),
        }
    }

    /// A read of `bytes` from `tier` took, or failed after, `elapsed`.
    pub fn record(&self, tier: Tier, bytes: u64, elapsed: Duration, now: Mono) {
        let Some(cells) = self.of(tier) else { return };
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::MAX / WEIGHT);
        let cell = &mut cells.lock()[class(bytes)];
        cell.us = if cell.us == 0 { us } else { (cell.us * (WEIGHT - 1) + us).div_ceil(WEIGHT) };
        cell.at = now;
    }

    /// Whether a read of `bytes` from `tier` would take longer than `limit`, as far as is known. Where nothing is known
    /// of a size, the next smaller size that is known speaks for it. Callers that are not told to decline are the ones
    /// that keep the estimate true.
    pub fn declines(&self, tier: Tier, bytes: u64, limit: Duration, now: Mono) -> bool {
        let Some(cells) = self.of(tier) else { return false };
        let mut cells = cells.lock();
        let Some(cell) = cells[..=class(bytes)].iter_mut().rev().find(|cell| cell.us > 0) else { return false };
        if Duration::from_micros(cell.us) <= limit {
            return false;
        }
        if now.since(cell.at) >= BELIEVED_FOR {
            // This caller goes; the next ones wait for what it learns, or for another while.
            cell.at = now;
            return false;
        }
        true
    }

    /// The estimates as (tier, largest bytes of the class, time), for those that are known.
    pub fn known(&self) -> Vec<(Tier, u64, Duration)> {
        let mut known = Vec::new();
        for tier in [Tier::Disk, Tier::Object] {
            let cells = self.of(tier).map(|cells| *cells.lock()).unwrap_or_default();
            let cells = cells.iter().enumerate().filter(|(_, cell)| cell.us > 0);
            known.extend(cells.map(|(n, cell)| (tier, CLASS_BYTES_MIN << (2 * n), Duration::from_micros(cell.us))));
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn classes_grow_by_four() {
        for (bytes, expected) in [(0, 0), (4096, 0), (4097, 1), (16384, 1), (16385, 2), (1 << 20, 4), (128 << 20, 8)] {
            assert_eq!(class(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_declined() {
        let estimates = Estimates::default();
        assert!(!estimates.declines(Tier::Object, 4096, MS, at(0)));
        estimates.record(Tier::Object, 1 << 20, 50 * MS, at(0));
        assert!(!estimates.declines(Tier::Object, 4096, MS, at(0)), "a larger size says nothing of a smaller one");
        assert!(!estimates.declines(Tier::Disk, 1 << 20, MS, at(0)), "another tier");
        assert!(estimates.declines(Tier::Object, 4 << 20, 40 * MS, at(0)), "a smaller size speaks for a larger one");
        assert!(!estimates.declines(Tier::Object, 1 << 20, 50 * MS, at(0)));
    }

    #[test]
    fn the_estimate_moves_and_one_caller_in_a_while_is_let_through() {
        let estimates = Estimates::default();
        (0..50).for_each(|_| estimates.record(Tier::Disk, 4096, 10 * MS, at(0)));
        assert!(estimates.declines(Tier::Disk, 4096, 9 * MS, at(999)));
        assert!(!estimates.declines(Tier::Disk, 4096, 9 * MS, at(1000)), "the probe");
        assert!(estimates.declines(Tier::Disk, 4096, 9 * MS, at(1001)), "beside the probe");
        (0..50).for_each(|_| estimates.record(Tier::Disk, 4096, MS, at(1002)));
        assert!(!estimates.declines(Tier::Disk, 4096, 2 * MS, at(1002)));
        assert_eq!(estimates.known().len(), 1);
    }
}
