//! Objects that nothing names.
//!
//! An orphan is an object of this node's lives that no entry, no journaled put and no put under way names. A put holds
//! its key's lock from before its object is written until it is visible or failed, so whoever holds the lock and finds
//! nothing that names an object knows that nothing ever will. Its death is durable in the index before the object goes:
//! a row of the key that an unknown put may have left goes with it.

use super::super::Store;
use super::clock::BucketTime;
use super::scrub::unanswered;
use super::{Report, Slice};
use crate::index::NodeNum;
use crate::index::committer::IndexChange;
use crate::index::rows::{DeadRow, Mark, ValueKey};
use crate::keys::Key;
use crate::objects::ObjectError;
use crate::objects::names::PayloadName;
use crate::observe::{Point, State};
use crate::world::World;
use bettong_wire::envelope::{HEADER_LEN, Header};
use bettong_wire::request::Level;
use bettong_wire::{DecodeError, PutId, ServiceError};
use object_store::ObjectMeta;

/// Reads of a header before it counts as damaged.
const READS: u32 = 2;

/// What an object is to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// An entry, or a put that the journal holds, names it.
    Named,
    /// It was deleted, overwritten or evicted: its removal is only late.
    Dead(DeadRow),
    /// The same write is in a pack, which its entry names.
    Spare,
    Orphan,
}

/// What an orphan's own header says.
enum Kept {
    /// A write of this release.
    Known,
    /// A newer release's, or nothing that this one can read.
    LeftAlone(&'static str),
    Gone,
}

impl<W: World> Store<W> {
    /// Looks at one object that is no head: removes it where it is an orphan, or dead.
    pub(super) async fn scrub_object(
        &self,
        object: &ObjectMeta,
        now: BucketTime,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        report.count("objects");
        report.add("object_bytes", object.size);
        if let Some((namespace, pack)) = shared.names.parse_pack(&object.location) {
            return self.scrub_pack(object, namespace, pack, now, slice, report).await;
        }
        let Some(name) = shared.names.parse_payload(&object.location) else {
            report.count("other_names");
            return Ok(());
        };
        if !shared.lives.read().is_accounted_for(name.put_id.life) {
            report.count("other_nodes");
            return Ok(());
        }
        let value_key = name.value_key();
        let Some(key) = shared.key(&value_key) else {
            report.count("left_alone");
            return Ok(());
        };
        if self.standing(&key, &value_key, name.put_id) == Standing::Named {
            report.count("named");
            return Ok(());
        }
        if !now.is_older(object, shared.config.scrub_grace) {
            shared.world.reached(State::ScrubSparedYoung);
            report.count("spared_young");
            return Ok(());
        }
        let _guard = self.locks.lock([key]).await;
        match self.standing(&key, &value_key, name.put_id) {
            Standing::Named => report.count("named"),
            Standing::Dead(row) => {
                report.count("dead");
                if !slice.dry_run {
                    self.remove_dead(&value_key, name.put_id, &row).await?;
                    report.count("dead_removed");
                }
            }
            Standing::Spare => {
                report.count("spares");
                if !slice.dry_run {
                    shared.objects.remove(&object.location).await.map_err(unanswered)?;
                    report.count("spares_removed");
                }
            }
            Standing::Orphan => match self.header_says(&name).await.map_err(unanswered)? {
                Kept::Gone => {}
                Kept::LeftAlone(why) => report.count(why),
                Kept::Known => {
                    report.count("orphans");
                    report.add("orphan_bytes", object.size);
                    if !slice.dry_run {
                        self.remove_orphan(&key, &value_key, name.put_id).await?;
                        shared.world.reached(State::OrphanScrubbed);
                        report.count("orphans_removed");
                    }
                }
            },
        }
        Ok(())
    }

    fn standing(&self, key: &Key, value_key: &ValueKey, put_id: PutId) -> Standing {
        let shared = &self.shared;
        let shown = shared.map.get(key, NodeNum::SELF);
        let hidden = shared.shadowed.lock().get(key).copied();
        let journaled = || {
            shared.journal.as_ref().is_some_and(|journal| {
                journal.state(|state| {
                    state.pending(put_id).is_some()
                        || state.newest(value_key).is_some_and(|newest| newest.put_id == put_id)
                })
            })
        };
        if let Some(row) = shared.dead.lock().get(put_id) {
            return Standing::Dead(row);
        }
        match shown.into_iter().chain(hidden).find(|held| held.put_id == put_id) {
            _ if journaled() => Standing::Named,
            Some(entry) if entry.in_pack.is_some() => Standing::Spare,
            Some(_) => Standing::Named,
            None => Standing::Orphan,
        }
    }

    async fn header_says(&self, name: &PayloadName) -> Result<Kept, ObjectError> {
        let shared = &self.shared;
        let path = shared.names.payload(name);
        for _ in 0..READS {
            match shared.objects.get_head(&path, HEADER_LEN as u64).await {
                Ok(bytes) => match Header::decode(&bytes) {
                    Ok(header) if header.put_id == name.put_id => return Ok(Kept::Known),
                    Err(DecodeError::Version { .. }) => return Ok(Kept::LeftAlone("newer_format")),
                    _ => {}
                },
                Err(ObjectError::NotFound) => return Ok(Kept::Gone),
                Err(error) => return Err(error),
            }
        }
        Ok(Kept::LeftAlone("unreadable"))
    }

    /// Needs the key's lock.
    async fn remove_orphan(&self, key: &Key, value_key: &ValueKey, put_id: PutId) -> Result<(), ServiceError> {
        let shared = &self.shared;
        shared.world.at(Point::BeforeScrubRemove).await;
        let shown = shared.map.get(key, NodeNum::SELF);
        let hidden = shared.shadowed.lock().contains_key(key);
        // A row that another version has is that version's.
        let rowless = !hidden && shown.is_none_or(|held| held.level < Level::Object);
        let row = rowless.then_some(IndexChange::Remove { key: *value_key, put_id });
        let dead = DeadRow { key: *value_key, wall_ms: shared.wall_ms(), mark: Mark::None, pack: None };
        let DeadRow { key, wall_ms, mark, pack } = dead;
        let buried = IndexChange::Dead { key, put_id, wall_ms, mark, pack };
        self.settle(row.into_iter().chain([buried]).collect()).await?;
        self.remove_dead(value_key, put_id, &dead).await
    }

    /// Removes the object of what the index says is dead; the row of one that nobody deleted by name goes with it, unless
    /// the same bytes are in a pack too.
    async fn remove_dead(&self, value_key: &ValueKey, put_id: PutId, row: &DeadRow) -> Result<(), ServiceError> {
        let shared = &self.shared;
        shared.objects.remove(&shared.object_path(value_key, put_id)).await.map_err(unanswered)?;
        if row.mark == Mark::None && row.pack.is_none() {
            self.settle(vec![IndexChange::Forget { put_id }]).await?;
        }
        Ok(())
    }

    pub(super) async fn settle(&self, changes: Vec<IndexChange>) -> Result<(), ServiceError> {
        let coming = self.commits.announce();
        let committed = self.commits.commit(changes, coming).await;
        committed.map_err(|error| unanswered(ObjectError::Unknown(error.to_string())))
    }
}
