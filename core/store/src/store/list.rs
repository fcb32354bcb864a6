//! Look-ups that touch no payload: presence, prefixes, pages of names.

use super::Store;
use crate::index::map::Cursor;
use crate::index::{Entry, NodeNum};
use crate::keys::{Key, NsNum};
use crate::stats::{Event, Timed};
use crate::world::{Clock, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::{ListKind, PartAsk};
use bettong_wire::response::{ListEntry, ListName, ListPage};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, Part, ServiceError, SidecarKey};
use std::ops::Bound;
use std::sync::Arc;

/// Hashes that are looked up while the map is held still.
const HASHES_A_SLICE: usize = 4096;
/// Slots that one page looks at: a small namespace in a large index is walked over several pages.
const SLOTS_A_PAGE: usize = 65_536;

impl<W: World> Store<W> {
    /// The entry that a get of `key` would try first, or why there is none. Loads nothing.
    pub fn exists(&self, key: &Key) -> Result<Entry, MissReason> {
        let shared = &self.shared;
        shared.settle_losses();
        let wall_ms = shared.wall_ms();
        let versions = shared.map.versions(key);
        if let Some(entry) = versions.iter().find(|entry| !entry.quarantined && !entry.is_expired(wall_ms)) {
            return Ok(*entry);
        }
        Err(match versions.first() {
            Some(_) if versions.iter().any(|entry| entry.quarantined) => MissReason::Corrupt,
            Some(_) => MissReason::Expired,
            None if shared.ghosts.lock().contains(key) => MissReason::Evicted,
            None => MissReason::Absent,
        })
    }

    /// Payload bytes that a get of `key` would load, zero where there is nothing to load.
    pub fn weight(&self, key: &Key) -> u64 {
        let map = &self.shared.map;
        let own = map.get(key, NodeNum::SELF).map(|entry| entry.raw_len);
        let longest = || map.versions(key).iter().map(|entry| entry.raw_len).max();
        own.or_else(longest).unwrap_or(0).into()
    }

    /// How many leading `hashes` are present: a block counts only when all the asked parts exist. A part that asks for
    /// the last n blocks only limits the answer to prefixes whose last n blocks it has.
    pub fn longest_prefix(&self, ns: NsNum, hashes: &[BlockHash], parts: &[PartAsk]) -> usize {
        let shared = &self.shared;
        let began = shared.world.clock().mono();
        shared.settle_losses();
        let mut longest = hashes.len();
        for ask in parts.iter().filter(|ask| ask.last_n == 0) {
            longest = self.whole_prefix(ns, ask.part, &hashes[..longest]);
        }
        let windows: Vec<(usize, Vec<usize>)> = parts
            .iter()
            .filter(|ask| ask.last_n > 0)
            .map(|ask| (ask.last_n as usize, self.runs(ns, ask.part, &hashes[..longest])))
            .collect();
        longest = longest_window(longest, &windows);
        shared.stats.add(Event::LookupBlocksAsked, hashes.len() as u64);
        shared.stats.add(Event::LookupBlocksFound, longest as u64);
        shared.stats.timed(Timed::Lookup, shared.world.clock().mono().since(began));
        longest
    }

    /// How many leading hashes have the part. The map is held still for a slice at a time.
    fn whole_prefix(&self, ns: NsNum, part: Part, hashes: &[BlockHash]) -> usize {
        let mut found = 0;
        for slice in hashes.chunks(HASHES_A_SLICE) {
            let here = self.shared.map.presence(self.shared.wall_ms()).prefix(ns, part, slice);
            found += here;
            if here < slice.len() {
                break;
            }
        }
        found
    }

    /// For each hash, how many blocks in a row that end with it have the part.
    fn runs(&self, ns: NsNum, part: Part, hashes: &[BlockHash]) -> Vec<usize> {
        let mut runs = Vec::with_capacity(hashes.len());
        let mut run = 0;
        for slice in hashes.chunks(HASHES_A_SLICE) {
            let presence = self.shared.map.presence(self.shared.wall_ms());
            for hash in slice {
                run = if presence.has(&Key { ns, kind: Kind::Block, part, hash: hash.0 }) { run + 1 } else { 0 };
                runs.push(run);
            }
        }
        runs
    }

    /// One page of names. Plain keys come in order; blocks and sidecars in an order that stays while they stay.
    pub fn list(
        &self,
        ns: NsNum,
        kind: ListKind,
        prefix: &str,
        cursor: &[u8],
        limit: u32,
    ) -> Result<ListPage, ServiceError> {
        self.shared.settle_losses();
        let limit = limit.clamp(1, self.shared.config.list_page_max) as usize;
        match kind {
            ListKind::Plain => self.list_plain(ns, prefix, cursor, limit),
            ListKind::Blocks => self.list_slots(ns, Kind::Block, cursor, limit),
            ListKind::Sidecars => self.list_slots(ns, Kind::Sidecar, cursor, limit),
        }
    }

