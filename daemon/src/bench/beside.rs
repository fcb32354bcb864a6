//! Work that is done beside a measurement, by a process of its own, so that the measuring one only measures.

use crate::cli::{Beside, Global};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The work begins so long before what is measured, and ends so long after it.
const LEAD: Duration = Duration::from_millis(500);

/// Running work.
#[derive(Debug)]
pub struct Work {
    child: Child,
}

impl Work {
    /// Starts the work around a measurement of `duration`, and returns when that may begin.
    pub async fn start(beside: Beside, global: &Global, duration: Duration) -> Outcome<Self> {
        let program = std::env::current_exe().or_exit(Exit::Failed, "this program's path")?;
        let mut command = Command::new(program);
        command.args(["--connect", &global.connect, "--namespace", &global.namespace, "--tenant", &global.tenant]);
        if let Some(token) = &global.token_from {
            command.arg("--token-from").arg(token);
        }
        let lasting = format!("{}ms", (duration + LEAD * 2).as_millis());
        match beside {
            Beside::Uploads => command.args(["bench", "--op", "put", "--level", "journal", "--size", "64KiB"]),
        };
        command.args(["--concurrency", "4", "--runs", "1", "--json", "--duration", &lasting]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.or_exit(Exit::Failed, "work beside the bench")?;
        tokio::time::sleep(LEAD).await;
        Ok(Self { child })
    }

    /// Waits for its end: it removes what it stored.
    pub async fn end(mut self) -> Outcome {
        let ended = tokio::task::spawn_blocking(move || self.child.wait()).await;
        let status =
            ended.or_exit(Exit::Failed, "work beside the bench")?.or_exit(Exit::Failed, "work beside the bench")?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, format!("the work beside the bench ended with {status}"))),
        }
    }
}
