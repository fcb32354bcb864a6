//! Filling the index from a listing of the bucket, when the index is gone or older than the bucket.

use super::open::of_index;
use super::shared::Shared;
use super::{OpenError, Store};
use crate::index::committer::{CommitError, IndexChange};
use crate::index::rows::{PackRow, ValueKey, ValueRow};
use crate::index::{Entry, InPack, NodeNum};
use crate::keys::Key;
use crate::objects::names::PayloadName;
use crate::objects::{ObjectError, Page};
use crate::observe::Point;
use crate::world::World;
use bettong_wire::envelope::{HEADER_LEN, Header};
use bettong_wire::limits::PLAIN_KEY_BYTES_MAX;
use bettong_wire::pack::{self, Member, Pack};
use bettong_wire::request::Level;
use bettong_wire::{DecodeError, NamespaceId, PutId};
use futures::{StreamExt, stream};
use object_store::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// Objects of one page of a listing.
const PAGE: usize = 1000;
/// Headers that are read at once.
const HEADERS_AT_ONCE: usize = 32;
/// Tables of packs that are read at once: each may have hundreds of kilobytes.
pub(super) const TABLES_AT_ONCE: usize = 8;
/// Bytes of a pack that are read at first: the table of some 740 members is in them.
const TABLE_GUESS: u64 = 64 << 10;
/// Changes that are committed together, at least: a page of packs may name millions of values.
const CHANGES: usize = 4096;

/// Why a listing could not fill the index.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListingError {
    #[error(transparent)]
    Objects(#[from] ObjectError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl ListingError {
    /// As an open says it.
    pub fn of_open(self, conditional_create: bool) -> OpenError {
        match self {
            Self::Objects(error) => OpenError::Objects(error),
            Self::Commit(error) => of_index(conditional_create, error),
        }
    }
}

/// Writes an index entry for every whole value of this node's lives that no dead mark names, be it an object of its own or
/// a member of a pack. May be killed anywhere and run again: of two versions of a key the higher put id stays.
///
/// What only the index claims goes from it.
pub(super) async fn from_listing<W: World>(store: &Store<W>) -> Result<(), ListingError> {
    let shared = &store.shared;
    // What an index that is not complete says may be older than the bucket: it holds where the object is there.
    let mut there = (!shared.map.is_empty()).then(There::default);
    let prefix = shared.names.namespaces();
    let mut after = None;
    let mut listed = 0u64;
    loop {
        let Page { objects, more } = shared.objects.page(&prefix, after.as_ref(), PAGE).await?;
        after = objects.last().map(|object| object.location.clone());
        listed += objects.len() as u64;
        let mut batch = Batch::default();
        read_alone(shared, &objects, &mut batch, there.as_mut()).await?;
        read_packs(store, &objects, &mut batch, there.as_mut()).await?;
        batch.commit(store).await?;
        shared.world.at(Point::DuringBootstrap).await;
        tracing::info!(listed, values = shared.map.len(), "the index is gone; listing the bucket");
        if !more {
            break;
        }
    }
    match there {
        Some(there) => there.settle(store).await,
        None => Ok(()),
    }
}

