//! Worker processes: each serves one run at a time, and is replaced when it dies, hangs or has run for long.
#![expect(clippy::disallowed_methods, reason = "outside any simulation: real time and threads")]

use crate::run::Report;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A run that takes longer than this on the wall clock hangs without awaiting.
const RUN_WALL_MAX: Duration = Duration::from_secs(180);
/// Runs that one process serves: whatever leaks from one run to the next stays bounded.
const RUNS_PER_PROCESS: u32 = 40;

pub struct Worker {
    program: PathBuf,
    dir: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    runs: u32,
}

impl Worker {
    /// Starts a worker of the simulator `program`, which finds its plans in `dir`.
    pub fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("worker")
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or_else(|| anyhow::anyhow!("a worker without output"))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Ok(Self { program: program.to_owned(), dir: dir.to_owned(), child, input, lines, runs: 0 })
    }

    fn replace(&mut self) -> anyhow::Result<()> {
        *self = Self::start(&self.program, &self.dir)?;
        Ok(())
    }

    /// Runs one seed. A worker that does not answer makes a crash report.
    pub fn run(&mut self, seed: u64, plan: &str) -> anyhow::Result<Report> {
        if self.runs >= RUNS_PER_PROCESS {
            self.replace()?;
        }
        self.runs += 1;
        let sent = self.input.as_mut().is_some_and(|input| writeln!(input, "{seed} {plan}").is_ok());
        let answer = if sent { self.lines.recv_timeout(RUN_WALL_MAX) } else { Err(RecvTimeoutError::Disconnected) };
        let what = match answer {
            Ok(line) => return Ok(serde_json::from_str(&line)?),
            Err(RecvTimeoutError::Timeout) => {
                format!("no answer within {} s: a loop without an await?", RUN_WALL_MAX.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                format!("the worker process ended: {status}")
            }
        };
        self.replace()?;
        Ok(Report::crashed(seed, plan, what))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        // It may hang; there is nothing of it to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
