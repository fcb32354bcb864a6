//! O11, the part of heads: one sequence of generations, each published once.

use super::{Seen, Verdict, no};
use crate::model::{Ending, Publication, Span, ValueKey};
use crate::workload::PARTS;
use bettong_wire::request::{HeadValue, Target};
use bettong_wire::response::Head;
use bettong_wire::{BlockKey, Part};
use std::time::Duration;

/// Judges an acknowledged publish of `generation`, which is already in the model as publication `at`.
pub fn check_published(seen: Seen<'_>, namespace: usize, name: &str, at: usize, generation: u64) -> Verdict {
    let publications = seen.model.publications(namespace, name);
    let Some(own) = publications.get(at) else { return Ok(()) };
    if own.generation != generation {
        return no("O11", format!("head {name}: generation {} was asked for, {generation} published", own.generation));
    }
    let other = publications.iter().enumerate().find(|(other, publication)| {
        *other != at && publication.generation == generation && publication.ending == Ending::Done
    });
    match other {
        Some(_) => no("O11", format!("head {name}: generation {generation} was published twice")),
        None => in_sequence(name, publications, seen.model.head_reads(namespace, name)),
    }
}

/// Judges what GET_HEAD answered, which is already in the model; `None` where it was a miss.
pub fn check_read(seen: Seen<'_>, namespace: usize, name: &str, head: Option<&Head>) -> Verdict {
    let publications = seen.model.publications(namespace, name);
    if let Some(head) = head {
        let known = |publication: &Publication| {
            let same_value = publication.value == head.value
                || (head.value.is_none() && lost_its_end(seen, namespace, publication.value.as_ref()));
            let same = publication.generation == head.generation && same_value;
            same && publication.ending != Ending::Refused
                && seen.span.ended.is_none_or(|ended| publication.span.invoked <= ended)
        };
        if !publications.iter().any(known) {
            return no("O11", format!("head {name}: generation {} holds what nobody published", head.generation));
        }
    }
    in_sequence(name, publications, seen.model.head_reads(namespace, name))
}

/// Whether the tip or the sidecar of a head may be gone: evicted, as a daemon said, deleted, or damaged.
fn lost_its_end(seen: Seen<'_>, namespace: usize, value: Option<&HeadValue>) -> bool {
    let Some(value) = value else { return false };
    let tip = PARTS.map(|part| Target::Block(BlockKey { hash: value.tip, part: Part(part) }));
    let targets = tip.into_iter().chain(value.sidecar.map(Target::Sidecar));
    let mut keys = targets.map(|target| ValueKey { namespace, target });
    keys.any(|key| {
        let model = seen.model;
        model.forgotten_of(&key).next().is_some() || model.may_be_deleted(&key) || model.is_damaged(&key)
    })
}

/// Whether generations came into being one after the other, each at a moment that explains what was answered: not before
/// it was asked for or the generation below it was last seen as the newest, and not after it was acknowledged or seen.
/// Those bounds are all there is to linearizability of a register that only counts up.
fn in_sequence(name: &str, publications: &[Publication], reads: &[(u64, Span)]) -> Verdict {
    let possible = publications.iter().filter(|publication| publication.ending != Ending::Refused);
    let newest = reads.iter().map(|(generation, _)| *generation).chain(possible.clone().map(|p| p.generation)).max();
    let mut not_before = Duration::ZERO;
    for generation in 1..=newest.unwrap_or(0) {
        let asked = possible.clone().filter(|p| p.generation == generation).map(|p| p.span.invoked).min();
        let below = reads.iter().filter(|(seen, _)| *seen + 1 == generation).map(|(_, span)| span.invoked);
        not_before = below.chain(asked).chain([not_before]).max().unwrap_or_default();
        let acknowledged = possible.clone().filter(|p| p.generation >= generation && p.ending == Ending::Done);
        let acknowledged = acknowledged.filter_map(|p| p.span.ended);
        let seen = reads.iter().filter(|(seen, _)| *seen >= generation).filter_map(|(_, span)| span.ended);
        let Some(not_after) = acknowledged.chain(seen).min() else { return Ok(()) };
        if not_before > not_after {
            let (before, after) = (not_after.as_secs_f64(), not_before.as_secs_f64());
            let what = format!("generation {generation} was there at {before:.6}, and at {after:.6} it was not yet");
            return no("O11", format!("head {name}: {what}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publications and reads.
    type Case<'a> = (&'a [Publication], &'a [(u64, Span)]);

    fn span(from: u64, to: u64) -> Span {
        Span { invoked: Duration::from_secs(from), ended: Some(Duration::from_secs(to)) }
    }

    fn published(generation: u64, from: u64, to: u64, ending: Ending) -> Publication {
        Publication { generation, value: None, span: span(from, to), ending }
    }

    #[test]
    fn generations_come_one_after_the_other() {
        use Ending::{Done, Unknown};
        let two = [published(1, 0, 1, Done), published(2, 4, 5, Done)];
        let failed = [published(1, 0, 1, Done), published(2, 4, 5, Unknown)];
        let good: &[Case<'_>] = &[
            (&two, &[(1, span(2, 3)), (2, span(6, 7))]),
            (&two, &[(1, span(3, 9)), (2, span(4, 5))]),
            (&failed, &[(1, span(6, 7)), (2, span(8, 9))]),
            (&failed, &[(1, span(6, 7))]),
        ];
        for (publications, reads) in good {
            assert_eq!(in_sequence("h", publications, reads), Ok(()), "{reads:?}");
        }
        let bad: &[Case<'_>] = &[
            // Stale after an acknowledged publish; absent after one.
            (&two, &[(1, span(6, 7))]),
            (&two, &[(0, span(2, 3))]),
            // New, then old, while the publish goes on or after it failed.
            (&two, &[(2, span(4, 4)), (1, span(5, 5))]),
            (&failed, &[(2, span(6, 7)), (1, span(8, 9))]),
            // Seen before anybody asked for it.
            (&two, &[(2, span(2, 3))]),
        ];
        for (publications, reads) in bad {
            assert!(in_sequence("h", publications, reads).is_err(), "{reads:?}");
        }
    }
}
