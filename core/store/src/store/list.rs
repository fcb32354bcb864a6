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

    /// How many leading `hashes` are present: a block counts only when all the asked parts exist. A part that asks for
    /// the last n blocks only limits the answer to prefixes whose last n blocks it has.
    pub fn longest_prefix(&self, ns: NsNum, hashes: &[BlockHash], parts: &[PartAsk]) -> usize {
        let shared = &self.shared;
        let began = shared.world.clock().mono();
        shared.settle_losses();
        let presence = shared.map.presence(shared.wall_ms());
        let mut longest = hashes.len();
        for ask in parts.iter().filter(|ask| ask.last_n == 0) {
            longest = presence.prefix(ns, ask.part, &hashes[..longest]);
        }
        for ask in parts.iter().filter(|ask| ask.last_n > 0) {
            let has = |at: usize| presence.has(&Key { ns, kind: Kind::Block, part: ask.part, hash: hashes[at].0 });
            longest = last_window(longest, ask.last_n as usize, has);
        }
        // A shorter prefix may have lost another part's window: narrow until all agree.
        let windows: Vec<&PartAsk> = parts.iter().filter(|ask| ask.last_n > 0).collect();
        let mut settled = windows.len() < 2;
        while !settled {
            let before = longest;
            for ask in &windows {
                let has = |at: usize| presence.has(&Key { ns, kind: Kind::Block, part: ask.part, hash: hashes[at].0 });
                longest = last_window(longest, ask.last_n as usize, has);
            }
            settled = longest == before;
        }
        drop(presence);
        shared.stats.add(Event::LookupBlocksAsked, hashes.len() as u64);
        shared.stats.add(Event::LookupBlocksFound, longest as u64);
        shared.stats.timed(Timed::Lookup, shared.world.clock().mono().since(began));
        longest
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
            let speaks = wanted && shared.map.versions(&key).first().is_some_and(|first| first.put_id == entry.put_id);
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

/// The longest prefix of at most `longest` blocks whose last `n` (or all, where it is shorter) are there.
fn last_window(longest: usize, n: usize, has: impl Fn(usize) -> bool) -> usize {
    let mut end = longest;
    while end > 0 {
        let start = end.saturating_sub(n);
        match (start..end).rev().find(|at| !has(*at)) {
            // No window that holds this block is whole: the prefix ends before it.
            Some(gap) => end = gap,
            None => return end,
        }
    }
    0
}

fn listed(name: ListName, entry: &Entry) -> ListEntry {
    ListEntry { name, len: entry.raw_len.into(), put_id: entry.put_id, expires_at_ms: entry.expires_at_ms }
}

fn encode_cursor(cursor: Cursor) -> Vec<u8> {
    [cursor.shard.to_le_bytes(), cursor.slot.to_le_bytes()].concat()
}

fn decode_cursor(bytes: &[u8]) -> Option<Cursor> {
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
        /// Against the definition: try every length from the longest on.
        #[test]
        fn a_window_is_the_longest_whose_last_blocks_are_there(
            there in proptest::collection::vec(any::<bool>(), 0..40),
            n in 1usize..6,
        ) {
            let whole = |end: usize| (end.saturating_sub(n)..end).all(|at| there[at]);
            let expected = (1..=there.len()).rev().find(|end| whole(*end)).unwrap_or(0);
            prop_assert_eq!(last_window(there.len(), n, |at| there[at]), expected);
        }
    }
}
