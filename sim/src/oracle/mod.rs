//! The oracles: each says of one answer whether the model allows it. They are asked all the time, not at the end.

pub mod budget;
pub mod head;
pub mod hit;
mod linear;
pub mod metrics;
pub mod miss;
pub mod prefix;
pub mod register;
pub mod settled;

use crate::model::{Daemon, Model, Span, ValueKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why an answer is wrong, and by which oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct No {
    pub oracle: &'static str,
    pub what: String,
}

pub type Verdict = Result<(), No>;

pub fn no(oracle: &'static str, what: impl Into<String>) -> Verdict {
    Err(No { oracle, what: what.into() })
}

/// What is known when an answer is judged.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub model: &'a Model,
    pub daemon: &'a Daemon,
    /// When the question was asked and answered.
    pub span: Span,
    /// Faults that excuse a tier that does not answer are over.
    pub calm: bool,
    /// A fault that struck the daemon lately may be felt there.
    pub disturbed: bool,
    /// What other nodes deleted before this moment, the daemon knew when it was asked.
    pub knew_of_others: Duration,
    /// Wall clocks go on as they began: what has a time to live is gone when that is over.
    pub clocks_are_steady: bool,
    /// Nothing but the disk cache of a node that lives keeps a read waiting.
    pub only_caches_are_slow: bool,
    /// There is memory for all that clients ask for at once, and for what hangs beside it.
    pub memory_is_ample: bool,
}

/// While faults strike an eviction may take this long. What was put meanwhile comes on top of the budget.
const EVICTION_TAKES: Duration = Duration::from_secs(60);
/// What a value takes besides its payload.
const OVERHEAD: u64 = 512;

/// What the daemon `name` may have in the object store over its budget at `now`: once faults are over, only what a read that
/// found an object damaged has put anew since an eviction began.
pub fn slack(model: &Model, name: &str, calm: bool, now: Duration) -> u64 {
    let mut healed: BTreeMap<ValueKey, u64> = BTreeMap::new();
    for attempt in model.attempts().filter(|attempt| model.is_damaged(&attempt.key)) {
        let len = healed.entry(attempt.key.clone()).or_default();
        *len = attempt.len.max(*len);
    }
    let lately = |ended: Duration| ended + EVICTION_TAKES >= now;
    let own = model.attempts().filter(|attempt| !calm && attempt.daemon.name == name);
    let puts = own.filter(|attempt| attempt.span.ended.is_none_or(lately)).map(|attempt| attempt.len);
    healed.into_values().chain(puts).map(|len| len + OVERHEAD).sum()
}
