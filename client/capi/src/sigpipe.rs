//! That a connection which the daemon has closed is an error, and not the end of the caller's process. A program in Rust
//! ignores SIGPIPE from its start; one in C dies of it, and what it does about signals is not a library's to change.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Keeps SIGPIPE from this thread until it is dropped. What was raised meanwhile is taken away, so that it does not come
/// afterwards.
pub struct Held {
    /// `None` where nothing is to be undone: one was waiting before, which is somebody else's.
    before: Option<libc::sigset_t>,
    /// The mask is the thread's.
    is_of_this_thread: PhantomData<*mut ()>,
}

fn sigpipe_alone() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset makes a set of what it is given, sigaddset changes that; neither can fail for this signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

pub fn is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: sigpending fills in the set that it is given, and only where it did so is that read.
    unsafe { libc::sigpending(pending.as_mut_ptr()) == 0 && libc::sigismember(pending.as_ptr(), libc::SIGPIPE) == 1 }
}

pub fn hold() -> Held {
    let none = Held { before: None, is_of_this_thread: PhantomData };
    if is_pending() {
        return none;
    }
    let mut before = MaybeUninit::uninit();
    // SAFETY: the first set is whole, the second is filled in, and is only read where the call says that it was.
    unsafe {
        match libc::pthread_sigmask(libc::SIG_BLOCK, &sigpipe_alone(), before.as_mut_ptr()) {
            0 => Held { before: Some(before.assume_init()), ..none },
            _ => none,
        }
    }
}

/// Takes away one that waits, which this thread must have blocked. Without waiting: one that was sent to the process, and not
/// to this thread, another may take first.
#[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
pub fn take() {
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the time are whole, and nobody asks what was taken.
    unsafe { libc::sigtimedwait(&sigpipe_alone(), std::ptr::null_mut(), &at_once) };
}

/// The same where no call takes one without waiting. Waits where another thread takes it in between.
#[cfg(any(target_vendor = "apple", target_os = "openbsd"))]
pub fn take() {
    if is_pending() {
        let mut taken = 0;
        // SAFETY: both are places of this function.
        unsafe { libc::sigwait(&sigpipe_alone(), &mut taken) };
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        take();
        // SAFETY: the mask is the one that this thread had; nobody asks for the one that goes.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    }
}
