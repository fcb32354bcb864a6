//! Other nodes of the bucket: their indexes are read as hints, their dead marks obeyed, and a newer life of this node
//! noticed.

use super::{Fate, Store};
use crate::index::NodeNum;
use crate::index::committer::Succession;
use crate::index::rows::{ChangeBatch, ValueKey, ValueRow};
use crate::observe::Point;
use crate::stats::Event;
use crate::world::{Clock, World};
use bettong_wire::envelope::Kind;
use bytes::Bytes;
use serde::Serialize;
use slatedb::DbReader;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

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

/// How far another node's index has been read: the sequence of the next change.
type Progress = BTreeMap<String, u64>;

impl<W: World> Store<W> {
    /// Looks at the bucket every `peer_refresh`, until the store is closed or fenced.
    pub(super) fn start_refresh(&self) {
        let store = self.clone();
        self.shared.world.spawn(async move {
            let mut progress = Progress::new();
            while store.commits.is_open() && store.shared.fate.borrow().is_none() {
                store.refresh(&mut progress).await;
                store.shared.world.clock().sleep(store.shared.config.peer_refresh).await;
            }
        });
    }

    async fn refresh(&self, progress: &mut Progress) {
        let shared = &self.shared;
        shared.world.at(Point::BeforePeerRefresh).await;
        match self.watch.is_newest().await {
            Ok(true) => {}
            Ok(false) => {
                use crate::index::committer::Visible;
                shared.fenced("a newer life of this node id has started");
                return;
            }
            Err(error) => tracing::warn!(error, "cannot tell whether a newer life of this node exists"),
        }
        let nodes = match shared.objects.folders(&shared.names.nodes()).await {
            Ok(nodes) => nodes,
            Err(error) => return tracing::warn!(%error, "the bucket's nodes cannot be listed"),
        };
        for node_id in nodes.into_iter().filter(|node_id| *node_id != shared.config.node_id).take(NODES_MAX) {
            if let Err(error) = self.apply_dead_marks(&node_id).await {
                tracing::warn!(%error, node_id, "a node's dead marks cannot be read");
            }
            if let Err(error) = self.read_index(&node_id, progress).await {
                tracing::debug!(error, node_id, "a node's index cannot be read now");
            }
        }
        self.forget_old_marks().await;
    }

    fn node_number(&self, node_id: &str) -> Option<NodeNum> {
        let mut nodes = self.shared.nodes.lock();
        let at = nodes.iter().position(|known| known == node_id).unwrap_or_else(|| {
            nodes.push(node_id.to_owned());
            nodes.len() - 1
        });
        u16::try_from(at).ok().map(NodeNum)
    }

    /// Reads another node's index from where the last look ended: its changes, or wholly where those are trimmed.
    async fn read_index(&self, node_id: &str, progress: &mut Progress) -> Result<(), String> {
        let shared = &self.shared;
        let world = &shared.world;
        let node = self.node_number(node_id).ok_or_else(|| "too many nodes".to_owned())?;
        let path = shared.names.index(node_id);
        let reader = shared.home.open_reader(path).await.map_err(|error| error.to_string())?;
        let read = self.read_changes(&reader, node, progress.get(node_id).copied()).await;
        let _ = world.enter(reader.close()).await;
        if let Some(next) = read? {
            progress.insert(node_id.to_owned(), next);
        }
        Ok(())
    }

    async fn read_changes(&self, reader: &DbReader, node: NodeNum, from: Option<u64>) -> Result<Option<u64>, String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        let start = from.map_or_else(|| Bytes::from_static(ChangeBatch::PREFIX), ChangeBatch::key);
        let end = Bytes::from_static(b"d");
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let mut changes = Vec::new();
        let mut next = from;
        let mut gap = from.is_none();
        while let Some(row) = world.enter(rows.next()).await.map_err(failed)? {
            let sequence = ChangeBatch::sequence(&row.key).ok_or("a change's key is damaged")?;
            let batch = ChangeBatch::decode(&row.value).ok_or("a change is damaged")?;
            gap |= next.is_some_and(|next| sequence != next) && changes.is_empty();
            next = Some(sequence + 1);
            changes.extend(batch.rows);
        }
        if gap {
            self.read_whole(reader, node).await?;
        } else {
            changes.into_iter().for_each(|(key, value)| self.hint(node, key, value));
        }
        Ok(next)
    }

    async fn read_whole(&self, reader: &DbReader, node: NodeNum) -> Result<(), String> {
        let world = &self.shared.world;
        let failed = |error: slatedb::Error| error.to_string();
        let (start, end) = (Bytes::from_static(ValueKey::PREFIX), Bytes::from_static(b"w"));
        let mut rows = world.enter(Box::pin(reader.scan(start..end))).await.map_err(failed)?;
        let mut seen = BTreeSet::new();
        while let Some(row) = world.enter(rows.next()).await.map_err(failed)? {
            let key = ValueKey::decode(&row.key).ok_or("a value's key is damaged")?;
            self.hint(node, key, Some(row.value));
            seen.extend(self.shared.key(&key));
        }
        for (key, entry) in self.shared.map.collect(|key, entry| entry.node == node && !seen.contains(key)) {
            self.shared.hide_entry(&key, node, entry.put_id);
        }
        Ok(())
    }

    /// Takes over one row of another node, as a hint. Plain keys are not shared; what is dead stays dead.
    fn hint(&self, node: NodeNum, key: ValueKey, value: Option<Bytes>) {
        let shared = &self.shared;
        if key.kind == Kind::Plain {
            return;
        }
        let Some(map_key) = shared.key(&key) else { return };
        let held = shared.map.get(&map_key, node);
        let Some(value) = value else {
            if let Some(held) = held {
                shared.hide_entry(&map_key, node, held.put_id);
            }
            return;
        };
        let Some(row) = ValueRow::decode(&value, node) else { return };
        let dead = shared.dead.lock().contains(row.entry.put_id);
        if dead || held.is_some_and(|held| held.put_id == row.entry.put_id) {
            return;
        }
        let full = shared.hints.load(Ordering::Relaxed).saturating_mul(HINT_BYTES) >= shared.config.peer_hint_bytes;
        if held.is_none() && full {
            shared.stats.count(Event::HintsDropped);
            return;
        }
        if held.is_none() {
            shared.hints.fetch_add(1, Ordering::Relaxed);
        }
        shared.map.set(&map_key, &row.entry, shared.stamp());
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
            let number = shared.nodes.lock().iter().position(|known| *known == node_id);
            let known = number.and_then(|number| u16::try_from(number).ok()).map(NodeNum);
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
