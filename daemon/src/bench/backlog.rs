//! A backlog of the daemon's journal: what is uploaded while something else is measured.

use super::load::Load;
use super::{Plan, Target};
use crate::backlog;
use crate::cli::{BenchOp, PutLevel};
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::{Access, Remote};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Uploads are thought to be slower than this. Bytes a second.
const UPLOADED_PER_SECOND_MAX: u64 = 256 << 20;
/// Filling takes so long in all, and is looked at so often.
const FILL_MAX: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(200);
/// How long a backlog may take to be uploaded once the measurement is over.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Puts that are acknowledged and not uploaded.
pub struct Backlog {
    remote: Remote,
    load: Load,
}

impl Backlog {
    /// Puts until the daemon has work for `lasting`.
    pub async fn fill(access: &Access, lasting: Duration) -> Outcome<Self> {
        let plan = Plan {
            op: BenchOp::PutBatch,
            size: 64 << 10,
            batch: 16,
            concurrency: 8,
            duration: STEP,
            level: PutLevel::Journal,
        };
        let remote = Remote::open(access, None).await?;
        let mut load = Load::prepare(&Target::Bettong(access.clone()), plan).await?;
        let began = Instant::now();
        loop {
            let stats = remote.stats().await?;
            let limit = stats.pointer("/journal/disk_bytes_max").and_then(Value::as_u64).unwrap_or_default();
            let wanted = (lasting.as_secs_f64() * UPLOADED_PER_SECOND_MAX as f64) as u64;
            if pending(&stats)?.bytes >= wanted.min(limit / 2) {
                return Ok(Self { remote, load });
            }
            if began.elapsed() > FILL_MAX {
                let message = "the journal is uploaded as fast as it is filled: no backlog to measure beside";
                return Err(Failure::new(Exit::Unavailable, message));
            }
            load.run(None).await?;
        }
    }

    /// Waits for the last upload, and removes what was put.
    pub async fn end(self) -> Outcome {
        let Self { remote, load } = self;
        if pending(&remote.stats().await?)?.puts == 0 {
            let message = "the backlog was uploaded before the measurement was over: give it a shorter --duration";
            return Err(Failure::new(Exit::Unavailable, message));
        }
        let began = Instant::now();
        while pending(&remote.stats().await?)?.puts > 0 && began.elapsed() < DRAIN_MAX {
            tokio::time::sleep(STEP).await;
        }
        load.clean().await
    }
}

fn pending(stats: &Value) -> Outcome<backlog::Backlog> {
    let no_journal = || Failure::new(Exit::Unavailable, "this daemon has no journal, so nothing to upload later");
    backlog::Backlog::of(stats).ok_or_else(no_journal)
}