    fn list_plain(&self, ns: NsNum, prefix: &str, cursor: &[u8], limit: usize) -> Result<ListPage, ServiceError> {
        let shared = &self.shared;
        let after = std::str::from_utf8(cursor)
            .map_err(|_| ServiceError::new(ErrorKind::Invalid, "the cursor is not one that a page answered"))?;
        let later = after >= prefix && !cursor.is_empty();
        let from = if later { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let wall_ms = shared.wall_ms();
        let mut entries = Vec::new();
        let mut last = None;
        let plain = shared.plain.lock();
        for (name, key) in plain.range(ns, from).take_while(|(name, _)| name.starts_with(prefix)) {
            if entries.len() == limit {
                let cursor = last.map(|name: &Arc<str>| name.as_bytes().to_vec()).unwrap_or_default();
                return Ok(ListPage { entries, cursor });
            }
            last = Some(name);
            let held = shared.map.get(key, NodeNum::SELF);
            if let Some(entry) = held.filter(|entry| !entry.is_expired(wall_ms) && !entry.quarantined) {
                entries.push(listed(ListName::Plain(name.to_string()), &entry));
            }
        }
        Ok(ListPage { entries, cursor: Vec::new() })
    }

    fn list_slots(&self, ns: NsNum, kind: Kind, cursor: &[u8], limit: usize) -> Result<ListPage, ServiceError> {
        let shared = &self.shared;
        let start = decode_cursor(cursor)
            .ok_or_else(|| ServiceError::new(ErrorKind::Invalid, "the cursor is not one that a page answered"))?;
        let wall_ms = shared.wall_ms();
        let mut entries = Vec::new();
        let next = shared.map.walk(start, SLOTS_A_PAGE, |key, entry| {
            let wanted = key.ns == ns && key.kind == kind && !entry.is_expired(wall_ms) && !entry.quarantined;
            // Of a value that several nodes have, the first of its versions speaks for all.
            let readable = |held: &&Entry| !held.quarantined && !held.is_expired(wall_ms);
            let speaks = wanted
                && shared.map.versions(&key).iter().find(readable).is_some_and(|first| first.put_id == entry.put_id);
            if speaks && entries.len() == limit {
                return false;
            }
            if speaks {
                let name = match kind {
                    Kind::Sidecar => ListName::Sidecar(SidecarKey(key.hash)),
                    _ => ListName::Block(BlockKey { hash: BlockHash(key.hash), part: key.part }),
                };
                entries.push(listed(name, &entry));
            }
            true
        });
        Ok(ListPage { entries, cursor: next.map(encode_cursor).unwrap_or_default() })
    }

    /// Whether all parts of a block, or a sidecar, are safe in the object store, here or on another node.
    pub(super) fn is_durable(&self, key: &Key) -> bool {
        let wall_ms = self.shared.wall_ms();
        let versions = self.shared.map.versions(key);
        versions.iter().any(|entry| {
            entry.level == bettong_wire::request::Level::Object && !entry.quarantined && !entry.is_expired(wall_ms)
        })
    }

    /// The parts that a look-up asks for when it names none.
    pub fn whole_parts(parts: &[u16]) -> Vec<PartAsk> {
        parts.iter().map(|part| PartAsk { part: Part(*part), last_n: 0 }).collect()
    }
}

/// The longest prefix of at most `longest` blocks in whose last n (or all, where it is shorter) every window is whole.
fn longest_window(longest: usize, windows: &[(usize, Vec<usize>)]) -> usize {
    let whole = |end: usize| windows.iter().all(|(n, runs)| runs.get(end - 1).is_some_and(|run| *run >= end.min(*n)));
    (1..=longest).rev().find(|end| whole(*end)).unwrap_or(0)
}

fn listed(name: ListName, entry: &Entry) -> ListEntry {
    ListEntry { name, len: entry.raw_len.into(), put_id: entry.put_id, expires_at_ms: entry.expires_at_ms }
}

fn encode_cursor(cursor: Cursor) -> Vec<u8> {
    [cursor.shard.to_le_bytes(), cursor.slot.to_le_bytes()].concat()
}

pub(super) fn decode_cursor(bytes: &[u8]) -> Option<Cursor> {
    if bytes.is_empty() {
        return Some(Cursor::default());
    }
    let (shard, rest) = bytes.split_first_chunk::<4>()?;
    let slot: &[u8; 4] = rest.try_into().ok()?;
    Some(Cursor { shard: u32::from_le_bytes(*shard), slot: u32::from_le_bytes(*slot) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition, with two windows.
        #[test]
        fn a_window_is_the_longest_whose_last_blocks_are_there(
            there in proptest::collection::vec(any::<(bool, bool)>(), 0..40),
            n in (1usize..6, 1usize..6),
        ) {
            let runs = |part: &dyn Fn(&(bool, bool)) -> bool| {
                let mut run = 0;
                there.iter().map(|at| { run = if part(at) { run + 1 } else { 0 }; run }).collect::<Vec<usize>>()
            };
            let windows = [(n.0, runs(&|at| at.0)), (n.1, runs(&|at| at.1))];
            let whole = |end: usize| {
                there[end.saturating_sub(n.0)..end].iter().all(|at| at.0)
                    && there[end.saturating_sub(n.1)..end].iter().all(|at| at.1)
            };
            let expected = (1..=there.len()).rev().find(|end| whole(*end)).unwrap_or(0);
            prop_assert_eq!(longest_window(there.len(), &windows), expected);
        }
    }
}
