//! Measuring a running daemon, beside a running redis or a plain disk where asked.

pub mod disk;
pub mod load;
pub mod process_cpu;
pub mod report;
pub mod resp;

use crate::cli::{BenchOp, PutLevel};
use crate::remote::Access;
use std::path::PathBuf;
use std::time::Duration;

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
    pub size: usize,
    pub concurrency: u32,
    pub duration: Duration,
    pub level: PutLevel,
}
