//! The journals: logs of batches on the local disk.
//!
//! The **block journal** (`Journal`) makes an acknowledged write-back put survive a crash. The **signal journal**
//! (`signal`) remembers accesses, so that recency survives a restart; it may lose its tail. `docs/journal.md` draws both,
//! field by field.
//!
//! What this room promises: a record is acknowledged after its batch is synced, and is found by every later `open`
//! until its segment is dead. What is not acknowledged is whole or absent after a crash, and absent until then. One
//! function applies records, for writing and for replaying (`JournalState::apply`). It does not know the store: who
//! uploads, and when, is not decided here.
//!
//! Not covered: rot in the last batch before its mark cannot be told from a torn write. Where a process was killed
//! between a failed sync and the void of what it wrote, and the machine then loses its power without the operating
//! system having written what the next process read, that unacknowledged batch is lost again.

mod batch;
mod check;
mod config;
mod cursor;
mod error;
mod header;
pub(crate) mod low_water;
mod names;
mod newest;
mod queue;
mod record;
mod recovery;
mod reserve;
mod salvage;
mod scan;
pub mod signal;
mod state;
mod stats;
mod walk;
mod writer;

pub use batch::{Batch, Link, VERSION, seal};
pub use check::{CheckReport, DumpLine, check, dump};
pub use config::JournalConfig;
pub use error::{AppendError, Corruption, Fault, OpenError};
pub use header::{BATCH_COUNT_MAX, BatchHeader, HEADER_LEN, MAGIC};
pub use queue::{Appended, Write};
pub use record::{HeadRecord, PutRecord, Record, Version};
pub use recovery::{Cut, Progress, Recovered};
pub use salvage::{Salvaged, reports, salvage};
pub use state::{Backlog, JournalState, Pending, PendingPut, Place};
pub use stats::JournalStats;

use crate::race::timeout;
use crate::vital::End;
use crate::world::{Clock, Disk, DiskError, Mono, World};
use bettong_wire::PutId;
use bytes::Bytes;
use queue::Submission;
use std::sync::Arc;
use std::time::Duration;
use writer::Shared;

/// The block journal, open for appending. Cheap to clone; all clones are the same journal. It ends with `close`.
pub struct Journal<W: World> {
    shared: Arc<Shared<W>>,
}

impl<W: World> Clone for Journal<W> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// A journal that was read and can be gone on from. Nothing has been changed.
pub struct Read(recovery::Found);

impl Read {
    /// Reads and verifies what the directory holds; an empty or missing directory is an empty journal. `progress` is
    /// called with the bytes read and the bytes to read in all.
    ///
    /// # Errors
    /// Whatever could put acknowledged data at risk.
    pub async fn all<W: World>(world: &W, dir: &str, progress: &mut Progress<'_>) -> Result<Self, OpenError> {
        Ok(Self(recovery::recover(world, dir, progress).await?))
    }

    /// What is not in the object store.
    pub fn backlog(&self) -> Backlog {
        self.0.state.backlog()
    }

    pub fn state(&self) -> &JournalState {
        &self.0.state
    }

    pub fn recovered(&self) -> &Recovered {
        &self.0.recovered
    }
}

impl<W: World> Journal<W> {
    /// Recovers what the directory holds and begins a new segment behind it. May be killed anywhere and called again.
    /// Existing segments are read, synced and, where the low-water mark says that they are dead, removed; they are
    /// never changed.
    ///
    /// One process at a time: the caller holds the directory's lock.
    ///
    /// # Errors
    /// Whatever could put acknowledged data at risk: nothing has been changed then.
    pub async fn open(
        world: W,
        config: JournalConfig,
        progress: &mut Progress<'_>,
    ) -> Result<(Recovered, Self), OpenError> {
        config.check().map_err(OpenError::Config)?;
        let read = Read::all(&world, &config.dir, progress).await?;
        Self::go_on(world, config, read).await
    }

