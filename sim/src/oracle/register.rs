//! O11, the part of plain keys: within one daemon a plain key is a register; no read returns a value that was replaced
//! before the read began.
//!
//! A necessary condition, read by read: it does not order reads among themselves.

use super::{Seen, Verdict, no};
use crate::model::{Attempt, Ending, Span, ValueKey};
use bettong_wire::request::Level;

/// What took the place of the value of `span` for certain before the read began: an acknowledged write or delete that
/// began after that value's write was answered.
fn replaced_by(seen: Seen<'_>, key: &ValueKey, span: Option<&Span>) -> Option<String> {
    let between = |change: &Span| span.is_none_or(|old| old.precedes(change)) && change.precedes(&seen.span);
    let put = seen.model.possible(key).find(|attempt| {
        attempt.ending == Ending::Done && seen.daemon.inherits(&attempt.daemon) && between(&attempt.span)
    });
    if let Some(put) = put {
        return Some(format!("attempt {}", put.id));
    }
    let deletions = seen.model.history(key).map(|history| history.deletions.as_slice()).unwrap_or_default();
    let deletion = deletions.iter().find(|deletion| {
        deletion.ending == Ending::Done && seen.daemon.inherits(&deletion.daemon) && between(&deletion.span)
    });
    deletion.map(|deletion| format!("the delete asked at {:.6}", deletion.span.invoked.as_secs_f64()))
}

/// A plain key was answered with the value of `attempt`.
pub fn check_value(seen: Seen<'_>, key: &ValueKey, attempt: &Attempt) -> Verdict {
    if !key.is_plain() {
        return Ok(());
    }
    match replaced_by(seen, key, Some(&attempt.span)) {
        Some(by) => no("O11", format!("{key}: attempt {} is served after {by} replaced it", attempt.id)),
        None => Ok(()),
    }
}

/// A plain key was answered as absent: allowed where it never was, where a delete may be the last change, or where the
/// last change may be a value that may vanish.
pub fn check_absent(seen: Seen<'_>, key: &ValueKey) -> Verdict {
    let may_vanish = |attempt: &Attempt| attempt.level == Level::Memory || attempt.ttl_ms > 0;
    let vanished = seen
        .model
        .possible(key)
        .any(|attempt| may_vanish(attempt) && replaced_by(seen, key, Some(&attempt.span)).is_none());
    let deletions = seen.model.history(key).map(|history| history.deletions.as_slice()).unwrap_or_default();
    let deleted = deletions
        .iter()
        .any(|deletion| deletion.ending != Ending::Refused && replaced_by_put(seen, key, &deletion.span).is_none());
    if vanished || deleted {
        return Ok(());
    }
    match replaced_by_put(
        seen,
        key,
        &Span { invoked: std::time::Duration::ZERO, ended: Some(std::time::Duration::ZERO) },
    ) {
        Some(id) => {
            no("O11", format!("{key} is absent on {} although attempt {id} was acknowledged", seen.daemon.name))
        }
        None => Ok(()),
    }
}

/// An acknowledged put that began after `change` was answered, and was answered before the read began.
fn replaced_by_put(seen: Seen<'_>, key: &ValueKey, change: &Span) -> Option<u64> {
    let replaces = |attempt: &&Attempt| {
        attempt.ending == Ending::Done
            && seen.daemon.inherits(&attempt.daemon)
            && change.precedes(&attempt.span)
            && attempt.span.precedes(&seen.span)
    };
    seen.model.possible(key).find(replaces).map(|attempt| attempt.id)
}
