//! O7: budgets hold at every look.

use super::{Verdict, no};
use std::fs;
use std::path::Path;

/// Judges a STATS document as an operator reads it. Of the object tier there may be `slack` over a budget: what was put
/// since an eviction began.
pub fn check(daemon: &str, stats: &serde_json::Value, slack: u64) -> Verdict {
    let number = |path: &str| stats.pointer(path).and_then(serde_json::Value::as_u64);
    for (held, limit) in
        [("/memory/slot_bytes", "/memory/payload_bytes_max"), ("/memory/tier_bytes", "/memory/slot_bytes")]
    {
        match (number(held), number(limit)) {
            (Some(held_bytes), Some(limit_bytes)) if held_bytes <= limit_bytes => {}
            (Some(held_bytes), Some(limit_bytes)) => {
                return no("O7", format!("{daemon}: {held} is {held_bytes}, over the budget of {limit_bytes}"));
            }
            _ => return no("O7", format!("{daemon}: STATS has no {held} and {limit}")),
        }
    }
    journal(daemon, stats)?;
    if let (Some(held), Some(limit)) = (number("/index/peer_hint_bytes"), number("/index/peer_hint_bytes_max")) {
        if held > limit {
            return no("O7", format!("{daemon}: hints of other nodes take {held} bytes, over the budget of {limit}"));
        }
    } else {
        return no("O7", format!("{daemon}: STATS says nothing of the hints of other nodes"));
    }
    let Some(namespaces) = stats.pointer(NAMESPACES).and_then(serde_json::Value::as_array) else {
        return no("O7", format!("{daemon}: STATS says nothing of namespaces"));
    };
    for account in stats.get("object").into_iter().chain(namespaces) {
        let number = |name: &str| account.get(name).and_then(serde_json::Value::as_u64);
        let (Some(held), Some(budget)) = (number("bytes"), number("bytes_max")) else {
            return no("O7", format!("{daemon}: STATS says nothing of the object tier: {account}"));
        };
        if budget > 0 && held > budget.saturating_add(slack) {
            return no("O7", format!("{daemon}: {held} bytes in the object tier, over {budget} and {slack} besides"));
        }
    }
    Ok(())
}

const NAMESPACES: &str = "/object/namespaces";

/// Judges a STATS document as a tenant reads it: what others keep is not in it.
pub fn check_hidden(daemon: &str, stats: &serde_json::Value) -> Verdict {
    match stats.pointer(NAMESPACES) {
        Some(_) => no("O5", format!("{daemon} tells a tenant what each namespace keeps")),
        None => Ok(()),
    }
}

/// Judges the device files of a disk cache that may take `budget` bytes.
pub fn disk(daemon: &str, dir: &Path, budget: u64) -> Verdict {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let held: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    if held > budget {
        return no("O7", format!("{daemon}: the disk cache takes {held} bytes, over its {budget}"));
    }
    Ok(())
}

/// What makes the journal smaller in the end is taken however full it is: a record that says that an upload is done, or a
/// delete, for each put that was let in, and the beginning of each segment. They take less than this share of the limit.
const SETTLING_SHARE: u64 = 8;

/// A node without a journal has none to judge.
fn journal(daemon: &str, stats: &serde_json::Value) -> Verdict {
    let Some(journal) = stats.get("journal").filter(|journal| !journal.is_null()) else { return Ok(()) };
    let number = |name: &str| journal.get(name).and_then(serde_json::Value::as_u64);
    let (Some(disk), Some(backlog), Some(limit)) =
        (number("disk_bytes"), number("backlog_bytes"), number("disk_bytes_max"))
    else {
        return no("O7", format!("{daemon}: STATS says nothing of the journal's bytes: {journal}"));
    };
    if disk > limit.saturating_add(limit / SETTLING_SHARE) {
        return no("O7", format!("{daemon}: {disk} bytes in the journal, over {limit} and an eighth of it"));
    }
    if backlog > disk {
        return no("O7", format!("{daemon}: {backlog} bytes of the backlog, in a journal of {disk}"));
    }
    Ok(())
}
