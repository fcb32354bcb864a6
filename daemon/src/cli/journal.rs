//! Arguments of the commands about the journal.

use super::ConfigArgs;
use crate::config::scalar::Millis;
use clap::{Args, Subcommand};

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
    Check(ConfigArgs),
    /// Print every record. Writes nothing, also beside a running daemon.
    Dump(ConfigArgs),
    /// Keep what verifies, put the damaged segments into quarantine, and say what is lost. No daemon may run.
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
