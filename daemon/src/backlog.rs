//! What is acknowledged at level `journal` and not yet in the object store.

use serde_json::Value;

/// What a daemon's counters say of its journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Puts that are not uploaded, and their payload bytes.
    pub puts: u64,
    pub bytes: u64,
    /// Sequence number of the oldest put that is not uploaded.
    pub oldest: Option<u64>,
    /// Sequence number up to which everything is acknowledged.
    pub synced_through: u64,
}

impl Backlog {
    /// `None` where the daemon has no journal.
    pub fn of(stats: &Value) -> Option<Self> {
        let journal = stats.get("journal").filter(|journal| journal.is_object())?;
        let number = |name: &str| journal.get(name).and_then(Value::as_u64);
        Some(Self {
            puts: number("backlog_puts")?,
            bytes: number("backlog_bytes")?,
            oldest: number("oldest_pending"),
            synced_through: number("synced_through")?,
        })
    }

    /// Whether everything up to `through` is uploaded.
    pub fn is_behind(&self, through: u64) -> bool {
        self.oldest.is_none_or(|oldest| oldest > through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_acknowledged_before_is_waited_for() {
        let stats = |oldest: Value| json!({ "journal": { "backlog_puts": 1, "backlog_bytes": 9, "oldest_pending": oldest, "synced_through": 7 } });
        let of = |oldest| Backlog::of(&stats(oldest)).unwrap();
        assert!(!of(json!(7)).is_behind(7) && of(json!(8)).is_behind(7) && of(Value::Null).is_behind(7));
        assert_eq!(Backlog::of(&json!({ "journal": null })), None);
        assert_eq!(Backlog::of(&json!({})), None);
    }
}
