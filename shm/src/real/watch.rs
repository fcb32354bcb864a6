//! Descriptors that an executor watches: tokio's reactor, for who drives sessions on it.

use super::attach::{AttachError, Heard, Link};
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

/// One end of a session's socket, and its doorbell where it has one, watched by the current executor.
#[derive(Debug)]
pub struct WatchedLink {
    // These end before the descriptors do.
    socket: AsyncFd<RawFd>,
    doorbell: Option<AsyncFd<RawFd>>,
    link: Link,
}

impl WatchedLink {
    /// Watches from now on. Must be called where a runtime with I/O is current.
    pub fn new(link: Link) -> io::Result<Self> {
        let watch = |fd: BorrowedFd<'_>| {
            // SAFETY: the link owns both descriptors, which are open and the same for as long as it is there. It is dropped
            // behind what watches them, and nobody can take it out.
            unsafe { AsyncFd::register_with_interest(fd.as_raw_fd(), Interest::READABLE) }.map_err(io::Error::from)
        };
        Ok(Self { socket: watch(link.as_fd())?, doorbell: link.doorbell().map(watch).transpose()?, link })
    }

    pub fn get(&self) -> &Link {
        &self.link
    }

    /// What there is to hear; never `Nothing`. To be asked again until it waits: each thing is said once, and having been
    /// woken may be said by whatever else there is.
    pub fn poll_hear(&self, cx: &mut Context<'_>) -> Poll<Result<Heard, AttachError>> {
        let failed = |source| AttachError::System { what: "a session is watched", source };
        let mut is_woken = false;
        // The edge is what counts, and every ring is one: what is rung from here on is another.
        if let Some(doorbell) = &self.doorbell
            && let Poll::Ready(rung) = doorbell.poll_read_ready(cx)
        {
            rung.map_err(failed)?.clear_ready();
            is_woken = true;
        }
        while let Poll::Ready(readable) = self.socket.poll_read_ready(cx) {
            let mut readable = readable.map_err(failed)?;
            match self.link.hear_packet()? {
                Heard::Nothing => readable.clear_ready(),
                heard => return Poll::Ready(Ok(heard)),
            }
        }
        if is_woken { Poll::Ready(Ok(Heard::Woken)) } else { Poll::Pending }
    }

    /// As `poll_hear`.
    pub async fn hear(&self) -> Result<Heard, AttachError> {
        std::future::poll_fn(|cx| self.poll_hear(cx)).await
    }
}
