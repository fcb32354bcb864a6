//! Filling the map at a start: from the index in one scan, or from a listing of the bucket when the index is gone.

use super::Store;
use super::shared::Shared;
use crate::index::Entry;
use crate::index::NodeNum;
use crate::index::committer::{CommitError, IndexChange};
use crate::index::rows::{
    ChangeBatch, DeadRow, FORMAT, FORMAT_KEY, Inheritance, InheritanceRow, QuarantineRow, STATE_KEY, StateRow,
    ValueKey, ValueRow,
};
use crate::keys::Key;
use crate::objects::names::PayloadName;
use crate::objects::{ObjectError, Page};
use crate::observe::Point;
use crate::world::World;
use bettong_wire::envelope::{HEADER_LEN, Header};
use bettong_wire::limits::PLAIN_KEY_BYTES_MAX;
use bettong_wire::request::Level;
use bettong_wire::{DecodeError, PutId};
use futures::{StreamExt, stream};
use object_store::ObjectMeta;
use slatedb::Db;
use slatedb::config::ScanOptions;
use std::collections::BTreeSet;

/// Rows between two looks at whether a plan strikes here.
const ROWS_A_STEP: u64 = 512;
/// Bytes that one request of a scan fetches ahead.
const READ_AHEAD_BYTES: usize = 4 << 20;
/// Objects of one page of a listing.
const PAGE: usize = 1000;
/// Headers that are read at once.
const HEADERS_AT_ONCE: usize = 32;

/// What a scan of the index found besides values.
pub(super) struct Found {
    /// Whether the index was ever complete; else the bucket must be listed.
    pub complete: bool,
    pub state: Option<StateRow>,
    /// Sequence and time of the change records, oldest first.
    pub records: Vec<(u64, u64)>,
}

/// Reads the whole index into the map.
pub(super) async fn from_index<W: World>(shared: &Shared<W>, db: &Db) -> Result<Found, String> {
    let mut found = Found { complete: false, state: None, records: Vec::new() };
    let mut quarantined: BTreeSet<PutId> = BTreeSet::new();
    let options = ScanOptions { read_ahead_bytes: READ_AHEAD_BYTES, max_fetch_tasks: 2, ..ScanOptions::default() };
    let world = &shared.world;
    let mut rows =
        world.enter(Box::pin(db.scan_with_options(.., &options))).await.map_err(|error| error.to_string())?;
    let mut read = 0;
    while let Some(row) = world.enter(rows.next()).await.map_err(|error| error.to_string())? {
        read += 1;
        if read % ROWS_A_STEP == 0 {
            world.at(Point::DuringBootstrap).await;
        }
        let damaged = || format!("row {:02x?} is damaged", &row.key[..row.key.len().min(80)]);
        match row.key.first() {
            Some(b'c') => {
                let sequence = ChangeBatch::sequence(&row.key).ok_or_else(damaged)?;
                found.records.push((sequence, ChangeBatch::decode(&row.value).ok_or_else(damaged)?.wall_ms));
            }
            Some(b'd') => {
                let put_id = DeadRow::put_id(&row.key).ok_or_else(damaged)?;
                let dead = DeadRow::decode(&row.value).ok_or_else(damaged)?;
                shared.dead.lock().insert(put_id, dead);
            }
            Some(b'h') => {
                let node_id = InheritanceRow::node_id(&row.key).ok_or_else(damaged)?;
                let state = Inheritance::decode(&row.value).ok_or_else(damaged)?;
                shared.lives.write().set_state(node_id, state);
            }
            Some(b'm') if row.key == FORMAT_KEY => {
                let bytes = row.value.as_ref().try_into().map_err(|_| damaged())?;
                let format = u32::from_le_bytes(bytes);
                if format > FORMAT {
                    return Err(format!("it is in format {format}, this release reads up to {FORMAT}"));
                }
                found.complete = true;
            }
            Some(b'm') if row.key == STATE_KEY => {
                let state = StateRow::decode(&row.value).ok_or_else(damaged)?;
                shared.home.floor.raise(state.clock_ms);
                found.state = Some(state);
            }
            Some(b'q') => drop(quarantined.insert(QuarantineRow::put_id(&row.key).ok_or_else(damaged)?)),
            Some(b'v') => {
                let key = ValueKey::decode(&row.key).ok_or_else(damaged)?;
                let mut row = ValueRow::decode(&row.value, NodeNum::SELF).ok_or_else(damaged)?;
                row.entry.quarantined = quarantined.contains(&row.entry.put_id);
                let key = shared.key(&key).ok_or_else(|| "it names too many namespaces".to_owned())?;
                shared.show_entry(&key, &row.entry, &row.plain_key);
            }
            _ => return Err(damaged()),
        }
    }
    Ok(found)
}

/// Why a listing could not fill the index.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListingError {
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<ListingError> for super::OpenError {
    fn from(error: ListingError) -> Self {
        match error {
            ListingError::Objects(error) => Self::Objects(error),
            ListingError::Commit(error) => Self::Index(error.to_string()),
        }
    }
}

