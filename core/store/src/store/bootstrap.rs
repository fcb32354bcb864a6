//! Filling the map at a start from the index, in one scan.

use super::shared::Shared;
use crate::index::rows::{
    ChangeBatch, DeadRow, FORMAT, FORMAT_KEY, Inheritance, InheritanceRow, PackRow, QuarantineRow, STATE_KEY, StateRow,
    ValueKey, ValueRow,
};
use crate::index::{IndexError, NodeNum};
use crate::observe::Point;
use crate::world::World;
use bettong_wire::PutId;
use slatedb::Db;
use slatedb::config::ScanOptions;
use std::collections::BTreeSet;

/// Rows between two looks at whether a plan strikes here.
const ROWS_A_STEP: u64 = 512;
/// Bytes that one request of a scan fetches ahead.
const READ_AHEAD_BYTES: usize = 4 << 20;

/// What a scan of the index found besides values.
pub(super) struct Found {
    /// Whether the index was ever complete; else the bucket must be listed.
    pub complete: bool,
    pub state: Option<StateRow>,
    /// Sequence and time of the change records, oldest first.
    pub records: Vec<(u64, u64)>,
}

/// Reads the whole index into the map.
pub(super) async fn from_index<W: World>(shared: &Shared<W>, db: &Db) -> Result<Found, IndexError> {
    let mut found = Found { complete: false, state: None, records: Vec::new() };
    let mut quarantined: BTreeSet<PutId> = BTreeSet::new();
    let options = ScanOptions { read_ahead_bytes: READ_AHEAD_BYTES, max_fetch_tasks: 2, ..ScanOptions::default() };
    let world = &shared.world;
    let mut rows = world.enter(Box::pin(db.scan_with_options(.., &options))).await?;
    let mut read = 0;
    while let Some(row) = world.enter(rows.next()).await? {
        read += 1;
        if read % ROWS_A_STEP == 0 {
            world.at(Point::DuringBootstrap).await;
        }
        let damaged = || IndexError::Stored(format!("row {:02x?} is damaged", &row.key[..row.key.len().min(80)]));
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
                    let text = format!("it is in format {format}, this release reads up to {FORMAT}");
                    return Err(IndexError::Stored(text));
                }
                found.complete = true;
            }
            Some(b'm') if row.key == STATE_KEY => {
                let state = StateRow::decode(&row.value).ok_or_else(damaged)?;
                shared.home.floor.raise(state.clock_ms);
                found.state = Some(state);
            }
            Some(b'p') => {
                let pack = PackRow::put_id(&row.key).ok_or_else(damaged)?;
                shared.packs.lock().add(pack, PackRow::decode(&row.value).ok_or_else(damaged)?);
            }
            Some(b'q') => drop(quarantined.insert(QuarantineRow::put_id(&row.key).ok_or_else(damaged)?)),
            Some(b'v') => {
                let key = ValueKey::decode(&row.key).ok_or_else(damaged)?;
                let mut row = ValueRow::decode(&row.value, key.kind, NodeNum::SELF).ok_or_else(damaged)?;
                row.entry.quarantined = quarantined.contains(&row.entry.put_id);
                let namespace = key.namespace;
                let key = shared.key(&key).ok_or_else(too_many_namespaces)?;
                if let Some(place) = row.entry.in_pack {
                    shared.packs.lock().enter(place.pack, namespace, row.entry.object_bytes());
                }
                shared.show_entry(&key, &row.entry, &row.plain_key);
            }
            _ => return Err(damaged()),
        }
    }
    Ok(found)
}

fn too_many_namespaces() -> IndexError {
    IndexError::Stored("it names too many namespaces".to_owned())
}
