//! The shared-memory door: drives one session's rings, and sees to it that what a client may be reading stays.
//!
//! One task serves one session. While requests come one upon another it looks for the next by itself, giving way to others
//! each time; else it sleeps until its client wakes it. What this does not do: make memory, accept clients, or find out that
//! a process is gone; whoever drives it brings a `Line` that says so.

mod session;
mod sessions;
mod spin;
#[cfg(test)]
mod tests;

pub use sessions::{Client, Sessions};

use super::{Authenticate, Deadlines};
use crate::service::Service;
use crate::world::Clock;
use bettong_shm::ring::Segment;
use bettong_shm::session::staging::Staging;
use bettong_shm::session::{ServerSession, SessionError};
use session::Session;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How a session is driven.
#[derive(Clone, Copy, Debug)]
pub struct ShmLimits {
    pub deadlines: Deadlines,
    /// How long a session looks for the next request before it sleeps, where the last came about as soon. Zero in a
    /// simulation, where looking takes no time.
    pub spin: Duration,
}

impl Default for ShmLimits {
    fn default() -> Self {
        Self { deadlines: Deadlines::default(), spin: Duration::from_micros(100) }
    }
}

/// What client and daemon say to each other besides the rings.
pub trait Line: Send {
    /// Wakes the client. Never waits.
    fn wake(&mut self);

    /// Tells the client that its session is over, and why.
    fn say_why(&mut self, end: &Ended);

    /// What the client has said since the last time; pending while that is nothing.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard>;
}

/// What a `Line` hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The client has written, or has read what was in the way.
    Woken,
    /// The client has said that it reads nothing any more.
    Detached,
    /// The client's process is gone.
    Gone,
    /// The client has closed its end of the line. It may still read.
    Closed,
    /// What the client says breaks the protocol of the line, for this reason. It may still read.
    Nonsense(String),
}

/// Why a session ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ended {
    #[error("the client detached")]
    Detached,
    #[error("the client's process is gone")]
    Gone,
    #[error("the client closed its socket")]
    Closed,
    #[error("the client broke the protocol: {0}")]
    Broken(#[from] SessionError),
    #[error("{0}")]
    Refused(String),
    #[error("the daemon is shutting down")]
    Stopped,
}

/// Serves sessions.
pub struct ShmDoor<S, C, A> {
    service: Arc<S>,
    clock: C,
    authenticate: A,
    sessions: Sessions,
    limits: ShmLimits,
}

impl<S: Service, C: Clock, A: Authenticate> ShmDoor<S, C, A> {
    pub fn new(service: Arc<S>, clock: C, authenticate: A, sessions: Sessions, limits: ShmLimits) -> Self {
        Self { service, clock, authenticate, sessions, limits }
    }

    /// Serves one session until it ends, says why, and keeps its leases until its client detaches or is gone. When `stop`
    /// completes, requests under way are still answered and new ones turned away; then it ends. `ended` is told before the
    /// leases are waited for.
    ///
    /// Dropping the future leaves the leases as they are.
    pub async fn serve<Own, Peer, Area, L>(
        &self,
        client: Client,
        rings: ServerSession<Own, Peer, Area>,
        line: L,
        stop: impl Future<Output = ()> + Send,
        ended: impl FnOnce(&Ended) + Send,
    ) where
        Own: Segment + Clone,
        Peer: Segment + Clone,
        Area: Staging,
        L: Line,
    {
        let id = rings.id();
        let origin = format!("process {} ({})", client.pid, client.name);
        let pulse = self.sessions.begin(id, client);
        let mut session = Session::new(self, origin, rings, line, pulse);
        let mut stop = std::pin::pin!(stop);
        let end = std::future::poll_fn(|cx| session.poll(cx, stop.as_mut())).await;
        ended(&end);
        self.sessions.ended(id, end.to_string());
        session.keep_leases(&end).await;
        self.sessions.gone(id);
    }
}
