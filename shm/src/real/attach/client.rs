//! The client's side of an attach.

use super::doorbell::Doorbell;
use super::listener::{address, new_socket, own_uid};
use super::packet::{Hello, PACKET_BYTES_MAX, Reply, Welcome};
use super::peer::credentials;
use super::pending::DESCRIPTORS;
use super::{AttachError, Link, send, system};
use crate::real::{MappedSegment, Mapping, Memfd, OwnSegment, OwnStagingMapping, PeerSegment, segment_bytes};
use crate::session::staging::StagingArea;
use bettong_wire::DecodeError;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags, connect, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a client has of a session.
#[derive(Debug)]
pub struct Attached {
    pub own: OwnSegment,
    pub peer: PeerSegment,
    pub pool: Arc<Mapping>,
    pub staging: StagingArea<OwnStagingMapping>,
    pub link: Link,
    pub welcome: Welcome,
}

/// Attaches to the daemon of this user that listens on `path`, and waits for at most `time_max`, whatever signals come meanwhile.
pub fn attach(path: &Path, hello: &Hello, time_max: Duration) -> Result<Attached, AttachError> {
    let hello = hello.encode()?;
    let address = address(path)?;
    let socket = new_socket(SocketFlags::empty())?;
    let patience = Patience::begin(&socket, time_max);
    patience.wait(Timeout::Send, |socket| connect(socket, &address)).map_err(system("a daemon is connected to"))?;
    // Whoever made the socket's file may be anybody, and values would be theirs to forge.
    let (uid, own) = (credentials(&socket)?.0, own_uid());
    if uid != own {
        return Err(AttachError::Daemon { uid, own });
    }
    // A daemon that does not want this client says so and closes, without reading what was sent: both are then said to be
    // reset, once, and its answer is there all the same.
    let sent = patience.wait(Timeout::Send, |socket| send(socket, &hello));
    let (welcome, fds) = match receive_reply(&patience) {
        Err(AttachError::Gone) => receive_reply(&patience)?,
        received => received?,
    };
    sent.map_err(system("a hello is sent"))?;
    let got = fds.len();
    let fds: [OwnedFd; DESCRIPTORS] = fds.try_into().map_err(|_| AttachError::Count { got, must: DESCRIPTORS })?;
    let [to_client, to_daemon, pool, staging, doorbell] = fds;
    let to_client = sized("daemon's ring", Memfd::given_to_read(to_client)?, ring_bytes(&welcome))?;
    let to_daemon = sized("client's ring", Memfd::given(to_daemon)?, ring_bytes(&welcome))?;
    let pool = sized("pool", Memfd::given_to_read(pool)?, welcome.pool_bytes)?;
    let staging = sized("staging area", Memfd::given(staging)?, welcome.staging_bytes)?;
    rustix::io::ioctl_fionbio(&socket, true).map_err(system("a socket is kept from waiting"))?;
    Ok(Attached {
        own: Arc::new(MappedSegment::own(to_daemon.map_own()?)?),
        peer: Arc::new(MappedSegment::of_peer(to_client.map()?)?),
        pool: Arc::new(pool.map()?),
        staging: StagingArea::new(OwnStagingMapping::new(staging.map_own()?)),
        link: Link::of_client(socket, Doorbell::given(doorbell)),
        welcome,
    })
}

fn ring_bytes(welcome: &Welcome) -> u64 {
    segment_bytes(welcome.ring_words as usize) as u64
}

fn sized(what: &'static str, memfd: Memfd, said: u64) -> Result<Memfd, AttachError> {
    let got = memfd.bytes() as u64;
    if got == said { Ok(memfd) } else { Err(AttachError::Size { what, said, got }) }
}

/// How long an attach waits on its socket, all its calls together.
struct Patience<'a> {
    socket: &'a OwnedFd,
    since: Instant,
    time_max: Duration,
}

impl<'a> Patience<'a> {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for in real time")]
    fn begin(socket: &'a OwnedFd, time_max: Duration) -> Self {
        Self { socket, since: Instant::now(), time_max }
    }

    /// A call that waits, for as long as is left of all. A socket that has a time limit is one whose calls the kernel does not
    /// begin again after a signal: that is done here.
    fn wait<T>(&self, limit: Timeout, mut call: impl FnMut(&OwnedFd) -> Result<T, Errno>) -> Result<T, Errno> {
        loop {
            let left = self.time_max.saturating_sub(self.since.elapsed());
            if left.is_zero() {
                // To the system that would be no limit.
                return Err(Errno::TIMEDOUT);
            }
            set_socket_timeout(self.socket, limit, Some(left))?;
            match call(self.socket) {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }
}

/// The daemon's answer, and the descriptors that came with it.
fn receive_reply(patience: &Patience<'_>) -> Result<(Welcome, Vec<OwnedFd>), AttachError> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut packet)];
    let receive = |socket: &OwnedFd| recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC);
    let got = patience.wait(Timeout::Recv, receive).map_err(system("a reply is received"))?;
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(AttachError::Descriptors);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        let limit = PACKET_BYTES_MAX as u64;
        return Err(DecodeError::TooLong { what: "a reply in bytes", got: limit + 1, limit }.into());
    }
    if got.bytes == 0 {
        return Err(AttachError::Gone);
    }
    match Reply::decode(packet.get(..got.bytes).unwrap_or_default())? {
        Reply::Welcome(welcome) => Ok((welcome, fds)),
        Reply::Refusal(refusal) => Err(AttachError::Refused(refusal)),
    }
}
