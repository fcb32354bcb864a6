//! Arguments of the commands that measure and show.

use super::PutLevel;
use crate::config::scalar::{Bytes, Millis};
use crate::price::Prices;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const BENCH_EXAMPLES: &str = "\
Examples:
  bettong bench --op get --size 1MiB --compare redis://127.0.0.1:6379
  bettong bench --op put --size 1MiB --concurrency 16 --compare disk:/var/tmp
  bettong bench --op get --size 1MiB --transport shm --level memory   hits read in place, without a copy
  bettong bench --op lookup --batch 4096 --level memory   hashes a second, in chains of 4,096 blocks
  bettong bench --op get-batch --batch 32 --size 64KiB    32 blocks a request, every byte compared
  bettong bench --op get --level memory --beside uploads  hits in memory while the journal is uploaded
  bettong bench --op put-batch --json | jq .targets

lookup, put-batch and get-batch work on blocks of the identity that `replay` uses; where --namespace holds another
model, name one of its own. What a bench stores it removes at its end.
";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  bettong replay --trace conversation_trace.jsonl --concurrency 8
  bettong replay --trace conversation_trace.jsonl --policy-report     hit rates by policy and capacity; no daemon
  bettong replay --speed 60 --price                                   dollars an hour of the trace, and idle
";

pub(super) const DEMO_EXAMPLES: &str = "\
Examples:
  bettong demo                                      a small generated trace, in a temporary folder, in seconds
  bettong demo --trace conversation_trace.jsonl     a production trace, in minutes
  bettong demo --level journal --dir ./demo         acknowledged by the journal; the folder is kept
";

pub(super) const CRASH_TEST_EXAMPLES: &str = "\
Examples:
  bettong crash-test --rounds 300
  bettong crash-test --level journal --set pack_below=64KiB --set disk_bytes=64MiB
  bettong crash-test --seed 42 --dir ./crash        the same moments and operations again; the folder is kept
";

#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(long, value_enum, default_value_t)]
    pub op: BenchOp,
    /// Bytes of one value or block.
    #[arg(long, default_value = "4KiB", value_name = "BYTES")]
    pub size: Bytes,
    /// Blocks of one put-batch or get-batch; hashes of one lookup, all of blocks that are there.
    #[arg(long, default_value_t = 16, value_name = "BLOCKS")]
    pub batch: usize,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 8)]
    pub concurrency: u32,
    /// Length of one run.
    #[arg(long, default_value = "2s", value_name = "DURATION")]
    pub duration: Millis,
    /// Interleaved runs; the median counts.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Level of the puts.
    #[arg(long, value_enum, default_value_t)]
    pub level: PutLevel,
    /// How the daemon is reached: as --connect says, or over shared memory, at the socket that the daemon behind --connect
    /// names.
    #[arg(long, value_enum, default_value_t)]
    pub transport: Transport,
    /// Measure beside it: redis://HOST:PORT, or disk:DIR (write and sync the same bytes, and one BLAKE3 pass).
    #[arg(long, value_name = "WHAT")]
    pub compare: Option<String>,
    /// Measure with and without such work beside it, in turn.
    #[arg(long, value_enum, value_name = "WORK", conflicts_with = "compare")]
    pub beside: Option<Beside>,
    /// Process id of the daemon, where it is not found by its port.
    #[arg(long)]
    pub pid: Option<u32>,
}

/// A way to a daemon.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// As --connect says.
    #[default]
    Connect,
    /// Shared memory: the client has to run on the daemon's host, as its user.
    Shm,
}

/// Work of a daemon that is not what is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Uploads of 64 KiB each, from a backlog of the journal that outlasts the measurement.
    Uploads,
    /// Puts of 64 KiB at level `journal` on four connections, and their uploads. The process that puts runs at nice 10, as
    /// if on another machine: it gives way to the daemon and to the measurement.
    Puts,
    /// `bettong scrub`, one after the other: fill the object store first.
    Scrub,
}

impl Beside {
    /// As the report has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uploads => "beside uploads",
            Self::Puts => "beside puts",
            Self::Scrub => "beside a scrub",
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BenchOp {
    Put,
    #[default]
    Get,
    Exists,
    /// Look up how much of a chain is there.
    Lookup,
    /// Put a batch of blocks in one request: all or none.
    PutBatch,
    /// Get a batch of blocks in one request and compare every byte.
    GetBatch,
}

impl BenchOp {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Exists => "exists",
            Self::Lookup => "lookup",
            Self::PutBatch => "put-batch",
            Self::GetBatch => "get-batch",
        }
    }
}

#[derive(Args, Debug, Clone)]
pub struct ReplayArgs {
    /// The trace, in Mooncake's format; without it a small generated one.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Bytes of one block.
    #[arg(long, default_value = "16KiB", value_name = "BYTES")]
    pub block_bytes: Bytes,
    /// Blocks that are kept; beyond it the least recently used are deleted. Without it everything is kept.
    #[arg(long, value_name = "BLOCKS")]
    pub capacity: Option<u64>,
    /// Requests under way at a time.
    #[arg(long, default_value_t = 1)]
    pub concurrency: u32,
    /// Trace seconds in one second; without it as fast as it goes.
    #[arg(long, value_name = "FACTOR")]
    pub speed: Option<f64>,
    /// Level of the puts.
    #[arg(long, value_enum, default_value_t)]
    pub level: PutLevel,
    /// Only the first requests of the trace.
    #[arg(long, value_name = "REQUESTS")]
    pub limit: Option<usize>,
    /// No daemon: print what different orders of eviction would make of the trace, and of workloads of other kinds.
    #[arg(long, conflicts_with_all = ["capacity", "speed", "price"])]
    pub policy_report: bool,
    /// Say what the requests to the object store cost: by the hour of the trace with --speed, else by the clock; and idle.
    #[arg(long)]
    pub price: bool,
    /// With --price: how long an idle daemon is watched.
    #[arg(long, default_value = "20s", value_name = "DURATION")]
    pub idle: Millis,
    #[command(flatten)]
    pub prices: Prices,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// A trace in Mooncake's format; without it a small generated one.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Bytes of one block.
    #[arg(long, default_value = "16KiB", value_name = "BYTES")]
    pub block_bytes: Bytes,
    /// Level of the puts.
    #[arg(long, value_enum, default_value_t)]
    pub level: PutLevel,
    /// Work here and keep it; without it a temporary folder.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CrashTestArgs {
    /// Lives of the daemon that end with SIGKILL under load or while it drains; some starts are killed besides.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Decides the moments of the kills, the operations and the sizes; a fresh one otherwise.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Level of the puts; given several times, each put draws one.
    #[arg(long, value_enum, default_values_t = [PutLevel::Object, PutLevel::Journal])]
    pub level: Vec<PutLevel>,
    /// Work here and keep it; without it a temporary folder, kept where a promise was broken.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A configuration value of the daemon, by its name in `bettong config`; can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}
