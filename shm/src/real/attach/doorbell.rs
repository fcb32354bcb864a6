//! What wakes the daemon: an eventfd that the client rings, half of what a packet costs.
//!
//! Its flags, and the locks of its reads and writes, are the client's as well. So the daemon never writes it, and goes by its
//! edges without reading it; and where it wakes a client, it sends a packet: nothing that a client can do keeps the sender of
//! one waiting. A pipe would: whoever splices out of it into something full keeps its writers out, non-blocking or not. To the
//! client an eventfd is safer than a pipe in another way: who rings one whose daemon is gone gets no signal.

use super::{AttachError, system};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, ReadWriteFlags, preadv2, write};
use std::io::IoSliceMut;

/// An end of it; all ends are the same.
#[derive(Debug)]
pub(super) struct Doorbell(OwnedFd);

impl Doorbell {
    pub fn new() -> Result<Self, AttachError> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        fd.map(Self).map_err(system("a doorbell is made"))
    }

    /// A client's end, as the daemon gave it.
    pub fn given(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Wakes the daemon; for a client. Where there is no room for one ring more it has been rung often enough.
    pub fn ring(&self) -> Result<(), AttachError> {
        match write(&self.0, &1_u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(system("the daemon is woken")(error)),
        }
    }

    /// Takes all that has rung until now; whether it was anything. Never waits, whatever the client has done to the flags.
    pub fn take(&self) -> bool {
        let mut rings = [0; 8];
        // The offset says that this is no file with places.
        preadv2(&self.0, &mut [IoSliceMut::new(&mut rings)], u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
    }
}

impl AsFd for Doorbell {
    /// Readable when it has been rung; each ring is an edge.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::ioctl_fionbio;

    fn is_rung(doorbell: &Doorbell) -> bool {
        poll(&mut [PollFd::new(doorbell, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    fn ends() -> (Doorbell, Doorbell) {
        let daemon = Doorbell::new().unwrap();
        let client = Doorbell::given(daemon.0.try_clone().unwrap());
        (daemon, client)
    }

    #[test]
    fn rings_are_taken_together() {
        let (daemon, client) = ends();
        assert!(!is_rung(&daemon) && !daemon.take());
        client.ring().unwrap();
        client.ring().unwrap();
        assert!(is_rung(&daemon) && daemon.take() && !daemon.take() && !is_rung(&daemon));
        drop(daemon);
        client.ring().unwrap();
    }

    #[test]
    fn a_client_may_fill_it_and_make_it_wait_and_the_daemon_does_not() {
        let (daemon, client) = ends();
        write(&client.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        client.ring().unwrap();
        ioctl_fionbio(&client.0, false).unwrap();
        assert!(daemon.take() && !daemon.take(), "full, then empty");
    }
}
