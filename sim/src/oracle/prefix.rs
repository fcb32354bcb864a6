//! O4: a look-up's count is a prefix of what may be there, and contains the prefix of what must be there; and no more is
//! said to be restored than may be there.

use super::{Seen, Verdict, hit, no};
use crate::model::ValueKey;
use bettong_wire::request::Target;
use bettong_wire::{BlockHash, BlockKey, Part};

/// Judges the count of leading hashes that a look-up over all `parts` answered.
pub fn check(seen: Seen<'_>, namespace: usize, hashes: &[BlockHash], parts: &[u16], count: u32) -> Verdict {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > hashes.len() {
        return no("O4", format!("{count} of {} hashes are said to be present", hashes.len()));
    }
    let keys = |hash: &BlockHash| -> Vec<ValueKey> {
        let key = |part: &u16| Target::Block(BlockKey { hash: *hash, part: Part(*part) });
        parts.iter().map(|part| ValueKey { namespace, target: key(part) }).collect()
    };
    for hash in hashes.iter().take(count) {
        if let Some(key) = keys(hash).iter().find(|key| !may_be_there(seen, key)) {
            return no("O4", format!("a look-up counts {key}, which nobody put, or which was deleted"));
        }
    }
    let sure = hashes
        .iter()
        .take_while(|hash| {
            keys(hash).iter().all(|key| seen.model.surely_present(key, seen.daemon, &seen.span).is_some())
        })
        .count();
    if count < sure {
        return no("O4", format!("a look-up on {} counts {count} blocks, {sure} are acknowledged", seen.daemon.name));
    }
    Ok(())
}

/// Judges how many of `keys` are said to be in memory after a restore.
pub fn restored(seen: Seen<'_>, keys: &[ValueKey], count: u32) -> Verdict {
    let there = keys.iter().filter(|key| may_be_there(seen, key)).count();
    if usize::try_from(count).is_ok_and(|count| count <= there) {
        return Ok(());
    }
    let (asked, here) = (keys.len(), &seen.daemon.name);
    no("O4", format!("{count} of {asked} blocks are said to be restored on {here}, where {there} may be"))
}

/// Whether a put of `key` may have left a value that is not surely deleted.
fn may_be_there(seen: Seen<'_>, key: &ValueKey) -> bool {
    seen.model.possible(key).any(|attempt| match attempt.stored {
        // Under which put ids a library that asks again by itself has put, nobody knows.
        Some((put_id, _)) if !attempt.repeats => hit::deleted(seen, key, put_id).is_ok(),
        _ => true,
    })
}
