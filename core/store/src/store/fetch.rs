//! The tiers below memory: reading one version from the first that has a copy which verifies, and moving it upward.

use super::Store;
use super::get::MOVES_MAX;
use crate::index::committer::IndexChange;
use crate::index::{Entry, InPack, NodeNum};
use crate::journal::Pending;
use crate::keys::Key;
use crate::objects::ObjectError;
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::record::RECORD_BYTES_MAX;
use crate::seal::{Expected, OpenError, open};
use crate::stats::Event;
use crate::world::{Clock, Mono, World};
use bettong_wire::envelope::{HEADER_LEN, Header};
use bettong_wire::limits::PLAIN_KEY_BYTES_MAX;
use bettong_wire::request::{Level, Tier};
use bettong_wire::{BlockHash, MissReason, Payload};
use bytes::Bytes;
use object_store::path::Path;
use std::time::Duration;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    Good(Good),
    /// No tier has a copy that verifies.
    Corrupt,
    /// A newer release's format.
    Newer,
    /// The bytes are gone and the entry with them: another node's, or memory's own.
    Gone,
    /// The tier that has it does not answer.
    Down,
    /// There is no payload memory to read it into.
    NoRoom,
}

/// A copy that verified.
#[derive(Clone, Debug)]
pub(super) struct Good {
    pub payload: Payload,
    pub tier: Tier,
    pub parent: Option<BlockHash>,
}

impl Good {
    pub fn new(header: &Header, payload: Payload, tier: Tier) -> Self {
        Self { payload, tier, parent: header.parent }
    }
}

impl Fetched {
    fn good(header: &Header, payload: Payload, tier: Tier) -> Self {
        Self::Good(Good::new(header, payload, tier))
    }

    pub fn reason(&self) -> MissReason {
        match self {
            Self::Good(..) | Self::Gone => MissReason::Absent,
            Self::Corrupt => MissReason::Corrupt,
            Self::Newer => MissReason::NewerFormat,
            Self::Down => MissReason::TierDown,
            Self::NoRoom => MissReason::NoRoom,
        }
    }
}

/// What reading the object of one version gave.
pub(super) enum ObjectRead {
    /// The copy, and the envelope that it was in.
    Good(Good, Bytes),
    /// A newer release's format.
    Newer,
    /// It is no longer what the index names.
    Gone,
    /// The object store does not answer.
    Down,
    /// There is no payload memory to read it into.
    NoRoom,
    /// Two independent reads did not verify, and the index still names it.
    Bad,
}

/// Reads of one object, or of one journaled put, before it is believed to be damaged: one corrupted answer is not.
const READS: u32 = 2;
/// The disk tier is given up for one read after this long, and the next tier asked.
const DISK_READ_MAX: Duration = Duration::from_secs(5);
/// Room for a read of the disk tier is waited for so long, and then the next tier asked: others wait for a device that
/// does not answer.
const DISK_ROOM_MAX: Duration = Duration::from_secs(2);
/// Pause between them where the first found nothing.
const READ_PAUSE: Duration = Duration::from_millis(50);

