//! What a run has to say for itself.

use crate::faults::Activation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    Green,
    /// An oracle said no.
    Safety {
        oracle: String,
        what: String,
    },
    /// Something did not finish after faults had stopped.
    Liveness {
        what: String,
    },
    /// A panic, or a process that ended by itself.
    Crash {
        what: String,
    },
}

impl Verdict {
    pub fn is_green(&self) -> bool {
        *self == Self::Green
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Green => f.write_str("green"),
            Self::Safety { oracle, what } => write!(f, "SAFETY {oracle}: {what}"),
            Self::Liveness { what } => write!(f, "LIVENESS: {what}"),
            Self::Crash { what } => write!(f, "CRASH: {what}"),
        }
    }
}

/// What goes on when a state is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Faults may strike, and every node that is to return serves.
    Serving,
    /// Faults may strike, and a node that served is down or on its way up.
    Recovering,
    /// No fault strikes any more.
    Calm,
}

/// How often a state was reached, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub serving: u64,
    pub recovering: u64,
    pub calm: u64,
}

impl Reached {
    pub fn count(&mut self, phase: Phase) {
        *match phase {
            Phase::Serving => &mut self.serving,
            Phase::Recovering => &mut self.recovering,
            Phase::Calm => &mut self.calm,
        } += 1;
    }

    pub fn add(&mut self, more: Self) {
        self.serving += more.serving;
        self.recovering += more.recovering;
        self.calm += more.calm;
    }

    pub fn times(self) -> u64 {
        self.serving + self.recovering + self.calm
    }
}

/// The record of one run, as workers hand it back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    pub plan: String,
    /// How the plan is found again.
    pub called: String,
    #[serde(flatten)]
    pub verdict: Verdict,
    pub trace_hash: String,
    pub trace_events: u64,
    /// Virtual nanoseconds.
    pub simulated_ns: u64,
    /// Nanoseconds of processor time of the run's thread.
    pub cpu_ns: u64,
    pub operations: u64,
    pub kills: u64,
    pub faults: BTreeMap<String, Activation>,
    pub reached: BTreeMap<String, Reached>,
    /// The last events before a failure.
    pub tail: Vec<String>,
}

impl Report {
    /// The report of a run that ended before it could write one.
    pub fn crashed(seed: u64, plan: &str, what: String) -> Self {
        Self {
            seed,
            plan: plan.to_owned(),
            called: plan.to_owned(),
            verdict: Verdict::Crash { what },
            trace_hash: String::new(),
            trace_events: 0,
            simulated_ns: 0,
            cpu_ns: 0,
            operations: 0,
            kills: 0,
            faults: BTreeMap::new(),
            reached: BTreeMap::new(),
            tail: Vec::new(),
        }
    }
}
