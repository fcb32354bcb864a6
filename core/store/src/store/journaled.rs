//! Level `journal`: acknowledged once the local journal holds it, served at once, uploaded in the background.

use super::Store;
use super::put::{Prepared, PutError};
use crate::index::{Entry, NodeNum};
use crate::journal::{AppendError, PendingPut, Record, Version, Write};
use crate::keys::Key;
use crate::observe::Point;
use crate::world::{Mono, World};
use bettong_wire::request::Level;
use bettong_wire::{ErrorKind, PutId, ServiceError};
use std::time::Duration;

/// A write that must be journaled before it is acknowledged waits this long for room.
const ROOM_WAIT: Duration = Duration::from_secs(10);

impl<W: World> Store<W> {
    /// Journals the puts, then shows them: all or nothing.
    pub(super) async fn put_in_journal(&self, fresh: &[Prepared], deadline: Mono) -> Result<(), PutError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let journal = shared.journal.as_ref().ok_or_else(no_journal)?;
        shared.world.at(Point::BeforeJournalSubmit).await;
        let writes = fresh.iter().filter_map(|put| put.sealed.clone()).map(Write::Put).collect();
        journal.append(writes, deadline).await.map_err(put_error)?;
        shared.world.at(Point::BetweenJournalAndVisible).await;
        for put in fresh {
            let (key, put_id) = (&put.key, put.row.entry.put_id);
            // In memory before it is visible, so that the first look-up finds it there.
            shared.memory.insert(*key, put_id, put.payload.clone(), false);
            if let Some(old) = &put.old {
                shared.memory.remove(old.put_id);
                if old.level == Level::Object {
                    shared.shadowed.lock().insert(*key, *old);
                }
            }
            shared.show_entry(key, &put.row.entry, &put.row.plain_key);
            self.account(put);
            if let (Some(disk), Some(sealed)) = (&shared.disk, &put.sealed) {
                disk.store(shared.disk_key(key), sealed);
            }
        }
        shared.settle_losses();
        shared.uploads.notify_one();
        Ok(())
    }

    /// Journals that every version of `key` up to `horizon` is dead, where the journal could bring one back. Needs the
    /// key's lock.
    pub(super) async fn journal_delete(&self, key: &Key, horizon: PutId) -> Result<(), AppendError> {
        let shared = &self.shared;
        let wall_ms = shared.wall_ms();
        let record = |key, version| Record::Delete { key, horizon: version, wall_ms };
        self.journal_change(key, horizon, record).await
    }

    /// Journals that a write of `level` that went past the journal replaced what it holds of `key`. Needs the key's lock.
    pub(super) async fn journal_overwrite(&self, key: &Key, put_id: PutId, level: Level) -> Result<(), AppendError> {
        let record = |key, version| Record::Overwrite { key, version, level };
        self.journal_change(key, put_id, record).await
    }

    async fn journal_change(
        &self,
        key: &Key,
        put_id: PutId,
        record: impl FnOnce(crate::index::rows::ValueKey, Version) -> Record,
    ) -> Result<(), AppendError> {
        let shared = &self.shared;
        let Some(journal) = &shared.journal else { return Ok(()) };
        let value_key = shared.value_key(key);
        let doubtful = shared.unresolved.lock().contains(key);
        if !doubtful && !journal.state(|state| state.holds(&value_key)) {
            return Ok(());
        }
        let version = Version { ordinal: shared.order(put_id).0, put_id };
        shared.world.at(Point::BeforeJournalSubmit).await;
        let until = self.mono().plus(ROOM_WAIT);
        journal.append(vec![Write::Record(record(value_key, version))], until).await.map(drop)
    }

    /// This node's durable version of `key`, besides one that only the journal has: the map's, or the one that a
    /// journaled put hides until it is uploaded.
    pub(super) fn indexed(&self, key: &Key, shown: Option<Entry>) -> Option<Entry> {
        let hidden = || self.shared.shadowed.lock().get(key).copied();
        shown.filter(|entry| entry.level == Level::Object).or_else(hidden)
    }

    /// Whether this put is still the key's: it was neither overwritten nor deleted. One that did not verify when it was
    /// read stays so, until its bytes are found good or a start refuses them.
    pub(super) fn shows(&self, key: &Key, put_id: PutId) -> bool {
        self.shared.map.get(key, NodeNum::SELF).is_some_and(|entry| entry.put_id == put_id)
    }
}

/// The entry of a put that the journal holds.
pub(super) fn entry_of(put: &PendingPut) -> Entry {
    let header = &put.record.header;
    Entry {
        put_id: header.put_id,
        level: Level::Journal,
        raw_len: u32::try_from(header.raw_len).unwrap_or(u32::MAX),
        stored_len: u32::try_from(header.stored_len).unwrap_or(u32::MAX),
        sequence: header.sequence,
        parent_tag: header.parent.as_ref().map_or(0, super::put::tag),
        expires_at_ms: header.expires_at_ms,
        node: NodeNum::SELF,
        quarantined: false,
        in_pack: None,
    }
}

/// The plain key of a put that the journal holds; empty for other kinds.
pub(super) fn plain_key_of(put: &PendingPut) -> String {
    let key = put.record.head.get(bettong_wire::envelope::HEADER_LEN..).unwrap_or_default();
    String::from_utf8_lossy(key).into_owned()
}

fn no_journal() -> PutError {
    let message = "level `journal` is not available on this node: it has no journal";
    PutError::Refused(ServiceError::new(ErrorKind::Unavailable, message))
}

fn put_error(error: AppendError) -> PutError {
    let message = error.to_string();
    PutError::Refused(match error {
        AppendError::Unknown(_) => return PutError::Unknown(message),
        AppendError::Busy { retry_after_ms, .. } => ServiceError::busy(message, retry_after_ms),
        AppendError::TooLarge { limit, .. } => {
            ServiceError { limit, ..ServiceError::new(ErrorKind::TooLarge, message) }
        }
        AppendError::Invalid(_) => ServiceError::new(ErrorKind::Internal, message),
        AppendError::Closed => ServiceError::new(ErrorKind::Retry, message),
        AppendError::Disk(_) => ServiceError::new(ErrorKind::Unavailable, message),
    })
}
