//! Memory without a name.

use super::{Mapping, OwnMapping, SharedMemoryError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

/// Whoever else has it can change neither its size nor its seals.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// What pages a segment is made of. Huge ones must have been set aside, and a segment has whole ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pages {
    #[default]
    Ordinary,
    Of2MiB,
    Of1GiB,
}

impl Pages {
    /// Pages of so many bytes each, 0 for ordinary ones; `None` where there are no such.
    pub fn of(bytes: u64) -> Option<Self> {
        match bytes {
            0 => Some(Self::Ordinary),
            0x20_0000 => Some(Self::Of2MiB),
            0x4000_0000 => Some(Self::Of1GiB),
            _ => None,
        }
    }

    fn flags(self) -> MemfdFlags {
        match self {
            Self::Ordinary => MemfdFlags::empty(),
            Self::Of2MiB => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
            Self::Of1GiB => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        }
    }
}

/// A segment of memory that can be given to another process.
#[derive(Debug)]
pub struct Memfd {
    fd: OwnedFd,
    bytes: usize,
}

impl Memfd {
    /// Makes a segment that this process writes, with its mapping: the only one that anybody can ever write by.
    pub fn own(bytes: usize) -> Result<(Self, OwnMapping), SharedMemoryError> {
        Self::own_of(bytes, Pages::Ordinary)
    }

    /// As `own`, of such pages. As many huge ones are kept for this segment, of those of the whole machine: where a node or a
    /// control group has fewer, `prefault` fails, and whoever touches a page that has not been had dies of it.
    ///
    /// # Errors
    /// `bytes` are no whole pages, or there are not as many.
    pub fn own_of(bytes: usize, pages: Pages) -> Result<(Self, OwnMapping), SharedMemoryError> {
        let memfd = Self::create(bytes, pages)?;
        let mapping = OwnMapping::new(memfd.fd.as_fd(), bytes)?;
        memfd.seal(FIXED | SealFlags::FUTURE_WRITE)?;
        Ok((memfd, mapping))
    }

    /// Makes a segment that another process writes and this one reads, with its mapping.
    pub fn of_peer(bytes: usize) -> Result<(Self, Mapping), SharedMemoryError> {
        let memfd = Self::create(bytes, Pages::Ordinary)?;
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

    fn create(bytes: usize, pages: Pages) -> Result<Self, SharedMemoryError> {
        let failed =
            |source: rustix::io::Errno| SharedMemoryError::Create { bytes: bytes as u64, source: source.into() };
        // The name is for /proc only.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages.flags();
        let fd = memfd_create("bettong", flags).map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_had_or_refused_with_the_reason() {
        assert_eq!(Pages::of(0), Some(Pages::Ordinary));
        assert_eq!(Pages::of(4096), None);
        let pages = Pages::of(2 << 20).unwrap();
        assert!(matches!(Memfd::own_of(4096, pages), Err(SharedMemoryError::Create { bytes: 4096, .. })));
        // More than any machine has set aside.
        assert!(Memfd::own_of(usize::MAX >> 1 & !((2 << 20) - 1), pages).is_err());
        // As many as there are here: most machines have none.
        if let Ok((memfd, mapping)) = Memfd::own_of(2 << 20, pages) {
            mapping.prefault(|_| {}).unwrap();
            assert!(memfd.map_own().is_err(), "another can write it");
            assert_eq!(Memfd::given_to_read(memfd.into()).unwrap().map().unwrap().bytes(), 2 << 20);
        }
    }

    #[test]
    fn memory_is_taken_from_the_node_that_is_named() {
        let (_memfd, mapping) = Memfd::own(8192).unwrap();
        for node in [1024, u32::MAX] {
            assert!(matches!(mapping.bind(node), Err(SharedMemoryError::Node { node: got, .. }) if got == node));
        }
        if let Err(error) = mapping.bind(0) {
            // A kernel without nodes, or a container that may not choose.
            let refused = [libc::ENOSYS, libc::EPERM];
            let SharedMemoryError::Node { source, .. } = &error else { panic!("{error}") };
            assert!(source.raw_os_error().is_some_and(|code| refused.contains(&code)), "{error}");
            return;
        }
        mapping.prefault(|_| {}).unwrap();
        let mut policy: libc::c_int = -1;
        // `MPOL_F_ADDR`, which libc does not name.
        let (of_address, none) = (1 << 1, std::ptr::null::<u64>());
        // SAFETY: the kernel writes one number, of the mapping that begins there.
        let got = unsafe {
            libc::syscall(libc::SYS_get_mempolicy, &raw mut policy, none, 0, mapping.base().as_ptr(), of_address)
        };
        assert_eq!((got, policy), (0, libc::MPOL_BIND));
    }
}
