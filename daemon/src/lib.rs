//! The daemon and its command line: process, configuration, front doors, and everything people read.
//!
//! The binary is a few lines over this library, so that tests reach what it is made of.
#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod objects;
pub mod process;
pub mod render;
pub mod trace;

use cli::{Cli, Command};
use exit::Outcome;

/// Runs one command to its end.
pub fn run(cli: Cli) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Config(args) => commands::config::run(args, global.json),
    }
}
