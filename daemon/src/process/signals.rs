//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

use crate::exit::{Exit, OrExit, Outcome};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The two signals that end the daemon.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on the signals no longer kill the process.
    pub fn listen() -> Outcome<Self> {
        let on = |kind| signal(kind).or_exit(Exit::Failed, "signals");
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
