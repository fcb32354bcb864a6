//! Room that is kept for a disk that is full: without it nobody could say that an upload has ended, no segment would ever
//! die, and a journal that filled its own disk would stay full for ever.

use super::low_water::remove;
use super::names::RESERVE;
use crate::world::{Disk, DiskError};
use bytes::Bytes;

/// The beginning of a segment, the low-water mark, and the ends of the uploads of many rounds. Bytes.
const RESERVE_BYTES: usize = 128 << 10;

/// Takes the room, where it is not taken.
pub(super) async fn take<D: Disk>(disk: &D, dir: &str) -> Result<(), DiskError> {
    let path = format!("{dir}/{RESERVE}");
    if disk.len(&path).await.is_ok_and(|len| len == RESERVE_BYTES as u64) {
        return Ok(());
    }
    remove(disk, &path).await?;
    let taken = async {
        disk.create(&path).await?;
        disk.append(&path, &[Bytes::from(vec![0xff; RESERVE_BYTES])]).await?;
        disk.sync(&path).await
    };
    let taken = taken.await;
    if taken.is_err() {
        let _ = remove(disk, &path).await;
    }
    taken
}

/// Gives the room back. Says whether there was any.
pub(super) async fn give<D: Disk>(disk: &D, dir: &str) -> bool {
    disk.remove(&format!("{dir}/{RESERVE}")).await.is_ok()
}
