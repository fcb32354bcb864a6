//! What joins the two sides of a session beside their rings: either wakes the other, and hears of its end.

use super::doorbell::Doorbell;
use super::packet::{PACKET_BYTES_MAX, Refusal, Reply};
use super::{AttachError, Packet, receive, send};
use bettong_wire::DecodeError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use std::time::Duration;

/// A packet with which the daemon wakes a client.
const WAKE: u8 = 1;
/// A packet with which a client says that it reads nothing any more.
const DETACH: u8 = 2;
/// Packets that one call takes: more are there the next time. A few: others wait for the thread that takes them.
const PACKETS_PER_CALL: usize = 16;

/// What was heard since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// Look at the ring.
    Woken,
    /// The client has said that it reads nothing any more: its leases may end.
    Detached,
    /// The daemon has ended the session, and says why.
    Ended(Refusal),
    /// The other side has closed its end, by itself or by dying. A client may still be reading: its leases end when its
    /// process does.
    Closed,
}

/// One end of a session's socket, and the daemon's doorbell.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    doorbell: Doorbell,
    is_daemons: bool,
}

impl Link {
    /// The daemon's end, over a connected socket that does not wait.
    pub(super) fn of_daemon(socket: OwnedFd, doorbell: Doorbell) -> Self {
        Self { socket, doorbell, is_daemons: true }
    }

    /// A client's end, over a connected socket that does not wait.
    pub(super) fn of_client(socket: OwnedFd, doorbell: Doorbell) -> Self {
        Self { socket, doorbell, is_daemons: false }
    }

    /// Wakes the other side. Never waits; where it has been woken often enough already this does nothing.
    pub fn wake(&self) -> Result<(), AttachError> {
        if !self.is_daemons {
            return self.doorbell.ring();
        }
        match self.send(&[WAKE]) {
            Err(AttachError::Full) => Ok(()),
            woken => woken,
        }
    }

    /// Tells the daemon that nothing of the pool is read any more, and nothing will be. Where the socket is full it is not told.
    pub fn detach(&self) -> Result<(), AttachError> {
        self.send(&[DETACH])
    }

    /// Tells the client that its session is over, and why. Where the socket is full it is not told.
    pub fn end(&self, why: Refusal) -> Result<(), AttachError> {
        self.send(&Reply::Refusal(why).encode())
    }

    /// Takes what is there, as far as one call goes. Never waits.
    pub fn hear(&self) -> Result<Heard, AttachError> {
        let mut is_woken = self.is_daemons && self.doorbell.take();
        for _ in 0..PACKETS_PER_CALL {
            match self.hear_packet()? {
                Heard::Woken => is_woken = true,
                Heard::Nothing => break,
                heard => return Ok(heard),
            }
        }
        Ok(if is_woken { Heard::Woken } else { Heard::Nothing })
    }

    /// Sleeps until there is something, and takes one thing; `Nothing` after `time_max`, or a signal.
    pub fn sleep(&self, time_max: Option<Duration>) -> Result<Heard, AttachError> {
        let time_max = time_max.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut both = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.doorbell, PollFlags::IN)];
        let watched = if self.is_daemons { &mut both[..] } else { &mut both[..1] };
        match poll(watched, time_max.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(super::system("the other side is waited for")(error)),
        }
        let [socket, doorbell] = both.map(|fd| !fd.revents().is_empty());
        let is_woken = doorbell && self.doorbell.take();
        match if socket { self.hear_packet()? } else { Heard::Nothing } {
            Heard::Nothing if is_woken => Ok(Heard::Woken),
            heard => Ok(heard),
        }
    }

    /// Readable when this side has been woken by other means than a packet; to be watched for edges.
    #[cfg(not(madsim))]
    pub(in crate::real) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.is_daemons.then(|| self.doorbell.as_fd())
    }

    /// What a packet says, if there is one.
    pub(in crate::real) fn hear_packet(&self) -> Result<Heard, AttachError> {
        let mut space = [0; PACKET_BYTES_MAX];
        let mut received = receive(&self.socket, &mut space, &mut RecvAncillaryBuffer::default());
        if let Err(AttachError::Gone) = received {
            // Said once where the other side has left something unread; what it had sent is still there.
            received = receive(&self.socket, &mut space, &mut RecvAncillaryBuffer::default());
        }
        let unknown = |got| Err(DecodeError::Unknown { what: "a packet of a session", got }.into());
        match received {
            Ok(Packet::Bytes([WAKE])) if !self.is_daemons => Ok(Heard::Woken),
            Ok(Packet::Bytes([DETACH])) => Ok(Heard::Detached),
            Ok(Packet::End) => Ok(Heard::Closed),
            Ok(Packet::Bytes(bytes)) if bytes.len() > 1 => match Reply::decode(bytes)? {
                Reply::Refusal(why) => Ok(Heard::Ended(why)),
                Reply::Welcome(_) => unknown(0),
            },
            Ok(Packet::Bytes(bytes)) => unknown(bytes.first().copied().map_or(0, u64::from)),
            Err(AttachError::TimedOut) => Ok(Heard::Nothing),
            Err(error) => Err(error),
        }
    }

    fn send(&self, packet: &[u8]) -> Result<(), AttachError> {
        send(&self.socket, packet).map_err(|error| match error {
            Errno::AGAIN => AttachError::Full,
            error => super::system("a packet is sent")(error),
        })
    }
}

