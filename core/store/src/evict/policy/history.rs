//! A sample of what happened to blocks after each use: used again, and how many uses of any block later, or not yet.
//!
//! The sample does not depend on what the policy kept: a block that was evicted is watched on. So what would have been a
//! hit is learned too, and a mistake does not confirm itself.

use super::class::Class;
use std::collections::{BTreeMap, VecDeque};

/// Observations that are held at most; about a MiB.
const OBSERVATIONS_MAX: usize = 1 << 14;

/// The sample reaches back over this many fillings of the tier. Blocks that come back later cannot be kept by any order.
const FILLINGS: usize = 16;

/// One use of a sampled block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    name: u64,
    pub(super) class: Class,
    used_at: u64,
    /// How long it took to the next use; zero while there is none.
    pub(super) gap: u64,
}

/// The newest uses of the sampled blocks, in order.
#[derive(Debug, Default)]
pub(super) struct History {
    observations: VecDeque<Observation>,
    /// The number of the oldest observation that is held, counted from the start.
    first: u64,
    /// Each block's newest observation, by number.
    newest: BTreeMap<u64, u64>,
    /// One of 2^coarseness blocks is sampled.
    coarseness: u32,
    /// Observations since the last [`Self::news`].
    new: usize,
}

impl History {
    fn sampled(&self, name: u64) -> bool {
        super::mix(name).trailing_zeros() >= self.coarseness
    }

    fn newest_mut(&mut self, name: u64) -> Option<&mut Observation> {
        let at = self.newest.get(&name)?.checked_sub(self.first)?;
        self.observations.get_mut(usize::try_from(at).ok()?)
    }

    /// Notes a use of a block, which is of `class` from now on.
    pub(super) fn used(&mut self, name: u64, class: Class, now: u64) {
        if !self.sampled(name) {
            return;
        }
        if let Some(before) = self.newest_mut(name) {
            before.gap = now - before.used_at;
        }
        if self.observations.len() == OBSERVATIONS_MAX {
            self.drop_oldest();
        }
        self.newest.insert(name, self.first + self.observations.len() as u64);
        self.observations.push_back(Observation { name, class, used_at: now, gap: 0 });
        self.new += 1;
    }

    /// Notes that a block is of another class since its last use.
    pub(super) fn reclass(&mut self, name: u64, class: Class) {
        if let Some(newest) = self.newest_mut(name) {
            newest.class = class;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.observations.pop_front() {
            if self.newest.get(&oldest.name) == Some(&self.first) {
                self.newest.remove(&oldest.name);
            }
            self.first += 1;
        }
    }

    /// Samples so coarsely that the sample reaches back far enough for a tier of `blocks`.
    pub(super) fn reach_for(&mut self, blocks: usize) {
        let wanted = blocks.saturating_mul(FILLINGS);
        let before = self.coarseness;
        while OBSERVATIONS_MAX << self.coarseness < wanted && self.coarseness < 40 {
            self.coarseness += 1;
        }
        if self.coarseness == before {
            return;
        }
        let mut kept = std::mem::take(&mut self.observations);
        kept.retain(|observation| self.sampled(observation.name));
        self.newest = (0..).zip(&kept).map(|(at, observation)| (observation.name, self.first + at)).collect();
        self.observations = kept;
    }

    /// Whether enough is new for what was learned to be learned again.
    pub(super) fn news(&mut self) -> bool {
        let enough = self.new >= (self.observations.len() / 16).max(64);
        if enough {
            self.new = 0;
        }
        enough
    }

    /// What is known of each observation at `now`: its class, the time that passed, and whether a use ended it.
    pub(super) fn outcomes(&self, now: u64) -> impl Iterator<Item = (Class, u64, bool)> {
        self.observations.iter().map(move |seen| match seen.gap {
            0 => (seen.class, now - seen.used_at, false),
            gap => (seen.class, gap, true),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_ends_what_the_one_before_began() {
        let mut history = History::default();
        let (once, parent) = (Class::of(1, false), Class::of(1, true));
        history.used(7, once, 1);
        history.used(8, once, 2);
        history.reclass(7, parent);
        history.used(7, Class::of(2, true), 5);
        let outcomes: Vec<_> = history.outcomes(9).collect();
        assert_eq!(outcomes, [(parent, 4, true), (once, 7, false), (Class::of(2, true), 4, false)]);
    }

    #[test]
    fn it_is_bounded_and_reaches_as_far_as_it_must() {
        let mut history = History::default();
        for now in 1..50_000_u64 {
            history.used(now % 20_000, Class::of(1, false), now);
        }
        assert_eq!(history.observations.len(), OBSERVATIONS_MAX);
        assert!(history.outcomes(50_000).all(|(_, _, ended)| !ended), "20,000 blocks do not fit the sample");
        history.reach_for(20_000);
        assert_eq!(history.coarseness, 5);
        for now in 50_000..150_000_u64 {
            history.used(now % 20_000, Class::of(1, false), now);
        }
        let ended: Vec<u64> = history.outcomes(150_000).filter(|(_, _, ended)| *ended).map(|(_, gap, _)| gap).collect();
        assert!(ended.len() > 2_000 && ended.iter().all(|gap| *gap == 20_000), "{}", ended.len());
        assert!(history.newest.len() < 1_000 && history.observations.len() < 5_000);
    }
}
