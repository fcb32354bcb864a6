//! The daemon's end of a session's socket, and the client's process.

use bettong_core::door::shm::{Ended, Heard, Line};
use bettong_shm::real::Watched;
use bettong_shm::real::attach::{Heard as Packet, Link, Refusal, RefusalKind};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

#[derive(Debug)]
pub struct SocketLine {
    /// `None` once the client has closed its end.
    link: Option<Watched<Link>>,
    /// Readable when the client's process is gone.
    process: Watched<OwnedFd>,
}

impl SocketLine {
    /// To be made where the session is served.
    pub fn new(link: Link, pidfd: OwnedFd) -> std::io::Result<Self> {
        Ok(Self { link: Some(Watched::new(link)?), process: Watched::new(pidfd)? })
    }
}

impl Line for SocketLine {
    fn wake(&mut self) {
        if let Some(link) = &self.link {
            // Where it fails the client is gone, which is heard of by itself.
            let _ = link.get().wake();
        }
    }

    fn say_why(&mut self, end: &Ended) {
        let kind = match end {
            Ended::Broken(_) | Ended::Refused(_) => RefusalKind::Invalid,
            _ => RefusalKind::Unavailable,
        };
        if let Some(link) = &self.link {
            let _ = link.get().end(Refusal { kind, limit: 0, text: end.to_string() });
        }
    }

    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.process.poll_readable(cx).is_ready() {
            return Poll::Ready(Heard::Gone);
        }
        let Some(link) = &self.link else { return Poll::Pending };
        let heard = link.poll_take(cx, |link| match link.hear() {
            Ok(Packet::Nothing) => None,
            heard => Some(heard),
        });
        match heard {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Ok(Packet::Woken))) => Poll::Ready(Heard::Woken),
            Poll::Ready(Ok(Ok(Packet::Detached))) => Poll::Ready(Heard::Detached),
            // Nonsense is not listened to any more.
            Poll::Ready(_) => {
                self.link = None;
                Poll::Ready(Heard::Closed)
            }
        }
    }
}

/// Says that a session has ended; louder where somebody should look.
pub fn log(name: &str, pid: u32, end: &Ended) {
    match end {
        Ended::Detached | Ended::Gone | Ended::Closed | Ended::Stopped => {
            tracing::debug!(name, pid, %end, "session ended");
        }
        Ended::Broken(_) | Ended::Refused(_) => tracing::warn!(name, pid, %end, "session ended"),
    }
}
