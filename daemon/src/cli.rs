//! The command line: what every command shares, and the list of commands. Their arguments are in the rooms below.

mod journal;
mod measure;
mod upkeep;
mod values;

pub use journal::{FlushArgs, JournalCommand, SalvageArgs};
pub use measure::{BenchArgs, BenchOp, Beside, CrashTestArgs, DemoArgs, ReplayArgs, Transport};
pub use upkeep::{RetireArgs, UpkeepArgs};
pub use values::{LookupArgs, LsArgs, LsKind, PutArgs, PutLevel};

use crate::exit::{Exit, Failure, Outcome};
use crate::price::Prices;
use crate::remote::{Access, token_from};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  bettong serve                                   blocks under ./bettong-data, on 127.0.0.1:7450
  bettong serve --store s3://bucket/prefix        durable and shared with other nodes of the prefix
  bettong put greeting hello.txt                  store a file under a key
  echo hello | bettong put greeting -             the same from standard input
  bettong get greeting > copy.txt                 write the value to standard output
  bettong put --level journal log report.txt      acknowledged once the local journal holds it
  bettong flush --timeout 30s                     wait until the journal's puts are in the object store
  bettong journal check --data-dir DIR            what a journal holds, and whether it verifies
  bettong stats --json                            the daemon's counters
  bettong config                                  every value, its origin and its meaning
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

const SERVE_EXAMPLES: &str = "\
Examples:
  bettong serve                                             blocks under ./bettong-data, on 127.0.0.1:7450
  bettong serve --data-dir /nvme/bettong --set disk_bytes=512GiB --set memory_bytes=64GiB
  bettong serve --store s3://bucket/prefix --config bettong.toml
  BETTONG_S3_REGION=eu-west-1 bettong serve --store s3://bucket/prefix
";

const CONFIG_EXAMPLES: &str = "\
Examples:
  bettong config                                            what `serve` would run with here
  bettong config --config bettong.toml --set disk_bytes=0   with a file and a flag; each value says where it is from
";

const SESSIONS_EXAMPLES: &str = "\
Examples:
  bettong sessions                                          one line an engine: what it holds and may hold
  bettong sessions --json                                   the same for programs
";

const NODE_LS_EXAMPLES: &str = "\
Examples:
  bettong node ls                                           of the store in ./bettong-data; no daemon is needed
  bettong node ls --store s3://bucket/prefix --json
";

/// Where the help of a command has the flags below.
const CLIENT: &str = "Where a running daemon is asked";

/// Flags of every command that talks to a daemon.
#[derive(Args, Debug, Clone)]
pub struct Global {
    /// The daemon to talk to: tcp://HOST:PORT, or shm:///path/to/bettong.sock on the same host.
    #[arg(long, global = true, help_heading = CLIENT, default_value = "tcp://127.0.0.1:7450", value_name = "URL")]
    pub connect: String,
    /// The namespace to work in.
    #[arg(long, global = true, help_heading = CLIENT, default_value = "default", value_name = "NAME")]
    pub namespace: String,
    /// The tenant to come as.
    #[arg(long, global = true, help_heading = CLIENT, default_value = "default", value_name = "NAME")]
    pub tenant: String,
    /// A file whose first line is the tenant's bearer token.
    #[arg(long, global = true, help_heading = CLIENT, value_name = "FILE")]
    pub token_from: Option<PathBuf>,
    /// Machine-readable output.
    #[arg(long, global = true, help_heading = CLIENT)]
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
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ConfigArgs),
    /// Store a file, or standard input, under a key.
    #[command(after_help = values::PUT_EXAMPLES)]
    Put(PutArgs),
    /// Write a key's value to standard output.
    #[command(after_help = values::GET_EXAMPLES)]
    Get {
        /// The key that it was put under.
        key: String,
    },
    /// Say whether a key is there, and its length.
    #[command(after_help = values::EXISTS_EXAMPLES)]
    Exists {
        /// The key that it was put under.
        key: String,
    },
    /// Delete a key.
    #[command(after_help = values::RM_EXAMPLES)]
    Rm {
        /// The key that it was put under.
        key: String,
    },
    /// List keys, blocks or sidecars.
    #[command(after_help = values::LS_EXAMPLES)]
    Ls(LsArgs),
    /// Say how many leading blocks of a chain are there.
    #[command(after_help = values::LOOKUP_EXAMPLES)]
    Lookup(LookupArgs),
    /// Show the daemon's counters.
    #[command(after_help = values::STATS_EXAMPLES)]
    Stats(Prices),
    /// Show who is attached to the shared-memory door: leases, quotas, staging, what is under way.
    #[command(after_help = SESSIONS_EXAMPLES)]
    Sessions,
    /// Wait until all that the journal acknowledged is in the object store.
    #[command(after_help = journal::FLUSH_EXAMPLES)]
    Flush(FlushArgs),
    /// Look at a journal, or go on without what is damaged in it.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Measure a running daemon, beside a running redis or a plain disk where asked.
    #[command(after_help = measure::BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Replay a trace of prompts against a running daemon and verify every byte.
    #[command(after_help = measure::REPLAY_EXAMPLES)]
    Replay(ReplayArgs),
    /// Show what bettong promises: real daemons, a kill, a ledger, attacks.
    #[command(after_help = measure::DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Kill a real daemon at random moments, and read again all that it acknowledged.
    #[command(after_help = measure::CRASH_TEST_EXAMPLES)]
    CrashTest(CrashTestArgs),
    /// Find this node's orphans and damaged objects, remove the ones and heal the others.
    #[command(after_help = upkeep::SCRUB_HELP)]
    Scrub(UpkeepArgs),
    /// Bring blocks that are likely to be asked for soon into the local tiers.
    #[command(after_help = upkeep::PREFETCH_HELP)]
    Prefetch(UpkeepArgs),
    /// The nodes that share a store.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show every configuration value, its origin, unit and meaning.
    #[command(after_help = CONFIG_EXAMPLES)]
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
    /// Unix socket of the shared-memory door; none means no such door.
    #[arg(long, value_name = "PATH")]
    pub shm_socket: Option<String>,
    /// This node's name under the store's prefix.
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Blocks and sidecars that take less than this in the object store share an object with others.
    #[arg(long, value_name = "BYTES")]
    pub pack_below: Option<String>,
    /// One such shared object, at most.
    #[arg(long, value_name = "BYTES")]
    pub pack_bytes: Option<String>,
    /// Payload that one prefetch brings into the local tiers, at most.
    #[arg(long, value_name = "BYTES")]
    pub prefetch_bytes: Option<String>,
    /// Blocks that one prefetch fetches, at most.
    #[arg(long, value_name = "BLOCKS")]
    pub prefetch_blocks: Option<String>,
    /// How long one prefetch works, at most.
    #[arg(long, value_name = "DURATION")]
    pub prefetch_ms: Option<String>,
    /// Allow a non-loopback listen address without TLS and authentication.
    #[arg(long)]
    pub insecure: bool,
    /// Any other value, by its name in `bettong config`; can be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub enum NodeCommand {
    /// List the nodes of the store's prefix, with their lives.
    #[command(after_help = NODE_LS_EXAMPLES)]
    Ls(Box<ConfigArgs>),
    /// Fence a dead node for ever, and let this daemon answer for what it had.
    #[command(after_help = upkeep::RETIRE_HELP)]
    Retire(RetireArgs),
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
