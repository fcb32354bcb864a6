//! Why the journal could not be opened, read or appended to.

use crate::world::DiskError;
use bettong_wire::DecodeError;

/// Why the journal does not open. All but `Disk` are of the directory's contents; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A name that the journal does not use.
    #[error("{file}: not a file of the journal: move it away")]
    Foreign { file: String },
    /// A directory, a link or the like.
    #[error(
        "{file}: not a regular file, and the journal has no others: put the file itself in its place, or move it away"
    )]
    NoFile { file: String },
    /// A segment that must be there is not.
    #[error(
        "{file}: the segment is missing, and nothing says that it may be: `bettong journal check` tells more, `bettong journal salvage` goes on without it"
    )]
    Missing { file: String },
    /// A newer release wrote it: this one neither reads nor removes it.
    #[error("{file}: offset {offset}: format version {version}, this release reads {supported}: run the newer release")]
    Newer { file: String, offset: u64, version: u8, supported: u8 },
    /// Bytes that were synced do not verify.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    #[error("{file}: the low-water mark does not verify: {why}: `bettong journal salvage` goes on without it")]
    LowWater { file: String, why: String },
    #[error(
        "{file}: the mark of the newest segment does not verify: {why}: `bettong journal salvage` goes on without it"
    )]
    Newest { file: String, why: String },
    /// The index knows of more than the directory holds.
    #[error(
        "{dir}: the journal ends before sequence {end}, the index was last written when it had reached {reached}, and {puts} puts of it are not in the object store: files of it were cut off, lost or rolled back: `bettong journal salvage --anyway` goes on with what is there"
    )]
    Behind { dir: String, end: u64, reached: u64, puts: u64 },
    #[error("{file}: a salvage has begun and not ended: run `bettong journal salvage` again")]
    SalvageUnfinished { file: String },
}

impl OpenError {
    /// The directory is damaged: `salvage` goes on without what is lost. Everything else wants another remedy.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Corrupt(_)
            | Self::LowWater { .. }
            | Self::Newest { .. }
            | Self::Behind { .. }
            | Self::SalvageUnfinished { .. } => true,
            Self::Config(_) | Self::Disk(_) | Self::Foreign { .. } | Self::NoFile { .. } | Self::Newer { .. } => false,
        }
    }
}

/// Bytes that were synced and do not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file}: offset {offset}: {fault}; {} (sequence {sequence}, synced through {synced_through}); {batches_after} batches with {records_after} records from there on in this segment verify: `bettong journal check` tells more, `bettong journal salvage` keeps what verifies",
    self.why()
)]
pub struct Corruption {
    pub file: String,
    pub offset: u64,
    pub fault: Fault,
    /// The sequence number that is expected there.
    pub sequence: u64,
    /// The highest sequence number that the journal knows to have been synced.
    pub synced_through: u64,
    /// What verifies from there on, in the same segment.
    pub batches_after: u64,
    pub records_after: u64,
}

impl Corruption {
    fn why(&self) -> &'static str {
        match self.sequence <= self.synced_through {
            true => "it is at or below what was synced",
            false => {
                "it is no torn tail: from one on nothing verifies, and the beginning of a segment is synced before all else"
            }
        }
    }
}

/// What is wrong with a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the batch is cut short: {needed} bytes are needed, {got} are there")]
    Short { needed: u64, got: u64 },
    #[error("the hash of the body of put {put_id} does not match its bytes")]
    Body { put_id: bettong_wire::PutId },
    #[error("the batch follows another one than the one before it")]
    Chain,
    #[error("the batch is of another segment")]
    Nonce,
    #[error("the batch begins at sequence {found}, {expected} is expected")]
    Sequence { expected: u64, found: u64 },
    #[error("a segment record stands where none belongs, or none where it belongs")]
    Segment,
}

/// Why an append was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was attempted, and the same again would fare no better.
    #[error("{0}")]
    Invalid(String),
    /// Nothing was attempted, and it would never fit.
    #[error("{what} does not fit a journal of {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    /// Nothing was attempted: no room until the deadline.
    #[error("the journal is full: {what} of {limit}")]
    Busy { what: String, limit: u64, retry_after_ms: u32 },
    /// Nothing was attempted: the journal takes nothing more.
    #[error("the journal is closed")]
    Closed,
    /// Nothing was attempted: no segment could be begun.
    #[error("the journal cannot be written: {0}")]
    Disk(DiskError),
    /// After an attempt: whole or absent once the journal is opened again, absent until then.
    #[error("whether the journal holds it is not known: {0}")]
    Unknown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_said_to_be_of_what_was_synced_only_where_that_is_known() {
        let said = |synced_through| {
            let file = "journal/1.seg".to_owned();
            let damage = Corruption {
                file,
                offset: 7,
                fault: Fault::Segment,
                sequence: 5,
                synced_through,
                batches_after: 0,
                records_after: 0,
            };
            damage.to_string()
        };
        assert!(said(5).contains("at or below what was synced (sequence 5, synced through 5)"), "{}", said(5));
        assert!(!said(4).contains("at or below") && said(4).contains("no torn tail"), "{}", said(4));
    }
}