impl<W: World> Store<W> {
    /// Reads one version from the first tier that has a copy which verifies, and promotes it.
    pub(super) async fn fetch(&self, key: &Key, entry: &Entry, wanted: impl Fn() -> bool) -> Fetched {
        let shared = &self.shared;
        shared.world.at(Point::BeforeTierRead).await;
        if entry.level == Level::Memory {
            // Memory was its only place.
            if shared.hide_entry(key, entry.node, entry.put_id) {
                shared.ghosts.lock().insert(*key, Level::Memory, shared.config.ghosts_max);
            }
            return Fetched::Gone;
        }
        // Room first, then bytes: however many read, what is under way stays within the budget. Each tier has its own, so
        // that a tier that hangs holds up the reads of no other.
        let expected = self.expected(key, entry);
        let clock = shared.world.clock();
        let learn = |tier, began: Mono| {
            let now = clock.mono();
            shared.estimates.record(tier, entry.stored_len.into(), now.since(began), now);
        };
        let local = self.local_copy(key, entry);
        // A disk that hangs fills its half for as long as its reads are waited for.
        let room = match local {
            true => timeout(&shared.world, DISK_ROOM_MAX, shared.loads.disk(entry)).await,
            false => None,
        };
        let crowded = local && room.is_none();
        if let Some(room) = room {
            let Some(_room) = room else { return Fetched::Down };
            // Everybody left while it waited for room: reading now would keep others waiting for nobody.
            if !wanted() {
                return Fetched::Down;
            }
            let began = clock.mono();
            if let Some((header, payload)) = self.fetch_from_disk(key, &expected).await {
                learn(Tier::Disk, began);
                self.promote(key, entry, &payload, None).await;
                return Fetched::good(&header, payload, Tier::Disk);
            }
            if entry.level == Level::Journal
                && let Some(fetched) = self.fetch_from_journal(key, entry, &expected).await
            {
                return fetched;
            }
        }
        let Some(_room) = shared.loads.object(entry).await else { return Fetched::Down };
        if !wanted() {
            return Fetched::Down;
        }
        if crowded
            && entry.level == Level::Journal
            && let Some(fetched) = self.fetch_from_journal(key, entry, &expected).await
        {
            return fetched;
        }
        let began = clock.mono();
        let fetched = self.fetch_from_object(key, entry).await;
        // A tier that is not asked while its breaker is open has taught nothing.
        if matches!(fetched, Fetched::Good(_)) || !shared.objects.health.is_open() {
            learn(Tier::Object, began);
        }
        fetched
    }

    /// Whether this host may have the bytes: on the disk tier, or in the journal.
    pub(super) fn local_copy(&self, key: &Key, entry: &Entry) -> bool {
        let on_disk = || self.shared.disk.as_ref().is_some_and(|disk| disk.may_contain(&self.shared.disk_key(key)));
        entry.level == Level::Journal || on_disk()
    }

    pub(super) fn expected(&self, key: &Key, entry: &Entry) -> Expected {
        let namespace = self.shared.namespace_id(key.ns);
        Expected { kind: key.kind, namespace, hash: key.hash, part: key.part, put_id: entry.put_id }
    }

    pub(super) async fn fetch_from_disk(&self, key: &Key, expected: &Expected) -> Option<(Header, Payload)> {
        let shared = &self.shared;
        let disk = shared.disk.as_ref()?;
        let disk_key = shared.disk_key(key);
        let now = || shared.world.clock().mono();
        if !shared.disk_health.admits(now()) {
            return None;
        }
        let load = async {
            shared.world.at(Point::BeforeDiskRead).await;
            disk.load(&disk_key).await
        };
        let loaded = timeout(&shared.world, DISK_READ_MAX, load).await;
        let bytes = match loaded.unwrap_or_else(|| Err(format!("no answer within {DISK_READ_MAX:?}"))) {
            Ok(bytes) => {
                shared.disk_health.answered();
                bytes?
            }
            Err(error) => {
                tracing::debug!(error, "the disk tier could not be read");
                shared.world.reached_if(shared.disk_health.failed(now()), State::BreakerOpened);
                return None;
            }
        };
        match open(&bytes, expected, &shared.memory) {
            Ok(verified) => {
                shared.stats.count(Event::Verified);
                return Some(verified);
            }
            Err(OpenError::OtherPut { .. }) => {
                shared.stats.count(Event::StaleDisk);
                shared.world.reached(State::StaleDiskCopy);
            }
            Err(OpenError::Damaged(error)) => {
                shared.stats.count(Event::CorruptDisk);
                shared.world.reached(State::CorruptDiskCopy);
                tracing::warn!(error, "a copy on disk does not verify; it is dropped");
            }
            // A newer release's copy is left alone; without memory the object would not fit either.
            Err(OpenError::Newer(_) | OpenError::Memory(_)) => return None,
        }
        disk.remove(&disk_key);
        None
    }

