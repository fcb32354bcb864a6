//! Who is at the other end of a socket.

use super::{AttachError, system};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that has connected.
#[derive(Debug)]
pub struct Peer {
    pub uid: u32,
    /// 0 where it is in a namespace that has no number for it here.
    pub pid: i32,
    /// Becomes readable when the process is gone, and names no other one then.
    pub pidfd: OwnedFd,
}

/// User and process number of who has connected.
pub(super) fn credentials(socket: impl AsFd) -> Result<(u32, i32), AttachError> {
    // `struct ucred`: process, user, group.
    let [pid, uid, _] = option(socket.as_fd(), libc::SO_PEERCRED).map_err(system("a peer's credentials are read"))?;
    Ok((uid.cast_unsigned(), pid))
}

impl Peer {
    pub(super) fn of(socket: impl AsFd) -> Result<Self, AttachError> {
        let socket = socket.as_fd();
        let (uid, pid) = credentials(socket)?;
        let pidfd = match option(socket, libc::SO_PEERPIDFD) {
            Ok([number]) => {
                // SAFETY: the kernel has just opened this descriptor for this process, and nobody else knows of it.
                unsafe { OwnedFd::from_raw_fd(number) }
            }
            Err(Errno::NOPROTOOPT) => by_number(socket, pid)?,
            Err(Errno::SRCH | Errno::INVAL | Errno::NODATA) => return Err(AttachError::Gone),
            Err(error) => return Err(system("a peer's pidfd is opened")(error)),
        };
        Ok(Self { uid, pid, pidfd })
    }
}

/// The pidfd of the process that has the number: for kernels that do not give that of a peer.
fn by_number(socket: BorrowedFd<'_>, pid: i32) -> Result<OwnedFd, AttachError> {
    let unseen = system("a peer of another process namespace is looked for, which needs Linux 6.5");
    let pid = Pid::from_raw(pid).ok_or_else(|| unseen(Errno::SRCH))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
        Errno::SRCH => AttachError::Gone,
        error => system("a peer's pidfd is opened")(error),
    })?;
    // While the peer has its end open it lives, and the number is its own.
    match recv(socket, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Err(AttachError::Gone),
        Ok(_) | Err(Errno::AGAIN) => Ok(pidfd),
        Err(error) => Err(system("a peer is looked at again")(error)),
    }
}

/// An option of a socket that is so many 32-bit numbers.
fn option<const NUMBERS: usize>(socket: BorrowedFd<'_>, name: libc::c_int) -> Result<[i32; NUMBERS], Errno> {
    let mut value = [0; NUMBERS];
    let bytes = size_of_val(&value) as libc::socklen_t;
    let mut len = bytes;
    // SAFETY: the kernel writes at most `len` bytes to `value`, which has so many, and any bits are numbers; both pointers are
    // to places that outlive the call.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &raw mut len)
    };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    if len == bytes { Ok(value) } else { Err(Errno::INVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn a_peer_is_known_by_either_way() {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let peer = Peer::of(&near).unwrap();
        let own = rustix::process::getpid().as_raw_pid();
        assert_eq!((peer.uid, peer.pid), (rustix::process::geteuid().as_raw(), own));
        for pidfd in [peer.pidfd, by_number(near.as_fd(), own).unwrap()] {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            assert_eq!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&at_once)), Ok(0), "it lives");
            let flags = rustix::io::fcntl_getfd(&pidfd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert!(matches!(by_number(near.as_fd(), 0), Err(AttachError::System { .. })));
        drop(far);
        assert!(matches!(by_number(near.as_fd(), own), Err(AttachError::Gone)), "its number may be another's");
    }
}
