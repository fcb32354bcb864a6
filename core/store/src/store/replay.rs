//! What the journal holds beyond the index is visible again before the node says ready.

use super::journaled::{entry_of, plain_key_of};
use super::{OpenError, Store};
use crate::index::rows::{DeadRow, Mark, ValueKey};
use crate::index::{IndexError, NodeNum};
use crate::journal::Pending;
use crate::observe::{Point, State};
use crate::world::World;
use bettong_wire::PutId;
use bettong_wire::request::Level;

impl<W: World> Store<W> {
    /// Whether the index names this version dead, or says that a later one of its key was deleted by name, and with it all
    /// before it: what the journal had of that may be lost.
    fn is_buried(&self, key: &ValueKey, put_id: PutId) -> bool {
        let (dead, order) = (self.shared.dead.lock(), |put_id| self.shared.order(put_id));
        let deleted = |(later, row): (PutId, &DeadRow)| row.mark != Mark::None && order(later) >= order(put_id);
        dead.contains(put_id) || dead.of_key(key).any(deleted)
    }

    /// Shows the puts that the journal acknowledged and the index does not know, and settles the others durably. With
    /// `distrust`, of a directory that was rolled back, nothing of the journal is shown. Says how many it showed.
    pub(super) async fn replay(&self, distrust: bool) -> Result<u64, OpenError> {
        let shared = &self.shared;
        let Some(journal) = &shared.journal else { return Ok(0) };
        let mut settled: Vec<PutId> = Vec::new();
        let mut shown = 0;
        for (_, pending) in journal.state(|state| state.next_pending(0, usize::MAX)) {
            let Pending::Put(put) = pending else {
                settled.push(pending.version().put_id);
                continue;
            };
            let (value_key, put_id) = (put.record.key(), put.record.header.put_id);
            let Some(key) = shared.key(&value_key) else {
                let text = "the journal names too many namespaces".to_owned();
                return Err(OpenError::Index(IndexError::Stored(text)));
            };
            let held = shared.map.get(&key, NodeNum::SELF);
            let newer = held.is_some_and(|held| shared.order(held.put_id) >= shared.order(put_id));
            if distrust || newer || self.is_buried(&value_key, put_id) {
                settled.push(put_id);
                continue;
            }
            if let Some(hidden) = held.filter(|held| held.level == Level::Object) {
                shared.shadowed.lock().insert(key, hidden);
            }
            shared.show_entry(&key, &entry_of(&put), &plain_key_of(&put));
            shown += 1;
        }
        shared.world.at(Point::DuringReplay).await;
        shared.world.reached_if(shown > 0, State::Replayed);
        if distrust && !settled.is_empty() {
            tracing::warn!(puts = settled.len(), "journaled puts of a rolled-back directory are not served");
        }
        journal.upload_done(&settled).await?;
        if let Err(error) = journal.trim().await {
            tracing::warn!(%error, "dead segments of the journal could not be removed");
        }
        Ok(shown)
    }
}