impl AsFd for Link {
    /// Readable when there is a packet, or the other side has closed its end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::attach::RefusalKind;
    use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
    use std::io::IoSlice;

    fn links() -> (Link, Link) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let doorbell = Doorbell::new().unwrap();
        let rung = Doorbell::given(doorbell.as_fd().try_clone_to_owned().unwrap());
        (Link::of_client(near, rung), Link::of_daemon(far, doorbell))
    }

    #[test]
    fn who_is_woken_hears_it_once() {
        let (near, far) = links();
        assert_eq!(far.hear().unwrap(), Heard::Nothing);
        near.wake().unwrap();
        near.wake().unwrap();
        assert_eq!((far.hear().unwrap(), far.hear().unwrap()), (Heard::Woken, Heard::Nothing));
        assert_eq!(near.hear().unwrap(), Heard::Nothing);
    }

    #[test]
    fn a_full_socket_is_an_error_and_keeps_nobody_from_waking() {
        let (near, far) = links();
        assert!((0..10_000).any(|_| matches!(near.detach(), Err(AttachError::Full))));
        let why = Refusal { kind: RefusalKind::Invalid, limit: 0, text: "a frame is none".to_owned() };
        assert!(matches!(near.end(why), Err(AttachError::Full)));
        near.wake().unwrap();
        while far.hear().unwrap() == Heard::Detached {}
        near.wake().unwrap();
        assert_eq!(far.hear().unwrap(), Heard::Woken);
    }

    #[test]
    fn who_sleeps_is_woken_by_either() {
        let (near, far) = links();
        for (near, far) in [(&near, &far), (&far, &near)] {
            assert_eq!(far.sleep(Some(Duration::ZERO)).unwrap(), Heard::Nothing);
            near.wake().unwrap();
            assert_eq!(far.sleep(None).unwrap(), Heard::Woken);
        }
        near.detach().unwrap();
        assert_eq!(far.sleep(None).unwrap(), Heard::Detached);
        drop(near);
        assert_eq!(far.sleep(None).unwrap(), Heard::Closed);
    }

    #[test]
    fn an_end_is_heard_with_its_reason() {
        let (near, far) = links();
        let why = Refusal { kind: RefusalKind::Invalid, limit: 3, text: "a frame is none".to_owned() };
        near.wake().unwrap();
        near.end(why.clone()).unwrap();
        assert_eq!(far.hear().unwrap(), Heard::Ended(why));
        send(&near.socket, b"nonsense").unwrap();
        assert!(far.hear().is_err());
    }

    #[test]
    fn to_close_is_not_to_detach() {
        let (near, far) = links();
        near.detach().unwrap();
        assert_eq!(far.hear().unwrap(), Heard::Detached);
        near.wake().unwrap();
        drop(near);
        assert_eq!((far.hear().unwrap(), far.hear().unwrap()), (Heard::Closed, Heard::Closed));
        assert!(matches!(far.wake(), Err(AttachError::Gone)));
        // With something unread, the end comes as a reset.
        let (near, far) = links();
        far.wake().unwrap();
        near.detach().unwrap();
        drop(near);
        assert_eq!((far.hear().unwrap(), far.hear().unwrap()), (Heard::Detached, Heard::Closed));
    }

    #[test]
    fn other_packets_are_errors() {
        // Only a daemon wakes by one.
        for bytes in [&[WAKE][..], &[3], &[1, 1], &[1, 2, 3]] {
            let (near, far) = links();
            send(&near, bytes).unwrap();
            assert!(matches!(far.hear(), Err(AttachError::Packet(_))), "{bytes:?}");
        }
        let (near, far) = links();
        let fds = [near.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(&near, &[IoSlice::new(&[DETACH])], &mut control, SendFlags::empty()).unwrap();
        assert!(matches!(far.hear(), Err(AttachError::Descriptors)));
    }
}
