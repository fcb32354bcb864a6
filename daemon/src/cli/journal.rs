//! Arguments of the commands about the journal.

use super::ConfigArgs;
use crate::config::scalar::Millis;
use clap::{Args, Subcommand};

pub(super) const FLUSH_EXAMPLES: &str = "\
Examples:
  bettong flush                                       ends with 15 where something is left after 60 s
  bettong flush --timeout 10min --json
";

const CHECK_EXAMPLES: &str = "\
Examples:
  bettong journal check --data-dir DIR
  bettong journal check --data-dir DIR --json | jq .problems
";

const SALVAGE_EXAMPLES: &str = "\
Examples:
  bettong journal check --data-dir DIR                what would be lost, first
  bettong journal salvage --data-dir DIR
";

#[derive(Args, Debug)]
pub struct FlushArgs {
    /// Longest wait; what is left then is said, and stays in the journal.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    pub timeout: Millis,
}

/// Reads and repairs the journal of a data directory; no daemon is asked.
#[derive(Subcommand, Debug)]
pub enum JournalCommand {
    /// Read all of it and say what is in it and what is wrong. Writes nothing, also beside a running daemon.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(ConfigArgs),
    /// Print every record. Writes nothing, also beside a running daemon.
    Dump(ConfigArgs),
    /// Keep what verifies, put the damaged segments into quarantine, and say what is lost. No daemon may run.
    #[command(after_help = SALVAGE_EXAMPLES)]
    Salvage(SalvageArgs),
}

#[derive(Args, Debug)]
pub struct SalvageArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Also where nothing in the directory itself is wrong: a start says that the index knows of more than it holds.
    #[arg(long)]
    pub anyway: bool,
}
