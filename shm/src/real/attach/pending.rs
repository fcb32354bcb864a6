//! A client that has connected and is not attached.

use super::doorbell::Doorbell;
use super::packet::{Hello, PACKET_BYTES_MAX, Refusal, RefusalKind, Reply, Welcome};
use super::{AttachError, Link, Packet, Peer, receive, send, system};
use crate::real::{MappedSegment, Memfd, OwnSegment, PeerSegment, SharedMemoryError, StagingMapping, segment_bytes};
use bettong_wire::DecodeError;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Descriptors that a welcome brings: four segments and the daemon's doorbell.
pub(super) const DESCRIPTORS: usize = 5;

/// A client that has connected. Readable when its hello is there, or it is gone.
#[derive(Debug)]
pub struct Pending {
    socket: OwnedFd,
    peer: Peer,
}

/// What a client is given.
#[derive(Debug)]
pub struct Offer<'a> {
    /// All but `pool_bytes`, which are those of the pool.
    pub welcome: Welcome,
    /// What all clients map.
    pub pool: &'a Memfd,
}

/// An attached client, as the daemon has it.
#[derive(Debug)]
pub struct Offered {
    pub own: OwnSegment,
    pub peer: PeerSegment,
    pub staging: StagingMapping,
    pub link: Link,
    pub process: Peer,
}

impl Pending {
    pub(super) fn new(socket: OwnedFd, peer: Peer) -> Self {
        Self { socket, peer }
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the client says first; `None` where it has said nothing yet. Never waits. What makes no sense is refused, and
    /// this is to be dropped.
    pub fn hello(&self) -> Result<Option<Hello>, AttachError> {
        let mut space = [0; PACKET_BYTES_MAX];
        let received = receive(&self.socket, &mut space, &mut RecvAncillaryBuffer::default());
        let hello = match received {
            Ok(Packet::Bytes(bytes)) => Hello::decode(bytes).map_err(AttachError::from),
            Ok(Packet::End) => return Err(AttachError::Gone),
            Err(AttachError::TimedOut) => return Ok(None),
            Err(error) => Err(error),
        };
        if let Err(error) = &hello {
            let kind = match error {
                AttachError::Packet(DecodeError::Version { .. }) => RefusalKind::Version,
                _ => RefusalKind::Invalid,
            };
            let limit = match error {
                AttachError::Packet(DecodeError::TooLong { limit, .. }) => *limit,
                _ => 0,
            };
            self.say(Refusal { kind, limit, text: error.to_string() });
        }
        hello.map(Some)
    }

    /// Turns the client away.
    pub fn refuse(self, refusal: Refusal) {
        self.say(refusal);
    }

    fn say(&self, refusal: Refusal) {
        // Who does not wait for it need not hear it.
        let _ = send(&self.socket, &Reply::Refusal(refusal).encode());
    }

    /// Makes the segments of a session and gives them to the client. Without memory for them it is turned away.
    pub fn offer(self, offer: &Offer<'_>) -> Result<Offered, AttachError> {
        let Offer { mut welcome, pool } = *offer;
        welcome.pool_bytes = pool.bytes() as u64;
        let busy =
            |error: &AttachError| self.say(Refusal { kind: RefusalKind::Busy, limit: 0, text: error.to_string() });
        let made = Made::new(&welcome).map_err(AttachError::from).inspect_err(busy)?;
        let doorbell = Doorbell::new().inspect_err(busy)?;
        let Made { to_client, to_daemon, staged, .. } = &made;
        let fds: [_; DESCRIPTORS] =
            [to_client.as_fd(), to_daemon.as_fd(), pool.as_fd(), staged.as_fd(), doorbell.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let has_room = control.push(SendAncillaryMessage::ScmRights(&fds));
        debug_assert!(has_room, "there is space for {DESCRIPTORS} descriptors");
        let packet = Reply::Welcome(welcome).encode();
        sendmsg(&self.socket, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)
            .map_err(system("a welcome is sent"))?;
        let Made { own, peer, staging, .. } = made;
        Ok(Offered { own, peer, staging, link: Link::of_daemon(self.socket, doorbell), process: self.peer })
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The segments of one session. Their descriptors are the client's: the daemon needs its mappings only.
struct Made {
    to_client: Memfd,
    to_daemon: Memfd,
    staged: Memfd,
    own: OwnSegment,
    peer: PeerSegment,
    staging: StagingMapping,
}

impl Made {
    fn new(welcome: &Welcome) -> Result<Self, SharedMemoryError> {
        let ring_bytes = segment_bytes(welcome.ring_words as usize);
        let (to_client, own) = Memfd::own(ring_bytes)?;
        let (to_daemon, peer) = Memfd::of_peer(ring_bytes)?;
        let (staged, staging) = Memfd::of_peer(usize::try_from(welcome.staging_bytes).unwrap_or(usize::MAX))?;
        Ok(Self {
            to_client,
            to_daemon,
            staged,
            own: Arc::new(MappedSegment::own(own)?),
            peer: Arc::new(MappedSegment::of_peer(peer)?),
            staging: StagingMapping::new(staging),
        })
    }
}
