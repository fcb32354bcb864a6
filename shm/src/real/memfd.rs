//! Memory without a name.

use super::{Mapping, OwnMapping, SharedMemoryError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

/// Whoever else has it can change neither its size nor its seals.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A segment of memory that can be given to another process.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
    bytes: usize,
}

impl Memfd {
    /// Makes a segment that this process writes, with its mapping: the only one that anybody can ever write by.
    pub fn own(bytes: usize) -> Result<(Self, OwnMapping), SharedMemoryError> {
        let memfd = Self::create(bytes)?;
        let mapping = OwnMapping::new(memfd.fd.as_fd(), bytes)?;
        memfd.seal(FIXED | SealFlags::FUTURE_WRITE)?;
        Ok((memfd, mapping))
    }

    /// Makes a segment that another process writes and this one reads, with its mapping.
    pub fn of_peer(bytes: usize) -> Result<(Self, Mapping), SharedMemoryError> {
        let memfd = Self::create(bytes)?;
        let mapping = Mapping::new(memfd.fd.as_fd(), bytes)?;
        memfd.seal(FIXED)?;
        Ok((memfd, mapping))
    }

    /// Takes a segment that another process has made. One that is not sealed is refused: its pages could go away.
    pub fn given(fd: OwnedFd) -> Result<Self, SharedMemoryError> {
        Self::sealed(fd, FIXED)
    }

    /// Takes a segment that another process has made and writes. One that anybody else could write is refused.
    pub fn given_to_read(fd: OwnedFd) -> Result<Self, SharedMemoryError> {
        Self::sealed(fd, FIXED | SealFlags::FUTURE_WRITE)
    }

    /// In bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn sealed(fd: OwnedFd, needs: SealFlags) -> Result<Self, SharedMemoryError> {
        let failed = |source: rustix::io::Errno| SharedMemoryError::Map { bytes: 0, source: source.into() };
        let bytes = usize::try_from(fstat(&fd).map_err(failed)?.st_size).unwrap_or(0);
        let has = fcntl_get_seals(&fd).map_err(failed)?;
        if !has.contains(needs) {
            return Err(SharedMemoryError::NotSealed { has: has.bits(), needs: needs.bits() });
        }
        Ok(Self { fd, bytes })
    }

    /// Maps it to read.
    pub fn map(&self) -> Result<Mapping, SharedMemoryError> {
        Mapping::new(self.fd.as_fd(), self.bytes)
    }

    /// Maps it to write, once: only of a segment whose writer is the peer that it was given to.
    pub fn map_own(&self) -> Result<OwnMapping, SharedMemoryError> {
        OwnMapping::new(self.fd.as_fd(), self.bytes)
    }

    fn create(bytes: usize) -> Result<Self, SharedMemoryError> {
        let failed =
            |source: rustix::io::Errno| SharedMemoryError::Create { bytes: bytes as u64, source: source.into() };
        // The name is for /proc only.
        let fd = memfd_create("bettong", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(failed)?;
        ftruncate(&fd, bytes as u64).map_err(failed)?;
        Ok(Self { fd, bytes })
    }

    fn seal(&self, seals: SealFlags) -> Result<(), SharedMemoryError> {
        let bytes = self.bytes as u64;
        fcntl_add_seals(&self.fd, seals).map_err(|source| SharedMemoryError::Seal { bytes, source: source.into() })
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Without its mappings, which live on.
impl From<Memfd> for OwnedFd {
    fn from(memfd: Memfd) -> Self {
        memfd.fd
    }
}
