//! O11, the part of plain keys: within one daemon a plain key is a register, and its history is linearizable.
//!
//! Asked with every answer: the history is everything that was asked of the daemon about the key so far, and whatever
//! daemons of its node id did before it.

use super::linear::{Act, Operation, Order, Written, order};
use super::{Seen, Verdict, no};
use crate::model::{Attempt, Daemon, Ending, LEN_MIN, Model, Observed, Span, ValueKey};
use bettong_wire::MissReason;
use bettong_wire::request::Level;
use bettong_wire::response::Hit;
use std::time::Duration;

/// How far a node's clock may be off the time between a put and its expiry. No lifetime in a run is so long that drift
/// comes near it.
const CLOCK_SLACK: Duration = Duration::from_millis(20);
/// Operations before the one that cannot be explained, in the report.
const CONTEXT: usize = 12;

/// What a hit says of its key's history: the attempts whose bytes it may be. `range` is what was asked for.
pub fn hit(model: &Model, key: &ValueKey, hit: &Hit, payload: &[u8], range: Option<(u64, u64)>) -> Observed {
    let fits = |attempt: &&Attempt| match range {
        None if (payload.len() as u64) < LEN_MIN => attempt.len == payload.len() as u64,
        None => crate::model::recognise(payload) == Some(attempt.id),
        Some(range) => super::hit::has_part(attempt, hit, payload, range),
    };
    Observed::Value(model.possible(key).filter(fits).map(|attempt| attempt.id).collect())
}

/// What an answer of EXISTS says: a value of this length.
pub fn exists(model: &Model, key: &ValueKey, len: u64) -> Observed {
    Observed::Value(model.possible(key).filter(|attempt| attempt.len == len).map(|attempt| attempt.id).collect())
}

/// What a miss says, if it says anything of the value.
pub fn miss(model: &Model, key: &ValueKey, reason: MissReason) -> Option<Observed> {
    match reason {
        // Nothing certain is known of a value that a fault has damaged.
        _ if model.is_damaged(key) => None,
        MissReason::Absent | MissReason::Evicted => Some(Observed::Nothing),
        MissReason::Expired => Some(Observed::Expired),
        MissReason::Corrupt
        | MissReason::NewerFormat
        | MissReason::Identity
        | MissReason::Deadline
        | MissReason::Declined
        | MissReason::TierDown
        | MissReason::NoRoom => None,
    }
}

/// What is known of how steady the world is.
pub struct Steadiness<'a> {
    /// Wall clocks may jump: a lifetime says nothing.
    pub clocks_jump: bool,
    /// When the node's index was lost: what nobody was told of may be undone then.
    pub index_lost: &'a [Duration],
}

/// Judges the history of a plain key on one daemon. `Ok(false)` where it is too long to tell.
pub fn check(seen: Seen<'_>, key: &ValueKey, steady: &Steadiness<'_>) -> Result<bool, super::No> {
    let history = history(seen.model, seen.daemon, key, steady);
    match order(&history, steady.index_lost, &seen.model.journal_lost(seen.daemon, key)) {
        Order::Found => Ok(true),
        Order::Undecided => Ok(false),
        Order::None(at) => refuse(seen.daemon, key, &history, at).map(|()| true),
    }
}

