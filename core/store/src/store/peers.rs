//! Other nodes of the bucket: their indexes are read as hints, their dead marks obeyed, and a newer life of this node
//! noticed.

use super::{Fate, Store};
use crate::index::committer::{Succession, Visible};
use crate::index::rows::{ChangeBatch, STATE_KEY, StateRow, ValueKey, ValueRow};
use crate::index::{Entry, NodeNum};
use crate::observe::{Point, State};
use crate::stats::Event;
use crate::world::{Clock, Mono, World};
use bettong_wire::PutId;
use bettong_wire::envelope::Kind;
use bytes::Bytes;
use serde::Serialize;
use slatedb::DbReader;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that one hint takes in the map, at most.
const HINT_BYTES: u64 = 128;
/// Nodes of one bucket that are looked at.
const NODES_MAX: usize = 1024;

/// A node of the bucket as `node ls` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeInfo {
    pub node_id: String,
    pub this_node: bool,
    /// Ordinal of its newest life.
    pub newest_life: Option<u64>,
    /// Entries of its index that this node knows.
    pub hints: u64,
}

/// What the refresh remembers from one look to the next.
#[derive(Default)]
pub(super) struct Refresh {
    /// How far other nodes' indexes have been read.
    progress: BTreeMap<String, Progress>,
    /// Retired nodes whose indexes count no more.
    past: BTreeSet<String>,
    /// Since when the wall clock says of a dead mark that its time is over.
    pub old_marks: BTreeMap<PutId, Mono>,
}

/// How far another node's index has been read.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The sequence of the next change; `None` before the first look.
    next: Option<u64>,
    /// Hints of it found no room, and are read again once there is some.
    dropped: bool,
    /// Looks to let pass before that: doubled each time that the room did not suffice.
    patience: u32,
    waited: u32,
}

/// A budget that stays too small costs a whole read of an index once in so many looks, at most.
const PATIENCE_MAX: u32 = 64;

impl Progress {
    /// Whether the index must be read wholly because of hints that were dropped.
    fn reread(&mut self, room: bool) -> bool {
        if !self.dropped || !room {
            return false;
        }
        self.waited += 1;
        self.waited > self.patience
    }

    /// A look ended; `whole` says whether it read everything, `dropped` whether hints found no room.
    fn looked(&mut self, next: Option<u64>, whole: bool, dropped: bool) {
        self.next = next;
        if dropped && whole {
            self.patience = (self.patience * 2).clamp(1, PATIENCE_MAX);
            self.waited = 0;
        }
        if whole && !dropped {
            (self.patience, self.waited) = (0, 0);
        }
        // Only a whole read brings back what an earlier look dropped.
        self.dropped = dropped || (self.dropped && !whole);
    }
}

/// What became of one row of another node's index.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Taken over, or of no use here.
    Settled,
    /// There was no room for it.
    Dropped,
}

/// Whether what another node's index says counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Counts,
    /// Its heir has made all of it its own.
    Past,
}

/// What became of one look at another node's index.
enum Looked {
    /// Nothing is new.
    Nothing,
    At(Look),
    /// It counts no more.
    Past,
}

/// What one look at another node's index read.
struct Look {
    next: Option<u64>,
    whole: bool,
    dropped: bool,
}

impl<W: World> Store<W> {
    /// Looks at the bucket every `peer_refresh`, until the store is closed or fenced. Whether a newer life exists is
    /// asked by a task of its own, which nothing slow holds up.
    pub(super) fn start_refresh(&self) {
        let store = self.clone();
        self.shared.spawn_vital("the watch over newer lives", async move {
            while store.is_running() {
                store.watch_life().await;
                store.shared.world.clock().sleep(store.shared.config.peer_refresh).await;
            }
        });
        let store = self.clone();
        self.shared.spawn_vital("the look at other nodes", async move {
            let mut refresh = Refresh::default();
            while store.is_running() {
                store.refresh(&mut refresh).await;
                store.shared.world.clock().sleep(store.shared.config.peer_refresh).await;
            }
        });
    }

    pub(super) fn is_running(&self) -> bool {
        self.commits.is_open() && self.shared.fate.borrow().is_none()
    }

    async fn watch_life(&self) {
        match self.watch.is_newest().await {
            Ok(true) => {}
            Ok(false) => self.shared.fenced(&self.watch.why_superseded().await),
            Err(error) => tracing::warn!(error, "cannot tell whether a newer life of this node exists"),
        }
    }

