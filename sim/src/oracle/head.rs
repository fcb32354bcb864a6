//! O11, the part of heads: one sequence of generations, each published once.

use super::{Seen, Verdict, no};
use crate::model::{Ending, Publication};
use bettong_wire::response::Head;

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
        None => Ok(()),
    }
}

fn newest_before(seen: Seen<'_>, publications: &[Publication]) -> u64 {
    let done = publications.iter().filter(|p| p.ending == Ending::Done && p.span.precedes(&seen.span));
    done.map(|publication| publication.generation).max().unwrap_or(0)
}

/// Judges what GET_HEAD answered; `None` where it was a miss.
pub fn check_read(seen: Seen<'_>, namespace: usize, name: &str, head: Option<&Head>) -> Verdict {
    let publications = seen.model.publications(namespace, name);
    let newest = newest_before(seen, publications);
    let Some(head) = head else {
        return if newest > 0 {
            no("O11", format!("head {name} is absent, generation {newest} was published"))
        } else {
            Ok(())
        };
    };
    if head.generation < newest {
        return no("O11", format!("head {name} is read at {}, {newest} was published before", head.generation));
    }
    let known = publications
        .iter()
        .any(|p| p.generation == head.generation && p.ending != Ending::Refused && p.value == head.value);
    if known {
        Ok(())
    } else {
        no("O11", format!("head {name}: generation {} holds what nobody published", head.generation))
    }
}
