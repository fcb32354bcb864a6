//! The TCP door: drives one connection's state machine over a pair of byte streams.
//!
//! One task serves one connection: it reads, calls the service, and writes, in that order and without choosing at
//! random, so that a run in the simulator depends on its seed alone. What this does not do: accept connections, count
//! them, or speak TLS; the daemon does.

mod connection;
mod stall;
#[cfg(test)]
mod tests;

use crate::door::{Authenticate, Deadlines};
use crate::service::Service;
use crate::world::Clock;
use bettong_wire::ServiceError;
use bettong_wire::tcp::ServerLimits;
use connection::Connection;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What one connection may use, and how long it may take.
#[derive(Clone, Debug)]
pub struct TcpLimits {
    pub connection: ServerLimits,
    pub deadlines: Deadlines,
    /// A peer that is in the midst of a request, does not read its answers, or has not opened a namespace, has so long
    /// to move what it owed when this began, or at least as much as a slow peer would. It is cut off after one to two
    /// times this.
    pub stall: Duration,
}

impl Default for TcpLimits {
    fn default() -> Self {
        Self { connection: ServerLimits::default(), deadlines: Deadlines::default(), stall: Duration::from_secs(30) }
    }
}

/// What a peer has to do for its connection to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owes {
    /// It is in the midst of a request, or has not opened a namespace yet.
    Request,
    /// It has not read its answers.
    Reading,
}

impl std::fmt::Display for Owes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Request => "owed the rest of a request",
            Self::Reading => "had answers to read",
        })
    }
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Closed {
    #[error("the peer left")]
    PeerLeft,
    #[error("the peer left in the midst of a request")]
    CutShort,
    #[error("the peer {owes} all the time and moved {moved} bytes in {within:?}: {least} are the least")]
    Stalled {
        /// What kept it from being idle.
        owes: Owes,
        moved: u64,
        least: u64,
        within: Duration,
    },
    #[error("{0}")]
    Refused(String),
    #[error("the daemon is shutting down")]
    Stopped,
    #[error("the transport failed: {0}")]
    Transport(String),
}

/// Serves connections.
pub struct TcpDoor<S, C, A> {
    service: Arc<S>,
    clock: C,
    authenticate: A,
    limits: TcpLimits,
}

impl<S: Service, C: Clock, A: Authenticate> TcpDoor<S, C, A> {
    pub fn new(service: Arc<S>, clock: C, authenticate: A, limits: TcpLimits) -> Self {
        Self { service, clock, authenticate, limits }
    }

    /// Serves one connection until it ends. `origin` says where the peer comes from. When `stop` completes, requests
    /// under way are still answered and new ones turned away; then the connection is closed.
    ///
    /// Dropping the future cuts the connection: requests under way are detached from it, whatever was half read is gone.
    pub async fn serve<R, W>(
        &self,
        origin: String,
        reader: R,
        writer: W,
        stop: impl Future<Output = ()> + Send,
    ) -> Closed
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let mut connection = Connection::new(self, origin, reader, writer);
        let mut stop = std::pin::pin!(stop);
        std::future::poll_fn(|cx| connection.poll(cx, stop.as_mut())).await
    }

    /// Tells a peer why it is not served, and closes its connection.
    pub async fn turn_away<R, W>(&self, origin: String, reader: R, writer: W, error: &ServiceError) -> Closed
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let mut connection = Connection::new(self, origin, reader, writer);
        connection.turn_away(error);
        let mut stop = std::pin::pin!(std::future::pending());
        std::future::poll_fn(|cx| connection.poll(cx, stop.as_mut())).await
    }
}