    /// Reads a put that is not in the object store yet; `None` where it is there by now.
    async fn fetch_from_journal(&self, key: &Key, entry: &Entry, expected: &Expected) -> Option<Fetched> {
        let shared = &self.shared;
        let journal = shared.journal.as_ref()?;
        let Some(Pending::Put(put)) = journal.state(|state| state.pending(entry.put_id)) else { return None };
        // One bad read is not bad bytes. What stays damaged is hidden, not given up: the journal keeps it, the uploader
        // reads it again, and the next start refuses it.
        for read in 0..READS {
            let body = match journal.read_body(&put).await {
                Ok(body) => body,
                // Uploaded meanwhile, its segment may be gone.
                Err(_) if journal.state(|state| state.pending(entry.put_id).is_none()) => return None,
                Err(error) => {
                    tracing::warn!(%error, "the journal could not be read");
                    return Some(Fetched::Down);
                }
            };
            let envelope = Bytes::from([put.record.head.clone(), body].concat());
            match open(&envelope, expected, &shared.memory) {
                Ok((header, payload)) => {
                    shared.stats.count(Event::Verified);
                    shared.world.reached(State::HitJournal);
                    self.promote(key, entry, &payload, Some(envelope)).await;
                    return Some(Fetched::good(&header, payload, Tier::Disk));
                }
                Err(OpenError::Memory(_)) => return Some(Fetched::NoRoom),
                Err(error) => {
                    tracing::error!(%error, put_id = %entry.put_id, read, "a journaled put does not verify");
                    shared.stats.count(Event::CorruptJournal);
                }
            }
        }
        if journal.state(|state| state.pending(entry.put_id).is_none()) {
            return None;
        }
        self.quarantine(key, entry);
        Some(Fetched::Corrupt)
    }

    async fn fetch_from_object(&self, key: &Key, entry: &Entry) -> Fetched {
        match self.read_object(key, entry).await {
            ObjectRead::Good(good, envelope) => {
                self.promote(key, entry, &good.payload, Some(envelope)).await;
                Fetched::Good(good)
            }
            ObjectRead::Newer => Fetched::Newer,
            ObjectRead::Gone => Fetched::Gone,
            ObjectRead::Down => Fetched::Down,
            ObjectRead::NoRoom => Fetched::NoRoom,
            ObjectRead::Bad => {
                self.quarantine(key, entry);
                Fetched::Corrupt
            }
        }
    }

