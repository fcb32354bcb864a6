//! The daemon and its command line: process, configuration, front doors, and everything people read.
//!
//! The binary is a few lines over this library, so that tests reach what it is made of.
#![forbid(unsafe_code)]

pub mod backlog;
pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod crash;
pub mod demo;
pub mod exit;
pub mod objects;
pub mod policy_report;
pub mod price;
pub mod process;
pub mod remote;
pub mod render;
pub mod replay;
pub mod trace;

use bettong_wire::request::Task;
use cli::{Cli, Command, JournalCommand, NodeCommand};
use exit::{Exit, OrExit, Outcome};

/// Runs one command to its end.
pub fn run(cli: &Cli) -> Outcome {
    match &cli.command {
        // The daemon makes its own runtimes.
        Command::Serve(args) => commands::serve::run(args),
        Command::Config(args) => commands::config::run(args, cli.global.json),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.or_exit(Exit::Failed, "runtime")?.block_on(against_a_daemon(cli))
        }
    }
}

async fn against_a_daemon(cli: &Cli) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(_) | Command::Config(_) => Ok(()),
        Command::Put(args) => commands::keys::put(args, global).await,
        Command::Get { key } => commands::keys::get(key, global).await,
        Command::Exists { key } => commands::keys::exists(key, global).await,
        Command::Rm { key } => commands::keys::rm(key, global).await,
        Command::Ls(args) => commands::ls::run(args, global).await,
        Command::Lookup(args) => commands::keys::lookup(args, global).await,
        Command::Sessions => commands::sessions::run(global).await,
        Command::Stats(prices) => commands::stats::run(prices, global).await,
        Command::Flush(args) => commands::flush::run(args, global).await,
        Command::Journal(JournalCommand::Check(args)) => commands::journal::check(args, global.json).await,
        Command::Journal(JournalCommand::Dump(args)) => commands::journal::dump(args, global.json).await,
        Command::Journal(JournalCommand::Salvage(args)) => commands::journal::salvage(args, global.json).await,
        Command::Bench(args) => commands::bench::run(args, global).await,
        Command::Replay(args) => commands::replay::run(args, global).await,
        Command::Demo(args) => commands::demo::run(args).await,
        Command::CrashTest(args) => commands::crash_test::run(args, global.json).await,
        Command::Scrub(args) => commands::upkeep::run(Task::Scrub, "", args.dry_run, global).await,
        Command::Prefetch(args) => commands::upkeep::run(Task::Prefetch, "", args.dry_run, global).await,
        Command::Node(NodeCommand::Ls(args)) => commands::node::ls(args, global.json).await,
        Command::Node(NodeCommand::Retire(args)) => {
            commands::upkeep::run(Task::Retire, &args.id, args.dry_run, global).await
        }
    }
}
