//! The low-water mark: segments before it are dead.

use super::OpenError;
use super::names::{LOW_WATER, UNFINISHED};
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::{Disk, DiskError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the file `low-water` holds.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(crate) struct LowWaterRecord {
    /// The first segment that is not dead.
    segment: u64,
}

/// The number of the first segment of a journal.
pub(super) const FIRST_SEGMENT: u64 = 1;

pub(super) async fn read<D: Disk>(disk: &D, dir: &str) -> Result<Option<u64>, OpenError> {
    let held: Result<Option<LowWaterRecord>, _> = read_record(disk, dir, LOW_WATER).await?;
    match held {
        Ok(held) => Ok(held.map(|held| held.segment)),
        Err(why) => Err(OpenError::LowWater { file: format!("{dir}/{LOW_WATER}"), why }),
    }
}

pub(super) async fn write<D: Disk>(disk: &D, dir: &str, segment: u64) -> Result<(), DiskError> {
    write_record(disk, dir, LOW_WATER, &LowWaterRecord { segment }).await
}

/// Reads a record of the journal's directory: `None` where it is not there, the inner error where it is damaged.
pub(super) async fn read_record<D: Disk, T: DeserializeOwned>(
    disk: &D,
    dir: &str,
    name: &str,
) -> Result<Result<Option<T>, String>, DiskError> {
    match disk.read_at(&format!("{dir}/{name}"), 0, RECORD_BYTES_MAX).await {
        Ok(bytes) => Ok(record::decode(&bytes).map(Some)),
        Err(DiskError::NotFound { .. }) => Ok(Ok(None)),
        Err(error) => Err(error),
    }
}

/// Replaces a record: after a crash it is the old one or the new one, after this returns the new one.
pub(super) async fn write_record<D: Disk, T: Serialize>(
    disk: &D,
    dir: &str,
    name: &str,
    value: &T,
) -> Result<(), DiskError> {
    let path = format!("{dir}/{name}");
    let unfinished = format!("{path}{UNFINISHED}");
    remove(disk, &unfinished).await?;
    disk.create(&unfinished).await?;
    let bytes = record::encode(value).map_err(|detail| DiskError::Io { path: path.clone(), detail })?;
    disk.append(&unfinished, &[bytes]).await?;
    disk.sync(&unfinished).await?;
    disk.rename(&unfinished, &path).await?;
    disk.sync_dir(dir).await
}

/// Removes a file, if it is there.
pub(super) async fn remove<D: Disk>(disk: &D, path: &str) -> Result<(), DiskError> {
    match disk.remove(path).await {
        Ok(()) | Err(DiskError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
