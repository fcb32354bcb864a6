//! `bettong crash-test`: a real daemon, real files, SIGKILL at random moments, and everything acknowledged read again.

use crate::cli::{CrashTestArgs, PutLevel};
use crate::crash::rounds::{Plan, Test};
use crate::demo::child::Setup;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::render;
use std::hash::{BuildHasher, RandomState};

pub async fn run(args: &CrashTestArgs, json: bool) -> Outcome {
    if args.level.contains(&PutLevel::Memory) {
        return Err(Failure::new(Exit::Usage, "--level memory promises nothing that a kill could break"));
    }
    let temporary = tempfile::Builder::new()
        .prefix("bettong-crash-test-")
        .tempdir()
        .or_exit(Exit::DataDir, "a temporary folder")?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let dir = std::path::absolute(&dir).or_exit(Exit::Usage, dir.display())?;
    if dir.join("objects").exists() {
        let message = format!("{} holds a store already; the crash test wants a fresh folder", dir.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    // Any number will do where none is asked for; it is printed.
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()) >> 32);
    let setup = Setup {
        program: std::env::current_exe().or_exit(Exit::Failed, "this program's path")?,
        data_dir: dir.join("node"),
        store: format!("file://{}", dir.join("objects").display()),
        values: args.set.clone(),
    };
    let levels = args.level.iter().map(|level| (*level).into()).collect();
    eprintln!("crash test: {} rounds, --seed {seed}", args.rounds);
    let outcome = Test::new(Plan { setup, rounds: args.rounds, seed, levels }).run().await;
    if !outcome.as_ref().is_ok_and(|report| report.held()) && args.dir.is_none() {
        eprintln!("crash test: kept for a look: {}", temporary.keep().display());
    }
    let report = outcome?;
    render::line(&if json { report.json().to_string() } else { report.table() })?;
    match report.held() {
        true => Ok(()),
        false => Err(Failure::new(Exit::CheckFailed, "a promise did not hold; the table says which")),
    }
}
