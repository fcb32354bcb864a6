//! `bettong flush`: waits until what a daemon's journal acknowledged is in the object store.

use crate::backlog::Backlog;
use crate::cli::{FlushArgs, Global};
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::Remote;
use crate::render::progress::Progress;
use crate::render::{self, units};
use serde_json::json;
use std::time::{Duration, Instant};

/// The daemon is asked so often: soon at first, because a backlog is mostly short.
const ASK_MIN: Duration = Duration::from_millis(10);
const ASK_MAX: Duration = Duration::from_millis(250);

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
