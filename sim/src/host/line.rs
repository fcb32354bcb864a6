//! What a client and the daemon say to each other besides their rings: one socket, and a pidfd.

use bettong_core::door::shm::{Ended, Heard, Line};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Wake,
    /// The session is over, and why.
    Over(String),
}

/// The daemon's end.
pub struct DaemonLine {
    heard: mpsc::UnboundedReceiver<Heard>,
    tell: mpsc::UnboundedSender<Told>,
}

impl Line for DaemonLine {
    fn wake(&mut self) {
        // A client that is gone is woken in vain.
        let _ = self.tell.send(Told::Wake);
    }

    fn say_why(&mut self, end: &Ended) {
        let _ = self.tell.send(Told::Over(end.to_string()));
    }

    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        match self.heard.poll_recv(cx) {
            Poll::Ready(Some(heard)) => Poll::Ready(heard),
            // A line says how it ends before it is dropped; until then nobody is gone.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// The client's end. What it says arrives in order, each thing so much later.
#[derive(Debug)]
pub struct ClientLine {
    say: mpsc::UnboundedSender<(Duration, Heard)>,
    told: mpsc::UnboundedReceiver<Told>,
}

impl ClientLine {
    pub fn say(&self, heard: Heard, after: Duration) {
        // A daemon that is gone hears nothing.
        let _ = self.say.send((after, heard));
    }

    /// What the daemon says next; `None` once it is gone.
    pub async fn told(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// What the daemon has said already.
    pub fn told_already(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

/// Both ends of a line. Call it where the client lives.
pub fn line() -> (DaemonLine, ClientLine) {
    let (say, mut said) = mpsc::unbounded_channel::<(Duration, Heard)>();
    let (arrives, heard) = mpsc::unbounded_channel();
    let (tell, told) = mpsc::unbounded_channel();
    drop(madsim::task::spawn(async move {
        while let Some((after, what)) = said.recv().await {
            if !after.is_zero() {
                madsim::time::sleep(after).await;
            }
            if arrives.send(what).is_err() {
                return;
            }
        }
    }));
    (DaemonLine { heard, tell }, ClientLine { say, told })
}
