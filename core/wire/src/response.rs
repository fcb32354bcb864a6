//! What the service answers.

use crate::error::ServiceError;
use crate::ids::{BlockKey, NamespaceId, PutId, SidecarKey};
use crate::memory::Payload;
use crate::request::{HeadValue, NsHandle, Tier};
use rkyv::{Archive, Deserialize, Serialize};

/// Why a get found nothing. The number is the `detail` byte of status MISS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum MissReason {
    /// Never put here, or deleted.
    Absent = 0,
    /// Was here and was evicted.
    Evicted = 1,
    /// Its time to live is over.
    Expired = 2,
    /// No tier has a copy that verifies.
    Corrupt = 3,
    /// Written by a newer release in a format that this one does not read.
    NewerFormat = 4,
    /// The namespace was opened without a model identity, so its blocks are not reachable.
    Identity = 5,
    /// The deadline passed first.
    Deadline = 6,
    /// It would have taken longer than the caller allowed.
    Declined = 7,
    /// The tier that has it does not answer.
    TierDown = 8,
    /// There was no payload memory to read it into.
    NoRoom = 9,
}

impl MissReason {
    pub const ALL: [Self; 10] = [
        Self::Absent,
        Self::Evicted,
        Self::Expired,
        Self::Corrupt,
        Self::NewerFormat,
        Self::Identity,
        Self::Deadline,
        Self::Declined,
        Self::TierDown,
        Self::NoRoom,
    ];

    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The reason as it is written in tables, metrics and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Corrupt => "corrupt",
            Self::NewerFormat => "newer_format",
            Self::Identity => "identity",
            Self::Deadline => "deadline",
            Self::Declined => "declined",
            Self::TierDown => "tier_down",
            Self::NoRoom => "no_room",
        }
    }
}

/// A hit. Its bytes are the response's payload.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Hit {
    /// Length of the whole value, in bytes (the payload is shorter for a range).
    pub total_len: u64,
    pub put_id: PutId,
    /// The tier that served it.
    pub tier: Tier,
    /// Unix milliseconds at which it expires; 0 means never.
    pub expires_at_ms: u64,
}

/// The answer for one item of a batch read.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum ItemOutcome {
    /// Its bytes are the next payload of the response.
    Hit(Hit),
    Miss(MissReason),
}

/// The answer to a put.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Stored {
    /// The put that wrote the version that is there now: this one, or where `already`, the one that did. That may be of
    /// another life than the daemon's, or of a node that it has retired.
    pub put_id: PutId,
    /// The key was there at the asked level or above, or the same batch puts it; of this put nothing was written.
    pub already: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Opened {
    pub ns: NsHandle,
    pub namespace_id: NamespaceId,
    pub protocol_version: u32,
    /// The parts of the namespace's identity; empty where it was opened without one.
    pub parts: Vec<u16>,
    /// Whether payloads carry a CRC32C in this session.
    pub payload_crc: bool,
    pub limits: SessionLimits,
}

/// What the daemon allows this session.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize, Deserialize)]
pub struct SessionLimits {
    pub frame_bytes_max: u32,
    pub payload_bytes_max: u64,
    pub batch_items_max: u32,
    pub requests_inflight_max: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum ListName {
    Plain(String),
    Block(BlockKey),
    Sidecar(SidecarKey),
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct ListEntry {
    pub name: ListName,
    /// Payload bytes, uncompressed.
    pub len: u64,
    pub put_id: PutId,
    /// Unix milliseconds; 0 means never.
    pub expires_at_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct ListPage {
    pub entries: Vec<ListEntry>,
    /// Where the next page starts; empty after the last page.
    pub cursor: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Head {
    pub generation: u64,
    /// `None` where the newest generation is a tombstone.
    pub value: Option<HeadValue>,
}

/// What is there of a prompt. The payloads are those of `hits`, in order, and of the sidecar.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Chain {
    /// How many leading hashes are present.
    pub blocks: u32,
    /// The first block that is not brought. Where it is less than `blocks`, ask again from there.
    pub end: u32,
    /// Of each block from the one asked for up to `end`, the parts that count, in the order in which they were asked for.
    pub hits: Vec<Hit>,
    /// `None` where it was not asked for, or blocks before it are not there or not brought yet.
    pub sidecar: Option<ItemOutcome>,
}

/// The head of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Pong,
    Stored(Stored),
    Hit(Hit),
    /// EXISTS: its length in bytes and its expiry.
    Exists {
        len: u64,
        expires_at_ms: u64,
    },
    /// STATS: the payload is a JSON document.
    Stats,
    /// CLEAR and DELETE: how many keys it concerned.
    Removed {
        count: u64,
    },
    /// RESTORE: how many of the asked blocks are in a local tier now.
    Warmed {
        count: u32,
    },
    Closed,
    /// GET_MANY, GET_KV_BLOCKS_BATCH: one outcome an item; with `leading`, the hits only.
    Items(Vec<ItemOutcome>),
    Page(ListPage),
    /// LOOKUP_BLOCK_PREFIX: how many leading hashes are present.
    Prefix {
        blocks: u32,
    },
    /// PUT_KV_BLOCKS_BATCH: one outcome a block, in order.
    StoredBatch(Vec<Stored>),
    Opened(Opened),
    Head(Head),
    Published {
        generation: u64,
    },
    Chain(Chain),
    Cancelled,
    /// MAINTAIN: where the next slice starts, empty after the last one. The payload is a JSON document of what this
    /// slice did.
    Maintained {
        cursor: Vec<u8>,
    },
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Ok(Answer),
    Miss(MissReason),
    Error(ServiceError),
}

/// An answer: a head and its payloads, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub outcome: Outcome,
    pub payloads: Vec<Payload>,
}

impl Response {
    pub fn ok(answer: Answer) -> Self {
        Self { outcome: Outcome::Ok(answer), payloads: Vec::new() }
    }

    pub fn with_payloads(answer: Answer, payloads: Vec<Payload>) -> Self {
        Self { outcome: Outcome::Ok(answer), payloads }
    }

    pub fn miss(reason: MissReason) -> Self {
        Self { outcome: Outcome::Miss(reason), payloads: Vec::new() }
    }

    pub fn error(error: ServiceError) -> Self {
        Self { outcome: Outcome::Error(error), payloads: Vec::new() }
    }
}

impl From<ServiceError> for Response {
    fn from(error: ServiceError) -> Self {
        Self::error(error)
    }
}
