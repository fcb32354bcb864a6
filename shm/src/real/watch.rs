//! Descriptors that an executor watches: tokio's reactor, for who drives sessions on it.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What owns one descriptor from its beginning to its end.
pub trait OneDescriptor: AsFd + sealed::Sealed {}

mod sealed {
    /// Only types of this crate and of the standard library: `Watched` believes that their descriptor stays the same.
    pub trait Sealed {}
}

impl sealed::Sealed for super::attach::Listener {}
impl OneDescriptor for super::attach::Listener {}
impl sealed::Sealed for super::attach::Pending {}
impl OneDescriptor for super::attach::Pending {}
impl sealed::Sealed for super::attach::Link {}
impl OneDescriptor for super::attach::Link {}
impl sealed::Sealed for OwnedFd {}
impl OneDescriptor for OwnedFd {}

/// Something to read from, watched by the current executor.
#[derive(Debug)]
pub struct Watched<T: OneDescriptor>(AsyncFd<Raw<T>>);

#[derive(Debug)]
struct Raw<T>(T);

impl<T: OneDescriptor> AsRawFd for Raw<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl<T: OneDescriptor> Watched<T> {
    /// Watches from now on. Must be called where a runtime with I/O is current.
    pub fn new(inner: T) -> io::Result<Self> {
        // SAFETY: `inner` owns its descriptor, which is open and the same for as long as `inner` is there: such are all types
        // that are `OneDescriptor`. Nobody can take it out while it is watched.
        let watched = unsafe { AsyncFd::register_with_interest(Raw(inner), Interest::READABLE) };
        watched.map(Self).map_err(io::Error::from)
    }

    pub fn get(&self) -> &T {
        &self.0.get_ref().0
    }

    /// Watches no longer.
    pub fn into_inner(self) -> T {
        self.0.into_inner().0
    }

    /// Whether there is something to read, or the other side is gone. Stays so until `take` finds nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx).map_ok(|_| ())
    }

    /// What `take` takes, which says `None` where nothing is there: then it is waited for.
    pub fn poll_take<R>(&self, cx: &mut Context<'_>, mut take: impl FnMut(&T) -> Option<R>) -> Poll<io::Result<R>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match take(self.get()) {
                Some(taken) => return Poll::Ready(Ok(taken)),
                None => ready.clear_ready(),
            }
        }
    }

    /// As `poll_take`.
    pub async fn take<R>(&self, mut take: impl FnMut(&T) -> Option<R>) -> io::Result<R> {
        std::future::poll_fn(|cx| self.poll_take(cx, &mut take)).await
    }
}

impl<T: OneDescriptor> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get().as_fd()
    }
}
