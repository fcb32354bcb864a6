//! The scrubber: finds objects of this node that nothing names, reads what is named and checks it, and clears away what
//! heads and probes left behind.
//!
//! It removes only what this node wrote, never what a newer release wrote, and nothing that was written lately by the
//! bucket's own clock. It reads little at once and rests as long as it works.

use super::super::Store;
use super::super::fetch::ObjectRead;
use super::clock::BucketTime;
use super::{Report, Slice, bad_cursor};
use crate::index::map::Cursor;
use crate::index::{Entry, NodeNum};
use crate::keys::Key;
use crate::objects::names::last_number;
use crate::objects::{ObjectError, Page};
use crate::observe::{Point, State};
use crate::world::{Clock, World};
use bettong_wire::ServiceError;
use bettong_wire::request::Level;
use futures::{StreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;
use std::time::Duration;

/// Objects of one page of a listing.
const PAGE: usize = 256;
/// Objects of a page that are looked at before the slice's end is.
const OBJECTS_A_STEP: usize = 16;
/// Entries that are verified before the slice's end is looked at.
const ENTRIES_A_STEP: usize = 4;
/// Objects that are read at once.
const READS_AT_ONCE: usize = 2;
/// Slots of the index that one step walks over.
const SLOTS_A_STEP: usize = 16_384;
/// Pause before a read that found no room is tried again: whoever waits for bytes goes first.
const ROOM_PAUSE: Duration = Duration::from_millis(10);
/// When to come again where a whole slice found no room.
const ROOM_MS: u32 = 500;

/// Where a scrub stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Objects of all namespaces whose names sort after this one.
    Objects(Option<Path>),
    /// What starts left behind that learned what the bucket can do.
    Probes,
    /// Entries of the index, to be read and verified.
    Entries(Cursor),
}

impl Stage {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Objects(after) => [&[1], after.as_ref().map_or("", Path::as_ref).as_bytes()].concat(),
            Self::Probes => vec![2],
            Self::Entries(at) => [&[3], at.shard.to_le_bytes().as_slice(), &at.slot.to_le_bytes()].concat(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            None | Some((1, [])) => Some(Self::Objects(None)),
            Some((1, path)) => Path::parse(std::str::from_utf8(path).ok()?).ok().map(|path| Self::Objects(Some(path))),
            Some((2, [])) => Some(Self::Probes),
            Some((3, at)) => {
                let (shard, slot) = at.split_first_chunk::<4>()?;
                let (shard, slot) = (u32::from_le_bytes(*shard), u32::from_le_bytes(*slot.first_chunk()?));
                (at.len() == 8).then_some(Self::Entries(Cursor { shard, slot }))
            }
            Some(_) => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Objects(_) => "objects",
            Self::Probes => "probes",
            Self::Entries(_) => "entries",
        }
    }
}

impl<W: World> Store<W> {
    pub(super) async fn scrub(
        &self,
        cursor: &[u8],
        slice: Slice,
        report: &mut Report,
    ) -> Result<Vec<u8>, ServiceError> {
        let mut stage = Stage::decode(cursor).ok_or_else(bad_cursor)?;
        let mut now = None;
        loop {
            self.shared.world.at(Point::DuringScrub).await;
            report.stage(stage.name());
            let next = match stage {
                Stage::Objects(after) => {
                    let now = self.once(&mut now, slice).await?;
                    let after = self.scrub_objects(after, now, slice, report).await?;
                    Some(after.map_or(Stage::Probes, |after| Stage::Objects(Some(after))))
                }
                Stage::Probes => {
                    let now = self.once(&mut now, slice).await?;
                    self.scrub_probes(now, slice, report).await?;
                    Some(Stage::Entries(Cursor::default()))
                }
                Stage::Entries(at) => self.scrub_entries(at, slice, report).await?.map(Stage::Entries),
            };
            match next {
                None => return Ok(Vec::new()),
                Some(next) if self.is_over(slice) => return Ok(next.encode()),
                Some(next) => stage = next,
            }
        }
    }

    /// The bucket's clock, asked once a slice.
    async fn once(&self, now: &mut Option<BucketTime>, slice: Slice) -> Result<BucketTime, ServiceError> {
        if let Some(now) = now {
            return Ok(*now);
        }
        let asked = if slice.dry_run { self.bucket_time_unwritten().await } else { self.bucket_time().await };
        Ok(*now.insert(asked.map_err(unanswered)?))
    }

    /// Looks at one page of objects, or at less of it where the slice ends. Answers the last one that was looked at,
    /// `None` where there are no more.
    async fn scrub_objects(
        &self,
        after: Option<Path>,
        now: BucketTime,
        slice: Slice,
        report: &mut Report,
    ) -> Result<Option<Path>, ServiceError> {
        let shared = &self.shared;
        let listed = shared.objects.page(&shared.names.namespaces(), after.as_ref(), PAGE).await;
        let Page { objects, more } = listed.map_err(unanswered)?;
        let mut last = None;
        let mut at = 0;
        while at < objects.len() {
            let began = self.mono();
            let end = (at + OBJECTS_A_STEP).min(objects.len());
            for index in at..end {
                let Some(object) = objects.get(index) else { break };
                if let Some(head) = shared.names.head_folder(&object.location) {
                    let next = objects.get(index + 1).map(|next| &next.location);
                    let superseded = next.is_some_and(|next| shared.names.head_folder(next) == Some(head));
                    self.scrub_generation(object, superseded, now, slice, report).await?;
                } else {
                    self.scrub_object(object, now, slice, report).await?;
                }
            }
            at = end;
            last = objects.get(end.saturating_sub(1));
            if self.is_over(slice) {
                break;
            }
            self.rest(began).await;
        }
        let whole = at >= objects.len();
        // The last of a page says whether the one before it is superseded, so a head's is looked at again.
        if whole
            && more
            && objects.len() > 1
            && last.is_some_and(|last| shared.names.head_folder(&last.location).is_some())
        {
            last = objects.get(objects.len() - 2);
        }
        Ok(if whole && !more { None } else { last.map(|last| last.location.clone()) })
    }

