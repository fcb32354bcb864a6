//! Measuring a running daemon, beside a running redis or a plain disk where asked.

pub mod backlog;
pub mod beside;
pub mod blocks;
pub mod disk;
pub mod load;
pub mod process_cpu;
pub mod report;
pub mod resp;

use crate::cli::{BenchOp, PutLevel};
use crate::exit::Outcome;
use crate::remote::Access;
use crate::render::latency::Latency;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Debug)]
pub enum Target {
    Bettong(Access),
    Redis {
        address: String,
    },
    /// Files of this folder, written and synced, file and folder, with one BLAKE3 pass over their bytes.
    Disk {
        dir: PathBuf,
    },
}

impl Target {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bettong(_) => "bettong",
            Self::Redis { .. } => "redis",
            Self::Disk { .. } => "disk + blake3",
        }
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub op: BenchOp,
    /// Bytes of one value or block.
    pub size: usize,
    /// Blocks of one request, where it is about several.
    pub batch: usize,
    pub concurrency: u32,
    pub duration: Duration,
    pub level: PutLevel,
}

impl Plan {
    /// What one request does several of, and how many; `None` where it is about one value.
    pub fn items(&self) -> Option<(&'static str, usize)> {
        match self.op {
            BenchOp::Put | BenchOp::Get | BenchOp::Exists => None,
            BenchOp::Lookup => Some(("hashes", self.batch)),
            BenchOp::PutBatch | BenchOp::GetBatch => Some(("blocks", self.batch)),
        }
    }

    /// Payload bytes that one request moves.
    pub fn request_bytes(&self) -> usize {
        match self.op {
            BenchOp::Exists | BenchOp::Lookup => 0,
            BenchOp::Put | BenchOp::Get => self.size,
            BenchOp::PutBatch | BenchOp::GetBatch => self.size.saturating_mul(self.batch),
        }
    }
}

/// Repeats `step` until the time is over and answers how long each took.
async fn repeat(until: Instant, mut step: impl AsyncFnMut() -> Outcome) -> Outcome<Latency> {
    let mut latency = Latency::default();
    let mut begin = Instant::now();
    while begin < until {
        step().await?;
        let end = Instant::now();
        latency.record(end.saturating_duration_since(begin));
        begin = end;
    }
    Ok(latency)
}
