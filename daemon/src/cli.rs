//! The command line.

use crate::config::scalar::{Bytes, Millis};
use crate::exit::{Exit, Failure, Outcome};
use crate::remote::{Access, token_from};
use bettong_wire::request::Level;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  bettong serve                                   blocks under ./bettong-data, on 127.0.0.1:7450
  bettong serve --store s3://bucket/prefix        durable and shared with other nodes of the prefix
  bettong put greeting hello.txt                  store a file under a key
  echo hello | bettong put greeting -             the same from standard input
  bettong get greeting > copy.txt                 write the value to standard output
  bettong stats --json                            the daemon's counters
  bettong config                                  every value, its origin and its meaning
";

const BENCH_EXAMPLES: &str = "\
Examples:
  bettong bench --op get --size 1MiB --compare redis://127.0.0.1:6379
  bettong bench --op put --size 1MiB --concurrency 16 --compare disk:/var/tmp
  bettong bench --op lookup --batch 4096 --level memory   hashes a second, in chains of 4,096 blocks
  bettong bench --op get-batch --batch 32 --size 64KiB    32 blocks a request, every byte compared
  bettong bench --op put-batch --json | jq .targets

lookup, put-batch and get-batch work on blocks of the identity that `replay` uses; where --namespace holds another
model, name one of its own. What a bench stores it removes at its end.
";

/// A KV-cache block store for LLM inference whose hits can be trusted.
#[derive(Parser, Debug)]
#[command(name = "bettong", version, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line. Help and version are printed and end the process; what is wrong is one line.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Outcome<Self> {
        Self::try_parse_from(arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Failure::new(Exit::Usage, said(&error.to_string())),
        })
    }
}

/// What clap says without its usage: the reason, and what it takes the user to have meant.
fn said(text: &str) -> String {
    let reason = text.split("\n\nUsage:").next().and_then(|text| text.split("\n\nFor more information").next());
    let reason = reason.unwrap_or(text).trim();
    format!("{}; --help shows what there is", reason.strip_prefix("error: ").unwrap_or(reason))
}

/// Flags of every command that talks to a daemon.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// The daemon to talk to.
    #[arg(long, global = true, default_value = "tcp://127.0.0.1:7450", value_name = "tcp://HOST:PORT")]
    pub connect: String,
    /// The namespace to work in.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// The tenant to come as.
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub tenant: String,
    /// A file whose first line is the tenant's bearer token.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_from: Option<PathBuf>,
    /// Machine-readable output.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// Which daemon, as whom, and which namespace.
    pub fn access(&self) -> Outcome<Access> {
        let token = self.token_from.as_deref().map(token_from).transpose()?.unwrap_or_default();
        Ok(Access {
            connect: self.connect.clone(),
            namespace: self.namespace.clone(),
            tenant: self.tenant.clone(),
            token,
        })
    }
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the daemon until SIGTERM or SIGINT.
    Serve(ConfigArgs),
    /// Store a file, or standard input, under a key.
    Put(PutArgs),
    /// Write a key's value to standard output.
    Get { key: String },
    /// Say whether a key is there, and its length.
    Exists { key: String },
    /// Delete a key.
    Rm { key: String },
    /// List keys, blocks or sidecars.
    Ls(LsArgs),
    /// Say how many leading blocks of a chain are there.
    Lookup(LookupArgs),
    /// Show the daemon's counters.
    Stats,
    /// Measure a running daemon, beside a running redis or a plain disk where asked.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Replay a trace of prompts against a running daemon and verify every byte.
    Replay(ReplayArgs),
    /// Show what bettong promises: real daemons, a kill, a ledger, attacks.
    Demo(DemoArgs),
    /// Kill a real daemon at random moments, and read again all that it acknowledged.
    CrashTest(CrashTestArgs),
    /// The nodes that share a store.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show every configuration value, its origin, unit and meaning.
    Config(ConfigArgs),
}

/// What decides the configuration: defaults < file < environment (BETTONG_*) < flags.
#[derive(Args, Debug, Clone, Default)]
pub struct ConfigArgs {
    /// A TOML file of `name = value` lines.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps its identity, its cache and, by default, its objects.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// file:///path, s3://bucket/prefix or memory:
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// TCP address; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// This node's name under the store's prefix.
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Allow a non-loopback listen address without TLS and authentication.
    #[arg(long)]
    pub insecure: bool,
    /// Any other value, by its name in `bettong config`; can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args, Debug)]
pub struct PutArgs {
    pub key: String,
    /// The file to store; `-` reads standard input.
    pub file: PathBuf,
    /// When the put is acknowledged.
    #[arg(long, value_enum, default_value_t)]
    pub level: PutLevel,
    /// The value expires after this, e.g. 90s or 1h.
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<Millis>,
}

/// When a put is acknowledged.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PutLevel {
    /// The bytes are in the memory tier.
    Memory,
    /// The object store confirmed the bytes and the index entry is durable.
    #[default]
    Object,
}

impl From<PutLevel> for Level {
    fn from(level: PutLevel) -> Self {
        match level {
            PutLevel::Memory => Self::Memory,
            PutLevel::Object => Self::Object,
        }
    }
}

#[derive(Args, Debug)]
pub struct LsArgs {
    /// Only plain keys that start with this.
    #[arg(default_value = "")]
    pub prefix: String,
    /// What to list.
    #[arg(long, value_enum, default_value_t)]
    pub kind: LsKind,
    /// A JSON file with the model identity; blocks and sidecars need it.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// What `ls` walks over.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LsKind {
    #[default]
    Keys,
    Blocks,
    Sidecars,
}

#[derive(Args, Debug)]
pub struct LookupArgs {
    /// The chain's block hashes in order, 64 hexadecimal digits each.
    #[arg(required = true)]
    pub hashes: Vec<String>,
    /// A JSON file with the model identity.
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
}

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
    /// Measure beside it: redis://HOST:PORT, or disk:DIR (write and sync the same bytes, and one BLAKE3 pass).
    #[arg(long, value_name = "WHAT")]
    pub compare: Option<String>,
    /// Process id of the daemon, where it is not found by its port.
    #[arg(long)]
    pub pid: Option<u32>,
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
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// A trace in Mooncake's format; without it a small generated one.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Bytes of one block.
    #[arg(long, default_value = "16KiB", value_name = "BYTES")]
    pub block_bytes: Bytes,
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
    #[arg(long, value_enum, default_values_t = [PutLevel::default()])]
    pub level: Vec<PutLevel>,
    /// Work here and keep it; without it a temporary folder, kept where a promise was broken.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A configuration value of the daemon, by its name in `bettong config`; can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// List the nodes of the store's prefix, with their lives.
    Ls(ConfigArgs),
}

fn long_help() -> String {
    let codes = crate::exit::Exit::ALL.map(|(exit, meaning)| format!("  {:>3}  {meaning}\n", exit as u8)).concat();
    format!("{EXAMPLES}\nExit codes:\n{codes}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
