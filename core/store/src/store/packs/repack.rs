//! Taking back the space of dead members: packs in which nothing lives go, and worn ones are rewritten.
//!
//! A rewriting copies what is live into a new pack, byte for byte and verified on the way, and moves the index over to
//! it under the locks of all its keys, each key only if the index still names that very place. Until then nothing
//! relies on the new pack, after it nothing relies on the old one: a death anywhere leaves an object too many, at worst.

use super::book::Held;
use super::{Item, Packing};
use crate::index::committer::IndexChange;
use crate::index::rows::{Mark, ValueKey, ValueRow};
use crate::index::{Entry, InPack, NodeNum};
use crate::keys::Key;
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::seal::{Expected, open};
use crate::stats::Event;
use crate::store::Store;
use crate::world::{Clock, World};
use bettong_wire::envelope::Header;
use bettong_wire::pack::{self, Member, Pack};
use bettong_wire::{NamespaceId, PutId};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// Pause before a pack is tried again that could not be read, written or removed.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause before a pack is looked at again in which something must stay for now: a damaged member, or one that a
/// journaled put hides.
const LONG_PAUSE: Duration = Duration::from_secs(600);
/// Reads of one pack before it is left alone for a while: one corrupted response is not a bad object.
const READS: u32 = 2;

/// A live member on its way to another pack.
struct Moving {
    key: Key,
    from: InPack,
    put_id: PutId,
    item: Item,
}

/// What there is to move of one pack.
struct Load {
    moving: Vec<Moving>,
    /// Everything that is live can be moved.
    whole: bool,
}

impl<W: World> Store<W> {
    /// Starts the task that tends the packs; it ends with the store.
    pub(in crate::store) fn start_repacking(&self) {
        let store = self.clone();
        self.shared.spawn_vital_behind("the keeper of the packs", async move {
            let shared = &store.shared;
            while store.is_running() {
                store.tend_packs().await;
                let _ = timeout(&shared.world, shared.config.peer_refresh, shared.repacks.notified()).await;
            }
        });
    }

    async fn tend_packs(&self) {
        let shared = &self.shared;
        let now = shared.world.clock().mono();
        // What is alive in a pack of a node that is still being taken over, the index does not know yet.
        let whole = |pack: PutId| shared.lives.read().is_accounted_for(pack.life);
        let mut empty = shared.packs.lock().empty(now);
        empty.retain(|(pack, _)| whole(*pack));
        for (pack, namespace) in empty {
            self.remove_pack(pack, namespace).await;
        }
        let overdue = self.overdue();
        let mut worn = shared.packs.lock().worn(now, &overdue);
        worn.retain(|(pack, _)| whole(*pack));
        let mut group: Vec<(PutId, Held)> = Vec::new();
        for (pack, held) in worn {
            let both = group.iter().map(|(_, held)| held).chain([&held]);
            let (live, bytes) = both.fold((0, 0), |(live, bytes), held| (live + held.live, bytes + held.live_bytes));
            let whole = pack::table_end(live as usize).saturating_add(bytes);
            let fits = live as usize <= pack::MEMBERS_MAX && whole <= shared.config.pack_bytes;
            if group.first().is_some_and(|(_, first)| first.row.namespace != held.row.namespace || !fits) {
                self.rewrite(std::mem::take(&mut group)).await;
            }
            group.push((pack, held));
        }
        if !group.is_empty() {
            self.rewrite(group).await;
        }
    }

    /// Packs that still hold what was deleted by name half as long ago as its mark may be kept: the bytes go before the
    /// mark does, or a listing after it could bring them back.
    fn overdue(&self) -> BTreeSet<PutId> {
        let shared = &self.shared;
        let half_ms = u64::try_from((shared.config.dead_marks_kept / 2).as_millis()).unwrap_or(u64::MAX);
        let before_ms = shared.wall_ms().saturating_sub(half_ms);
        let dead = shared.dead.lock();
        let old = dead.in_packs().filter(|(_, row)| row.mark != Mark::None && row.wall_ms < before_ms);
        old.filter_map(|(_, row)| row.pack).collect()
    }

