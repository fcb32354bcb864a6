//! The daemon's end of a session's socket and its doorbell, and the client's process.

use bettong_core::door::shm::{Ended, Heard, Line};
use bettong_shm::real::attach::{AttachError, Heard as Packet, Link, Refusal, RefusalKind};
use bettong_shm::real::{Watched, WatchedLink};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

#[derive(Debug)]
pub struct SocketLine {
    /// `None` once the client has closed its end.
    link: Option<WatchedLink>,
    process: Process,
    /// A packet made no sense, and that was told.
    told_nonsense: bool,
    /// There was something the last time it was looked at.
    has_more: bool,
}

/// A client's process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Readable when it is gone.
    pidfd: Arc<Watched<OwnedFd>>,
}

impl Process {
    /// To be made where it is waited for.
    pub fn new(pidfd: OwnedFd) -> std::io::Result<Self> {
        Ok(Self { pidfd: Arc::new(Watched::new(pidfd)?) })
    }

    /// Completes when it is gone. Whoever asks last is told.
    pub async fn gone(&self) {
        poll_fn(|cx| self.poll_gone(cx)).await;
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pidfd.poll_readable(cx).map(drop)
    }
}

impl SocketLine {
    /// To be made where the session is served.
    pub fn new(link: Link, process: Process) -> std::io::Result<Self> {
        Ok(Self { link: Some(WatchedLink::new(link)?), process, told_nonsense: false, has_more: false })
    }

    /// Something was there, and more may be. Others wait for this thread: who is looked at twice in a row gives way to them.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.has_more = !self.has_more;
        if self.has_more {
            return Poll::Ready(Heard::Woken);
        }
        // The rings are looked at then, which is what a wake-up is for.
        cx.waker().wake_by_ref();
        Poll::Pending
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
            // A client that leaves its socket full does not listen.
            let _ = link.get().end(Refusal { kind, limit: 0, text: end.to_string() });
        }
    }

    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.process.poll_gone(cx).is_ready() {
            return Poll::Ready(Heard::Gone);
        }
        let Some(link) = &self.link else { return Poll::Pending };
        let nonsense = match link.poll_hear(cx) {
            Poll::Pending => {
                self.has_more = false;
                return Poll::Pending;
            }
            Poll::Ready(Ok(Packet::Nothing | Packet::Woken)) => return self.poll_more(cx),
            Poll::Ready(Ok(Packet::Detached)) => return Poll::Ready(Heard::Detached),
            Poll::Ready(Ok(Packet::Ended(_))) => "it says what only a daemon may say".to_owned(),
            Poll::Ready(Err(error @ (AttachError::Packet(_) | AttachError::Descriptors))) => error.to_string(),
            Poll::Ready(Ok(Packet::Closed) | Err(_)) => {
                self.link = None;
                return Poll::Ready(Heard::Closed);
            }
        };
        if std::mem::replace(&mut self.told_nonsense, true) {
            // Only that it detaches, or is gone, matters any more.
            return self.poll_more(cx);
        }
        Poll::Ready(Heard::Nonsense(format!("the client broke the protocol of its socket: {nonsense}")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_shm::real::Memfd;
    use bettong_shm::real::attach::{Attached, Hello, Listener, Offer, Welcome, attach, own_uid};
    use rustix::process::{PidfdFlags, getpid, pidfd_open};
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// A client's end, and the daemon's.
    fn attached() -> (Link, SocketLine) {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&folder.path().join("socket"), BTreeSet::from([own_uid()])).unwrap();
        let hello = Hello { staging_bytes: 4096, name: "test".to_owned() };
        let link = std::thread::scope(|scope| {
            let client = scope.spawn(|| attach(listener.path(), &hello, Duration::from_secs(30)));
            let pending = (0..).find_map(|_| listener.accept().unwrap()).unwrap();
            (0..).find_map(|_| pending.hello().unwrap()).unwrap();
            let (pool, _) = Memfd::own(4096).unwrap();
            let welcome = Welcome {
                session: 1,
                epoch: 1,
                ring_words: 1024,
                inline_max: 256,
                staging_bytes: 4096,
                pool_bytes: 4096,
                quota_bytes: 4096,
            };
            let daemon = pending.offer(&Offer { welcome, pool: &pool }).unwrap().link;
            let Attached { link, .. } = client.join().unwrap().unwrap();
            (link, daemon)
        });
        let process = Process::new(pidfd_open(getpid(), PidfdFlags::empty()).unwrap()).unwrap();
        (link.0, SocketLine::new(link.1, process).unwrap())
    }

    fn say(link: &Link, packet: &[u8]) {
        socket2::SockRef::from(link).send(packet).unwrap();
    }

    #[tokio::test]
    async fn a_flood_gives_way_to_others() {
        let (client, mut line) = attached();
        while socket2::SockRef::from(&client).send(&[3]).is_ok() {}
        assert!(matches!(poll_fn(|cx| line.poll_heard(cx)).await, Heard::Nonsense(_)));
        let mut turns = 0;
        let detached = poll_fn(|cx| {
            turns += 1;
            (0..10_000).for_each(|_| client.wake().unwrap());
            for heard in 0.. {
                match line.poll_heard(cx) {
                    Poll::Ready(Heard::Woken) => assert_eq!(heard, 0, "it goes on and on"),
                    Poll::Ready(Heard::Detached) => return Poll::Ready(()),
                    Poll::Ready(heard) => panic!("{heard:?}"),
                    Poll::Pending => break,
                }
            }
            // There is room for it by and by.
            let _ = client.detach();
            Poll::Pending
        });
        tokio::time::timeout(Duration::from_secs(30), detached).await.expect("nobody looks again");
        assert!(turns > 3, "a turn takes all");
    }

    #[tokio::test]
    async fn nonsense_is_said_once_and_a_detach_is_still_heard() {
        let (client, mut line) = attached();
        let next = async |line: &mut SocketLine| poll_fn(|cx| line.poll_heard(cx)).await;
        say(&client, &[3]);
        let Heard::Nonsense(nonsense) = next(&mut line).await else { panic!("it makes sense") };
        assert!(nonsense.contains("broke the protocol") && nonsense.contains("unknown"), "{nonsense}");
        line.say_why(&Ended::Refused(nonsense.clone()));
        let why = Refusal { kind: RefusalKind::Invalid, limit: 0, text: nonsense };
        assert_eq!(client.hear().unwrap(), Packet::Ended(why));
        say(&client, b"still nonsense");
        client.detach().unwrap();
        let mut heard = next(&mut line).await;
        if heard == Heard::Woken {
            heard = next(&mut line).await;
        }
        assert_eq!(heard, Heard::Detached);
        drop(client);
        assert_eq!(next(&mut line).await, Heard::Closed);
    }
}
