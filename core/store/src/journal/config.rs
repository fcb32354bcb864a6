//! Limits of the block journal, each with its unit and its reason.

use super::header::BATCH_COUNT_MAX;
use crate::life::Life;
use bettong_wire::limits::BLOCK_BYTES_MAX;
use std::time::Duration;

/// How the block journal is opened.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// This run of the process; every put bears its ordinal.
    pub life: Life,
    /// Directory of the journal, below the world's disk.
    pub dir: String,
    /// A segment is closed once it has reached this length. Bytes.
    pub segment_bytes: u64,
    /// Bodies that one batch gathers at most; a larger put has a batch of its own. Bytes.
    pub batch_bytes_max: u64,
    /// Appends that wait for the writer: the sum of their bodies, and 4 KiB for each record. Bytes.
    pub queue_bytes_max: u64,
    /// Segments on disk, all together: beyond it puts wait, then are `busy`. Bytes.
    pub bytes_max: u64,
    /// Puts and heads in segments that are still on disk: bounds the memory that describes them.
    pub records_max: u64,
    /// After so long without an append the end of the journal is marked as synced.
    pub idle_mark: Duration,
    /// Pause after a segment could not be begun (a full disk), before the next attempt.
    pub retry_pause: Duration,
}

impl JournalConfig {
    /// The defaults, for a run of the process.
    pub fn new(life: Life) -> Self {
        Self {
            life,
            dir: "journal".to_owned(),
            segment_bytes: 64 << 20,
            batch_bytes_max: 16 << 20,
            queue_bytes_max: 64 << 20,
            bytes_max: 4 << 30,
            records_max: 131_072,
            idle_mark: Duration::from_millis(50),
            retry_pause: Duration::from_millis(100),
        }
    }

    /// Says what is wrong with the configuration, naming the value and the limit.
    pub fn check(&self) -> Result<(), String> {
        if self.dir.is_empty() {
            return Err("the journal's directory has no name".to_owned());
        }
        for (name, value, min, max) in [
            ("segment_bytes", self.segment_bytes, 4096, 1 << 40),
            ("batch_bytes_max", self.batch_bytes_max, 1, BLOCK_BYTES_MAX),
            ("queue_bytes_max", self.queue_bytes_max, 1 << 20, 1 << 36),
            ("bytes_max", self.bytes_max, self.segment_bytes.saturating_mul(2), 1 << 50),
            ("records_max", self.records_max, u64::from(BATCH_COUNT_MAX), 1 << 32),
        ] {
            if !(min..=max).contains(&value) {
                return Err(format!("the journal's {name} is {value}, it must be {min} to {max}"));
            }
        }
        Ok(())
    }
}
