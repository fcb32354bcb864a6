//! The threads that wait for one client's calls, and do nothing else meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads wait.
#[derive(Clone, Default, Debug)]
pub(crate) struct Callers(Arc<AtomicUsize>);

impl Callers {
    /// One more waits, for as long as what this answers is there.
    #[cfg_attr(madsim, expect(dead_code, reason = "only the blocking client has threads that wait"))]
    pub fn enter(&self) -> Waiting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.0)
    }

    /// Whether the thread that asks is the only one at this moment.
    #[cfg_attr(
        not(all(target_os = "linux", not(madsim))),
        expect(dead_code, reason = "only who waits for shared memory sleeps")
    )]
    pub fn is_one(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }
}

#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
