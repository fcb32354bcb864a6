//! What keeping a block is worth, by its class and by the time since its last use: the most hits for each unit of time
//! that it can bring if it is kept from now on and given up at the best moment (its Gittins index). Where a tier is
//! full, keeping what is worth most is the best that an order by such indices can do.
//!
//! A block that has just been used may be worth less than one that has waited for a while: where people come back after
//! a minute and space lasts for seconds, holding on to some beats giving each a moment. Nothing of this is set here; it
//! follows from the gaps that were seen.

use super::class::{CLASSES, Class};

/// Ages are told apart by four steps in each doubling.
const STEPS: u64 = 4;
const AGES: usize = 160;

/// A class's own observations are outweighed by those of all classes up to this many.
const PRIOR: f64 = 4.0;

type ByAge = [f64; AGES];

/// The step of an age; ages over 2^40 count as that.
fn step(age: u64) -> usize {
    let doublings = u64::from(age.max(STEPS).ilog2()) - 1;
    let step = if age < STEPS { age } else { doublings * STEPS + ((age >> (doublings - 1)) & (STEPS - 1)) };
    (step as usize).min(AGES - 1)
}

/// The first age of a step.
fn starts(step: usize) -> u64 {
    let step = step as u64;
    if step < STEPS { step } else { (STEPS + step % STEPS) << (step / STEPS - 1) }
}

/// The worth of every class at every age.
#[derive(Debug, Default)]
pub(super) struct Worth {
    /// Empty until something was learned.
    by_class: Vec<ByAge>,
}

impl Worth {
    /// The worth of a block at `age`, in hits for each unit of time. Before anything is known the younger is worth more.
    pub(super) fn of(&self, class: Class, age: u64) -> f64 {
        self.by_class.get(class.index()).map_or(1.0 / (1.0 + age as f64), |by_age| by_age[step(age)])
    }

    /// Learns from outcomes: the class, the age that was reached, and whether a use ended it there.
    pub(super) fn learn(outcomes: impl Iterator<Item = (Class, u64, bool)>) -> Self {
        let mut ended = [[0.0; AGES]; CLASSES];
        let mut open = [[0.0; AGES]; CLASSES];
        let (mut all_ended, mut all_open) = ([0.0; AGES], [0.0; AGES]);
        let mut steps = 0;
        for (class, age, end) in outcomes {
            let step = step(age);
            steps = steps.max(step + 1);
            let (of_class, of_all) = if end { (&mut ended, &mut all_ended) } else { (&mut open, &mut all_open) };
            of_class[class.index()][step] += 1.0;
            of_all[step] += 1.0;
        }
        let of_all = hazards(&all_ended, &all_open, &[0.0; AGES]);
        let by_class = ended.iter().zip(&open).map(|(ended, open)| indices(&hazards(ended, open, &of_all), steps));
        Self { by_class: by_class.collect() }
    }
}

/// For each step of age the share of the blocks that reach it and are used in it. Those whose end is not known count
/// for half of their last step.
fn hazards(ended: &ByAge, open: &ByAge, prior: &ByAge) -> ByAge {
    let mut hazards = [0.0; AGES];
    let mut reached = 0.0;
    for step in (0..AGES).rev() {
        reached += ended[step] + open[step];
        let at_risk = reached - open[step] / 2.0;
        hazards[step] = (ended[step] + PRIOR * prior[step]) / (at_risk + PRIOR);
    }
    hazards
}

/// For each step of age the best ratio of hits to time over all moments of giving up. Beyond `steps` nothing is known
/// and nothing hoped for.
fn indices(hazards: &ByAge, steps: usize) -> ByAge {
    let mut indices = [0.0; AGES];
    for (from, index) in indices.iter_mut().enumerate().take(steps) {
        let (mut left, mut hits, mut time) = (1.0, 0.0, 0.0);
        for (step, hazard) in hazards.iter().enumerate().take(steps).skip(from) {
            let width = (starts(step + 1) - starts(step)) as f64;
            hits += left * hazard;
            time += left * width * (1.0 - hazard / 2.0);
            left *= 1.0 - hazard;
            *index = f64::max(*index, hits / time);
        }
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_all_ages_in_order() {
        for age in (0..10_000).chain([1 << 20, (1 << 39) - 1]) {
            let step = step(age);
            assert!(starts(step) <= age && age < starts(step + 1), "{age}: {step}");
        }
        assert_eq!(step(u64::MAX), AGES - 1);
    }

    #[test]
    fn what_comes_back_sooner_is_worth_more() {
        let (often, seldom) = (Class::of(9, true), Class::of(1, true));
        let unknown = Worth::default();
        assert!(unknown.of(often, 1) > unknown.of(seldom, 2));
        let seen = (0..200).map(|n| (often, 100, n % 10 > 0)).chain((0..200).map(|n| (seldom, 100, n % 10 == 0)));
        let worth = Worth::learn(seen);
        assert!(worth.of(often, 90) > 4.0 * worth.of(seldom, 90));
        assert_eq!(worth.of(often, 1000), 0.0);
    }

    #[test]
    fn one_that_is_due_is_worth_more_than_one_that_was_just_used() {
        let class = Class::of(1, true);
        let worth = Worth::learn((0..500).map(|n| (class, if n % 2 == 0 { 1000 } else { 4000 }, n % 2 == 0)));
        assert!(worth.of(class, 900) > 2.0 * worth.of(class, 10));
        assert!(worth.of(class, 10) > worth.of(class, 2000));
    }
}
