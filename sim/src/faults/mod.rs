//! Decides when a plan's faults strike, and counts how often they could, did, and changed an outcome.

mod kind;

pub use kind::FaultKind;

use crate::plan::{Configuration, Effect, FaultSpec, Operation, Plan, Restart, Trigger};
use crate::random::Stream;
use bettong_core::observe::Point;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a kind of fault could strike, did strike, and changed the struck call's own result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    pub could: u64,
    pub did: u64,
    pub changed: u64,
}

/// Names what is counted: the kind, and for writes what became of them.
pub type FaultKey = String;

/// A fault that strikes now.
#[derive(Debug, Clone)]
pub struct Strike {
    pub key: FaultKey,
    pub kind: FaultKind,
    pub effect: Effect,
    /// A drawn delay; zero where the plan names none.
    pub delay: Duration,
    /// How long a killed node stays down; `None` where it never returns.
    pub restart_after: Option<Duration>,
    /// What a killed node comes back with.
    pub configuration: Configuration,
    /// A number for whatever else the fault has to choose.
    pub choice: u64,
}

struct Armed {
    spec: FaultSpec,
    key: FaultKey,
    random: Stream,
    /// Opportunities so far.
    met: u64,
    struck: u64,
    /// For triggers by time: when it strikes next.
    due: Duration,
    /// For faults that last: until when this one does.
    lasting_until: Duration,
    /// The node that it struck last.
    victim: String,
    /// For triggers by steps: the nodes that it strikes, and the steps that are left to each.
    fuses: BTreeMap<String, u64>,
}

/// The faults of one run.
pub struct Faults {
    armed: Vec<Armed>,
    counts: BTreeMap<FaultKey, Activation>,
    stopped: bool,
}

/// A node that a killed node's plan says nothing about stays down this long.
const RESTART_AFTER: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_secs(3);
/// A fault that lasts and says not how long.
const LASTS: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(4);

/// An opportunity to strike.
#[derive(Debug, Clone, Copy)]
struct Chance<'a> {
    node: &'a str,
    operation: Option<Operation>,
    path: Option<&'a str>,
    now: Duration,
}

impl Faults {
    pub fn new(seed: u64, plan: &Plan) -> Self {
        let mut armed: Vec<_> =
            plan.faults.iter().enumerate().map(|(index, spec)| Armed::new(seed, index, spec.clone())).collect();
        let mut counts = BTreeMap::new();
        for fault in &mut armed {
            fault.schedule(Duration::ZERO);
            counts.insert(fault.key.clone(), Activation::default());
        }
        Self { armed, counts, stopped: false }
    }

    /// From now on nothing strikes.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The faults that strike this operation of the object store or the disk, among those that `wanted` accepts.
    pub fn operation(
        &mut self,
        node: &str,
        operation: Operation,
        path: &str,
        now: Duration,
        wanted: impl Fn(FaultKind) -> bool,
    ) -> Vec<Strike> {
        let chance = Chance { node, operation: Some(operation), path: Some(path), now };
        self.strikes(chance, |spec| wanted(spec.kind) && spec.kind.strikes(operation))
    }

    /// The fault of this kind that strikes `node` now, if one does.
    pub fn event(&mut self, node: &str, kind: FaultKind, now: Duration) -> Option<Strike> {
        let chance = Chance { node, operation: None, path: None, now };
        let goes_by_steps = |trigger: &Trigger| matches!(trigger, Trigger::Point { .. } | Trigger::Step(_));
        self.strikes(chance, |spec| spec.kind == kind && !goes_by_steps(&spec.trigger)).pop()
    }

    /// The faults that strike `node` as it reaches `point`: those by name, and those by probability.
    pub fn point(&mut self, node: &str, point: Point, now: Duration) -> Vec<Strike> {
        let chance = Chance { node, operation: None, path: None, now };
        self.strikes(chance, |spec| {
            spec.kind.strikes_at_points()
                && match spec.trigger {
                    Trigger::Point { point: wanted, .. } => wanted == point,
                    Trigger::Probability(_) | Trigger::Nth(_) => true,
                    Trigger::Time(_) | Trigger::Step(_) => false,
                }
        })
    }

    /// A new life of `node` takes its first step: what was to strike the old one is forgotten, and what goes by the steps
    /// of a life is set.
    pub fn life_begins(&mut self, node: &str) {
        if self.stopped {
            return;
        }
        let chance = Chance { node, operation: None, path: None, now: Duration::ZERO };
        for fault in &mut self.armed {
            fault.fuses.remove(node);
            let Trigger::Step(range) = &fault.spec.trigger else { continue };
            if fault.spec.concerns(chance) && fault.struck < fault.spec.count {
                self.counts.entry(fault.key.clone()).or_default().could += 1;
                let steps = fault.random.within(range.start..range.end.max(range.start + 1));
                fault.fuses.insert(node.to_owned(), steps.max(1));
            }
        }
    }

