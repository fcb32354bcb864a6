//! What people read: tables, units, progress.

pub mod latency;
pub mod progress;
pub mod table;
pub mod units;

use crate::exit::{Exit, Outcome};
use std::io::{BufWriter, ErrorKind, Stdout, Write};

/// Writes text and a newline to standard output. A reader that has gone away ends the command without noise.
pub fn line(text: &str) -> Outcome {
    written(writeln!(std::io::stdout().lock(), "{}", text.trim_end()))
}

/// Many lines for standard output, written in larger pieces.
#[derive(Debug)]
pub struct Lines {
    out: BufWriter<Stdout>,
    failed: Outcome,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    pub fn new() -> Self {
        Self { out: BufWriter::new(std::io::stdout()), failed: Ok(()) }
    }

    /// Writes a line, unless one before could not be written.
    pub fn add(&mut self, line: &str) {
        if self.failed.is_ok() {
            self.failed = written(writeln!(self.out, "{line}"));
        }
    }

    /// Writes what is left; says whether all could be written.
    pub fn end(mut self) -> Outcome {
        self.failed.and_then(|()| written(self.out.flush()))
    }
}

fn written(result: std::io::Result<()>) -> Outcome {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(Exit::Ok as i32),
        Err(error) => Err(crate::exit::Failure::new(Exit::Failed, format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}
