//! The `bettong` binary.
#![forbid(unsafe_code)]

use bettong::cli::Cli;
use bettong::exit::Exit;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match bettong::run(&Cli::parse()) {
        Ok(()) => ExitCode::from(Exit::Ok as u8),
        Err(failure) => {
            eprintln!("bettong: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
