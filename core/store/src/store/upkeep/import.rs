//! Making what a retired node listed this node's own: from its index, or from a listing of the bucket where it has none.
//!
//! Each batch is durable together with how far it got, so that nothing is taken over twice: what was taken over and then
//! deleted or evicted here does not come back.
//!
//! Packs are taken over with their members, and with what is dead in them: a later delete of a key names it too. Nothing
//! tends them before all that lives in them is known.

use super::super::Store;
use super::super::listing::{TABLES_AT_ONCE, is_buried, named_in, pack_row, rank, read_header, read_table};
use super::super::lives::Owner;
use super::retire::retry;
use super::scrub::unanswered;
use super::{Report, Slice, bad_cursor};
use crate::index::committer::IndexChange;
use crate::index::rows::{DeadRow, FORMAT_KEY, Inheritance, Mark, PackRow, QuarantineRow, ValueKey, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::keys::Key;
use crate::objects::Page;
use crate::observe::{Point, State};
use crate::world::World;
use bettong_wire::envelope::{HEADER_LEN, Kind};
use bettong_wire::request::Level;
use bettong_wire::{PutId, ServiceError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::ObjectMeta;
use slatedb::DbReader;
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows that are taken over in one commit.
const ROWS_A_BATCH: usize = 256;
/// Values that packs of one page of a listing gather before they are taken over.
const LISTED_A_BATCH: usize = 4096;
/// Headers that are read at once.
const HEADERS_AT_ONCE: usize = 8;
/// How long a batch waits for uploads of its keys, and when to come again where that did not suffice.
const UPLOAD_WAIT: Duration = Duration::from_secs(1);
const UPLOAD_MS: u32 = 200;

/// One value that the retired node listed.
struct Legacy {
    key: ValueKey,
    row: ValueRow,
    /// No copy of it verified there.
    quarantined: bool,
}

/// What is taken over in one commit, with what it needs to know of packs.
#[derive(Default)]
struct Batch {
    values: Vec<Legacy>,
    packs: Vec<(PutId, PackRow)>,
    /// Versions that are dead, and whose bytes are in a pack.
    dead: Vec<(PutId, DeadRow)>,
}

/// What becomes of it.
enum Verdict {
    Take,
    /// It takes the place of this version.
    Replace(Entry),
    /// It is this node's already, and here is a better place of its bytes.
    Move,
    /// Not taken over, and dead from now on: this node has a better one, or deleted the key; what to count.
    Bury(&'static str),
    /// Dead already, or this node's own already; what to count.
    Keep(&'static str),
}

impl<W: World> Store<W> {
    /// Takes rows of the retired node's index over, from behind `from` on.
    pub(super) async fn take_rows(
        &self,
        node_id: &str,
        from: Vec<u8>,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        // What was deleted there, or by whoever answered for it, before anything is taken.
        let bond = shared.lives.read().bond(node_id).cloned().unwrap_or_default();
        let others = bond.since.into_iter().map(|since| since.node_id).filter(|by| *by != shared.config.node_id);
        for by in others.chain([node_id.to_owned()]) {
            self.apply_dead_marks(&by, None).await.map_err(|error| retry(error.to_string()))?;
        }
        let reader = shared.home.open_reader(shared.names.index(node_id)).await.map_err(|e| retry(e.to_string()))?;
        let taken = self.take_rows_of(node_id, &reader, from, slice, report).await;
        let _ = shared.world.enter(reader.close()).await;
        taken
    }

    async fn take_rows_of(
        &self,
        node_id: &str,
        reader: &DbReader,
        mut from: Vec<u8>,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let quarantined = self.quarantined_in(reader).await.map_err(retry)?;
        loop {
            self.shared.world.at(Point::DuringRetire).await;
            let began = self.mono();
            let (batch, last) = self.rows_behind(reader, &from, &quarantined).await.map_err(retry)?;
            let Some(last) = last else { return self.finish(node_id).await };
            self.take_batch(node_id, batch, Some(Inheritance::Index(last.clone())), report).await?;
            if self.is_over(slice) {
                return Ok(());
            }
            from = last;
            self.rest(began).await;
        }
    }

    async fn quarantined_in(&self, reader: &DbReader) -> Result<BTreeSet<PutId>, String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        let (start, end) = (Bytes::from_static(QuarantineRow::PREFIX), Bytes::from_static(b"r"));
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let mut quarantined = BTreeSet::new();
        while let Some(row) = world.enter(rows.next()).await.map_err(failed)? {
            quarantined.insert(QuarantineRow::put_id(&row.key).ok_or("a quarantine's key is damaged")?);
        }
        Ok(quarantined)
    }

    /// Some rows behind `from` in the order of their keys, and the key of the last; no key where there are no more.
    async fn rows_behind(
        &self,
        reader: &DbReader,
        from: &[u8],
        quarantined: &BTreeSet<PutId>,
    ) -> Result<(Batch, Option<Vec<u8>>), String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        // The first key behind `from` is `from` and a zero byte.
        let start = if from.is_empty() { DeadRow::PREFIX.to_vec() } else { [from, &[0]].concat() };
        let (start, end) = (Bytes::from(start), Bytes::from_static(b"w"));
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let (mut found, mut last) = (Batch::default(), None);
        for _ in 0..ROWS_A_BATCH {
            let Some(row) = world.enter(rows.next()).await.map_err(failed)? else { break };
            match row.key.first() {
                Some(b'd') => {
                    let put_id = DeadRow::put_id(&row.key).ok_or("a dead row's key is damaged")?;
                    let dead = DeadRow::decode(&row.value).ok_or("a dead row is damaged")?;
                    found.dead.extend(dead.pack.map(|_| (put_id, dead)));
                }
                Some(b'p') => {
                    let pack = PackRow::put_id(&row.key).ok_or("a pack's key is damaged")?;
                    found.packs.push((pack, PackRow::decode(&row.value).ok_or("a pack's row is damaged")?));
                }
                Some(b'v') => {
                    let key = ValueKey::decode(&row.key).ok_or("a value's key is damaged")?;
                    let value =
                        ValueRow::decode(&row.value, key.kind, NodeNum::SELF).ok_or("a value's row is damaged")?;
                    let quarantined = quarantined.contains(&value.entry.put_id);
                    found.values.push(Legacy { key, row: value, quarantined });
                }
                _ => {}
            }
            last = Some(row.key.to_vec());
        }
        Ok((found, last))
    }

    /// Takes whole objects of the retired node over that a listing shows behind `from`.
    pub(super) async fn take_listed(
        &self,
        node_id: &str,
        from: String,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let owner = shared.lives.read().owner(node_id);
        // What it deleted must not come back: a listing knows of deletes by their marks only.
        self.apply_dead_marks(node_id, owner).await.map_err(|error| retry(error.to_string()))?;
        let mut after = if from.is_empty() { None } else { object_store::path::Path::parse(&from).ok() };
        loop {
            shared.world.at(Point::DuringRetire).await;
            let began = self.mono();
            let listed = shared.objects.page(&shared.names.namespaces(), after.as_ref(), ROWS_A_BATCH).await;
            let Page { objects, more } = listed.map_err(unanswered)?;
            let last = objects.last().map(|object| object.location.clone());
            let theirs = objects.iter().filter_map(|object| {
                let name = shared.names.parse_payload(&object.location)?;
                let place = shared.lives.read().place(name.put_id);
                let wanted = place.map(|(of, _)| of) == owner && object.size >= HEADER_LEN as u64;
                (wanted && !is_buried(shared, &name)).then_some((name, object.size))
            });
            let headers: Vec<_> = stream::iter(theirs.collect::<Vec<_>>())
                .map(|(name, size)| async move { read_header(shared, name, size).await })
                .buffered(HEADERS_AT_ONCE)
                .collect()
                .await;
            let mut found = Batch::default();
            for header in headers {
                let header = header.map_err(unanswered)?;
                found.values.extend(header.map(|(key, row)| Legacy { key, row, quarantined: false }));
            }
            self.take_packs(node_id, &objects, &mut found, report).await?;
            let reached = last.as_ref().filter(|_| more).map(|last| Inheritance::Listing(last.to_string()));
            let is_last = reached.is_none();
            self.take_batch(node_id, found, reached, report).await?;
            if is_last {
                shared.horizons.lock().clear();
                return self.finish(node_id).await;
            }
            if self.is_over(slice) {
                return Ok(());
            }
            after = last;
            self.rest(began).await;
        }
    }

    /// Adds what is in the node's packs among `objects` to `found`; commits what has gathered where that is much, for a
    /// page of packs may name millions of values. What is found once more after a death is dead or here by then.
    async fn take_packs(
        &self,
        node_id: &str,
        objects: &[ObjectMeta],
        found: &mut Batch,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let owner = shared.lives.read().owner(node_id);
        let theirs = objects.iter().filter_map(|object| {
            let (namespace, pack) = shared.names.parse_pack(&object.location)?;
            let place = shared.lives.read().place(pack);
            (place.map(|(of, _)| of) == owner).then_some((namespace, pack, object.size))
        });
        let mut tables = stream::iter(theirs.collect::<Vec<_>>())
            .map(|(namespace, pack, size)| async move { read_table(shared, namespace, pack, size).await })
            .buffered(TABLES_AT_ONCE);
        while let Some(table) = tables.next().await {
            let Some(table) = table.map_err(unanswered)? else { continue };
            found.packs.push((table.put_id, pack_row(&table)));
            for (name, entry) in named_in(&table).filter(|(name, _)| shared.is_own_life(name.put_id.life)) {
                if let Some(row) = shared.dead.lock().get(name.put_id) {
                    found.dead.push((name.put_id, DeadRow { pack: Some(table.put_id), ..row }));
                } else if !is_buried(shared, &name) {
                    let row = ValueRow { entry, plain_key: String::new() };
                    found.values.push(Legacy { key: name.value_key(), row, quarantined: false });
                }
            }
            if found.values.len() + found.dead.len() >= LISTED_A_BATCH {
                self.take_batch(node_id, std::mem::take(found), None, report).await?;
            }
        }
        Ok(())
    }

    /// Commits one batch, together with how far it got where it is the last of its page.
    async fn take_batch(
        &self,
        node_id: &str,
        batch: Batch,
        reached: Option<Inheritance>,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let Batch { mut values, packs, dead } = batch;
        // The map shows a change only once it is committed, so of one batch only the highest of each key may go in.
        values.sort_by_key(|legacy| (legacy.key, rank(shared, &legacy.row.entry)));
        values.reverse();
        values.dedup_by_key(|legacy| legacy.key);
        let key_of = |key: &ValueKey| {
            let limit = crate::keys::NamespaceTable::MAX;
            let full = || ServiceError::busy(format!("this node holds {limit} namespaces, which is the limit"), 60_000);
            shared.key(key).ok_or_else(full)
        };
        let mut keyed = Vec::with_capacity(values.len());
        for legacy in values {
            keyed.push((key_of(&legacy.key)?, legacy));
        }
        self.has_room_for(keyed.len())?;
        self.uploaded(keyed.iter().map(|(key, _)| key)).await;
        let buried = dead.iter().map(|(_, row)| key_of(&row.key)).collect::<Result<Vec<_>, _>>()?;
        let _guard = self.locks.lock(keyed.iter().map(|(key, _)| *key).chain(buried)).await;
        report.add("packs", packs.len() as u64);
        let mut changes: Vec<_> = packs.into_iter().map(|(pack, row)| IndexChange::Pack { pack, row }).collect();
        changes.extend(dead.into_iter().filter_map(|(put_id, row)| self.dead_in_pack(put_id, row)));
        if keyed.iter().any(|(key, _)| self.is_journaled(key)) {
            let message = "what is to be taken over was put here, too, and is only in the journal yet";
            return Err(ServiceError::busy(message, UPLOAD_MS));
        }
        let (mut gone, mut taken) = (Vec::new(), Vec::new());
        let wall_ms = shared.wall_ms();
        let bury = |key: ValueKey, old: &Entry| {
            let (put_id, pack) = (old.put_id, old.in_pack.map(|place| place.pack));
            IndexChange::Dead { key, put_id, wall_ms, mark: Mark::None, pack }
        };
        for (key, legacy) in keyed {
            let put_id = legacy.row.entry.put_id;
            report.count("listed");
            match self.verdict(node_id, &key, &legacy) {
                Verdict::Keep(why) => {
                    report.count(why);
                    continue;
                }
                Verdict::Bury(why) => {
                    report.count(why);
                    changes.push(bury(legacy.key, &legacy.row.entry));
                    gone.push((legacy.key, put_id, Mark::None));
                    continue;
                }
                Verdict::Take => {}
                Verdict::Move => {
                    report.count("here_already");
                    changes.push(IndexChange::Move { key: legacy.key, row: legacy.row });
                    continue;
                }
                Verdict::Replace(old) => {
                    changes.push(bury(legacy.key, &old));
                    gone.push((legacy.key, old.put_id, Mark::None));
                }
            }
            report.count("taken_over");
            report.add("taken_over_bytes", legacy.row.entry.stored_len.into());
            taken.push((key, legacy.row.entry));
            changes.push(IndexChange::Put { key: legacy.key, row: legacy.row });
            if legacy.quarantined {
                changes.push(IndexChange::Quarantine { key: legacy.key, put_id });
            }
        }
        changes.extend(reached.map(|state| IndexChange::Inherit { node_id: node_id.to_owned(), state }));
        self.settle(changes).await?;
        self.account_taken(&taken);
        if !gone.is_empty() {
            self.remove_objects(gone);
        }
        Ok(())
    }

    /// Whether the newest version of the key here is not in the object store yet, but will be.
    fn is_journaled(&self, key: &Key) -> bool {
        let shown = self.shared.map.get(key, NodeNum::SELF);
        shown.is_some_and(|own| own.level == Level::Journal) || self.shared.shadowed.lock().contains_key(key)
    }

    /// Waits a while for the uploads of what is journaled of `keys`: which version stays is decided among those that are in
    /// the object store.
    async fn uploaded<'a>(&self, mut keys: impl Iterator<Item = &'a Key>) {
        if keys.any(|key| self.is_journaled(key)) {
            self.flush(UPLOAD_WAIT).await;
        }
    }

    fn has_room_for(&self, more: usize) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let (held, limit) = (shared.map.len(), shared.config.index_entries_max);
        if held.saturating_add(more) > limit {
            return Err(ServiceError::busy(format!("the index holds {held} values, the limit is {limit}"), 60_000));
        }
        let (held, limit) = (shared.plain.lock().len(), shared.config.plain_keys_max);
        if held.saturating_add(more) > limit {
            return Err(ServiceError::busy(format!("{held} plain keys are held, the limit is {limit}"), 60_000));
        }
        Ok(())
    }

    /// Notes that bytes of a dead version are in a pack. Whoever named it here keeps his mark. Needs the key's lock.
    pub(in crate::store) fn dead_in_pack(&self, put_id: PutId, row: DeadRow) -> Option<IndexChange> {
        let (wall_ms, mark) = match self.shared.dead.lock().get(put_id) {
            Some(known) if known.pack.is_some() => return None,
            Some(known) => (known.wall_ms, known.mark),
            None => (row.wall_ms, Mark::None),
        };
        Some(IndexChange::Dead { key: row.key, put_id, wall_ms, mark, pack: row.pack })
    }

    /// Needs the key's lock.
    fn verdict(&self, node_id: &str, key: &Key, legacy: &Legacy) -> Verdict {
        let shared = &self.shared;
        let put_id = legacy.row.entry.put_id;
        let lives = shared.lives.read();
        {
            let dead = shared.dead.lock();
            if dead.contains(put_id) {
                return Verdict::Keep("dead");
            }
            let mut named = dead.of_key(&legacy.key).filter(|(_, row)| row.mark != Mark::None);
            if let Some(owner) = lives.owner(node_id)
                && named.any(|(named, _)| lives.was_deleted_for(owner, named))
            {
                shared.world.reached(State::DeletedWhileTakenOver);
                return Verdict::Bury("deleted_here");
            }
        }
        let Some(own) = shared.map.get(key, NodeNum::SELF) else { return Verdict::Take };
        let plain = key.kind == Kind::Plain;
        let older = match (lives.place(own.put_id), lives.place(put_id)) {
            (Some((one, own)), Some((other, theirs))) if one == other => own < theirs,
            (Some((Owner::SELF, _)), _) => false,
            _ => lives.order(own.put_id) < lives.order(put_id),
        };
        let theirs = legacy.row.entry.expires_at_ms;
        // Said by the entries alone: no clock that jumps destroys anything.
        let lasts_longer = own.expires_at_ms > 0 && (theirs == 0 || theirs > own.expires_at_ms);
        let better = !plain && (lasts_longer || (own.quarantined && !legacy.quarantined));
        drop(lives);
        match own.level {
            Level::Object if own.put_id == put_id && rank(shared, &own) < rank(shared, &legacy.row.entry) => {
                Verdict::Move
            }
            _ if own.put_id == put_id => Verdict::Keep("here_already"),
            Level::Object if older || better => Verdict::Replace(own),
            Level::Memory if !plain => Verdict::Take,
            _ if plain => Verdict::Bury("plain_keys_hidden"),
            _ => Verdict::Bury("here_already"),
        }
    }

    /// A dry run: what the node lists, and what of it would be taken over.
    pub(super) async fn survey(
        &self,
        node_id: &str,
        cursor: &[u8],
        slice: Slice,
        report: &mut Report,
    ) -> Result<Vec<u8>, ServiceError> {
        let shared = &self.shared;
        report.stage("entries");
        let from = match cursor.split_first() {
            None => {
                self.must_exist(node_id).await?;
                &[]
            }
            Some((2, from)) => from,
            Some(_) => return Err(bad_cursor()),
        };
        let reader = shared.home.open_reader(shared.names.index(node_id)).await;
        let Ok(reader) = reader else {
            report.note(format!("node `{node_id}` has no index that can be read: the bucket would be listed"));
            return Ok(Vec::new());
        };
        let surveyed = self.survey_rows(node_id, &reader, from.to_vec(), slice, report).await;
        let _ = shared.world.enter(reader.close()).await;
        surveyed.map_err(retry)
    }

    async fn survey_rows(
        &self,
        node_id: &str,
        reader: &DbReader,
        mut from: Vec<u8>,
        slice: Slice,
        report: &mut Report,
    ) -> Result<Vec<u8>, String> {
        let found = self.shared.world.enter(reader.get(FORMAT_KEY)).await;
        if from.is_empty() && found.map_err(|error| error.to_string())?.is_none() {
            report.note("its index is not complete: the bucket would be listed".to_owned());
            return Ok(Vec::new());
        }
        let quarantined = self.quarantined_in(reader).await?;
        loop {
            let (batch, last) = self.rows_behind(reader, &from, &quarantined).await?;
            for legacy in batch.values {
                report.count("listed");
                let Some(key) = self.shared.key(&legacy.key) else { continue };
                match self.verdict(node_id, &key, &legacy) {
                    Verdict::Keep(why) | Verdict::Bury(why) => report.count(why),
                    Verdict::Move => report.count("here_already"),
                    Verdict::Take | Verdict::Replace(_) => {
                        report.count("would_take_over");
                        report.add("would_take_over_bytes", legacy.row.entry.stored_len.into());
                    }
                }
            }
            let Some(last) = last else { return Ok(Vec::new()) };
            if self.is_over(slice) {
                return Ok([&[2], last.as_slice()].concat());
            }
            from = last;
        }
    }
}
