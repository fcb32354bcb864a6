//! What a caller can ask. Every front door decodes to these values; the service loop knows no others.
//!
//! Payload bytes never travel inside a message: a request that carries payloads states their lengths, and the bytes
//! follow (see `Body`).

use crate::identity::ModelIdentity;
use crate::ids::{BlockHash, BlockKey, Part, SidecarKey};
use rkyv::{Archive, Deserialize, Serialize};

/// A namespace that this session has opened: the number that OPEN answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct NsHandle(pub u32);

/// When a put is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub enum Level {
    /// The bytes are in the memory tier. Survives nothing.
    Memory,
    /// The bytes and their metadata are in the local journal and synced.
    Journal,
    /// The object store confirmed the bytes and the index entry is durable.
    #[default]
    Object,
}

/// A tier of the store, fastest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub enum Tier {
    Memory,
    Disk,
    Object,
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Disk, Self::Object];

    /// The name as tables and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Object => "object",
        }
    }
}

/// What PUT, GET, EXISTS and DELETE address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub enum Target {
    /// UTF-8, 1 to 1,024 bytes, mutable, visible on the node that wrote it.
    Plain(String),
    /// Immutable, shared between nodes.
    Block(BlockKey),
    /// Immutable, shared between nodes.
    Sidecar(SidecarKey),
}

/// How long a caller waits for a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize, Deserialize)]
pub struct ReadLimits {
    /// Milliseconds from arrival; 0 means the service's own default.
    pub deadline_ms: u32,
    /// Decline at once when the estimate is over this many microseconds; 0 means never.
    pub decline_over_us: u32,
}

/// One block of a batch put; its payload follows in the body, in order.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct BlockPut {
    pub key: BlockKey,
    /// The previous block of the chain; `None` for the first.
    pub parent: Option<BlockHash>,
    /// Position in the chain, from 0.
    pub sequence: u32,
    /// Payload bytes.
    pub len: u64,
}

/// Which blocks of one part count for a look-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PartAsk {
    pub part: Part,
    /// For sliding-window and state-space groups: only the last n blocks of the prefix need to exist. 0 means all.
    pub last_n: u32,
}