/// Reads the headers of the objects that hold one value.
async fn read_alone<W: World>(
    shared: &Shared<W>,
    objects: &[ObjectMeta],
    batch: &mut Batch,
    there: Option<&mut There>,
) -> Result<(), ListingError> {
    let named = |object: &ObjectMeta| shared.names.parse_payload(&object.location);
    if let Some(there) = there {
        objects.iter().filter_map(named).for_each(|name| there.note(name.put_id, None));
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
    for header in headers {
        batch.values.extend(header?);
    }
    Ok(())
}

/// Reads the tables of this node's packs. Bytes that a dead mark names are noted to be in their pack: the mark stays as
/// long as they do.
async fn read_packs<W: World>(
    store: &Store<W>,
    objects: &[ObjectMeta],
    batch: &mut Batch,
    mut there: Option<&mut There>,
) -> Result<(), ListingError> {
    let shared = &store.shared;
    let ours = objects.iter().filter_map(|object| {
        let (namespace, pack) = shared.names.parse_pack(&object.location)?;
        shared.is_own_life(pack.life).then_some((namespace, pack, object.size))
    });
    let mut tables = stream::iter(ours.collect::<Vec<_>>())
        .map(|(namespace, pack, size)| async move { (pack, read_table(shared, namespace, pack, size).await) })
        .buffered(TABLES_AT_ONCE);
    while let Some((pack, table)) = tables.next().await {
        let Some(table) = table? else {
            there.iter_mut().for_each(|there| {
                there.unread.insert(pack);
            });
            continue;
        };
        batch.changes.push(IndexChange::Pack { pack, row: pack_row(&table) });
        for (name, entry) in named_in(&table).filter(|(name, _)| shared.is_own_life(name.put_id.life)) {
            let put_id = name.put_id;
            there.iter_mut().for_each(|there| there.note(put_id, entry.in_pack));
            if let Some(row) = shared.dead.lock().get(put_id).filter(|row| row.pack.is_none()) {
                let (wall_ms, mark) = (row.wall_ms, row.mark);
                batch.changes.push(IndexChange::Dead { key: row.key, put_id, wall_ms, mark, pack: Some(pack) });
            }
            if !is_buried(shared, &name) {
                batch.values.push((name.value_key(), ValueRow { entry, plain_key: String::new() }));
            }
        }
        if batch.values.len() + batch.changes.len() >= CHANGES {
            std::mem::take(batch).commit(store).await?;
        }
    }
    Ok(())
}

/// What is on its way into the index.
#[derive(Default)]
struct Batch {
    values: Vec<(ValueKey, ValueRow)>,
    changes: Vec<IndexChange>,
}

impl Batch {
    async fn commit<W: World>(self, store: &Store<W>) -> Result<(), ListingError> {
        let shared = &store.shared;
        let Self { mut values, mut changes } = self;
        values.retain(|(key, row)| {
            let held = shared.key(key).and_then(|key| shared.map.get(&key, NodeNum::SELF));
            held.is_none_or(|held| rank(shared, &held) < rank(shared, &row.entry))
        });
        // The map shows a change only once it is committed, so of one batch only the highest of each key may go in.
        values.sort_by_key(|(key, row)| (*key, rank(shared, &row.entry)));
        values.reverse();
        values.dedup_by_key(|(key, _)| *key);
        changes.extend(values.into_iter().map(|(key, row)| IndexChange::Put { key, row }));
        if !changes.is_empty() {
            let coming = store.commits.announce();
            store.commits.commit(changes, coming).await?;
        }
        Ok(())
    }
}

/// Orders the versions of a key, and the places of one version: where it was packed again the younger pack is the one
/// that the lost index named, or one that was written and then not used; the older one may be on its way out.
pub(super) fn rank<W: World>(shared: &Shared<W>, entry: &Entry) -> ((u64, u64), (u64, u64)) {
    (shared.order(entry.put_id), entry.in_pack.map_or((0, 0), |place| shared.order(place.pack)))
}

/// What the listing showed, against what an incomplete index claims.
#[derive(Default)]
struct There {
    places: BTreeMap<PutId, Vec<Option<InPack>>>,
    /// Packs whose tables could not be read: what the index says of them holds.
    unread: BTreeSet<PutId>,
}

impl There {
    fn note(&mut self, put_id: PutId, place: Option<InPack>) {
        self.places.entry(put_id).or_default().push(place);
    }

    fn is_there(&self, entry: &Entry) -> bool {
        let listed = self.places.get(&entry.put_id).is_some_and(|places| places.contains(&entry.in_pack));
        listed || entry.in_pack.is_some_and(|place| self.unread.contains(&place.pack))
    }

    /// Takes from the index what is not there; what is at another place only, it names there.
    async fn settle<W: World>(self, store: &Store<W>) -> Result<(), ListingError> {
        let shared = &store.shared;
        let only_indexed =
            |entry: &Entry| entry.node == NodeNum::SELF && entry.level == Level::Object && !self.is_there(entry);
        let gone = shared.map.collect(|_, entry| only_indexed(entry));
        for gone in gone.chunks(PAGE) {
            let change = |(key, entry): &(Key, Entry)| {
                let key = shared.value_key(key);
                let elsewhere = self.places.get(&entry.put_id).into_iter().flatten();
                match elsewhere.max_by_key(|place| place.map_or((0, 0), |place| shared.order(place.pack))) {
                    Some(place) if key.kind != bettong_wire::envelope::Kind::Plain => {
                        let row = ValueRow { entry: Entry { in_pack: *place, ..*entry }, plain_key: String::new() };
                        IndexChange::Move { key, row }
                    }
                    _ => IndexChange::Remove { key, put_id: entry.put_id },
                }
            };
            let coming = store.commits.announce();
            store.commits.commit(gone.iter().map(change).collect(), coming).await?;
        }
        Ok(())
    }
}

/// What the index knows of a pack.
pub(super) fn pack_row(table: &Pack) -> PackRow {
    let members = u32::try_from(table.members.len()).unwrap_or(u32::MAX);
    PackRow { namespace: table.namespace, bytes: table.object_len(), members }
}

/// The values in a pack, and their entries.
pub(super) fn named_in(table: &Pack) -> impl Iterator<Item = (PayloadName, Entry)> {
    table.members.iter().map(|member| {
        let Member { kind, part, put_id, key: hash, .. } = *member;
        let place = InPack { pack: table.put_id, offset: member.offset };
        (PayloadName { namespace: table.namespace, kind, hash, part, put_id }, entry_of(member, place))
    })
}

fn entry_of(member: &Member, place: InPack) -> Entry {
    Entry {
        put_id: member.put_id,
        level: Level::Object,
        raw_len: member.raw_len,
        stored_len: member.stored_len(),
        sequence: member.sequence,
        parent_tag: member.parent_tag,
        expires_at_ms: member.expires_at_ms,
        node: NodeNum::SELF,
        quarantined: false,
        in_pack: Some(place),
    }
}

/// The table of a pack. `None` for one that is damaged, cut short or newer: it is left alone.
pub(super) async fn read_table<W: World>(
    shared: &Shared<W>,
    namespace: NamespaceId,
    pack: PutId,
    size: u64,
) -> Result<Option<Pack>, ObjectError> {
    let path = shared.names.pack(namespace, pack);
    // Two reads: one corrupted response is not a bad object.
    for _ in 0..2 {
        let mut len = TABLE_GUESS;
        let table = loop {
            let bytes = match shared.objects.get_head(&path, len).await {
                Ok(bytes) => bytes,
                Err(ObjectError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            match pack::table_end_of(&bytes) {
                Ok(end) if end > len => len = end,
                _ => break Pack::decode(&bytes, size),
            }
        };
        match table {
            Ok(table) if (table.namespace, table.put_id) == (namespace, pack) => return Ok(Some(table)),
            Err(DecodeError::Version { .. }) => return Ok(None),
            _ => {}
        }
    }
    tracing::warn!(%path, "the table of a pack does not verify; it is left alone");
    Ok(None)
}

/// Whether a dead mark names this write, or a delete of the node that wrote it came after it.
pub(super) fn is_buried<W: World>(shared: &Shared<W>, name: &PayloadName) -> bool {
    let (place, heirs) = {
        let lives = shared.lives.read();
        let place = lives.place(name.put_id);
        (place, place.map(|(owner, _)| lives.heirs(owner)).unwrap_or_default())
    };
    let later = place.is_some_and(|(owner, order)| {
        let (key, horizons) = (name.value_key(), shared.horizons.lock());
        let reaches = |(by, order)| horizons.get(&(by, key)).is_some_and(|horizon| order <= *horizon);
        // What an heir deleted since it answers for the node was deleted of the node's, too.
        reaches((owner, order)) || heirs.into_iter().any(reaches)
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
                return Ok(row_of(&header).map(|entry| (name.value_key(), ValueRow { entry, plain_key })));
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
        in_pack: None,
    })
}
