//! What the journal counts.

use super::state::Backlog;

/// Numbers of the block journal. Counts are since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JournalStats {
    pub appends: u64,
    pub records: u64,
    /// Bytes appended, headers included.
    pub bytes: u64,
    /// Batches that were synced, marks and beginnings of segments apart.
    pub syncs: u64,
    /// Batches whose append or sync failed.
    pub failures: u64,
    pub marks: u64,
    pub segments_begun: u64,
    pub segments_removed: u64,
    /// Time of the last sync, microseconds.
    pub sync_us: u64,
    /// Appends that wait for the writer, now.
    pub waiting: u64,
    /// Bytes of the segments on disk, now.
    pub disk_bytes: u64,
    pub disk_bytes_max: u64,
    /// Put and head records in the segments on disk, now.
    pub disk_records: u64,
    /// What is not in the object store, now.
    pub backlog: Backlog,
}
