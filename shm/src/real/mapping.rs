//! Mappings of shared segments: the types say who may write.

use super::SharedMemoryError;
use crate::pool::{OwnRegion, Region};
use rustix::fd::BorrowedFd;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::io;
use std::ptr::NonNull;

/// What Linux can be built for at most.
const NODES_MAX: usize = 1024;

/// Bytes that are prefaulted between two words of progress.
const PREFAULT_STEP: usize = 64 << 20;

/// A segment mapped to read. Another process may write it.
#[derive(Debug)]
pub struct Mapping(Raw);

/// A segment mapped to write, by the one process that does.
#[derive(Debug)]
pub struct OwnMapping(Raw);

#[derive(Debug)]
struct Raw {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is memory of the whole process, valid until `drop`; what may be done to it at once is a matter of the
// types that hold a `Raw`.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl Raw {
    fn new(fd: BorrowedFd<'_>, len: usize, protection: ProtFlags) -> Result<Self, SharedMemoryError> {
        let failed = |source: rustix::io::Errno| SharedMemoryError::Map { bytes: len as u64, source: source.into() };
        // SAFETY: the kernel chooses an address where nothing is, and no Rust object refers to the new pages yet.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0) }.map_err(failed)?;
        let base = NonNull::new(base.cast()).ok_or_else(|| failed(rustix::io::Errno::INVAL))?;
        let raw = Self { base, len };
        // A child that was forked neither reads nor writes what its parent shares with somebody.
        // SAFETY: the range is this mapping; the advice changes what a fork copies and nothing here.
        unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }.map_err(failed)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and everything that refers to it borrows from its owner.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

impl Mapping {
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> Result<Self, SharedMemoryError> {
        Raw::new(fd, len, ProtFlags::READ).map(Self)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len
    }
}

impl OwnMapping {
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> Result<Self, SharedMemoryError> {
        Raw::new(fd, len, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len
    }

    /// Has pages given their memory from this NUMA node only, where they are touched by this mapping first; ordinary ones by
    /// any. Those that have theirs keep it.
    ///
    /// # Errors
    /// There is no such node, or this process may have nothing from it.
    pub fn bind(&self, node: u32) -> Result<(), SharedMemoryError> {
        let failed = |source| SharedMemoryError::Node { node, source };
        let mut nodes = [0_u64; NODES_MAX / 64];
        let word = nodes.get_mut(node as usize / 64).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        *word = 1 << (node % 64);
        // SAFETY: the kernel reads one bit less of the mask than it is told of; the range is this mapping, and its bytes stay
        // what they are.
        let done = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.0.base.as_ptr(),
                self.0.len,
                libc::MPOL_BIND,
                nodes.as_ptr(),
                NODES_MAX + 1,
                0,
            )
        };
        if done == 0 { Ok(()) } else { Err(failed(io::Error::last_os_error())) }
    }

    /// Has every page given its memory now, instead of when it is first written. Says how many bytes have theirs after
    /// each step.
    pub fn prefault(&self, mut progress: impl FnMut(u64)) -> Result<(), SharedMemoryError> {
        let bytes = self.0.len as u64;
        for from in (0..self.0.len).step_by(PREFAULT_STEP) {
            let len = PREFAULT_STEP.min(self.0.len - from);
            // SAFETY: the range lies within this mapping; its bytes stay what they are.
            let done = unsafe { madvise(self.0.base.add(from).as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
            done.map_err(|source| SharedMemoryError::Map { bytes, source: source.into() })?;
            progress((from + len) as u64);
        }
        Ok(())
    }
}

// SAFETY: a sealed memfd keeps its pages, and they read as zero until somebody writes.
unsafe impl Region for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.base()
    }

    fn len(&self) -> usize {
        self.bytes()
    }
}

// SAFETY: as above.
unsafe impl Region for OwnMapping {
    fn base(&self) -> NonNull<u8> {
        self.base()
    }

    fn len(&self) -> usize {
        self.bytes()
    }
}

// SAFETY: it is mapped writably, and the seals keep others from doing so.
unsafe impl OwnRegion for OwnMapping {}
