//! Errors: what a decoder says of bytes from outside, and what the service says to a caller.

/// A decoder's verdict on bytes from outside. No variant is ever the result of a panic or of an unchecked index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what} is cut short: {needed} bytes are needed at offset {at}, {got} are there")]
    Truncated { what: &'static str, needed: u64, at: u64, got: u64 },
    #[error("{what} has a wrong magic: expected {expected:02x?}, got {got:02x?}")]
    BadMagic { what: &'static str, expected: Vec<u8>, got: Vec<u8> },
    #[error("{what} has version {got}, this release reads {min} to {max}")]
    Version { what: &'static str, got: u64, min: u64, max: u64 },
    #[error("{what} of {got} is over the limit of {limit}")]
    TooLong { what: &'static str, got: u64, limit: u64 },
    #[error("{what} is followed by {extra} bytes that belong to nothing")]
    TrailingBytes { what: &'static str, extra: u64 },
    #[error("{what} says {said} bytes, {got} are there")]
    LengthMismatch { what: &'static str, said: u64, got: u64 },
    #[error("{what} has an unknown value {got}")]
    Unknown { what: &'static str, got: u64 },
    #[error("{what} is {got}, it must be {must}")]
    Invalid { what: &'static str, got: u64, must: &'static str },
    #[error("the checksum of {what} is {got:08x}, its bytes give {computed:08x}")]
    Checksum { what: &'static str, got: u32, computed: u32 },
    #[error("the hash of {what} does not match its bytes")]
    Hash { what: &'static str },
    #[error("{what} is not valid UTF-8 from byte {valid_up_to} on")]
    Utf8 { what: &'static str, valid_up_to: u64 },
    #[error("the archive of {what} does not validate: {reason}")]
    Archive { what: &'static str, reason: String },
}

/// What a caller can do about an error; the edge of the system knows no other kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Fix the input.
    Invalid,
    /// The outcome is unknown or the attempt failed: try again.
    Retry,
    /// Too much is under way: come back after the hint.
    Busy,
    /// The value or batch is over the limit that the message names.
    TooLarge,
    /// The caller may not do this.
    Denied,
    /// The namespace holds blocks of another model identity.
    IdentityMismatch,
    /// It would have taken longer than the caller was willing to wait.
    Declined,
    /// The thing it needs is not there (a tier, a capability of the object store).
    Unavailable,
    /// A defect of the store.
    Internal,
}

/// An error as a caller sees it: a kind, and a message that names the thing, the limit and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    pub kind: ErrorKind,
    pub message: String,
    /// For `Busy`: milliseconds after which a retry makes sense; 0 where there is no hint.
    pub retry_after_ms: u32,
    /// For `TooLarge`: the limit in the unit that the message names; else 0.
    pub limit: u64,
}

impl ServiceError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after_ms: 0, limit: 0 }
    }

    pub fn too_large(message: impl Into<String>, limit: u64) -> Self {
        Self { limit, ..Self::new(ErrorKind::TooLarge, message) }
    }

    pub fn busy(message: impl Into<String>, retry_after_ms: u32) -> Self {
        Self { retry_after_ms, ..Self::new(ErrorKind::Busy, message) }
    }
}

impl From<crate::memory::ReserveError> for ServiceError {
    fn from(error: crate::memory::ReserveError) -> Self {
        match error {
            crate::memory::ReserveError::TooLarge { limit, .. } => Self::too_large(error.to_string(), limit),
            crate::memory::ReserveError::Full { .. } => Self::busy(error.to_string(), 10),
        }
    }
}

/// A caller whose bytes do not decode has to fix its input; where a limit was passed, the error bears it.
impl From<DecodeError> for ServiceError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLong { limit, .. } => Self::too_large(error.to_string(), limit),
            _ => Self::new(ErrorKind::Invalid, error.to_string()),
        }
    }
}
