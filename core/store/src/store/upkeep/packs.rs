//! Packs that nothing names.
//!
//! A pack is announced before its object is written, until the index knows it or it is given up; and what was given up
//! never enters the index. So a pack that is neither announced nor known is an orphan, and stays one.

use super::super::Store;
use super::super::listing::read_table;
use super::clock::BucketTime;
use super::scrub::unanswered;
use super::{Report, Slice};
use crate::observe::{Point, State};
use crate::world::World;
use bettong_wire::{NamespaceId, PutId, ServiceError};
use object_store::ObjectMeta;

impl<W: World> Store<W> {
    /// Looks at one pack: removes it where it is an orphan. One in which nothing lives any more is left to the task that
    /// tends the packs.
    pub(super) async fn scrub_pack(
        &self,
        object: &ObjectMeta,
        namespace: NamespaceId,
        pack: PutId,
        now: BucketTime,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        if !shared.lives.read().is_accounted_for(pack.life) {
            report.count("other_nodes");
            return Ok(());
        }
        if shared.packs.lock().is_known(pack) {
            report.count("named");
            return Ok(());
        }
        if !now.is_older(object, shared.config.scrub_grace) {
            shared.world.reached(State::ScrubSparedYoung);
            report.count("spared_young");
            return Ok(());
        }
        // A newer release's is left alone, and so is what nobody can read.
        if read_table(shared, namespace, pack, object.size).await.map_err(unanswered)?.is_none() {
            report.count("left_alone");
            return Ok(());
        }
        report.count("orphans");
        report.add("orphan_bytes", object.size);
        if !slice.dry_run {
            shared.world.at(Point::BeforeScrubRemove).await;
            shared.objects.remove(&object.location).await.map_err(unanswered)?;
            shared.world.reached(State::OrphanScrubbed);
            report.count("orphans_removed");
        }
        Ok(())
    }
}
