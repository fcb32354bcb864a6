//! A bare futex between two processes: what any wake-up costs on this machine.

use super::processes::Running;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::thread::futex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Two words of shared memory: whose turn it is, and whether it is over.
struct Shared(&'static [AtomicU32; 2]);

fn map(fd: &OwnedFd) -> Shared {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses where; the mapping stays until the process ends, and atomics may be shared.
    let words = unsafe { mmap(std::ptr::null_mut(), 4096, protection, MapFlags::SHARED, fd, 0) };
    // SAFETY: it is a page of zeros, which are two atomics.
    Shared(unsafe { &*words.expect("a mapping").cast() })
}

impl Shared {
    fn wait(&self, turn: u32) {
        while self.0[0].load(Ordering::Acquire) != turn {
            let _ = futex::wait(&self.0[0], futex::Flags::empty(), 1 - turn, None);
        }
    }

    fn give(&self, turn: u32) {
        self.0[0].store(turn, Ordering::Release);
        let _ = futex::wake(&self.0[0], futex::Flags::empty(), 1);
    }
}

pub fn echo(fd: &str) {
    // SAFETY: the parent left it open for this process alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd.parse().expect("a descriptor")) };
    let shared = map(&fd);
    loop {
        shared.wait(1);
        shared.give(0);
    }
}

pub struct Futex {
    shared: Shared,
    _echo: Running,
}

impl Futex {
    pub fn start() -> Self {
        let fd = memfd_create("bettong-bench", MemfdFlags::empty()).expect("a memfd");
        ftruncate(&fd, 4096).expect("a page");
        let shared = map(&fd);
        let echo = Running::of_self(&["futex-echo", &fd.as_raw_fd().to_string()]);
        Self { shared, _echo: echo }
    }

    pub fn ping(&self) {
        self.shared.give(1);
        self.shared.wait(0);
    }
}
