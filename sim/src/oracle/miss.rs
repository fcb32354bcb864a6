//! O2, O15: what was acknowledged is found again, and a miss's reason is true.

use super::{Seen, Verdict, no};
use crate::model::{Forgotten, ValueKey};
use bettong_wire::MissReason;
use bettong_wire::request::Level;
use std::time::Duration;

/// A read that may take so long does not end at its deadline because a disk cache hangs: the cache is given up before.
const SLOW_CACHE_GIVEN_UP: Duration = Duration::from_secs(8);

/// Why a reason cannot be true whatever the store did, if so.
fn untrue(seen: Seen<'_>, key: &ValueKey, reason: MissReason) -> Option<&'static str> {
    let mut possible = seen.model.possible(key);
    match reason {
        MissReason::Expired if !possible.any(|attempt| attempt.ttl_ms > 0) => Some("nothing of it expires"),
        MissReason::Evicted if possible.next().is_none() => Some("nobody ever put it"),
        MissReason::NewerFormat => Some("no newer release ran"),
        MissReason::Identity => Some("its namespace was opened with a model identity"),
        _ => None,
    }
}

/// Judges a miss on `key`, for a caller that was in a hurry or not.
pub fn check(seen: Seen<'_>, key: &ValueKey, reason: MissReason, hurried: bool) -> Verdict {
    if reason == MissReason::Declined && !hurried {
        return no("O15", format!("{key}: declined on {}, though the caller set no limit", seen.daemon.name));
    }
    if reason == MissReason::Corrupt && !seen.model.is_damaged(key) {
        return no(
            "O15",
            format!("{key} is said to be corrupt on {}, and nothing of it was damaged", seen.daemon.name),
        );
    }
    if let Some(lie) = untrue(seen, key, reason) {
        return no("O15", format!("{key} is a miss {} on {}, and {lie}", reason.as_str(), seen.daemon.name));
    }
    if reason == MissReason::Evicted && !may_be_evicted(seen, key) {
        let daemon = &seen.daemon.name;
        return no("O15", format!("{key} is said to be evicted on {daemon}, and it never said that it evicts it"));
    }
    let Some(attempt) = seen.model.surely_present(key, seen.daemon, &seen.span) else { return Ok(()) };
    let excused = match reason {
        // Where only the disk cache is slow, the object store is asked in time.
        MissReason::TierDown => !seen.calm && seen.disturbed && !seen.only_caches_are_slow,
        // Others who ask at the same time may hold all the memory, without any fault.
        MissReason::NoRoom => !seen.calm && (!seen.only_caches_are_slow || !seen.memory_is_ample),
        MissReason::Deadline if seen.only_caches_are_slow => !seen.calm && seen.span.lasted() < SLOW_CACHE_GIVEN_UP,
        MissReason::Deadline => !seen.calm && seen.disturbed,
        MissReason::Declined => !seen.calm,
        MissReason::Absent
        | MissReason::Corrupt
        | MissReason::Evicted
        | MissReason::Expired
        | MissReason::NewerFormat
        | MissReason::Identity => false,
    };
    if excused {
        return Ok(());
    }
    let by = match seen.model.attempt(attempt.id).map(|attempt| attempt.daemon.name.clone()) {
        Some(by) if by != seen.daemon.name => format!(" by {by}"),
        _ => String::new(),
    };
    let oracle = if reason == MissReason::Absent { "O2" } else { "O15" };
    no(
        oracle,
        format!(
            "{key}: attempt {} was acknowledged{by}, and on {} it is a miss: {}",
            attempt.id,
            seen.daemon.name,
            reason.as_str()
        ),
    )
}

/// Whether the daemon evicted a version of `key`, as it said, or may have lost one that only memory had.
fn may_be_evicted(seen: Seen<'_>, key: &ValueKey) -> bool {
    let ended = seen.span.ended.unwrap_or(Duration::MAX);
    let here =
        |forgotten: &Forgotten| forgotten.daemon == seen.daemon.name && !forgotten.expired && forgotten.began <= ended;
    seen.model.forgotten_of(key).any(here) || seen.model.possible(key).any(|attempt| attempt.level == Level::Memory)
}
