//! `bettong sessions`: who is attached to the shared-memory door.

use crate::cli::Global;
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::Remote;
use crate::render::table::Table;
use crate::render::{self, units};
use serde_json::Value;

pub async fn run(global: &Global) -> Outcome {
    let stats = Remote::open(&global.access()?, None).await?.stats().await?;
    let door = stats.get("shared_memory").ok_or_else(|| {
        Failure::new(Exit::Refused, "who is attached is told to operators only: this tenant has no admin right")
    })?;
    match global.json {
        true => render::line(&door.to_string()),
        false => render::line(&shown(door)),
    }
}

/// The socket that the daemon behind `stats` listens on; `None` where it has no such door, or does not say.
pub fn socket(stats: &Value) -> Option<&str> {
    stats.pointer("/shared_memory/socket").and_then(Value::as_str)
}

fn shown(door: &Value) -> String {
    let Some(socket) = door.get("socket").and_then(Value::as_str) else {
        return "this daemon has no shared-memory door\n".to_owned();
    };
    let sessions = door.get("sessions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if sessions.is_empty() {
        return format!("shm://{socket}: nobody is attached\n");
    }
    let mut table = Table::new(&[
        "session",
        "name",
        "process",
        "user",
        "leased",
        "may lease",
        "staging",
        "under way",
        "queued",
        "requests",
        "state",
    ]);
    for session in sessions {
        let number = |name: &str| session.get(name).and_then(Value::as_u64).unwrap_or(0);
        let text = |name: &str| session.get(name).and_then(Value::as_str).unwrap_or_default();
        let state = match text("ended") {
            "" => "served".to_owned(),
            why => format!("over: {}", printable(why)),
        };
        table.row(&[
            number("session").to_string(),
            printable(text("name")),
            number("pid").to_string(),
            number("uid").to_string(),
            units::bytes(number("leased_bytes")),
            units::bytes(number("lease_bytes_max")),
            units::bytes(number("staging_bytes")),
            number("unanswered").to_string(),
            units::bytes(number("queued_bytes")),
            units::count(number("requests")),
            state,
        ]);
    }
    format!("shm://{socket}\n{table}")
}

/// A text that a client chose, for a terminal: what would be obeyed there, or hide what is beside it, is spelled out. So is the
/// sign that spells it.
fn printable(text: &str) -> String {
    let spelled = |c: char| match c {
        '\'' | '"' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(spelled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_session_has_its_row() {
        assert!(shown(&json!({ "socket": null, "sessions": [] })).contains("no shared-memory door"));
        assert!(shown(&json!({ "socket": "/a", "sessions": [] })).contains("shm:///a: nobody"));
        let session = |ended| {
            json!({
                "session": 7, "name": "vllm", "pid": 12, "uid": 3, "leased_bytes": 4096, "lease_bytes_max": 8192,
                "staging_bytes": 1024, "unanswered": 2, "queued_bytes": 0, "requests": 1500, "ended": ended,
            })
        };
        let door = json!({ "socket": "/a", "sessions": [session(json!(null)), session(json!("it lied"))] });
        let text = shown(&door);
        assert!(text.contains("vllm") && text.contains("served") && text.contains("over: it lied"), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        let session = json!({ "session": 1, "name": "a\u{1b}]0;b\u{7}\u{202e}c\r\nd\u{9b}e\\", "ended": "\u{1b}[2J" });
        let text = shown(&json!({ "socket": "/a", "sessions": [session] }));
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.contains(r"a\u{1b}]0;b\u{7}\u{202e}c\r\nd\u{9b}e\\") && text.contains(r"over: \u{1b}[2J"),
            "{text}"
        );
        assert_eq!(printable("vllm 'größer' \"漢字\""), "vllm 'größer' \"漢字\"");
    }
}
