//! Logs, to standard error.

use crate::exit::{Exit, OrExit, Outcome};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging by a filter such as `info` or `warn,bettong_core=debug`.
pub fn start(filter: &str) -> Outcome {
    let filter = EnvFilter::try_new(filter).or_exit(Exit::Usage, format!("log is no filter: `{filter}`"))?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Otherwise a line that cannot be written (standard error is a file on a full disk) panics whoever logs it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}
