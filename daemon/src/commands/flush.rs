//! `bettong flush`: waits until what a daemon's journal acknowledged is in the object store.

use crate::cli::{FlushArgs, Global};
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::Remote;
use crate::render::progress::Progress;
use crate::render::{self, units};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The daemon is asked so often: soon at first, because a backlog is mostly short.
const ASK_MIN: Duration = Duration::from_millis(10);
const ASK_MAX: Duration = Duration::from_millis(250);

/// What a daemon's counters say of its journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Backlog {
    puts: u64,
    bytes: u64,
    /// Sequence number of the oldest put that is not uploaded.
    oldest: Option<u64>,
    synced_through: u64,
}

impl Backlog {
    /// `None` where the daemon has no journal.
    fn of(stats: &Value) -> Option<Self> {
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
    fn is_behind(&self, through: u64) -> bool {
        self.oldest.is_none_or(|oldest| oldest > through)
    }
}

/// Puts that are acknowledged after this has begun are not waited for.
pub async fn run(args: &FlushArgs, global: &Global) -> Outcome {
    let remote = Remote::open(&global.access()?, None).await?;
    let began = Instant::now();
    let Some(first) = Backlog::of(&remote.stats().await?) else {
        return said(global.json, true, Backlog::default(), began.elapsed(), "this daemon has no journal");
    };
    let mut progress = Progress::new("flush, puts uploaded", first.puts);
    let (mut now, mut pause, mut done) = (first, ASK_MIN, 0);
    while !now.is_behind(first.synced_through) && began.elapsed() < args.timeout.duration() {
        tokio::time::sleep(pause.min(args.timeout.duration().saturating_sub(began.elapsed()))).await;
        pause = (pause * 2).min(ASK_MAX);
        now = Backlog::of(&remote.stats().await?).unwrap_or_default();
        let uploaded = first.puts.saturating_sub(now.puts).max(done);
        progress.advance(uploaded - std::mem::replace(&mut done, uploaded));
    }
    drop(progress);
    let finished = now.is_behind(first.synced_through);
    said(global.json, finished, now, began.elapsed(), "all that was acknowledged is in the object store")?;
    if finished {
        return Ok(());
    }
    let (puts, bytes) = (units::count(now.puts), units::bytes(now.bytes));
    Err(Failure::new(Exit::Undrained, format!("not flushed within {}: {puts} puts ({bytes}) are left", args.timeout)))
}

fn said(as_json: bool, finished: bool, left: Backlog, took: Duration, done: &str) -> Outcome {
    if as_json {
        let document = json!({
            "finished": finished, "left_puts": left.puts, "left_bytes": left.bytes, "seconds": took.as_secs_f64(),
        });
        return render::line(&document.to_string());
    }
    if finished { render::line(&format!("{done} ({})", units::duration(took))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_before_is_waited_for() {
        let stats = |oldest: Value| json!({ "journal": { "backlog_puts": 1, "backlog_bytes": 9, "oldest_pending": oldest, "synced_through": 7 } });
        let of = |oldest| Backlog::of(&stats(oldest)).unwrap();
        assert!(!of(json!(7)).is_behind(7) && of(json!(8)).is_behind(7) && of(Value::Null).is_behind(7));
        assert_eq!(Backlog::of(&json!({ "journal": null })), None);
        assert_eq!(Backlog::of(&json!({})), None);
    }
}
