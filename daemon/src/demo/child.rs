//! A daemon as a child process.

use crate::config::load::ENV_PREFIX;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::process::ready;
use crate::remote::Access;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running daemon. Dropping it kills the process, so that nothing outlives the demo.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// `tcp://HOST:PORT`.
    pub connect: String,
}

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `bettong` binary.
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub store: String,
    /// `name=value` pairs of the configuration.
    pub values: Vec<String>,
}

impl Daemon {
    /// Starts a daemon and waits until it says that it is ready, or ends.
    pub fn start(setup: &Setup) -> Outcome<Self> {
        let mut daemon = Self::spawn(setup)?;
        let out = daemon.child.stdout.take().ok_or_else(|| Failure::new(Exit::Failed, "a daemon without output"))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).or_exit(Exit::Failed, "a daemon's output")?;
        match ready::parse(&line) {
            Some(connect) => daemon.connect = connect,
            None => return Err(daemon.did_not_start(&log_of(setup))),
        }
        Ok(daemon)
    }

    /// Starts a daemon and does not wait: it has no address yet.
    pub fn spawn(setup: &Setup) -> Outcome<Self> {
        std::fs::create_dir_all(&setup.data_dir).or_exit(Exit::DataDir, setup.data_dir.display())?;
        let log_path = log_of(setup);
        let log =
            File::options().create(true).append(true).open(&log_path).or_exit(Exit::DataDir, log_path.display())?;
        let mut command = Command::new(&setup.program);
        command.arg("serve").arg("--data-dir").arg(&setup.data_dir).args([
            "--store",
            &setup.store,
            "--listen",
            "127.0.0.1:0",
        ]);
        for pair in &setup.values {
            command.args(["--set", pair]);
        }
        // Whoever starts a child decides its configuration alone.
        let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        Ok(Self { child: child.or_exit(Exit::Failed, "starting a daemon")?, connect: String::new() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// This daemon's namespace `name`.
    pub fn access(&self, name: &str) -> Access {
        Access::new(&self.connect, name)
    }

    fn did_not_start(&mut self, log: &Path) -> Failure {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("nothing was logged").to_owned();
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Failure::new(Exit::Failed, format!("a daemon did not start ({status}): {last}"))
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().or_exit(Exit::Failed, "SIGKILL")?;
        self.child.wait().or_exit(Exit::Failed, "waiting for a killed daemon")?;
        Ok(())
    }

    /// Waits until it ends by itself; its exit code, unless a signal ended it.
    pub fn wait(mut self) -> Outcome<Option<i32>> {
        let status = self.child.wait().or_exit(Exit::Failed, "waiting for a daemon")?;
        Ok(status.code())
    }

    /// SIGTERM: the daemon drains, and this does not wait for it.
    pub fn terminate(&self) -> Outcome {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new(Exit::Failed, "a daemon without a process id"))?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).or_exit(Exit::Failed, "SIGTERM")
    }

    /// SIGTERM, and the daemon's own orderly end.
    pub fn stop(mut self) -> Outcome {
        self.terminate()?;
        let status = self.child.wait().or_exit(Exit::Failed, "waiting for a daemon")?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, format!("a daemon ended with {status} after SIGTERM"))),
        }
    }
}

fn log_of(setup: &Setup) -> PathBuf {
    setup.data_dir.join("daemon.log")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