/// What LIST walks over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum ListKind {
    /// Plain keys, ascending by bytes.
    Plain,
    /// Blocks, in no order that means anything; pages go on where the last one ended.
    Blocks,
    /// Sidecars, likewise.
    Sidecars,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Put {
    pub ns: NsHandle,
    pub target: Target,
    pub level: Level,
    /// Milliseconds until the value expires; 0 means never.
    pub ttl_ms: u64,
    /// For blocks: the previous block of the chain.
    pub parent: Option<BlockHash>,
    /// For blocks: position in the chain, from 0.
    pub sequence: u32,
    /// Payload bytes, which follow in the body.
    pub len: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Get {
    pub ns: NsHandle,
    pub target: Target,
    /// (offset, length) in bytes; `None` means the whole value. A range that leaves the value is cut at its end; one
    /// that starts behind the end is invalid.
    pub range: Option<(u64, u64)>,
    pub limits: ReadLimits,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Exists {
    pub ns: NsHandle,
    pub target: Target,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Delete {
    pub ns: NsHandle,
    pub target: Target,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Clear {
    pub ns: NsHandle,
    /// Clearing the object tier deletes by name and needs the `admin` right.
    pub tier: Tier,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Restore {
    pub ns: NsHandle,
    /// Blocks to warm, at most `BATCH_ITEMS_MAX`.
    pub keys: Vec<BlockKey>,
    pub limits: ReadLimits,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct GetMany {
    pub ns: NsHandle,
    /// At most `BATCH_ITEMS_MAX`. Each is answered for itself.
    pub targets: Vec<Target>,
    pub limits: ReadLimits,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct List {
    pub ns: NsHandle,
    pub kind: ListKind,
    /// For plain keys: only keys that start with this.
    pub prefix: String,
    /// The cursor that the page before answered; empty for the first page.
    pub cursor: Vec<u8>,
    /// Entries wanted, 1 to `LIST_PAGE_MAX`.
    pub limit: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct LookupBlockPrefix {
    pub ns: NsHandle,
    /// The chain, first block first, at most `LOOKUP_HASHES_MAX`.
    pub hashes: Vec<BlockHash>,
    /// Empty means all parts of the namespace's identity, each whole.
    pub parts: Vec<PartAsk>,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct GetBlocks {
    pub ns: NsHandle,
    /// At most `BATCH_ITEMS_MAX`.
    pub keys: Vec<BlockKey>,
    /// Answer the leading blocks that exist, instead of all or nothing.
    pub leading: bool,
    pub limits: ReadLimits,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PutBlocks {
    pub ns: NsHandle,
    pub level: Level,
    /// At most `BATCH_ITEMS_MAX`; all or nothing in the index.
    pub blocks: Vec<BlockPut>,
}

/// Opens a namespace in this session; the first request of every session.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Open {
    pub protocol_version: u32,
    pub tenant: String,
    /// Bearer token; empty where the daemon asks for none.
    pub token: String,
    pub namespace: String,
    /// `None` opens a namespace for plain keys only: its blocks are listed, and neither read nor written.
    pub identity: Option<ModelIdentity>,
    /// Ask for CRC32C over payloads.
    pub payload_crc: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PutSidecar {
    pub ns: NsHandle,
    pub key: SidecarKey,
    /// The last full block of the chain.
    pub tip: BlockHash,
    pub level: Level,
    pub len: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct GetSidecar {
    pub ns: NsHandle,
    pub key: SidecarKey,
    pub limits: ReadLimits,
}

/// What a head points to.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct HeadValue {
    pub tip: BlockHash,
    /// Full blocks of the chain.
    pub length: u32,
    pub sidecar: Option<SidecarKey>,
}

/// Creates generation `expected + 1` of a head, if nobody else has.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PublishHead {
    pub ns: NsHandle,
    /// UTF-8, 1 to 255 bytes.
    pub name: String,
    /// The generation that the caller read; 0 where there is none.
    pub expected: u64,
    /// `None` publishes a tombstone.
    pub value: Option<HeadValue>,
    /// The chain's hashes, first block first, so that ancestors can be checked. Empty for a tombstone.
    pub chain: Vec<BlockHash>,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct GetHead {
    pub ns: NsHandle,
    pub name: String,
}

/// Asks which leading blocks of a prompt are present, and for the bytes of some of them.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct RestoreChain {
    pub ns: NsHandle,
    /// The chain, first block first, at most `LOOKUP_HASHES_MAX`.
    pub hashes: Vec<BlockHash>,
    /// Empty means all parts of the namespace's identity, each whole.
    pub parts: Vec<PartAsk>,
    /// The first block whose bytes are wanted, at most the number of hashes: the caller has those before it.
    pub from: u32,
    /// Wanted with the last of the hashes' blocks.
    pub sidecar: Option<SidecarKey>,
    /// Payload bytes that the answer may bring, if more than one block has them; 0 means as many as the service brings at
    /// once.
    pub bytes_max: u64,
    pub limits: ReadLimits,
}

/// Upkeep that an operator asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum Task {
    /// Finds this node's orphans and damaged objects.
    Scrub = 1,
    /// Brings blocks that are likely to be asked for soon into the local tiers.
    Prefetch = 2,
    /// Takes a dead node's names over.
    Retire = 3,
}

impl Task {
    pub const ALL: [Self; 3] = [Self::Scrub, Self::Prefetch, Self::Retire];

    /// The name as tables and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scrub => "scrub",
            Self::Prefetch => "prefetch",
            Self::Retire => "retire",
        }
    }
}

/// Asks for one slice of a task; needs the `admin` right. The caller repeats it with the cursor of each answer until
/// that is empty.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Maintain {
    pub task: Task,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
    /// The cursor that the slice before answered; empty for the first.
    pub cursor: Vec<u8>,
    /// RETIRE: the id of the node to retire. Else empty.
    pub argument: String,
    /// Milliseconds after which the slice ends, 1 to `MAINTAIN_BOUND_MS_MAX`.
    pub bound_ms: u32,
}

/// One request, from any door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Ping,
    Put(Put),
    Get(Get),
    Exists(Exists),
    Stats,
    Clear(Clear),
    Restore(Restore),
    Close {
        ns: NsHandle,
    },
    GetMany(GetMany),
    List(List),
    LookupBlockPrefix(LookupBlockPrefix),
    GetBlocks(GetBlocks),
    PutBlocks(PutBlocks),
    Delete(Delete),
    /// By far the longest, and the rarest: elsewhere it would be moved about with each of the others.
    Open(Box<Open>),
    PutSidecar(PutSidecar),
    GetSidecar(GetSidecar),
    PublishHead(PublishHead),
    GetHead(GetHead),
    RestoreChain(RestoreChain),
    /// Cancels the request with this id of the same session. Answered OK whether or not it was still under way; the
    /// cancelled request is answered `retry` (its outcome may be unknown).
    Cancel {
        request_id: u64,
    },
    Maintain(Maintain),
}

impl Request {
    pub fn open(open: Open) -> Self {
        Self::Open(Box::new(open))
    }

    /// The lengths of the payloads that follow this request, in order.
    pub fn payload_lens(&self) -> Vec<u64> {
        match self {
            Self::Put(put) => vec![put.len],
            Self::PutBlocks(batch) => batch.blocks.iter().map(|block| block.len).collect(),
            Self::PutSidecar(put) => vec![put.len],
            _ => Vec::new(),
        }
    }

    /// The namespace that this request names; `None` where it names none.
    pub fn namespace_mut(&mut self) -> Option<&mut NsHandle> {
        match self {
            Self::Ping | Self::Stats | Self::Open(_) | Self::Cancel { .. } | Self::Maintain(_) => None,
            Self::Put(body) => Some(&mut body.ns),
            Self::Get(body) => Some(&mut body.ns),
            Self::Exists(body) => Some(&mut body.ns),
            Self::Clear(body) => Some(&mut body.ns),
            Self::Restore(body) => Some(&mut body.ns),
            Self::Close { ns } => Some(ns),
            Self::GetMany(body) => Some(&mut body.ns),
            Self::List(body) => Some(&mut body.ns),
            Self::LookupBlockPrefix(body) => Some(&mut body.ns),
            Self::GetBlocks(body) => Some(&mut body.ns),
            Self::PutBlocks(body) => Some(&mut body.ns),
            Self::Delete(body) => Some(&mut body.ns),
            Self::PutSidecar(body) => Some(&mut body.ns),
            Self::GetSidecar(body) => Some(&mut body.ns),
            Self::PublishHead(body) => Some(&mut body.ns),
            Self::GetHead(body) => Some(&mut body.ns),
            Self::RestoreChain(body) => Some(&mut body.ns),
        }
    }

    /// How long the caller waits, where the request says so.
    pub fn read_limits(&self) -> Option<ReadLimits> {
        match self {
            Self::Get(body) => Some(body.limits),
            Self::Restore(body) => Some(body.limits),
            Self::GetMany(body) => Some(body.limits),
            Self::GetBlocks(body) => Some(body.limits),
            Self::GetSidecar(body) => Some(body.limits),
            Self::RestoreChain(body) => Some(body.limits),
            _ => None,
        }
    }
}
