//! The primitives that ring code may use: the real ones, or those of the model checker in their place.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Locks what no panic leaves half-done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// With this a cursor says that what was done before it is done.
#[cfg(not(loom))]
pub(crate) const fn release() -> Ordering {
    Ordering::Release
}

/// The model checker's fence, which a test can leave out to see what it is there for.
#[cfg(loom)]
pub(crate) fn fence(order: Ordering) {
    if !planted::is(planted::Bug::NoFence) {
        loom::sync::atomic::fence(order);
    }
}

/// With this a cursor says that what was done before it is done, unless a test wants to see what happens if it does not.
#[cfg(loom)]
pub(crate) fn release() -> Ordering {
    if planted::is(planted::Bug::NoRelease) { Ordering::Relaxed } else { Ordering::Release }
}

/// Bugs that a model must find.
#[cfg(any(loom, shuttle))]
pub mod planted {
    use std::sync::Mutex;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Bug {
        /// Sleeper and waker do not order what they write before what they read.
        NoFence,
        /// Cursors say nothing of what was done before them.
        NoRelease,
        /// A lease does not keep its slot.
        NoHold,
    }

    static PLANTED: Mutex<Option<Bug>> = Mutex::new(None);

    /// Plants a bug, in the whole process.
    pub fn plant(bug: Bug) {
        *PLANTED.lock().expect("nothing panics while it is held") = Some(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        *PLANTED.lock().expect("nothing panics while it is held") == Some(bug)
    }
}
