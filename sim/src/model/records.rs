//! What the model remembers: attempts, deletions, reads, publications, and who they were asked of.

use super::bytes_of;
use bettong_core::objects::names::PayloadName;
use bettong_wire::envelope::Kind;
use bettong_wire::request::{HeadValue, Level, Target};
use bettong_wire::{ErrorKind, Part, PutId};
use std::time::Duration;

/// A daemon. Several may bear one node id; the one that started later has the say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Daemon {
    pub name: String,
    pub node_id: String,
    /// Orders daemons of one node id.
    pub order: u32,
    /// When it was first started.
    pub since: Duration,
}

impl Daemon {
    /// Whether what `other` had acknowledged before must be known here.
    pub fn inherits(&self, other: &Self) -> bool {
        self.node_id == other.node_id && self.order >= other.order
    }
}

/// A value's name: its namespace, by the model's number, and its target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueKey {
    pub namespace: usize,
    pub target: Target,
}

impl ValueKey {
    pub fn is_plain(&self) -> bool {
        matches!(self.target, Target::Plain(_))
    }

    /// How names of objects say it, apart from the namespace.
    pub fn named(&self) -> (Kind, [u8; 32], Part) {
        match &self.target {
            Target::Plain(key) => (Kind::Plain, *blake3::hash(key.as_bytes()).as_bytes(), Part(0)),
            Target::Block(key) => (Kind::Block, key.hash.0, key.part),
            Target::Sidecar(key) => (Kind::Sidecar, key.0, Part(0)),
        }
    }
}

impl std::fmt::Display for ValueKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let namespace = self.namespace;
        match &self.target {
            Target::Plain(key) => write!(f, "ns{namespace}/plain/{key}"),
            Target::Block(key) => write!(f, "ns{namespace}/block/{:.8}.{}", key.hash.to_hex(), key.part.0),
            Target::Sidecar(key) => write!(f, "ns{namespace}/sidecar/{:.8}", key.to_hex()),
        }
    }
}

pub type AttemptId = u64;

/// How an attempt to change something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nobody has answered yet, or ever will.
    Open,
    Done,
    /// Nothing was attempted.
    Refused,
    /// After an attempt: whole or absent.
    Unknown,
}

impl Ending {
    pub fn of_error(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Retry | ErrorKind::Internal => Self::Unknown,
            _ => Self::Refused,
        }
    }
}

/// When something was asked, and when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub invoked: Duration,
    pub ended: Option<Duration>,
}

impl Span {
    /// It was answered before the other was asked.
    pub fn precedes(&self, other: &Self) -> bool {
        self.ended.is_some_and(|ended| ended < other.invoked)
    }

    /// How long the answer took; for ever where there is none.
    pub fn lasted(&self) -> Duration {
        self.ended.map_or(Duration::MAX, |ended| ended.saturating_sub(self.invoked))
    }
}

#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: AttemptId,
    pub key: ValueKey,
    pub daemon: Daemon,
    pub level: Level,
    pub len: u64,
    pub ttl_ms: u64,
    pub span: Span,
    pub ending: Ending,
    /// Its client library may ask again by itself, each time under a put id of its own.
    pub repeats: bool,
    /// The put id that the store answered, and whether it said that the key was there already.
    pub stored: Option<(PutId, bool)>,
}

impl Attempt {
    pub fn bytes(&self) -> Vec<u8> {
        bytes_of(self.id, &self.key, self.len)
    }
}

#[derive(Debug, Clone)]
pub struct Deletion {
    pub daemon: Daemon,
    pub span: Span,
    pub ending: Ending,
}

/// A put id that an acknowledged delete named dead.
#[derive(Debug, Clone)]
pub struct Dead {
    pub daemon: Daemon,
    pub since: Duration,
}

/// A version that a daemon answered a read with.
#[derive(Debug, Clone)]
pub struct Served {
    pub daemon: Daemon,
    pub put_id: PutId,
    pub span: Span,
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub served: Vec<Served>,
    pub puts: Vec<AttemptId>,
    pub deletions: Vec<Deletion>,
}

/// A version that a node forgot by itself, as it said: to keep a budget, or because its time was over.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The daemon's name.
    pub daemon: String,
    pub name: PayloadName,
    /// Past its time; evicted otherwise.
    pub expired: bool,
    /// When it was chosen. Whoever used it between then and `began` keeps it.
    pub chosen: Duration,
    /// From then on it may have been gone,
    pub began: Duration,
    /// and from then on it was, where it came so far.
    pub done: Option<Duration>,
    /// When what says so was lost since, with the daemon's index, directory or records: first, and last.
    pub lost: Option<(Duration, Duration)>,
}

/// What a read of a plain key says of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It is that of one of these attempts.
    Value(Vec<AttemptId>),
    Nothing,
    /// There is one, past its time.
    Expired,
}

/// An answered read of a plain key.
#[derive(Debug, Clone)]
pub struct Read {
    pub span: Span,
    pub observed: Observed,
}

/// A publish of one generation of a head.
#[derive(Debug, Clone)]
pub struct Publication {
    pub generation: u64,
    pub value: Option<HeadValue>,
    pub span: Span,
    pub ending: Ending,
}

/// The name of a value that a salvage says is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostKey {
    pub namespace: usize,
    /// As the store has it: of a plain key, its BLAKE3.
    pub hash: [u8; 32],
    pub part: u16,
}
