//! The types that a caller sees. Their layout and their numbers are the ABI: what is here is not changed, only added to, or
//! `BETTONG_ABI_VERSION` goes up.
//!
//! What C passes by value is never a Rust enum or a `bool`, whose other values would be undefined: numbers are judged here.

use bettong_client as client;
use client::{Error, ErrorKind};
use std::ffi::c_char;

/// The version of this header. `bettong_open` takes it, and refuses a program that was compiled for another one.
pub const BETTONG_ABI_VERSION: u32 = 1;

/// How a call ended: 0 is well, 1 is a miss, anything else is an error, and says what the caller can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// It is done.
    Ok = 0,
    /// What was asked for is not there; the reason is a `bettong_miss_reason`. Not an error.
    Miss = 1,
    /// Fix the input.
    Invalid = 2,
    /// The outcome is unknown or the attempt failed: try again.
    Retry = 3,
    /// Too much is under way: come back after `retry_after_ms` of `bettong_last_error`.
    Busy = 4,
    /// The value or batch is over `limit` of `bettong_last_error`.
    TooLarge = 5,
    /// The caller may not do this.
    Denied = 6,
    /// The namespace holds blocks of another model identity.
    IdentityMismatch = 7,
    /// It would have taken longer than the caller was willing to wait.
    Declined = 8,
    /// The thing it needs is not there: a daemon, a tier, memory.
    Unavailable = 9,
    /// A defect of bettong.
    Internal = 10,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::Retry => Self::Retry,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::TooLarge => Self::TooLarge,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::IdentityMismatch => Self::IdentityMismatch,
            ErrorKind::Declined => Self::Declined,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// Why a get found nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
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

impl From<client::MissReason> for MissReason {
    fn from(reason: client::MissReason) -> Self {
        match reason {
            client::MissReason::Absent => Self::Absent,
            client::MissReason::Evicted => Self::Evicted,
            client::MissReason::Expired => Self::Expired,
            client::MissReason::Corrupt => Self::Corrupt,
            client::MissReason::NewerFormat => Self::NewerFormat,
            client::MissReason::Identity => Self::Identity,
            client::MissReason::Deadline => Self::Deadline,
            client::MissReason::Declined => Self::Declined,
            client::MissReason::TierDown => Self::TierDown,
            client::MissReason::NoRoom => Self::NoRoom,
        }
    }
}

/// When a put is acknowledged. 0 is no level, so that a forgotten one is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Level {
    /// The bytes are in the memory tier. Survives nothing.
    Memory = 1,
    /// The bytes and their metadata are in the local journal and synced.
    Journal = 2,
    /// The object store confirmed the bytes and the index entry is durable.
    Object = 3,
}

impl Level {
    /// Judges a number that came from C.
    pub fn read(number: u32) -> Result<client::Level, Error> {
        const LEVELS: [(Level, client::Level); 3] = [
            (Level::Memory, client::Level::Memory),
            (Level::Journal, client::Level::Journal),
            (Level::Object, client::Level::Object),
        ];
        let named = LEVELS.into_iter().find(|(level, _)| *level as u32 == number);
        named.map(|(_, level)| level).ok_or_else(|| {
            let text = format!("level {number} is none: write 1 for memory, 2 for journal, 3 for object");
            Error::new(ErrorKind::Invalid, text)
        })
    }
}

/// A tier of the store, fastest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Tier {
    Memory = 1,
    Disk = 2,
    Object = 3,
}

impl From<client::Tier> for Tier {
    fn from(tier: client::Tier) -> Self {
        match tier {
            client::Tier::Memory => Self::Memory,
            client::Tier::Disk => Self::Disk,
            client::Tier::Object => Self::Object,
        }
    }
}

/// A connection to one daemon. A number in a pointer's clothes: never follow it.
#[derive(Debug)]
pub struct Client {
    _opaque: (),
}

/// An open namespace. A number in a pointer's clothes: never follow it.
#[derive(Debug)]
pub struct Namespace {
    _opaque: (),
}

/// Values that were got, and are held until they are released. A number in a pointer's clothes: never follow it.
#[derive(Debug)]
pub struct Hits {
    _opaque: (),
}

/// Names a block by its whole prefix.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BlockHash {
    pub bytes: [u8; 32],
}

/// The key of one stored block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BlockKey {
    pub hash: BlockHash,
    /// Which slice of the block: one of the parts of the namespace's model identity.
    pub part: u16,
}

/// Names a sidecar, the tail that does not fill a block.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SidecarKey {
    pub bytes: [u8; 32],
}

/// Bytes that belong to somebody else. Where `len` is 0, `data` is not read, and may be null in what a caller hands over.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Span {
    pub data: *const u8,
    pub len: usize,
}

/// One block of a put.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Block {
    pub key: BlockKey,
    /// Position in the chain, from 0.
    pub sequence: u32,
    /// The previous block of the chain; null for the first.
    pub parent: *const BlockHash,
    /// The caller's. Copied before the call returns.
    pub bytes: Span,
}

/// Which blocks of one part count for a look-up.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PartAsk {
    pub part: u16,
    /// For sliding-window and state-space groups: only the last n blocks of the prefix need to exist. 0 means all.
    pub last_n: u32,
}

/// How long a caller waits for a read. All zero: as long as the daemon thinks right.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReadLimits {
    /// Milliseconds from arrival at the daemon; 0 means its own default.
    pub deadline_ms: u32,
    /// Decline at once when the estimate is over this many microseconds; 0 means never.
    pub decline_over_us: u32,
}

/// Names one write of one value: a run of a daemon and a counter. Never reused.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PutId {
    pub life: u64,
    pub counter: u64,
}

/// The answer to a put.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Stored {
    /// The put that wrote the version that is there now: this one or, where `already`, the one that did.
    pub put_id: PutId,
    /// The key was there at the asked level or above, or the same batch puts it twice; of this put nothing was written.
    pub already: bool,
}

/// A value that was got.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hit {
    /// Read where it is, over shared memory in the daemon's own. Valid, and the same, until the hits are released.
    pub bytes: Span,
    pub put_id: PutId,
    /// Unix milliseconds at which it expires; 0 means never.
    pub expires_at_ms: u64,
    /// The tier that served it.
    pub tier: Tier,
}

/// What a call on this thread ended with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LastError {
    /// What the call returned.
    pub status: Status,
    /// For `BETTONG_STATUS_BUSY`: milliseconds after which a retry makes sense; 0 where there is no hint.
    pub retry_after_ms: u32,
    /// For `BETTONG_STATUS_TOO_LARGE`: the limit in the unit that the text names; else 0.
    pub limit: u64,
    /// Names the thing, the limit and the value, in UTF-8, ended by a NUL; empty after a call that ended well. Never null.
    pub text: *const c_char,
}