    /// Removes a pack in which nothing lives: the object first, then what is known of it.
    async fn remove_pack(&self, pack: PutId, namespace: NamespaceId) {
        let shared = &self.shared;
        shared.world.at(Point::BeforePackRemove).await;
        if let Err(error) = shared.objects.remove(&shared.names.pack(namespace, pack)).await {
            tracing::debug!(%error, %pack, "an empty pack is still there");
            return self.remove_later(&[pack], PAUSE);
        }
        let mut changes = vec![IndexChange::PackGone { pack }];
        let dead = |(put_id, row): (PutId, &crate::index::rows::DeadRow)| {
            (row.mark == Mark::None).then_some(IndexChange::Forget { put_id })
        };
        changes.extend(shared.dead.lock().in_pack(pack).filter_map(dead));
        let coming = self.commits.announce();
        if self.commits.commit(changes, coming).await.is_err() {
            return self.remove_later(&[pack], PAUSE);
        }
        shared.stats.count(Event::PacksRemoved);
        shared.world.reached(State::PackRemoved);
    }

    fn rewrite_later(&self, packs: &[PutId], pause: Duration) {
        let after = self.mono().plus(pause);
        let mut book = self.shared.packs.lock();
        packs.iter().for_each(|pack| book.rewrite_after(*pack, after));
    }

    fn remove_later(&self, packs: &[PutId], pause: Duration) {
        let after = self.mono().plus(pause);
        let mut book = self.shared.packs.lock();
        packs.iter().for_each(|pack| book.remove_after(*pack, after));
    }

    /// Moves what is live in these packs, all of one namespace, into a new one.
    async fn rewrite(&self, group: Vec<(PutId, Held)>) {
        let shared = &self.shared;
        let Some(namespace) = group.first().map(|(_, held)| held.row.namespace) else { return };
        let mut moving: Vec<Moving> = Vec::new();
        let mut read: Vec<PutId> = Vec::new();
        for (pack, held) in &group {
            match self.load_live(*pack, held).await {
                Some(load) => {
                    moving.extend(load.moving);
                    if load.whole {
                        read.push(*pack);
                    } else {
                        self.rewrite_later(&[*pack], LONG_PAUSE);
                    }
                }
                None => self.rewrite_later(&[*pack], PAUSE),
            }
        }
        if moving.is_empty() {
            return self.rewrite_later(&read, PAUSE);
        }
        shared.world.at(Point::DuringRepack).await;
        let (places, items): (Vec<_>, Vec<_>) =
            moving.into_iter().map(|Moving { key, from, put_id, item }| ((key, from, put_id), item)).unzip();
        let packing = self.pack(namespace, items);
        if let Err(error) = self.write_pack(&packing).await {
            tracing::debug!(%error, "a pack could not be rewritten");
            return self.rewrite_later(&read, PAUSE);
        }
        match self.move_over(&packing, &places).await {
            Some(moved) => {
                shared.stats.count(Event::Repacked);
                shared.world.reached(State::Repacked);
                tracing::debug!(packs = group.len(), moved, into = %packing.pack, "packs were rewritten");
                // Other nodes look for what they knew at the old place until they have read of the new one.
                self.remove_later(&read, shared.config.peer_refresh * 2);
                // A member that a journaled put hides stays until that is uploaded.
                self.rewrite_later(&read, LONG_PAUSE);
            }
            // Where the outcome is unknown, both are there: the new pack stays behind.
            None => self.rewrite_later(&read, PAUSE),
        }
    }