/// Writes an index entry for every whole object of this node's lives that no dead mark names. May be killed anywhere and
/// run again: of two versions of a key the higher put id stays.
///
/// What only the index claims goes from it.
pub(super) async fn from_listing<W: World>(store: &Store<W>) -> Result<(), ListingError> {
    let shared = &store.shared;
    // What an index that is not complete says may be older than the bucket: it holds where the object is there.
    let prune = !shared.map.is_empty();
    let prefix = shared.names.namespaces();
    let mut after = None;
    let mut listed = 0u64;
    let mut there: BTreeSet<PutId> = BTreeSet::new();
    loop {
        let Page { objects, more } = shared.objects.list(&prefix, after.as_ref(), PAGE).await?;
        after = objects.last().map(|object| object.location.clone());
        listed += objects.len() as u64;
        let named = |object: &ObjectMeta| shared.names.parse_payload(&object.location);
        if prune {
            there.extend(objects.iter().filter_map(named).map(|name| name.put_id));
        }
        let ours = objects.iter().filter_map(|object| {
            let name = named(object)?;
            let ours = shared.is_own_life(name.put_id.life) && object.size >= HEADER_LEN as u64;
            (ours && !is_buried(shared, &name)).then_some((name, object.size))
        });
        let headers: Vec<_> = stream::iter(ours.collect::<Vec<_>>())
            .map(|(name, size)| async move { read_header(shared, name, size).await })
            .buffered(HEADERS_AT_ONCE)
            .collect()
            .await;
        let mut changes = Vec::new();
        for header in headers {
            let Some((key, row)) = header? else { continue };
            let held = shared.key(&key).and_then(|key| shared.map.get(&key, NodeNum::SELF));
            let newer = held.is_none_or(|held| shared.order(held.put_id) < shared.order(row.entry.put_id));
            if newer {
                changes.push((key, row));
            }
        }
        // The map shows a change only once it is committed, so of one page only the highest of each key may go in.
        changes.sort_by_key(|(key, row)| (*key, shared.order(row.entry.put_id)));
        changes.reverse();
        changes.dedup_by_key(|(key, _)| *key);
        let changes: Vec<_> = changes.into_iter().map(|(key, row)| IndexChange::Put { key, row }).collect();
        if !changes.is_empty() {
            let coming = store.commits.announce();
            store.commits.commit(changes, coming).await?;
        }
        shared.world.at(Point::DuringBootstrap).await;
        tracing::info!(listed, values = shared.map.len(), "the index is gone; listing the bucket");
        if !more {
            break;
        }
    }
    let only_indexed =
        |entry: &Entry| entry.node == NodeNum::SELF && entry.level == Level::Object && !there.contains(&entry.put_id);
    let gone = if prune { shared.map.collect(|_, entry| only_indexed(entry)) } else { Vec::new() };
    for gone in gone.chunks(PAGE) {
        let removed =
            |(key, entry): &(Key, Entry)| IndexChange::Remove { key: shared.value_key(key), put_id: entry.put_id };
        let coming = store.commits.announce();
        store.commits.commit(gone.iter().map(removed).collect(), coming).await?;
    }
    Ok(())
}

/// Whether a dead mark names this write, or a delete of the node that wrote it came after it.
pub(super) fn is_buried<W: World>(shared: &Shared<W>, name: &PayloadName) -> bool {
    let key = ValueKey { kind: name.kind, namespace: name.namespace, hash: name.hash, part: name.part };
    let place = shared.lives.read().place(name.put_id);
    let later = place.is_some_and(|(owner, order)| {
        shared.horizons.lock().get(&(owner, key)).is_some_and(|horizon| order <= *horizon)
    });
    later || shared.dead.lock().contains(name.put_id)
}

/// The row that an object's header gives. `None` for an object that is damaged, cut short or newer: it is left alone.
pub(super) async fn read_header<W: World>(
    shared: &Shared<W>,
    name: PayloadName,
    size: u64,
) -> Result<Option<(ValueKey, ValueRow)>, ObjectError> {
    let path = shared.names.payload(&name);
    // Two reads: one corrupted response is not a bad object.
    for _ in 0..2 {
        let bytes = match shared.objects.get_head(&path, (HEADER_LEN + PLAIN_KEY_BYTES_MAX) as u64).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match Header::decode(&bytes) {
            Ok(header) if named(&header, &name) && header.object_len() == size => {
                let key_end = HEADER_LEN + usize::from(header.plain_key_len);
                let plain_key = bytes.get(HEADER_LEN..key_end).and_then(|key| String::from_utf8(key.to_vec()).ok());
                let Some(plain_key) = plain_key else { continue };
                if header.plain_key_len > 0 && *blake3::hash(plain_key.as_bytes()).as_bytes() != header.key {
                    continue;
                }
                let key = ValueKey { kind: name.kind, namespace: name.namespace, hash: name.hash, part: name.part };
                return Ok(row_of(&header).map(|entry| (key, ValueRow { entry, plain_key })));
            }
            Err(DecodeError::Version { .. }) => return Ok(None),
            _ => {}
        }
    }
    tracing::warn!(%path, "an object's header does not verify; it is left alone");
    Ok(None)
}

fn named(header: &Header, name: &PayloadName) -> bool {
    (header.kind, header.namespace, header.key, header.part, header.put_id)
        == (name.kind, name.namespace, name.hash, name.part, name.put_id)
}

fn row_of(header: &Header) -> Option<Entry> {
    Some(Entry {
        put_id: header.put_id,
        level: Level::Object,
        raw_len: u32::try_from(header.raw_len).ok()?,
        stored_len: u32::try_from(header.stored_len).ok()?,
        sequence: header.sequence,
        parent_tag: header.parent.map_or(0, |parent| super::put::tag(&parent)),
        expires_at_ms: header.expires_at_ms,
        node: NodeNum::SELF,
        quarantined: false,
    })
}
