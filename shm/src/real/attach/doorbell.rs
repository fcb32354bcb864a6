//! What wakes a process that sleeps: half of what a packet costs, and nothing in it that could be wrong.
//!
//! Either way is of another kind, because a process must not hang, or die, by what the other does with its end. To the daemon
//! it is an eventfd: a client that rings one whose daemon is gone gets no signal, as a pipe's writer would. Its flags are the
//! client's as well, so the daemon neither waits on it nor reads it in a way that may wait: it goes by the edges. To the
//! client it is a pipe: its ends have flags of their own, so the daemon's never waits, whatever the client does.

use super::{AttachError, system};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, ReadWriteFlags, preadv2, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::IoSliceMut;

/// What one ring writes: an eventfd takes so many bytes and no others.
const ONE: [u8; 8] = 1_u64.to_ne_bytes();

/// One process's end of both ways.
#[derive(Debug)]
pub(super) struct Doorbells {
    theirs: OwnedFd,
    own: Own,
}

#[derive(Debug)]
enum Own {
    /// The daemon's. Its client may write what it likes, read it empty, and let it wait.
    Event(OwnedFd),
    /// A client's: the end of a pipe to read from.
    Pipe(OwnedFd),
}

/// What a client is to be given: its two descriptors.
pub(super) struct ForClient {
    pub theirs: OwnedFd,
    pub own: OwnedFd,
}

impl Doorbells {
    /// The daemon's end, and what the client's is made of.
    pub fn new() -> Result<(Self, ForClient), AttachError> {
        let made = system("a doorbell is made");
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(&made)?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(&made)?;
        let theirs = event.try_clone().map_err(|source| AttachError::System { what: "a doorbell is made", source })?;
        Ok((Self { theirs: write, own: Own::Event(event) }, ForClient { theirs, own: read }))
    }

    /// A client's end, of what the daemon gave it.
    pub fn of_client(ForClient { theirs, own }: ForClient) -> Self {
        Self { theirs, own: Own::Pipe(own) }
    }

    /// Wakes the other side. Where its doorbell is full it has been rung often enough.
    pub fn ring(&self) -> Result<(), AttachError> {
        match write(&self.theirs, &ONE) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(system("the other side is woken")(error)),
        }
    }

    /// Takes all that has rung until now; whether it was anything. Never waits.
    pub fn take(&self) -> bool {
        // As many rings as a page has room for: where there are more, there will be an edge or a look again.
        let mut rings = [0; 4096];
        let taken = match &self.own {
            // The offset says that this is no file with places.
            Own::Event(fd) => preadv2(fd, &mut [IoSliceMut::new(&mut rings)], u64::MAX, ReadWriteFlags::NOWAIT),
            Own::Pipe(fd) => read(fd, &mut rings),
        };
        taken.is_ok_and(|bytes| bytes > 0)
    }

    /// After an edge: what is needed for the next ring to be one, too. A pipe that is full has none.
    #[cfg(not(madsim))]
    pub fn take_edge(&self) {
        if let Own::Pipe(_) = self.own {
            self.take();
        }
    }
}

impl AsFd for Doorbells {
    /// Readable when it has rung.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.own {
            Own::Event(fd) | Own::Pipe(fd) => fd.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::ioctl_fionbio;

    fn ends() -> (Doorbells, Doorbells) {
        let (daemon, client) = Doorbells::new().unwrap();
        (daemon, Doorbells::of_client(client))
    }

    fn is_rung(doorbells: &Doorbells) -> bool {
        poll(&mut [PollFd::new(doorbells, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn either_end_wakes_the_other_and_not_itself() {
        let (daemon, client) = ends();
        for (from, to) in [(&daemon, &client), (&client, &daemon)] {
            assert!(!is_rung(to) && !to.take());
            from.ring().unwrap();
            from.ring().unwrap();
            assert!(is_rung(to) && !is_rung(from));
            assert!(to.take() && !to.take() && !is_rung(to));
        }
    }

    #[test]
    fn a_full_bell_keeps_nobody_waiting_whatever_the_client_does_with_its_end() {
        let (daemon, client) = ends();
        ioctl_fionbio(&client.theirs, false).unwrap();
        ioctl_fionbio(client.as_fd(), false).unwrap();
        (0..100_000).for_each(|_| daemon.ring().unwrap());
        write(&client.theirs, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        assert!(daemon.take() && !daemon.take(), "full, then empty");
    }

    #[test]
    fn who_rings_for_nobody_lives_and_hears_of_it_at_most() {
        let (daemon, client) = ends();
        drop(client);
        assert!(matches!(daemon.ring(), Err(AttachError::Gone)));
        let (daemon, client) = ends();
        drop(daemon);
        client.ring().unwrap();
    }
}