    /// Lets the index name the new places, each only where it still names the old one. Says how many; `None` where
    /// nothing was moved: a pack that surely nobody names is removed.
    async fn move_over(&self, packing: &Packing, from: &[(Key, InPack, PutId)]) -> Option<usize> {
        let shared = &self.shared;
        let _guard = self.locks.lock(from.iter().map(|(key, ..)| *key)).await;
        let still = from.iter().zip(&packing.places).filter_map(|((key, old, put_id), new)| {
            let held = self.named_at(key, *old, *put_id)?;
            let entry = Entry { in_pack: Some(*new), ..held };
            Some(IndexChange::Move { key: shared.value_key(key), row: ValueRow { entry, plain_key: String::new() } })
        });
        let still: Vec<IndexChange> = still.collect();
        let moved = still.len();
        shared.world.reached_if(moved < from.len(), State::RepackSuperseded);
        if moved == 0 {
            self.remove_unnamed(packing);
            return None;
        }
        let coming = self.commits.announce();
        let changes = std::iter::once(packing.named()).chain(still).collect();
        self.commits.commit(changes, coming).await.ok().map(|()| moved)
    }

    /// This node's entry of `key`, if the map shows that it is this write at this place.
    fn named_at(&self, key: &Key, place: InPack, put_id: PutId) -> Option<Entry> {
        let held = self.shared.map.get(key, NodeNum::SELF)?;
        (held.put_id == put_id && held.in_pack == Some(place) && !held.quarantined).then_some(held)
    }

    /// Reads a pack and picks what is live in it, verified. `None` where it could not be read.
    async fn load_live(&self, pack: PutId, held: &Held) -> Option<Load> {
        let shared = &self.shared;
        let path = shared.names.pack(held.row.namespace, pack);
        let _room = shared.loads.object_bytes(held.row.bytes).await?;
        for _ in 0..READS {
            let bytes = match shared.objects.get(&path, pack::BYTES_MAX).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    tracing::debug!(%error, %pack, "a worn pack could not be read");
                    return None;
                }
            };
            match Pack::decode(&bytes, bytes.len() as u64) {
                Ok(table) if table.put_id == pack && table.namespace == held.row.namespace => {
                    let moving = self.pick_live(&table, &bytes);
                    // Once more where the bytes may have suffered on their way only.
                    if moving.len() < held.live as usize && moving.len() < self.live_of(&table) {
                        continue;
                    }
                    let whole = moving.len() >= held.live as usize;
                    return Some(Load { moving, whole });
                }
                Ok(_) => tracing::warn!(%pack, "a pack bears another name"),
                Err(error) => tracing::warn!(%error, %pack, "the table of a pack does not verify"),
            }
        }
        None
    }

    fn live_of(&self, table: &Pack) -> usize {
        table.members.iter().filter(|member| self.live_key(table, member).is_some()).count()
    }

    /// The key of a member that the map shows at this place.
    fn live_key(&self, table: &Pack, member: &Member) -> Option<Key> {
        let Member { kind, part, key: hash, .. } = *member;
        let key = self.shared.key(&ValueKey { kind, namespace: table.namespace, hash, part })?;
        self.named_at(&key, InPack { pack: table.put_id, offset: member.offset }, member.put_id).map(|_| key)
    }

    fn pick_live(&self, table: &Pack, bytes: &Bytes) -> Vec<Moving> {
        let shared = &self.shared;
        let pick = |member: &Member| {
            let key = self.live_key(table, member)?;
            let at = member.offset as usize;
            let envelope = bytes.get(at..at.checked_add(member.len as usize)?)?;
            let expected = Expected {
                kind: member.kind,
                namespace: table.namespace,
                hash: member.key,
                part: member.part,
                put_id: member.put_id,
            };
            // A copy: a slice would keep the whole pack in memory.
            let envelope = Bytes::copy_from_slice(envelope);
            let header: Header = match open(&envelope, &expected, &shared.memory) {
                Ok((header, _)) => header,
                Err(error) => {
                    tracing::warn!(%error, pack = %table.put_id, "a member of a pack is not moved");
                    return None;
                }
            };
            let from = InPack { pack: table.put_id, offset: member.offset };
            let item = Item { header, pieces: [envelope, Bytes::new()] };
            Some(Moving { key, from, put_id: member.put_id, item })
        };
        table.members.iter().filter_map(pick).collect()
    }
}
