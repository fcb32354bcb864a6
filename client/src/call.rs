//! One call on its way to the session: what it asks, and how it ended.

#[cfg(all(target_os = "linux", not(madsim)))]
use crate::shm::Staged;
use bettong_wire::request::{Open, Target};
use bettong_wire::response::Opened;
use bettong_wire::{Payload, Request, Response, ServiceError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Names a namespace for as long as the client lives, whatever handle the current connection gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct NamespaceKey(pub u64);

/// Names a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CallKey(pub u64);

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) struct Lost {
    pub error: ServiceError,
    /// Whether the daemon may have acted on it.
    pub may_have_acted: bool,
}

/// Somebody waits for a namespace to be open.
#[derive(Debug)]
pub(crate) struct Asked {
    pub key: NamespaceKey,
    pub since: Instant,
    pub reply: oneshot::Sender<Result<Opened, Opening>>,
}

/// Why a namespace is not open.
#[derive(Debug)]
pub(crate) enum Opening {
    Refused(ServiceError),
    /// The connection ended first.
    Lost,
}

pub(crate) type Answered = Result<Response, Lost>;

/// The payloads of a call.
#[derive(Debug)]
pub(crate) enum Body {
    Payloads(Vec<Payload>),
    /// One payload that is where a daemon reads it.
    #[cfg(all(target_os = "linux", not(madsim)))]
    Staged(Staged),
}

impl Default for Body {
    fn default() -> Self {
        Self::Payloads(Vec::new())
    }
}

impl Body {
    /// Whether a connection has to find a place for it.
    pub fn needs_room(&self) -> bool {
        match self {
            Self::Payloads(payloads) => !payloads.is_empty(),
            #[cfg(all(target_os = "linux", not(madsim)))]
            Self::Staged(_) => false,
        }
    }

    pub fn into_payloads(self) -> Vec<Payload> {
        match self {
            Self::Payloads(payloads) => payloads,
            #[cfg(all(target_os = "linux", not(madsim)))]
            Self::Staged(staged) => vec![staged.into_payload()],
        }
    }
}

#[derive(Debug)]
pub(crate) struct Call {
    pub key: CallKey,
    pub namespace: Option<NamespaceKey>,
    pub request: Request,
    pub body: Body,
    /// When the caller began to wait.
    pub since: Instant,
    pub reply: oneshot::Sender<Answered>,
}

/// What callers tell the session.
#[derive(Debug)]
pub(crate) enum Command {
    Call(Box<Call>),
    Open {
        open: Box<Open>,
        asked: Asked,
    },
    /// Nobody uses this namespace any more.
    Forget {
        key: NamespaceKey,
        timed_out: Option<TimedOut>,
    },
    /// Nobody waits for this call any more.
    Abandon {
        key: CallKey,
        timed_out: Option<TimedOut>,
    },
}

/// An answer was waited for since then, and has not come in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedOut {
    pub since: Instant,
}

/// Tells the session, when dropped, that nobody waits any more for what was asked.
pub(crate) struct TellOnDrop {
    pub commands: mpsc::UnboundedSender<Command>,
    /// `None` once there is an answer.
    pub command: Option<Command>,
}

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        if let Some(command) = self.command.take() {
            // Where the session is gone, so is what was asked.
            let _ = self.commands.send(command);
        }
    }
}

/// Whether doing it twice is the same as doing it once.
pub(crate) fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Put(put) => !matches!(put.target, Target::Plain(_)),
        Request::PutBlocks(_) | Request::PutSidecar(_) => true,
        Request::Ping
        | Request::Get(_)
        | Request::Exists(_)
        | Request::Stats
        | Request::Restore(_)
        | Request::GetMany(_)
        | Request::List(_)
        | Request::LookupBlockPrefix(_)
        | Request::GetBlocks(_)
        | Request::Open(_)
        | Request::GetSidecar(_)
        | Request::GetHead(_)
        | Request::RestoreChain(_)
        | Request::Maintain(_) => true,
        Request::Clear(_)
        | Request::Close { .. }
        | Request::Delete(_)
        | Request::PublishHead(_)
        | Request::Cancel { .. } => false,
    }
}

/// Whether something may be different once it is done. Only asked of what is repeated: of the rest a lost attempt is the
/// last one.
pub(crate) fn changes_anything(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::PutBlocks(_) | Request::PutSidecar(_) => true,
        Request::Maintain(maintain) => !maintain.dry_run,
        _ => false,
    }
}
