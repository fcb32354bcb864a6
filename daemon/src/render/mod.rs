//! What people read: tables, units, progress.

pub mod latency;
pub mod progress;
pub mod table;
pub mod units;

use crate::exit::{Exit, Outcome};
use std::io::{ErrorKind, Write};

/// Writes text and a newline to standard output. A reader that has gone away ends the command without noise.
pub fn line(text: &str) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(Exit::Ok as i32),
        Err(error) => Err(crate::exit::Failure::new(Exit::Failed, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