    /// Removes a generation of a head that is past its time. The newest is never removed, and generations are listed in
    /// ascending order: one that another of the same head follows is not the newest.
    async fn scrub_generation(
        &self,
        object: &ObjectMeta,
        superseded: bool,
        now: BucketTime,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        report.count("generations");
        let old = now.is_older(object, shared.config.head_generations_kept);
        if !superseded || !old || last_number(&object.location).is_none() {
            return Ok(());
        }
        report.count("generations_old");
        if !slice.dry_run {
            shared.objects.remove(&object.location).await.map_err(unanswered)?;
            report.count("generations_removed");
        }
        Ok(())
    }

    /// Removes this node's probes that a start left behind.
    async fn scrub_probes(&self, now: BucketTime, slice: Slice, report: &mut Report) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let listed = shared.objects.list(&shared.names.probes(), None, PAGE).await.map_err(unanswered)?;
        let own = |object: &&ObjectMeta| shared.names.is_probe_of(&object.location, &shared.config.node_id);
        for object in listed.objects.iter().filter(own) {
            if !now.is_older(object, shared.config.scrub_grace) {
                continue;
            }
            report.count("probes_old");
            if !slice.dry_run {
                shared.objects.remove(&object.location).await.map_err(unanswered)?;
                report.count("probes_removed");
            }
        }
        Ok(())
    }

    /// Reads some entries' objects and verifies them. Answers where the next step starts.
    async fn scrub_entries(
        &self,
        from: Cursor,
        slice: Slice,
        report: &mut Report,
    ) -> Result<Option<Cursor>, ServiceError> {
        let began = self.mono();
        let mut entries: Vec<(Key, Entry)> = Vec::new();
        let next = self.shared.map.walk(from, SLOTS_A_STEP, |key, entry| {
            if entries.len() == ENTRIES_A_STEP {
                return false;
            }
            if entry.node == NodeNum::SELF && entry.level == Level::Object {
                entries.push((key, entry));
            }
            true
        });
        if entries.is_empty() {
            return Ok(next);
        }
        let checks: Vec<_> = entries.iter().map(|(key, entry)| self.check_entry(key, entry, slice)).collect();
        let mut checks = stream::iter(checks).buffered(READS_AT_ONCE);
        while let Some(checked) = checks.next().await {
            checked?.into_iter().for_each(|(what, count)| report.add(what, count));
        }
        self.rest(began).await;
        Ok(next)
    }

    /// Verifies one entry's object; what is damaged is quarantined, and healed where another tier or node has a copy.
    /// Answers what to count.
    async fn check_entry(
        &self,
        key: &Key,
        entry: &Entry,
        slice: Slice,
    ) -> Result<Vec<(&'static str, u64)>, ServiceError> {
        let shared = &self.shared;
        if entry.is_expired(shared.wall_ms()) {
            return Ok(vec![("expired", 1)]);
        }
        if entry.quarantined {
            let healed = !slice.dry_run && self.heal(key, entry).await;
            return Ok(vec![("quarantined_before", 1), ("healed", healed.into())]);
        }
        let _room = loop {
            match shared.loads.object_now(entry) {
                Some(room) => break room,
                None if !self.is_over(slice) => shared.world.clock().sleep(ROOM_PAUSE).await,
                None => {
                    return Err(ServiceError::busy("others read from the object store: no room to verify", ROOM_MS));
                }
            }
        };
        match self.read_object(key, entry).await {
            ObjectRead::Good(..) => Ok(vec![("verified", 1), ("verified_bytes", entry.stored_len.into())]),
            ObjectRead::Newer => Ok(vec![("newer_format", 1)]),
            ObjectRead::Gone => Ok(vec![("changed_meanwhile", 1)]),
            ObjectRead::Down if shared.objects.health.is_open() => {
                Err(unanswered(ObjectError::Unknown("objects cannot be read now".to_owned())))
            }
            // One that does not answer holds up no other; the next scrub asks for it again.
            ObjectRead::Down => Ok(vec![("not_answered", 1)]),
            ObjectRead::NoRoom => Err(ServiceError::busy("no payload memory to verify an object in", ROOM_MS)),
            ObjectRead::Bad if slice.dry_run => Ok(vec![("damaged", 1)]),
            ObjectRead::Bad => {
                self.quarantine(key, entry);
                shared.world.reached(State::ScrubQuarantined);
                let healed = self.heal(key, entry).await;
                Ok(vec![("damaged", 1), ("quarantined", 1), ("healed", healed.into())])
            }
        }
    }
}

/// The object store did not answer: the slice is to be asked for again.
pub(super) fn unanswered(error: ObjectError) -> ServiceError {
    ServiceError::new(bettong_wire::ErrorKind::Retry, format!("upkeep was stopped: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_cursors_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(stage) = Stage::decode(&bytes) {
                prop_assert_eq!(Stage::decode(&stage.encode()), Some(stage));
            }
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let object = Path::from("p/ns/03/block/ab/abc.0.01-02");
        for stage in [
            Stage::Objects(None),
            Stage::Objects(Some(object)),
            Stage::Probes,
            Stage::Entries(Cursor { shard: 3, slot: 77_000 }),
        ] {
            assert_eq!(Stage::decode(&stage.encode()), Some(stage));
        }
        assert_eq!(Stage::decode(&[]), Some(Stage::Objects(None)));
    }
}
