//! Work that is done beside a measurement: by the daemon alone, or by a process of its own, so that the measuring one
//! only measures.

use super::backlog::Backlog;
use crate::cli::{Beside, Global};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::process::priority::put_process_behind;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The work begins so long before what is measured, and ends so long after it.
const LEAD: Duration = Duration::from_millis(500);

/// How often a scrub that is under way is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Running work.
pub enum Work {
    Daemon(Backlog),
    Process { over: Arc<AtomicBool>, ended: tokio::task::JoinHandle<Outcome> },
}

impl Work {
    /// Starts the work around a measurement of `duration`, and returns when that may begin.
    pub async fn start(beside: Beside, global: &Global, duration: Duration) -> Outcome<Self> {
        let work = match beside {
            Beside::Uploads => Self::Daemon(Backlog::fill(&global.access()?, duration + LEAD).await?),
            Beside::Puts | Beside::Scrub => Self::process(beside, global, duration)?,
        };
        tokio::time::sleep(LEAD).await;
        Ok(work)
    }

    fn process(beside: Beside, global: &Global, duration: Duration) -> Outcome<Self> {
        let program = std::env::current_exe().or_exit(Exit::Failed, "this program's path")?;
        let mut command = Command::new(program);
        command.args(["--connect", &global.connect, "--namespace", &global.namespace, "--tenant", &global.tenant]);
        if let Some(token) = &global.token_from {
            command.arg("--token-from").arg(token);
        }
        let repeated = beside == Beside::Scrub;
        if repeated {
            command.args(["scrub", "--json"]);
        } else {
            let lasting = format!("{}ms", (duration + LEAD * 2).as_millis());
            command.args(["bench", "--op", "put", "--level", "journal", "--size", "64KiB"]);
            command.args(["--concurrency", "4", "--runs", "1", "--json", "--duration", &lasting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let ended = tokio::task::spawn_blocking(move || {
            if repeated {
                return again_and_again(&mut command, &told);
            }
            // It removes what it stored, and ends by itself.
            let mut child = start(&mut command)?;
            // It stands for clients on other machines: what they take of this one's cores is not the daemon's doing.
            put_process_behind(child.id());
            succeeded(child.wait())
        });
        Ok(Self::Process { over, ended })
    }

    /// Ends the work, or waits for its end; an error where it was over before the measurement was.
    pub async fn end(self) -> Outcome {
        match self {
            Self::Daemon(backlog) => backlog.end().await,
            Self::Process { over, ended } => {
                over.store(true, Ordering::Relaxed);
                ended.await.or_exit(Exit::Failed, "work beside the bench")?
            }
        }
    }
}

/// One after the other until it is over. A scrub may be stopped at any point.
fn again_and_again(command: &mut Command, over: &AtomicBool) -> Outcome {
    while !over.load(Ordering::Relaxed) {
        let mut child = start(command)?;
        loop {
            if let Some(status) = child.try_wait().or_exit(Exit::Failed, "work beside the bench")? {
                // That it left damage is no failure of the work.
                if status.code() != Some(Exit::CheckFailed as i32) {
                    succeeded(Ok(status))?;
                }
                break;
            }
            if over.load(Ordering::Relaxed) {
                let killed = child.kill().and_then(|()| child.wait());
                return killed.map(drop).or_exit(Exit::Failed, "work beside the bench");
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn start(command: &mut Command) -> Outcome<Child> {
    command.spawn().or_exit(Exit::Failed, "work beside the bench")
}

fn succeeded(status: std::io::Result<ExitStatus>) -> Outcome {
    let status = status.or_exit(Exit::Failed, "work beside the bench")?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, format!("the work beside the bench ended with {status}"))),
    }
}