    /// `node` takes one step. The faults that strike it now.
    pub fn step(&mut self, node: &str) -> Vec<Strike> {
        if self.stopped {
            return Vec::new();
        }
        let mut strikes = Vec::new();
        for fault in &mut self.armed {
            let Some(left) = fault.fuses.get_mut(node) else { continue };
            *left -= 1;
            if *left > 0 {
                continue;
            }
            fault.fuses.remove(node);
            if matches!(fault.spec.trigger, Trigger::Step(_)) {
                if fault.struck >= fault.spec.count {
                    continue;
                }
                fault.struck += 1;
            }
            self.counts.entry(fault.key.clone()).or_default().did += 1;
            strikes.push(fault.strike());
        }
        strikes
    }

    /// What happens without a plan asking for it, as at every death of a disk: it could, and perhaps did.
    pub fn happens(&mut self, key: &str, did: bool) {
        let count = self.counts.entry(key.to_owned()).or_default();
        count.could += 1;
        count.did += u64::from(did);
        count.changed += u64::from(did);
    }

    fn strikes(&mut self, chance: Chance<'_>, wanted: impl Fn(&FaultSpec) -> bool) -> Vec<Strike> {
        if self.stopped {
            return Vec::new();
        }
        let mut strikes = Vec::new();
        for fault in &mut self.armed {
            if wanted(&fault.spec) && fault.spec.concerns(chance) {
                let count = self.counts.entry(fault.key.clone()).or_default();
                count.could += 1;
                if let Some(strike) = fault.meet(chance.node, chance.now) {
                    count.did += 1;
                    strikes.push(strike);
                }
            }
        }
        strikes
    }

    /// The struck call's own result differs because of the fault.
    pub fn changed(&mut self, key: &str) {
        self.counts.entry(key.to_owned()).or_default().changed += 1;
    }

    pub fn counts(&self) -> &BTreeMap<FaultKey, Activation> {
        &self.counts
    }
}

impl FaultSpec {
    fn concerns(&self, chance: Chance<'_>) -> bool {
        self.node.as_deref().is_none_or(|node| node == chance.node)
            && self.operation.is_none_or(|operation| chance.operation == Some(operation))
            && self.path.as_ref().is_none_or(|glob| chance.path.is_some_and(|path| glob.matches(path)))
    }

    /// What its activations are counted under: two kills at two points of the protocol are two faults.
    fn key(&self) -> FaultKey {
        let at = match &self.trigger {
            Trigger::Point { point, .. } => format!("@{}", point.as_str()),
            _ => String::new(),
        };
        format!("{}{at}", self.name())
    }

    fn name(&self) -> String {
        let effect = match self.effect {
            Effect::None => "",
            Effect::Applied => "/applied",
            Effect::Late => "/late",
        };
        let never = if self.restart_after == Some(Restart::Never) { "/never" } else { "" };
        let redrawn = if self.configuration == Configuration::Redrawn { "/redrawn" } else { "" };
        format!("{}{effect}{never}{redrawn}", self.kind.as_str())
    }
}

impl Armed {
    fn new(seed: u64, index: usize, spec: FaultSpec) -> Self {
        let key = spec.key();
        let random = Stream::new(seed, &format!("fault/{index}/{}", spec.name()));
        Self {
            spec,
            key,
            random,
            met: 0,
            struck: 0,
            due: Duration::ZERO,
            lasting_until: Duration::ZERO,
            victim: String::new(),
            fuses: BTreeMap::new(),
        }
    }

    fn schedule(&mut self, now: Duration) {
        if let Trigger::Time(range) = &self.spec.trigger {
            self.due = now + self.random.duration(range);
        }
    }

    fn meet(&mut self, node: &str, now: Duration) -> Option<Strike> {
        self.met += 1;
        if now < self.lasting_until {
            let spared = self.spec.kind.is_one_nodes() && self.victim != node;
            return (!spared).then(|| self.strike());
        }
        if self.struck >= self.spec.count {
            return None;
        }
        let strikes = match &self.spec.trigger {
            Trigger::Point { nth, .. } | Trigger::Nth(nth) => {
                // With a count, every n-th opportunity strikes.
                self.met.is_multiple_of(*nth)
            }
            Trigger::Time(_) => now >= self.due,
            Trigger::Step(_) => false,
            Trigger::Probability(probability) => self.random.chance(*probability),
        };
        if !strikes {
            return None;
        }
        self.struck += 1;
        node.clone_into(&mut self.victim);
        self.schedule(now);
        if self.spec.kind.lasts() {
            let lasts = self.random.duration(self.spec.lasts.as_ref().unwrap_or(&LASTS));
            self.lasting_until = now + lasts;
        }
        if let Trigger::Point { steps: Some(range), .. } = &self.spec.trigger {
            let steps = self.random.within(range.start..range.end.max(range.start + 1));
            if steps > 0 {
                self.fuses.insert(node.to_owned(), steps);
                return None;
            }
        }
        Some(self.strike())
    }

    fn strike(&mut self) -> Strike {
        let delay = self.spec.delay.as_ref().map(|range| self.random.duration(range)).unwrap_or_default();
        let down = match &self.spec.restart_after {
            None | Some(Restart::Never) => &RESTART_AFTER,
            Some(Restart::After(range)) => range,
        };
        let down = self.random.duration(down);
        let restart_after = (self.spec.restart_after != Some(Restart::Never)).then_some(down);
        let choice = self.random.draw();
        let FaultSpec { kind, effect, configuration, .. } = self.spec;
        Strike { key: self.key.clone(), kind, effect, delay, restart_after, configuration, choice }
    }
}
