//! The `bettong` binary.
#![forbid(unsafe_code)]

use bettong::cli::Cli;
use bettong::exit::Exit;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::read(std::env::args_os()).and_then(|cli| bettong::run(&cli)) {
        Ok(()) => ExitCode::from(Exit::Ok as u8),
        Err(failure) => {
            // Standard error may be a file on a full disk: the exit code must say the same all the same.
            let _ = writeln!(std::io::stderr(), "bettong: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
