//! The command line.

use clap::{Args, Parser, Subcommand};
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

/// A KV-cache block store for LLM inference whose hits can be trusted.
#[derive(Parser, Debug)]
#[command(name = "bettong", version, about, after_help = EXAMPLES, after_long_help = long_help())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
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
    /// Machine-readable output.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Command {
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
