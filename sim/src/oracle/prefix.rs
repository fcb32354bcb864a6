//! O4: a look-up's count is a prefix of what may be there, and contains the prefix of what must be there.

use super::{Seen, Verdict, no};
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
        if let Some(key) = keys(hash).iter().find(|key| seen.model.possible(key).next().is_none()) {
            return no("O4", format!("a look-up counts {key}, which nobody put"));
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