fn history(model: &Model, daemon: &Daemon, key: &ValueKey, steady: &Steadiness<'_>) -> Vec<Operation> {
    let certain = |by: &Daemon, ending: Ending, span: &Span| {
        // What an older daemon of this node id still acknowledges beside this one may be nothing to this one.
        let settled = by == daemon || span.ended.is_some_and(|ended| ended < daemon.since);
        ending == Ending::Done && settled
    };
    // Rolled back while its answer was on the way.
    let undone = |put: &Attempt| {
        let ended = put.span.ended.unwrap_or(Duration::MAX);
        model.journal_lost(&put.daemon, key).iter().any(|at| (put.span.invoked..=ended).contains(at))
    };
    let kept_here = |put: &Attempt| put.level != Level::Journal || (put.daemon == *daemon && !undone(put));
    let puts = model.possible(key).filter(|put| daemon.inherits(&put.daemon)).map(|put| Operation {
        act: Act::Write(written(put, daemon, steady)),
        span: put.span,
        // Another daemon's journal is in another directory.
        certain: certain(&put.daemon, put.ending, &put.span) && kept_here(put),
    });
    // What a retired node had comes to its heir at some time, or gives way to what that one has itself.
    let inherited = model.possible(key).filter(|put| put.level > Level::Memory).filter_map(|put| {
        let since = model.heir_since(&daemon.node_id, &put.daemon.node_id)?;
        let span = Span { invoked: since.max(put.span.invoked), ended: None };
        Some(Operation { act: Act::Write(written(put, daemon, steady)), span, certain: false })
    });
    let puts = puts.chain(inherited);
    let deletions = model.history(key).map(|history| history.deletions.as_slice()).unwrap_or_default();
    let deletions =
        deletions.iter().filter(|deletion| deletion.ending != Ending::Refused && daemon.inherits(&deletion.daemon));
    let deletions = deletions.map(|deletion| Operation {
        act: Act::Delete,
        span: deletion.span,
        certain: certain(&deletion.daemon, deletion.ending, &deletion.span),
    });
    // What a node forgets by itself is gone, and nothing else. Which put wrote it is not always known.
    let by_name = |name: &str| model.attempts().map(|attempt| &attempt.daemon).find(|by| by.name == name);
    let forgotten = model.forgotten_of(key).filter_map(|forgotten| {
        let by = by_name(&forgotten.daemon).filter(|by| daemon.inherits(by))?;
        let span = Span { invoked: forgotten.began, ended: forgotten.done };
        let put = model.attempt_of(forgotten.name.put_id);
        let ending = if forgotten.done.is_some() && forgotten.lost.is_none() { Ending::Done } else { Ending::Unknown };
        let act = put.map_or(Act::Delete, |put| Act::Forgets(put.id));
        Some(Operation { act, span, certain: certain(by, ending, &span) })
    });
    // Where what tells of it was lost, it may be back, from the journal say.
    let returned = model.forgotten_of(key).filter_map(|forgotten| {
        let (first, last) = forgotten.lost?;
        let put = model.attempt_of(forgotten.name.put_id).filter(|put| daemon.inherits(&put.daemon))?;
        let span = Span { invoked: first, ended: None };
        Some(Operation { act: Act::Returns(written(put, daemon, steady), last), span, certain: false })
    });
    let reads = model.reads(daemon, key).iter().map(|read| {
        let act = match &read.observed {
            Observed::Value(attempts) => Act::Saw(attempts.clone()),
            Observed::Nothing => Act::Missed,
            Observed::Expired => Act::Expired,
        };
        Operation { act, span: read.span, certain: true }
    });
    let mut history: Vec<_> = puts.chain(deletions).chain(forgotten).chain(returned).chain(reads).collect();
    history.sort_by_key(|operation| operation.span.invoked);
    history
}

fn written(put: &Attempt, daemon: &Daemon, steady: &Steadiness<'_>) -> Written {
    let ttl = Duration::from_millis(put.ttl_ms);
    let expires = (put.ttl_ms > 0).then(|| {
        let latest = put.span.ended.filter(|_| put.ending == Ending::Done);
        match latest {
            // Another daemon reckons by another clock.
            _ if steady.clocks_jump || put.daemon != *daemon => (Duration::ZERO, Duration::MAX),
            Some(ended) => ((put.span.invoked + ttl).saturating_sub(CLOCK_SLACK), ended + ttl + CLOCK_SLACK),
            None => ((put.span.invoked + ttl).saturating_sub(CLOCK_SLACK), Duration::MAX),
        }
    });
    Written { id: put.id, volatile: put.level == Level::Memory, journaled: put.level == Level::Journal, expires }
}

fn refuse(daemon: &Daemon, key: &ValueKey, history: &[Operation], at: usize) -> Verdict {
    let Some(answer) = history.get(at) else { return Ok(()) };
    let end = |operation: &Operation| operation.span.ended.unwrap_or(Duration::MAX);
    let mut before: Vec<_> = history.iter().filter(|operation| operation.span.invoked <= end(answer)).collect();
    before.sort_by_key(|operation| operation.span.invoked);
    let from = before.len().saturating_sub(CONTEXT);
    let lines: Vec<_> = before.iter().skip(from).map(|operation| line(operation)).collect();
    let what = format!("{key} on {}: no order of its operations explains {}", daemon.name, line(answer));
    no("O11", format!("{what}; the last of them: {}", lines.join(", ")))
}

fn line(operation: &Operation) -> String {
    let what = match &operation.act {
        Act::Write(written) if written.volatile => format!("put {} (memory)", written.id),
        Act::Write(written) => format!("put {}", written.id),
        Act::Returns(written, _) => format!("return of {}", written.id),
        Act::Delete => "delete".to_owned(),
        Act::Forgets(id) => format!("eviction of {id}"),
        Act::Saw(attempts) => format!("saw {attempts:?}"),
        Act::Missed => "absent".to_owned(),
        Act::Expired => "expired".to_owned(),
    };
    let (from, to) = (operation.span.invoked.as_secs_f64(), operation.span.ended.map(|ended| ended.as_secs_f64()));
    match to {
        Some(to) if operation.certain => format!("{what} [{from:.6}..{to:.6}]"),
        Some(to) => format!("{what} [{from:.6}..{to:.6}?]"),
        None => format!("{what} [{from:.6}..?]"),
    }
}
