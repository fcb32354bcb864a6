//! O7: budgets hold at every look.

use super::{Verdict, no};

/// Judges a STATS document.
pub fn check(daemon: &str, stats: &serde_json::Value) -> Verdict {
    let number = |path: &str| stats.pointer(path).and_then(serde_json::Value::as_u64);
    for (held, limit) in
        [("/memory/payload_bytes", "/memory/payload_bytes_max"), ("/memory/tier_bytes", "/memory/payload_bytes_max")]
    {
        match (number(held), number(limit)) {
            (Some(held_bytes), Some(limit_bytes)) if held_bytes <= limit_bytes => {}
            (Some(held_bytes), Some(limit_bytes)) => {
                return no("O7", format!("{daemon}: {held} is {held_bytes}, over the budget of {limit_bytes}"));
            }
            _ => return no("O7", format!("{daemon}: STATS has no {held} and {limit}")),
        }
    }
    Ok(())
}
