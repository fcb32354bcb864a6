//! How a client attaches to a daemon.

use super::staged::Areas;
use super::wire::ShmWire;
use crate::callers::Callers;
use crate::options::Options;
use crate::session::wire::Reach;
use bettong_shm::real::attach::{AttachError, Attached, Hello, Refusal, RefusalKind, attach};
use bettong_wire::{ErrorKind, ServiceError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// Milliseconds after which a daemon that had no room for one more client may have some.
const RETRY_AFTER_MS: u32 = 100;

/// Attaches to who listens on a path.
pub(crate) struct ShmReach {
    path: PathBuf,
    hello: Hello,
    spin: Duration,
    callers: Option<Callers>,
    areas: Areas,
}

impl ShmReach {
    /// The staging area of the last session is put into `areas`.
    pub fn new(path: PathBuf, options: &Options, callers: Option<Callers>, areas: Areas) -> Self {
        let hello = Hello { staging_bytes: options.staging_bytes, name: options.name.clone() };
        Self { path, hello, spin: options.spin, callers, areas }
    }

    async fn attach(&self, limit: Duration) -> Result<Attached, ServiceError> {
        let (path, hello) = (self.path.clone(), self.hello.clone());
        #[expect(clippy::disallowed_methods, reason = "a system's calls wait, and nothing of this is in the simulator")]
        let attaching = tokio::task::spawn_blocking(move || attach(&path, &hello, limit));
        match timeout(limit, attaching).await {
            Ok(Ok(attached)) => attached.map_err(|error| self.failed(error)),
            Ok(Err(stopped)) => Err(self.unreachable(ErrorKind::Unavailable, &stopped.to_string())),
            Err(_) => Err(self.unreachable(ErrorKind::Unavailable, &format!("no answer within {limit:?}"))),
        }
    }

    fn unreachable(&self, kind: ErrorKind, why: &str) -> ServiceError {
        ServiceError::new(kind, format!("cannot connect to shm://{}: {why}", self.path.display()))
    }

    fn failed(&self, error: AttachError) -> ServiceError {
        let text = error.to_string();
        match error {
            AttachError::Refused(refusal) => self.refused(refusal),
            AttachError::Daemon { .. } => self.unreachable(ErrorKind::Denied, &text),
            AttachError::PathTooLong { limit, .. } => {
                ServiceError { limit: limit as u64, ..self.unreachable(ErrorKind::TooLarge, &text) }
            }
            // What was decoded first, or was to be sent: the name in the hello.
            AttachError::Packet(error @ bettong_wire::DecodeError::TooLong { limit, .. }) => {
                ServiceError { limit, ..self.unreachable(ErrorKind::TooLarge, &error.to_string()) }
            }
            AttachError::System { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => self.unreachable(ErrorKind::Unavailable, "there is no such socket"),
                io::ErrorKind::ConnectionRefused => {
                    self.unreachable(ErrorKind::Unavailable, "nobody listens on this socket")
                }
                io::ErrorKind::PermissionDenied => {
                    self.unreachable(ErrorKind::Denied, "the file's permissions leave this user out")
                }
                _ => self.unreachable(ErrorKind::Unavailable, &text),
            },
            _ => self.unreachable(ErrorKind::Unavailable, &text),
        }
    }

    /// What can be done about it is what the daemon says.
    fn refused(&self, refusal: Refusal) -> ServiceError {
        let Refusal { kind, limit, text } = refusal;
        let (kind, retry_after_ms) = match kind {
            RefusalKind::User => (ErrorKind::Denied, 0),
            RefusalKind::Version | RefusalKind::Invalid => (ErrorKind::Invalid, 0),
            RefusalKind::Busy => (ErrorKind::Busy, RETRY_AFTER_MS),
            RefusalKind::Unavailable => (ErrorKind::Unavailable, 0),
        };
        let why = format!("the daemon refuses: {text}");
        ServiceError { limit, retry_after_ms, ..self.unreachable(kind, &why) }
    }
}

impl Reach for ShmReach {
    type Wire = ShmWire;

    async fn reach(&mut self, limit: Duration) -> Result<ShmWire, ServiceError> {
        let attached = self.attach(limit).await?;
        let wire = ShmWire::new(attached, self.spin, self.callers.clone());
        let wire = wire.map_err(|why| self.unreachable(ErrorKind::Unavailable, &why))?;
        self.areas.set(wire.area());
        Ok(wire)
    }
}
