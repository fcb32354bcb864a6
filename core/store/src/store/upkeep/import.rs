//! Making what a retired node listed this node's own: from its index, or from a listing of the bucket where it has none.
//!
//! Each batch is durable together with how far it got, so that nothing is taken over twice: what was deleted or evicted
//! here meanwhile does not come back.

use super::super::Store;
use super::super::bootstrap::{is_buried, read_header};
use super::retire::retry;
use super::scrub::unanswered;
use super::{Report, Slice, bad_cursor};
use crate::index::committer::IndexChange;
use crate::index::rows::{FORMAT_KEY, Inheritance, Mark, QuarantineRow, ValueKey, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::keys::Key;
use crate::objects::Page;
use crate::observe::Point;
use crate::world::World;
use bettong_wire::envelope::{HEADER_LEN, Kind};
use bettong_wire::request::Level;
use bettong_wire::{PutId, ServiceError};
use bytes::Bytes;
use futures::{StreamExt, stream};
use slatedb::DbReader;
use std::collections::BTreeSet;

/// Rows that are taken over in one commit.
const ROWS_A_BATCH: usize = 256;
/// Headers that are read at once.
const HEADERS_AT_ONCE: usize = 8;

/// One value that the retired node listed.
struct Legacy {
    key: ValueKey,
    row: ValueRow,
    /// No copy of it verified there.
    quarantined: bool,
}

/// What becomes of it.
enum Verdict {
    Take,
    /// It takes the place of this version.
    Replace(Entry),
    /// Not taken over; what to count.
    Leave(&'static str),
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
            let (rows, last) = self.rows_behind(reader, &from, &quarantined).await.map_err(retry)?;
            let Some(last) = last else {
                return self.settle(vec![inherit(node_id, Inheritance::Done)]).await;
            };
            self.take_batch(rows, inherit(node_id, Inheritance::Index(last.clone())), report).await?;
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
    ) -> Result<(Vec<Legacy>, Option<Vec<u8>>), String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        // The first key behind `from` is `from` and a zero byte.
        let start = if from.is_empty() { ValueKey::PREFIX.to_vec() } else { [from, &[0]].concat() };
        let (start, end) = (Bytes::from(start), Bytes::from_static(b"w"));
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let (mut found, mut last) = (Vec::new(), None);
        while found.len() < ROWS_A_BATCH {
            let Some(row) = world.enter(rows.next()).await.map_err(failed)? else { break };
            let key = ValueKey::decode(&row.key).ok_or("a value's key is damaged")?;
            let value = ValueRow::decode(&row.value, NodeNum::SELF).ok_or("a value's row is damaged")?;
            let quarantined = quarantined.contains(&value.entry.put_id);
            found.push(Legacy { key, row: value, quarantined });
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
            let listed = shared.objects.list(&shared.names.namespaces(), after.as_ref(), ROWS_A_BATCH).await;
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
            let mut rows = Vec::new();
            for header in headers {
                let found = header.map_err(unanswered)?;
                rows.extend(found.map(|(key, row)| Legacy { key, row, quarantined: false }));
            }
            // The map shows a change only once it is committed, so of one page only the highest of each key may go in.
            rows.sort_by_key(|legacy| (legacy.key, shared.order(legacy.row.entry.put_id)));
            rows.reverse();
            rows.dedup_by_key(|legacy| legacy.key);
            let state = match &last {
                Some(last) if more => Inheritance::Listing(last.to_string()),
                _ => Inheritance::Done,
            };
            self.take_batch(rows, inherit(node_id, state.clone()), report).await?;
            if state == Inheritance::Done {
                shared.horizons.lock().clear();
                return Ok(());
            }
            if self.is_over(slice) {
                return Ok(());
            }
            after = last;
            self.rest(began).await;
        }
    }

    /// Commits one batch together with how far it got.
    async fn take_batch(
        &self,
        rows: Vec<Legacy>,
        progress: IndexChange,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let mut keyed = Vec::with_capacity(rows.len());
        for legacy in rows {
            let limit = crate::keys::NamespaceTable::MAX;
            let full = || ServiceError::busy(format!("this node holds {limit} namespaces, which is the limit"), 60_000);
            keyed.push((shared.key(&legacy.key).ok_or_else(full)?, legacy));
        }
        self.has_room_for(keyed.len())?;
        let _guard = self.locks.lock(keyed.iter().map(|(key, _)| *key)).await;
        let mut changes = Vec::new();
        let (mut replaced, mut taken) = (Vec::new(), Vec::new());
        for (key, legacy) in keyed {
            let put_id = legacy.row.entry.put_id;
            report.count("listed");
            match self.verdict(&key, &legacy) {
                Verdict::Leave(why) => {
                    report.count(why);
                    continue;
                }
                Verdict::Take => {}
                Verdict::Replace(old) => {
                    let (put_id, wall_ms) = (old.put_id, shared.wall_ms());
                    changes.push(IndexChange::Dead { key: legacy.key, put_id, wall_ms, mark: Mark::None });
                    replaced.push((legacy.key, put_id, Mark::None));
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
        changes.push(progress);
        self.settle(changes).await?;
        self.account_taken(&taken);
        if !replaced.is_empty() {
            self.remove_objects(replaced);
        }
        Ok(())
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

    /// Needs the key's lock.
    fn verdict(&self, key: &Key, legacy: &Legacy) -> Verdict {
        let shared = &self.shared;
        let put_id = legacy.row.entry.put_id;
        if shared.dead.lock().contains(put_id) {
            return Verdict::Leave("dead");
        }
        let hidden = shared.shadowed.lock().contains_key(key);
        let Some(own) = shared.map.get(key, NodeNum::SELF) else {
            return if hidden { Verdict::Leave("here_already") } else { Verdict::Take };
        };
        let plain = key.kind == Kind::Plain;
        let lives = shared.lives.read();
        let older = match (lives.place(own.put_id), lives.place(put_id)) {
            (Some((one, own)), Some((other, theirs))) => one == other && own < theirs,
            _ => false,
        };
        match own.level {
            _ if own.put_id == put_id => Verdict::Leave("here_already"),
            Level::Object if older || (own.quarantined && !legacy.quarantined && !plain) => Verdict::Replace(own),
            Level::Memory if !plain => Verdict::Take,
            _ if plain => Verdict::Leave("plain_keys_hidden"),
            _ => Verdict::Leave("here_already"),
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
            None => &[],
            Some((2, from)) => from,
            Some(_) => return Err(bad_cursor()),
        };
        let reader = shared.home.open_reader(shared.names.index(node_id)).await;
        let Ok(reader) = reader else {
            report.note(format!("node `{node_id}` has no index that can be read: the bucket would be listed"));
            return Ok(Vec::new());
        };
        let surveyed = self.survey_rows(&reader, from.to_vec(), slice, report).await;
        let _ = shared.world.enter(reader.close()).await;
        surveyed.map_err(retry)
    }

    async fn survey_rows(
        &self,
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
            let (rows, last) = self.rows_behind(reader, &from, &quarantined).await?;
            for legacy in rows {
                report.count("listed");
                let Some(key) = self.shared.key(&legacy.key) else { continue };
                match self.verdict(&key, &legacy) {
                    Verdict::Leave(why) => report.count(why),
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

fn inherit(node_id: &str, state: Inheritance) -> IndexChange {
    IndexChange::Inherit { node_id: node_id.to_owned(), state }
}