    async fn refresh(&self, refresh: &mut Refresh) {
        let shared = &self.shared;
        shared.world.at(Point::BeforePeerRefresh).await;
        let nodes = match shared.objects.folders(&shared.names.nodes()).await {
            Ok(nodes) => nodes,
            Err(error) => return tracing::warn!(%error, "the bucket's nodes cannot be listed"),
        };
        let others = nodes.into_iter().filter(|node_id| *node_id != shared.config.node_id).take(NODES_MAX);
        let others: Vec<String> = others.collect();
        // All marks before any index: what is dead must not come back as a hint.
        let mut listed = Some(BTreeSet::new());
        for node_id in &others {
            match self.apply_dead_marks(node_id, None).await {
                Ok(marks) => listed.iter_mut().for_each(|listed| listed.extend(&marks)),
                Err(error) => {
                    tracing::warn!(%error, node_id, "a node's dead marks cannot be read");
                    listed = None;
                }
            }
        }
        shared.world.reached_if(listed.is_some(), State::PeersRefreshed);
        let (past, _) = self.read_indexes(&others, refresh).await;
        // What their heirs made of it is known before it is dropped: a delete meanwhile would name nothing.
        if !past.is_empty() {
            let left: Vec<String> = others.into_iter().filter(|node_id| !past.contains(node_id)).collect();
            if let (more, true) = self.read_indexes(&left, refresh).await
                && more.is_empty()
            {
                past.iter()
                    .filter_map(|node_id| self.known_number(node_id))
                    .for_each(|node| self.forget_hints_of(node));
                shared.world.reached(State::HintsOfRetiredDropped);
                refresh.past.extend(past);
            }
        }
        self.forget_marks(&mut refresh.old_marks, listed.as_ref()).await;
    }

    /// Reads the indexes of `nodes`. Answers those that count no more, and whether all others could be read.
    async fn read_indexes(&self, nodes: &[String], refresh: &mut Refresh) -> (BTreeSet<String>, bool) {
        let (mut past, mut all) = (BTreeSet::new(), true);
        for node_id in nodes {
            if self.shared.lives.read().is_taken_over(node_id) || refresh.past.contains(node_id) {
                continue;
            }
            match self.read_index(node_id, &mut refresh.progress).await {
                Ok(Standing::Counts) => {}
                Ok(Standing::Past) => drop(past.insert(node_id.clone())),
                Err(error) => {
                    tracing::debug!(error, node_id, "a node's index cannot be read now");
                    all = false;
                }
            }
        }
        (past, all)
    }

    fn node_number(&self, node_id: &str) -> Option<NodeNum> {
        let mut nodes = self.shared.nodes.lock();
        let at = nodes.iter().position(|known| known == node_id).unwrap_or_else(|| {
            nodes.push(node_id.to_owned());
            nodes.len() - 1
        });
        u16::try_from(at).ok().map(NodeNum)
    }

    /// The number of a node that this process has met.
    pub(super) fn known_number(&self, node_id: &str) -> Option<NodeNum> {
        let at = self.shared.nodes.lock().iter().position(|known| known == node_id)?;
        u16::try_from(at).ok().map(NodeNum)
    }

    /// Reads another node's index from where the last look ended: its changes, or wholly where those are trimmed.
    async fn read_index(&self, node_id: &str, progress: &mut BTreeMap<String, Progress>) -> Result<Standing, String> {
        let shared = &self.shared;
        let world = &shared.world;
        let node = self.node_number(node_id).ok_or_else(|| "too many nodes".to_owned())?;
        let path = shared.names.index(node_id);
        let reader = shared.home.open_reader(path).await.map_err(|error| error.to_string())?;
        let progress = progress.entry(node_id.to_owned()).or_default();
        let from = if progress.reread(self.has_room()) { None } else { progress.next };
        let look = self.read_changes(&reader, node, from).await;
        let _ = world.enter(reader.close()).await;
        match look? {
            Looked::Nothing => {}
            Looked::At(look) => progress.looked(look.next, look.whole, look.dropped),
            Looked::Past => return Ok(Standing::Past),
        }
        Ok(Standing::Counts)
    }

    /// Drops all that is known by another node's index.
    pub(super) fn forget_hints_of(&self, node: NodeNum) {
        for (key, entry) in self.shared.map.collect(|_, entry| entry.node == node) {
            self.shared.map.remove(&key, node, entry.put_id);
        }
    }

    /// Whether another hint fits.
    fn has_room(&self) -> bool {
        self.peer_hint_bytes().saturating_add(HINT_BYTES) <= self.shared.config.peer_hint_bytes
    }

    /// What the hints of other nodes' indexes take.
    pub(super) fn peer_hint_bytes(&self) -> u64 {
        (self.shared.map.foreign() as u64).saturating_mul(HINT_BYTES)
    }

