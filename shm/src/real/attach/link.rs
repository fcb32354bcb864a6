//! The socket of a session: either side wakes the other, and hears of its end.

use super::packet::{PACKET_BYTES_MAX, Refusal, Reply};
use super::{AttachError, Packet, receive, send};
use bettong_wire::DecodeError;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;

/// A packet that wakes.
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

/// One end of a session's socket. It never waits.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
}

impl Link {
    /// Over a connected socket that does not wait.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Wakes the other side. Where the socket is full it has been woken often enough.
    pub fn wake(&self) -> Result<(), AttachError> {
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

    /// Takes what is there, as far as one call goes.
    pub fn hear(&self) -> Result<Heard, AttachError> {
        let mut heard = Heard::Nothing;
        for _ in 0..PACKETS_PER_CALL {
            let mut space = [0; PACKET_BYTES_MAX];
            match receive(&self.socket, &mut space, &mut RecvAncillaryBuffer::default()) {
                Ok(Packet::Bytes([WAKE])) => heard = Heard::Woken,
                Ok(Packet::Bytes([DETACH])) => return Ok(Heard::Detached),
                Ok(Packet::End) => return Ok(Heard::Closed),
                // Said once where the other side has left something unread; what it had sent is still there.
                Err(AttachError::Gone) => {}
                Ok(Packet::Bytes(bytes)) if bytes.len() > 1 => match Reply::decode(bytes)? {
                    Reply::Refusal(why) => return Ok(Heard::Ended(why)),
                    Reply::Welcome(_) => {
                        return Err(DecodeError::Unknown { what: "a packet of a session", got: 0 }.into());
                    }
                },
                Ok(Packet::Bytes(bytes)) => {
                    let got = bytes.first().copied().map_or(0, u64::from);
                    return Err(DecodeError::Unknown { what: "a packet of a session", got }.into());
                }
                Err(AttachError::TimedOut) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }

    fn send(&self, packet: &[u8]) -> Result<(), AttachError> {
        send(&self.socket, packet).map_err(|error| match error {
            Errno::AGAIN => AttachError::Full,
            error => super::system("a packet is sent")(error),
        })
    }
}

impl AsFd for Link {
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
        (Link::new(near), Link::new(far))
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
    fn a_full_socket_has_woken_and_says_nothing_else() {
        let (near, far) = links();
        (0..10_000).for_each(|_| near.wake().unwrap());
        assert!(matches!(near.detach(), Err(AttachError::Full)));
        let why = Refusal { kind: RefusalKind::Invalid, limit: 0, text: "a frame is none".to_owned() };
        assert!(matches!(near.end(why), Err(AttachError::Full)));
        let calls = (0..10_000).take_while(|_| far.hear().unwrap() == Heard::Woken).count();
        assert!((2..10_000).contains(&calls), "one call takes all");
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
        for bytes in [&[3][..], &[1, 1], &[1, 2, 3]] {
            let (near, far) = links();
            send(&near, bytes).unwrap();
            assert!(matches!(far.hear(), Err(AttachError::Packet(_))), "{bytes:?}");
        }
        let (near, far) = links();
        let fds = [near.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(&near, &[IoSlice::new(&[WAKE])], &mut control, SendFlags::empty()).unwrap();
        assert!(matches!(far.hear(), Err(AttachError::Descriptors)));
    }
}
