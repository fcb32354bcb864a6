//! O1, O3, O5, O9: a hit returns exactly the bytes of one complete put under that key and namespace that was not
//! refused, and of no put that was deleted.

use super::{Seen, Verdict, no};
use crate::model::{Attempt, Ending, LEN_MIN, ValueKey, recognise};
use bettong_wire::PutId;
use bettong_wire::response::Hit;
use std::time::Duration;

/// Judges the payload of a hit on `key`; `range` is what was asked for.
pub fn check(seen: Seen<'_>, key: &ValueKey, hit: &Hit, payload: &[u8], range: Option<(u64, u64)>) -> Verdict {
    deleted(seen, key, hit.put_id)?;
    let attempt = match range {
        None if (payload.len() as u64) < LEN_MIN => part(seen, key, hit, payload, (0, u64::MAX))?,
        None => whole(seen, key, payload)?,
        Some(range) => part(seen, key, hit, payload, range)?,
    };
    if hit.total_len != attempt.len {
        return no("O1", format!("{key}: a hit of {} bytes says it has {} in all", attempt.len, hit.total_len));
    }
    if let Some(named) = seen.model.attempt_of(hit.put_id).filter(|named| named.id != attempt.id) {
        let what = format!("{key}: put {} is answered with the bytes of attempt {}", hit.put_id, attempt.id);
        return no("O1", format!("{what}, not of attempt {}", named.id));
    }
    let (of, on) = (&attempt.daemon.node_id, &seen.daemon.node_id);
    if key.is_plain() && of != on && seen.model.heir_since(on, of).is_none() {
        return no("O5", format!("{key} of {} is seen on {}", attempt.daemon.node_id, seen.daemon.node_id));
    }
    expired(seen, key, attempt)
}

/// What clocks that drift may make of a time to live.
const DRIFT_MAX: Duration = Duration::from_secs(1);

/// O9: what is past its time does not come back.
fn expired(seen: Seen<'_>, key: &ValueKey, attempt: &Attempt) -> Verdict {
    let Some(ended) =
        attempt.span.ended.filter(|_| attempt.ttl_ms > 0 && seen.clocks_are_steady && attempt.daemon == *seen.daemon)
    else {
        return Ok(());
    };
    let until = ended + Duration::from_millis(attempt.ttl_ms) + DRIFT_MAX;
    if seen.span.invoked > until {
        return no("O9", format!("{key}: attempt {} lived until {:.6} and is served", attempt.id, until.as_secs_f64()));
    }
    Ok(())
}

fn whole<'a>(seen: Seen<'a>, key: &ValueKey, payload: &[u8]) -> Result<&'a Attempt, super::No> {
    let stranger = || format!("{key}: {} bytes of no put: {}", payload.len(), crate::trace::digest(payload));
    let Some(attempt) = recognise(payload).and_then(|id| seen.model.attempt(id)) else {
        return Err(super::No { oracle: "O1", what: stranger() });
    };
    let wrong = |oracle, what: String| Err(super::No { oracle, what });
    if attempt.key.namespace != key.namespace {
        return wrong("O5", format!("{key} is answered with bytes of {}", attempt.key));
    }
    if attempt.key != *key {
        return wrong("O1", format!("{key} is answered with bytes of {}", attempt.key));
    }
    if attempt.bytes() != payload {
        return wrong("O1", format!("{key}: the bytes of attempt {} are not whole", attempt.id));
    }
    if attempt.ending == Ending::Refused {
        return wrong("O3", format!("{key}: attempt {} was refused and is served", attempt.id));
    }
    Ok(attempt)
}

/// A range may lie behind what names the attempt: any put that is not refused and has these bytes there will do.
fn part<'a>(
    seen: Seen<'a>,
    key: &ValueKey,
    hit: &Hit,
    payload: &[u8],
    range: (u64, u64),
) -> Result<&'a Attempt, super::No> {
    // What is known to have made another version, or was over too early, made this one only where it was healed, or came late.
    let other = |attempt: &Attempt| {
        let stored = attempt.stored.filter(|_| !attempt.repeats);
        stored.is_some_and(|(put_id, already)| !already && put_id != hit.put_id)
            || seen.model.is_older(attempt, hit.put_id)
    };
    let fits = |attempt: &&Attempt| has_part(attempt, hit, payload, range);
    let named = seen.model.attempt_of(hit.put_id).filter(|attempt| attempt.key == *key).filter(fits);
    // A few bytes may be of several attempts: those of this node come first.
    let own = |attempt: &&Attempt| attempt.daemon.node_id == seen.daemon.node_id && fits(attempt);
    let likely = || seen.model.possible(key).find(|attempt| own(attempt) && !other(attempt));
    let own = || seen.model.possible(key).find(own);
    named.or_else(likely).or_else(own).or_else(|| seen.model.possible(key).find(fits)).ok_or_else(|| super::No {
        oracle: "O1",
        what: format!("{key}: {} bytes from {} on are of no put under this key", payload.len(), range.0),
    })
}

/// Whether `payload` is what a range of `len` bytes from `offset` on of this attempt's bytes is, clipped to its end.
pub fn has_part(attempt: &Attempt, hit: &Hit, payload: &[u8], (offset, len): (u64, u64)) -> bool {
    let (start, end) = (offset.min(attempt.len), offset.saturating_add(len).min(attempt.len));
    attempt.len == hit.total_len && attempt.bytes().get(start as usize..end as usize) == Some(payload)
}

/// O9: a put id that a node forgot by itself does not come back there, unless what knew of it was lost.
fn forgotten(seen: Seen<'_>, key: &ValueKey, put_id: PutId) -> Verdict {
    let gone = seen.model.forgotten(put_id).iter().find(|forgotten| {
        let before = forgotten.done.is_some_and(|done| done < seen.span.invoked);
        before && forgotten.lost.is_none() && forgotten.daemon == seen.daemon.name
    });
    let Some(gone) = gone else { return Ok(()) };
    let (why, since) = (if gone.expired { "removed as expired" } else { "evicted" }, gone.began.as_secs_f64());
    no("O9", format!("{key}: {put_id} was {why} on {} at {since:.6} and is served there", gone.daemon))
}

/// O9: a put id that is named dead does not come back: neither on the daemon that deleted it, nor on one that has looked
/// at the others' dead marks since. A daemon that cannot look may serve it still.
pub fn deleted(seen: Seen<'_>, key: &ValueKey, put_id: PutId) -> Verdict {
    forgotten(seen, key, put_id)?;
    let Some(dead) = seen.model.dead(put_id) else { return Ok(()) };
    let here = *seen.daemon == dead.daemon && seen.span.invoked > dead.since;
    let there = seen.knew_of_others > dead.since;
    if here || there {
        let (since, by) = (dead.since.as_secs_f64(), &dead.daemon.name);
        let where_to = &seen.daemon.name;
        return no("O9", format!("{key}: {put_id} was deleted on {by} at {since:.6} and is served on {where_to}"));
    }
    Ok(())
}
