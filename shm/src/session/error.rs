//! Why a session is over, and why none begins.

use crate::pool::{NotLeased, PoolError, SessionId};
use crate::ring::{GeometryError, Violation};
use bettong_wire::DecodeError;

/// Why the other side of a session is not believed any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Ring(#[from] Violation),
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error(transparent)]
    Release(#[from] NotLeased),
    #[error("{what} is {got}, it must be {must}")]
    Frame { what: &'static str, got: &'static str, must: &'static str },
    #[error("a mapping frame names map {got}, it must be {must}")]
    Map { got: u32, must: u32 },
    #[error("a mapping frame names generation {got} of its map: only 0 is known")]
    Generation { got: u32 },
    #[error("a frame names bytes {offset} to {offset} + {len} of {what}, which has {limit}")]
    Range { what: &'static str, offset: u64, len: u64, limit: u64 },
    #[error("a frame names slot {slot} of class {class} in extent {extent}: the pool has none")]
    NoSlot { class: u8, extent: u8, slot: u32 },
    #[error("a payload has {got} bytes, its message says {said}")]
    PayloadLength { said: u64, got: u64 },
    #[error("a request with id {id}, which is 0 or under way")]
    RequestId { id: u64 },
    #[error("an answer to request {id}, which is not under way")]
    NotAsked { id: u64 },
    #[error("one more request than the {limit} that may be unanswered at once")]
    Inflight { limit: u32 },
}

/// Why a session does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("frames of at most {got} bytes inline: it needs {least}, for the text of an error")]
    Inline { got: u16, least: u16 },
    #[error("session {0:?} is there already")]
    Attached(SessionId),
}