    /// Reads the object of one version until a copy verifies, twice at most.
    pub(super) async fn read_object(&self, key: &Key, entry: &Entry) -> ObjectRead {
        let shared = &self.shared;
        let expected = &self.expected(key, entry);
        let value_key = shared.value_key(key);
        let (mut read, mut moves) = (0, 0);
        let mut place = entry.in_pack;
        while read < READS {
            let path = match place {
                Some(place) => shared.names.pack(value_key.namespace, place.pack),
                None => shared.object_path(&value_key, entry.put_id),
            };
            let bytes = match self.load_at(&path, place, entry).await {
                Ok(bytes) => bytes,
                // A pack that is gone has been rewritten, unless the index still names it.
                Err(ObjectError::NotFound) if moves < MOVES_MAX && self.has_moved(key, entry, &mut place) => {
                    moves += 1;
                    shared.world.reached(State::ReadRacedRepack);
                    continue;
                }
                Err(ObjectError::NotFound) if entry.node != NodeNum::SELF => {
                    shared.world.reached(State::PeerEntryStale);
                    shared.hide_entry(key, entry.node, entry.put_id);
                    return ObjectRead::Gone;
                }
                // Evicted, overwritten or deleted while it was being read.
                Err(ObjectError::NotFound) if !self.is_current(key, entry) => return ObjectRead::Gone,
                Err(error @ (ObjectError::NotFound | ObjectError::TooLong { .. })) => {
                    tracing::warn!(%error, %path, read, "an object is not what the index says");
                    shared.stats.count(Event::CorruptObject);
                    shared.world.clock().sleep(READ_PAUSE).await;
                    read += 1;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, %path, "the object store does not answer a get");
                    return ObjectRead::Down;
                }
            };
            match open(&bytes, expected, &shared.memory) {
                Ok((header, payload)) => {
                    shared.stats.count(Event::Verified);
                    shared.world.reached_if(read > 0, State::SecondReadHealed);
                    shared.world.reached_if(place.is_some(), State::HitFromPack);
                    let good = Good::new(&header, payload, Tier::Object);
                    return ObjectRead::Good(good, bytes);
                }
                Err(OpenError::Newer(_)) => return ObjectRead::Newer,
                Err(OpenError::Memory(_)) => return ObjectRead::NoRoom,
                Err(error @ (OpenError::Damaged(_) | OpenError::OtherPut { .. })) => {
                    shared.stats.count(Event::CorruptObject);
                    tracing::warn!(%error, %path, read, "an object does not verify");
                }
            }
            read += 1;
        }
        // Overwritten or deleted meanwhile, its object may be gone by right.
        if !self.is_current(key, entry) {
            return ObjectRead::Gone;
        }
        // Where the bucket's own format record is missing too, it is the bucket that is gone.
        if shared.objects.get(&shared.names.format(), RECORD_BYTES_MAX).await.is_err() {
            return ObjectRead::Down;
        }
        ObjectRead::Bad
    }

    /// The stored copy of an entry: a whole object, or a member of a pack, which no byte beside it can change.
    async fn load_at(&self, path: &Path, place: Option<InPack>, entry: &Entry) -> Result<Bytes, ObjectError> {
        let objects = &self.shared.objects;
        let (header, stored_len) = (HEADER_LEN as u64, u64::from(entry.stored_len));
        match place {
            Some(place) => objects.load_range(path, place.offset.into(), header + stored_len).await,
            None => objects.load(path, header + PLAIN_KEY_BYTES_MAX as u64 + stored_len).await,
        }
    }

    /// Whether the index names this version at another place than `place` by now, which is then that one.
    fn has_moved(&self, key: &Key, entry: &Entry, place: &mut Option<InPack>) -> bool {
        let held = self.shared.map.get(key, entry.node).filter(|held| held.put_id == entry.put_id);
        let Some(now) = held.map(|held| held.in_pack) else { return false };
        std::mem::replace(place, now) != now
    }

    /// Whether the map still names this version.
    fn is_current(&self, key: &Key, entry: &Entry) -> bool {
        self.shared.map.get(key, entry.node).is_some_and(|held| held.put_id == entry.put_id)
    }

    /// Never read this version again: at once in this process, and durably as soon as the index takes it, where the index
    /// names it.
    pub(super) fn quarantine(&self, key: &Key, entry: &Entry) {
        let shared = &self.shared;
        let (node, put_id) = (entry.node, entry.put_id);
        if !shared.map.quarantine(key, node, put_id) {
            return;
        }
        shared.stats.count(Event::Quarantined);
        shared.world.reached(State::Quarantined);
        // Another node's is its own affair; a journaled put is found good by its upload, or refused by the next start.
        if node != NodeNum::SELF || entry.level == Level::Journal {
            return;
        }
        let (store, key) = (self.clone(), shared.value_key(key));
        shared.world.spawn(async move {
            let coming = store.commits.announce();
            let committed = store.commits.commit(vec![IndexChange::Quarantine { key, put_id }], coming).await;
            if let Err(error) = committed {
                tracing::warn!(%error, "a quarantine is not durable");
            }
        });
    }

    /// Moves a verified copy upward, if the version is still the one that the index names.
    async fn promote(&self, key: &Key, entry: &Entry, payload: &Payload, envelope: Option<Bytes>) {
        let shared = &self.shared;
        shared.world.at(Point::BeforePromote).await;
        let current = shared.map.while_current(key, entry.node, entry.put_id, || {
            shared.memory.insert(*key, entry.put_id, payload.clone(), false);
        });
        if !current {
            shared.world.reached(State::PromotionRefused);
            return;
        }
        if let (Some(disk), Some(envelope)) = (&shared.disk, envelope) {
            disk.store_whole(shared.disk_key(key), envelope);
        }
        shared.settle_losses();
    }
}