    /// The second half of `open`: begins a new segment behind what was read, which nobody has written since.
    pub async fn go_on(world: W, config: JournalConfig, read: Read) -> Result<(Recovered, Self), OpenError> {
        config.check().map_err(OpenError::Config)?;
        let (recovered, shared) = writer::start(world, config, read.0).await?;
        Ok((recovered, Self { shared }))
    }

    /// Appends `writes`, all or nothing, and returns once they are synced: they are applied to `state` then, and
    /// survive every crash. Appends are acknowledged in the order of their sequence numbers. Several puts that fill more
    /// than one batch become visible together, with the last.
    ///
    /// Waits for room until `deadline`. A dropped future withdraws nothing.
    ///
    /// # Errors
    /// `Unknown` after an attempt or when the deadline passes during one; all others say that nothing was attempted.
    pub async fn append(&self, writes: Vec<Write>, deadline: Mono) -> Result<Appended, AppendError> {
        let shared = &self.shared;
        let mut submission = Submission::new(writes, &shared.config)?;
        loop {
            // Asked for before looking, so that room made in between is not missed.
            let room = shared.room.notified();
            let full = match shared.submit(submission) {
                Ok(ticket) => return shared.acknowledged(ticket, deadline).await,
                Err((back, refused)) => {
                    submission = back;
                    refused
                }
            };
            if full == AppendError::Closed {
                return Err(full);
            }
            let left = deadline.since(shared.world.clock().mono());
            if left.is_zero() || timeout(&shared.world, left, room).await.is_none() {
                return Err(full);
            }
        }
    }

    /// Journals that puts or heads are in the object store and durably indexed: they are pending no more, and their
    /// segment may die. Losing this in a crash only makes the upload happen again.
    pub async fn upload_done(&self, put_ids: &[PutId]) -> Result<(), AppendError> {
        for some in put_ids.chunks(BATCH_COUNT_MAX.into()) {
            let writes = some.iter().map(|put_id| Write::Record(Record::UploadDone { put_id: *put_id })).collect();
            self.append(writes, Mono(u64::MAX)).await?;
        }
        Ok(())
    }

    /// Looks at what the journal holds: `holds`, `pending_of`, `next_pending`, `backlog`. Shows exactly what is
    /// acknowledged or about to be. `look` must be short: the writer waits for it.
    pub fn state<T>(&self, look: impl FnOnce(&JournalState) -> T) -> T {
        look(&self.shared.ledger.lock().state)
    }

    /// The stored body of a pending put, as long as it is pending. Not verified: whoever brings bytes into memory does.
    pub async fn read_body(&self, put: &PendingPut) -> Result<Bytes, DiskError> {
        let name = self.shared.path(&names::segment(put.place.segment));
        self.shared.world.disk().read_at(&name, put.place.offset, put.record.header.stored_len).await
    }

    /// Gives the room back that is kept for a disk that is full; says whether there was any. The journal takes it again.
    pub async fn give_reserve(world: &W, dir: &str) -> bool {
        reserve::give(world.disk(), dir).await
    }

    /// Removes the segments that are dead, oldest first, behind a durable low-water mark; returns how many. To be called
    /// whenever uploads were done; costs nothing where nothing is dead.
    pub async fn trim(&self) -> Result<u64, DiskError> {
        self.shared.trim().await
    }

    /// Highest sequence number that is synced.
    pub fn synced_through(&self) -> u64 {
        self.shared.ledger.lock().synced_through
    }

    /// Numbers of this process, since the journal was opened, and of the journal now.
    pub fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    /// Waits until the writer has ended; says how.
    pub(crate) async fn end(&self) -> End {
        self.shared.end().await
    }

    /// Takes no more appends, writes what waits and a mark, and ends. Says what is not in the object store yet.
    ///
    /// # Errors
    /// The same, where `bound` passed first: what waited is unknown to its callers.
    pub async fn close(&self, bound: Duration) -> Result<Backlog, Backlog> {
        let ended = self.shared.close(bound).await;
        let backlog = self.state(JournalState::backlog);
        if ended { Ok(backlog) } else { Err(backlog) }
    }
}
