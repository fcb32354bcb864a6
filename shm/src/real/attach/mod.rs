//! How a client comes to share memory with the daemon: one unix socket of packets, over which the daemon gives it four
//! segments and its doorbell; by that, and over the socket, either wakes the other from then on.
//!
//! The daemon makes everything, and takes no descriptor from anybody. What this does not do: wait for a `Hello` that never
//! comes, bound how many clients there are, or say that a client is gone; that is what its pidfd is for.

mod client;
mod doorbell;
mod link;
mod listener;
mod packet;
mod peer;
mod pending;

pub use client::{Attached, attach};
pub use link::{Heard, Link};
pub use listener::{Listener, PATH_BYTES_MAX, own_uid};
pub use packet::{Hello, NAME_BYTES_MAX, REFUSAL_TEXT_BYTES_MAX, Refusal, RefusalKind, Reply, VERSION, Welcome};
pub use peer::Peer;
pub use pending::{Offer, Offered, Pending};

use super::SharedMemoryError;
use bettong_wire::DecodeError;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;

/// Why a client and a daemon do not share memory.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("the socket's path {path:?} has {len} bytes, the system's limit is {limit}")]
    PathTooLong { path: PathBuf, len: usize, limit: usize },
    #[error("{path:?} is there and no socket: it is not removed")]
    NoSocket { path: PathBuf },
    #[error("somebody else listens on {path:?}")]
    InUse { path: PathBuf },
    #[error("the user {uid} of process {pid} may not attach: {allowed:?} may")]
    Uid { uid: u32, pid: i32, allowed: Vec<u32> },
    #[error("the daemon is user {uid}'s, and this process is user {own}'s: memory is shared with nobody else")]
    Daemon { uid: u32, own: u32 },
    #[error("the other side sent descriptors, which nobody takes from it")]
    Descriptors,
    #[error("{got} descriptors came with the welcome, it has {must}")]
    Count { got: usize, must: usize },
    #[error("the {what} has {got} bytes, the welcome says {said}")]
    Size { what: &'static str, said: u64, got: u64 },
    #[error(transparent)]
    Packet(#[from] DecodeError),
    /// The daemon said no.
    #[error("the daemon refuses: {0}")]
    Refused(Refusal),
    #[error("the other side is gone")]
    Gone,
    #[error("no answer came in time")]
    TimedOut,
    #[error("the socket is full of what the other side has not heard yet")]
    Full,
    #[error(transparent)]
    Memory(#[from] SharedMemoryError),
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// An error of the system, with what was tried.
fn system(what: &'static str) -> impl Fn(Errno) -> AttachError {
    move |errno| match errno {
        Errno::PIPE | Errno::CONNRESET => AttachError::Gone,
        Errno::AGAIN | Errno::TIMEDOUT => AttachError::TimedOut,
        errno => AttachError::System { what, source: errno.into() },
    }
}

/// Sends one packet without descriptors. What cannot be sent at once is `AGAIN`, unless the socket waits.
fn send(socket: impl rustix::fd::AsFd, packet: &[u8]) -> Result<(), Errno> {
    sendmsg(socket, &[IoSlice::new(packet)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What came over a socket.
enum Packet<'a> {
    Bytes(&'a [u8]),
    /// The other side has closed it.
    End,
}

/// Receives one packet and no descriptors: those that come with it the system closes, and that is an error. So is a packet
/// that is longer than `space`, which is to be longer than any that is known.
fn receive<'a>(
    socket: impl rustix::fd::AsFd,
    space: &'a mut [u8],
    control: &mut RecvAncillaryBuffer<'_>,
) -> Result<Packet<'a>, AttachError> {
    let flags = RecvFlags::CMSG_CLOEXEC;
    let limit = space.len() as u64;
    let got = recvmsg(socket, &mut [IoSliceMut::new(space)], control, flags).map_err(system("a packet is received"))?;
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(AttachError::Descriptors);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        let what = "a packet in bytes";
        return Err(DecodeError::TooLong { what, got: limit + 1, limit }.into());
    }
    Ok(match space.get(..got.bytes).unwrap_or_default() {
        [] => Packet::End,
        bytes => Packet::Bytes(bytes),
    })
}