    /// The changes since `from`, or everything where that is `None` or trimmed.
    async fn read_changes(&self, reader: &DbReader, node: NodeNum, from: Option<u64>) -> Result<Looked, String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        let state = world.enter(reader.get(STATE_KEY)).await.map_err(failed)?;
        let Some(state) = state.as_deref().and_then(StateRow::decode) else { return Ok(Looked::Nothing) };
        if state.taken_over {
            return Ok(Looked::Past);
        }
        if from == Some(state.change_sequence) {
            return Ok(Looked::Nothing);
        }
        // An index that was lost and rebuilt counts from the start again.
        let from = from.filter(|from| *from <= state.change_sequence);
        let start = from.map_or_else(|| Bytes::from_static(ChangeBatch::PREFIX), ChangeBatch::key);
        let end = Bytes::from_static(b"d");
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let mut changes = Vec::new();
        let mut next = from;
        let mut gap = from.is_none();
        while let Some(row) = world.enter(rows.next()).await.map_err(failed)? {
            let sequence = ChangeBatch::sequence(&row.key).ok_or("a change's key is damaged")?;
            let batch = ChangeBatch::decode(&row.value).ok_or("a change is damaged")?;
            gap |= next == from && from != Some(sequence);
            next = Some(sequence + 1);
            if !gap {
                changes.extend(batch.rows);
            }
        }
        let next = next.max(Some(state.change_sequence));
        let mut dropped = false;
        if gap {
            dropped = self.read_whole(reader, node).await?;
        } else {
            changes.into_iter().for_each(|(key, value)| dropped |= self.hint(node, key, value) == Hint::Dropped);
        }
        Ok(Looked::At(Look { next, whole: gap, dropped }))
    }

    /// Says whether hints found no room.
    async fn read_whole(&self, reader: &DbReader, node: NodeNum) -> Result<bool, String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        let (start, end) = (Bytes::from_static(ValueKey::PREFIX), Bytes::from_static(b"w"));
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let mut seen = BTreeSet::new();
        let mut dropped = false;
        while let Some(row) = world.enter(rows.next()).await.map_err(failed)? {
            let key = ValueKey::decode(&row.key).ok_or("a value's key is damaged")?;
            dropped |= self.hint(node, key, Some(row.value)) == Hint::Dropped;
            // Only what the map holds: the other node's index may be larger than all the hints there is room for.
            seen.extend(self.shared.key(&key).filter(|key| self.shared.map.get(key, node).is_some()));
        }
        for (key, entry) in self.shared.map.collect(|key, entry| entry.node == node && !seen.contains(key)) {
            self.shared.hide_entry(&key, node, entry.put_id);
        }
        Ok(dropped)
    }

    /// Takes over one row of another node, as a hint. Plain keys are not shared; what is dead stays dead.
    fn hint(&self, node: NodeNum, key: ValueKey, value: Option<Bytes>) -> Hint {
        let shared = &self.shared;
        if key.kind == Kind::Plain {
            return Hint::Settled;
        }
        let Some(map_key) = shared.key(&key) else { return Hint::Settled };
        let held = shared.map.get(&map_key, node);
        let Some(value) = value else {
            if let Some(held) = held {
                shared.hide_entry(&map_key, node, held.put_id);
            }
            return Hint::Settled;
        };
        let Some(row) = ValueRow::decode(&value, key.kind, node) else { return Hint::Settled };
        let dead = shared.dead.lock().contains(row.entry.put_id);
        let same = |held: Entry| (held.put_id, held.in_pack) == (row.entry.put_id, row.entry.in_pack);
        if dead || held.is_some_and(same) {
            return Hint::Settled;
        }
        if held.is_none() && !self.has_room() {
            shared.stats.count(Event::HintsDropped);
            return Hint::Dropped;
        }
        shared.map.set(&map_key, &row.entry, shared.stamp());
        // Asked again after it is shown: whoever names it dead in between hides what is shown by then, or is seen here.
        if shared.dead.lock().contains(row.entry.put_id) {
            shared.hide_entry(&map_key, node, row.entry.put_id);
        }
        Hint::Settled
    }

    /// The nodes of the bucket, with their newest lives.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, String> {
        let shared = &self.shared;
        let node_ids = shared.objects.folders(&shared.names.nodes()).await.map_err(|error| error.to_string())?;
        let mut nodes = Vec::new();
        for node_id in node_ids.into_iter().take(NODES_MAX) {
            let (lives, _) = crate::life::list(&shared.objects, &shared.names, &node_id)
                .await
                .map_err(|error| format!("the lives of node `{node_id}`: {error}"))?;
            let known = self.known_number(&node_id);
            let hints = shared.map.collect(|_, entry| Some(entry.node) == known).len() as u64;
            let this_node = node_id == shared.config.node_id;
            nodes.push(NodeInfo { this_node, newest_life: lives.values().copied().max(), hints, node_id });
        }
        Ok(nodes)
    }

    /// Why the store takes no more requests, if so.
    pub fn ended(&self) -> Option<Fate> {
        self.shared.fate.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_stays_too_small_is_not_paid_for_at_each_look() {
        let mut progress = Progress::default();
        progress.looked(Some(1), true, true);
        let mut whole = 0;
        for look in 0..1000 {
            let whole_now = progress.reread(true);
            whole += u32::from(whole_now);
            progress.looked(Some(look), whole_now, whole_now);
        }
        assert!((10..40).contains(&whole), "{whole} whole reads in 1000 looks");
        assert!(!progress.reread(false), "without room there is nothing to read for");
        progress.waited = PATIENCE_MAX;
        assert!(progress.reread(true));
        progress.looked(Some(1), true, false);
        assert!(!progress.reread(true), "what was dropped has come back");
    }
}
