//! The newest segment that has begun whole: without it nobody could tell that the last one is missing, or was cut off.

use super::OpenError;
use super::low_water::{read_record, write_record};
use super::names::NEWEST;
use crate::world::{Disk, DiskError};
use serde::{Deserialize, Serialize};

/// What the file `newest` holds. It is durable once the segment's first batch is, and before anything follows that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Newest {
    pub(super) segment: u64,
    /// The segment's own: its batches are known by it where the first of them is damaged.
    pub(super) nonce: u64,
}

impl Newest {
    /// What the directory holds: `None` in a new one.
    pub(super) async fn read<D: Disk>(disk: &D, dir: &str) -> Result<Option<Self>, OpenError> {
        read_record(disk, dir, NEWEST).await?.map_err(|why| OpenError::Newest { file: format!("{dir}/{NEWEST}"), why })
    }

    pub(super) async fn write<D: Disk>(&self, disk: &D, dir: &str) -> Result<(), DiskError> {
        write_record(disk, dir, NEWEST, self).await
    }
}
