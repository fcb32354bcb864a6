//! The command line of `cargo sim`.

mod check;
mod plans;
mod planted;
mod pool;
mod replay;
mod sweep;
mod table;
mod worker;

use crate::run::{Report, Verdict};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Deterministic simulation of bettong: one seed, one run, the same run for ever.
#[derive(Parser)]
#[command(name = "cargo sim", bin_name = "cargo sim", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo sim run --seed 42 --plan kill-before-sidecar
  cargo sim sweep --seeds 1000 --jobs 2
  cargo sim sweep --plan swarm --time 10m --json
  cargo sim check-determinism --seeds 50
  cargo sim replay seeds/some-bug.toml
  cargo sim planted
  cargo sim planted --only envelope-check-skipped --seeds 50

Exit codes: 0 green, 2 wrong usage, plan or patch, 10 crash, 11 safety, 12 liveness, 13 nondeterminism, 14 coverage,
15 a planted bug that is not found or no longer applies.";

#[derive(Subcommand)]
enum Command {
    /// Runs one seed and prints its verdict and trace hash.
    Run {
        #[arg(long)]
        seed: u64,
        /// A name in fault_plans/, or a file.
        #[arg(long, default_value = "swarm")]
        plan: String,
        /// Prints every event of the trace.
        #[arg(long)]
        trace: bool,
        /// Writes what the store logs, from this level on, to standard error.
        #[arg(long)]
        log: Option<tracing::Level>,
        /// Orders one batch by process id, to see `check-determinism` find it.
        #[arg(long, hide = true)]
        planted_nondeterminism: bool,
    },
    /// Runs many seeds over the plans, in worker processes.
    Sweep {
        /// Runs in all, spread evenly over the plans.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Only these plans; all of fault_plans/ otherwise.
        #[arg(long)]
        plan: Vec<String>,
        /// Worker processes; as many as there are cores otherwise.
        #[arg(long)]
        jobs: Option<usize>,
        /// Starts no further run after this long, such as 90s or 10m.
        #[arg(long, value_parser = time)]
        time: Option<Duration>,
        /// Text from which the seeds are derived, such as a commit; fresh ones otherwise.
        #[arg(long)]
        base: Option<String>,
        /// One JSON document instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Runs each seed in two fresh processes and compares their traces.
    CheckDeterminism {
        /// Seeds in all, each over another plan.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// Only these plans; all of fault_plans/ otherwise.
        #[arg(long)]
        plan: Vec<String>,
        /// Text from which the seeds are derived, such as a commit; fresh ones otherwise.
        #[arg(long)]
        base: Option<String>,
        #[arg(long, hide = true)]
        planted_nondeterminism: bool,
    },
    /// Runs what the files in seeds/ say, each in a fresh process.
    Replay {
        /// TOML files, each with its seed and its plan.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Checks the checker: each deliberate bug of sim/planted/ must be found by the oracle that it names.
    Planted {
        /// Only this bug; can be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// The controls, and so many of the bugs, chosen by the base.
        #[arg(long, value_name = "BUGS", conflicts_with = "only")]
        some: Option<usize>,
        /// Seeds for each bug, in place of the budget that its patch names.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: Option<u64>,
        /// Worker processes; as many as there are cores otherwise.
        #[arg(long)]
        jobs: Option<usize>,
        /// Text from which the seeds are derived, such as a commit; fresh ones otherwise.
        #[arg(long)]
        base: Option<String>,
        /// One JSON document instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Serves runs to a sweep: reads seed and plan from standard input, writes reports to standard output.
    #[command(hide = true)]
    Worker,
}

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("`{text}` needs one of the units s, m, h")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` needs a whole number"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Green = 0,
    Usage = 2,
    Crash = 10,
    Safety = 11,
    Liveness = 12,
    Nondeterminism = 13,
    Coverage = 14,
    Planted = 15,
}

impl From<&Verdict> for End {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Green => Self::Green,
            Verdict::Safety { .. } => Self::Safety,
            Verdict::Liveness { .. } => Self::Liveness,
            Verdict::Crash { .. } => Self::Crash,
        }
    }
}

impl End {
    /// The end of several runs: wrong answers before crashes before hangs.
    fn of(reports: &[Report]) -> Self {
        [Self::Safety, Self::Crash, Self::Liveness]
            .into_iter()
            .find(|end| reports.iter().any(|report| End::from(&report.verdict) == *end))
            .unwrap_or(Self::Green)
    }
}

/// A line that can be pasted to see the run again.
fn replay_line(report: &Report) -> String {
    again(report.seed, &report.called)
}

fn again(seed: u64, plan: &str) -> String {
    format!("cargo sim run --seed {seed} --plan {}", quoted(plan))
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

pub fn main() -> ExitCode {
    let end = match Arguments::parse().command {
        Command::Run { seed, plan, trace, log, planted_nondeterminism } => {
            if let Some(level) = log {
                tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).without_time().init();
            }
            run(seed, &plan, trace, planted_nondeterminism)
        }
        Command::Sweep { seeds, plan, jobs, time, base, json } => sweep::run(seeds, &plan, jobs, time, base, json),
        Command::CheckDeterminism { seeds, plan, base, planted_nondeterminism } => {
            check::run(seeds, &plan, base, planted_nondeterminism)
        }
        Command::Planted { only, some, seeds, jobs, base, json } => {
            planted::run(planted::Options { only, some, seeds, jobs, base, json })
        }
        Command::Replay { files } => replay::run(&files),
        Command::Worker => worker::serve(),
    };
    match end {
        Ok(end) => ExitCode::from(end as u8),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(End::Usage as u8)
        }
    }
}

fn run(seed: u64, plan: &str, trace: bool, planted_nondeterminism: bool) -> anyhow::Result<End> {
    let plan = plans::find(plan)?;
    let options = crate::run::Options { keep_trace: trace, planted_nondeterminism };
    let (report, lines) = crate::run::execute(seed, &plan, options);
    for line in lines {
        println!("{line}");
    }
    println!("{}", table::one(&report));
    Ok(End::from(&report.verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_repeated_by_the_plan_that_it_was_called_with() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("it's mine.toml");
        std::fs::write(&file, "[plan]\nname = \"calm\"\nworkload = \"engines\"\n").unwrap();
        let called = file.display().to_string();
        let plan = plans::find(&called).unwrap();
        assert_eq!((plan.name.as_str(), plan.called.as_str()), ("calm", called.as_str()));
        let report = Report::crashed(7, &plan.called, "a test".to_owned());
        let words = format!("set -- {}; printf '%s\\n' \"$@\"", replay_line(&report));
        let shell = std::process::Command::new("sh").args(["-c", &words]).output().unwrap();
        let said = String::from_utf8(shell.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), ["cargo", "sim", "run", "--seed", "7", "--plan", called.as_str()]);

        let report = Report::crashed(7, &plans::find("swarm").unwrap().called, "a test".to_owned());
        assert_eq!(replay_line(&report), "cargo sim run --seed 7 --plan swarm");
        // A run says it of itself.
        let (report, _) = crate::run::execute(7, &plan, crate::run::Options::default());
        assert_eq!((report.plan.as_str(), report.called.as_str()), ("calm", called.as_str()));
    }
}
