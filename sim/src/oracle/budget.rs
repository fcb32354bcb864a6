//! O7: budgets hold at every look.

use super::{Verdict, no};

/// Judges a STATS document. Of the object tier there may be `slack` over a budget: what was put since an eviction began.
pub fn check(daemon: &str, stats: &serde_json::Value, slack: u64) -> Verdict {
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
    let own = stats.get("object").into_iter();
    let namespaces = stats.pointer("/object/namespaces").and_then(serde_json::Value::as_array).into_iter().flatten();
    for account in own.chain(namespaces) {
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
