//! Runs the files of seeds/: what once found a bug must stay green.

use super::End;
use anyhow::Context;
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// One file of seeds/.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    seed: u64,
    plan: String,
}

pub fn run(files: &[std::path::PathBuf]) -> anyhow::Result<End> {
    let mut worst = End::Green;
    for file in files {
        let seed = load(file)?;
        let status = Command::new(std::env::current_exe()?)
            .args(["run", "--seed", &seed.seed.to_string(), "--plan", &seed.plan])
            .stdout(Stdio::inherit())
            .status()?;
        let end = match status.code() {
            Some(0) => End::Green,
            Some(11) => End::Safety,
            Some(12) => End::Liveness,
            Some(2) => End::Usage,
            _ => End::Crash,
        };
        println!("{}: {}", file.display(), if end == End::Green { "green" } else { "RED" });
        worst = worst.max(end);
    }
    Ok(worst)
}

fn load(file: &Path) -> anyhow::Result<Seed> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    toml::from_str(&text).with_context(|| file.display().to_string())
}
