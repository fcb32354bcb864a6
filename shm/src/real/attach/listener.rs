//! The daemon's socket in the file system.

use super::packet::{Refusal, RefusalKind, Reply};
use super::peer::credentials;
use super::{AttachError, Peer, Pending, send, system};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, lstat, open, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest path of a unix socket, in bytes: what the system has room for, less the zero behind it.
pub const PATH_BYTES_MAX: usize = 107;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Accepts clients on a path that only their users can reach. The file is removed when this is dropped, if it is still its own.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
    allowed: BTreeSet<u32>,
    /// Whoever has it alone puts a socket at the path and takes one away.
    _lock: OwnedFd,
}

/// The user that this process acts as.
pub fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A path as an address, and no file but a socket there.
pub(super) fn address(path: &Path) -> Result<SocketAddrUnix, AttachError> {
    let len = path.as_os_str().as_bytes().len();
    if len > PATH_BYTES_MAX {
        return Err(AttachError::PathTooLong { path: path.to_owned(), len, limit: PATH_BYTES_MAX });
    }
    SocketAddrUnix::new(path).map_err(system("the path of a socket is read"))
}

pub(super) fn new_socket(flags: SocketFlags) -> Result<OwnedFd, AttachError> {
    let flags = flags | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(system("a socket is made"))
}

impl Listener {
    /// Listens on `path`, for processes of the users `allowed`. Only this process's own user can reach the file, so the others
    /// need a path of the system that leads there. A socket that nobody listens on is removed first. Of two daemons that
    /// start on one path at once the one that locks the file beside it, `PATH.lock`, is the one that listens; that file, which
    /// is empty, stays.
    pub fn bind(path: &Path, allowed: BTreeSet<u32>) -> Result<Self, AttachError> {
        let address = address(path)?;
        let lock = lock(path)?;
        remove_stale(path, &address)?;
        let socket = new_socket(SocketFlags::NONBLOCK)?;
        // What the file is made with: nobody else ever reaches it.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(system("a socket's mode is set"))?;
        bind(&socket, &address).map_err(|error| match error {
            Errno::ADDRINUSE => AttachError::InUse { path: path.to_owned() },
            error => system("a socket is bound to its path")(error),
        })?;
        let file = file_of(path)?;
        let listener = Self { socket, path: path.to_owned(), file, allowed, _lock: lock };
        listen(&listener.socket, BACKLOG).map_err(system("a socket listens"))?;
        Ok(listener)
    }

    /// The next client that waits; `None` where none does. One whose user may not attach is told so, and is an error that
    /// says nothing of the clients behind it.
    pub fn accept(&self) -> Result<Option<Pending>, AttachError> {
        let socket = match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(None),
            Err(error) => return Err(system("a client is accepted")(error)),
        };
        let (uid, pid) = credentials(&socket)?;
        if !self.allowed.contains(&uid) {
            let error = AttachError::Uid { uid, pid, allowed: self.allowed.iter().copied().collect() };
            let refusal = Refusal { kind: RefusalKind::User, limit: 0, text: error.to_string() };
            // It may not wait for it.
            let _ = send(&socket, &Reply::Refusal(refusal).encode());
            return Err(error);
        }
        let peer = Peer::of(&socket)?;
        Ok(Some(Pending::new(socket, peer)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have put another one there.
        if file_of(&self.path).is_ok_and(|file| file == self.file) {
            let _ = unlink(&self.path);
        }
    }
}

/// Keeps the path from other daemons. To see that nobody listens on a socket, to remove it and to put another one there are
/// three steps: between them, somebody else's new one would be removed for the old one.
fn lock(path: &Path) -> Result<OwnedFd, AttachError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(Path::new(&beside), flags, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(system("the lock beside a socket is opened"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN) => Err(AttachError::InUse { path: path.to_owned() }),
        Err(error) => Err(system("the lock beside a socket is taken")(error)),
    }
}

fn file_of(path: &Path) -> Result<(u64, u64), AttachError> {
    let stat = lstat(path).map_err(system("the file of a socket is looked at"))?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes a socket that nobody listens on, and nothing else.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), AttachError> {
    let stat = match lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(system("the file of a socket is looked at")(error)),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(AttachError::NoSocket { path: path.to_owned() });
    }
    let probe = new_socket(SocketFlags::NONBLOCK)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => unlink(path).map_err(system("a socket that nobody listens on is removed")),
        Err(Errno::NOENT) => Ok(()),
        // Also one of another kind, or one whose backlog is full.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN) => Err(AttachError::InUse { path: path.to_owned() }),
        Err(error) => Err(system("a socket is tried")(error)),
    }
}
