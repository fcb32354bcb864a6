//! How a replay begins: when the first hit of each tier came, and what the first minute brought. A daemon that starts
//! warm shows here.

use super::tally::TIERS;
use crate::render::units;
use bettong_wire::request::Tier;
use std::time::Duration;

/// What counts as the beginning.
pub const WINDOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Early {
    /// Block references in the window.
    pub blocks: u64,
    /// Verified hits in the window, in the order of `TIERS`.
    pub hits: [u64; 3],
    /// From the beginning to the first hit from each tier.
    pub first: [Option<Duration>; 3],
}

impl Early {
    /// A request of so many blocks, `at` after the beginning.
    pub fn asked(&mut self, blocks: u64, at: Duration) {
        if at < WINDOW {
            self.blocks += blocks;
        }
    }

    /// A verified hit.
    pub fn hit(&mut self, tier: Tier, at: Duration) {
        if let Some(first) = self.first.get_mut(tier as usize) {
            first.get_or_insert(at);
        }
        if let Some(hits) = self.hits.get_mut(tier as usize).filter(|_| at < WINDOW) {
            *hits += 1;
        }
    }

    pub fn all_hits(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// Hits of all block references, 0 where nothing was asked.
    pub fn rate(&self) -> f64 {
        self.all_hits() as f64 / self.blocks.max(1) as f64
    }
}

impl std::fmt::Display for Early {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (all, blocks) = (self.all_hits(), self.blocks);
        write!(f, "{} of {} ({}):", units::count(all), units::count(blocks), units::percent(all, blocks))?;
        let mut tiers = TIERS.iter().zip(self.hits);
        tiers.try_for_each(|(tier, hits)| write!(f, " {} {tier}", units::count(hits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts_and_the_first_hit_is_kept() {
        let mut early = Early::default();
        early.asked(4, Duration::ZERO);
        early.hit(Tier::Disk, Duration::from_millis(7));
        early.hit(Tier::Disk, Duration::from_millis(9));
        early.asked(9, WINDOW);
        early.hit(Tier::Memory, WINDOW * 2);
        assert_eq!((early.blocks, early.hits), (4, [0, 2, 0]));
        assert_eq!(early.first, [Some(WINDOW * 2), Some(Duration::from_millis(7)), None]);
        assert_eq!(early.to_string(), "2 of 4 (50.00 %): 0 memory 2 disk 0 object");
    }
}
