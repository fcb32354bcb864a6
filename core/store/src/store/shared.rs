//! What the parts of an open store share.

use super::Fate;
use super::lives::{Lives, Owner};
use super::open::left_behind;
use crate::config::StoreConfig;
use crate::evict::{Accounts, Uses};
use crate::flight::Flights;
use crate::health::{Breaker, Estimates};
use crate::index::committer::{IndexChange, Visible};
use crate::index::db::IndexHome;
use crate::index::rows::{DeadRow, Mark, ValueKey, ValueRow};
use crate::index::{Entry, IndexMap, NodeNum};
use crate::journal::Journal;
use crate::keys::{Key, NamespaceTable, NsNum};
use crate::life::Life;
use crate::locks::KeyLocks;
use crate::objects::Objects;
use crate::objects::names::{Names, PayloadName};
use crate::observe::State;
use crate::stats::Stats;
use crate::store::fetch::Fetched;
use crate::store::loads::Loads;
use crate::store::packs::PackBook;
use crate::store::signals::Signals;
use crate::store::upload::Troubles;
use crate::tiers::disk::{DiskKey, DiskTier};
use crate::tiers::memory::MemoryTier;
use crate::vital::{self, End};
use crate::world::{Clock, Mono, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::Level;
use bettong_wire::{ModelIdentity, NamespaceId, PutId};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, Semaphore, watch};

/// The stamp of a process's first second: earlier uses, which the signal journal remembers, lie before it.
const STAMP_ZERO: u32 = 1 << 31;

pub(super) struct Shared<W: World> {
    pub world: W,
    pub config: StoreConfig,
    pub names: Names,
    pub objects: Objects<W>,
    pub home: IndexHome<W>,
    pub life: Life,
    /// When this life began to write its record into the bucket.
    pub began: Mono,
    /// This node's lives, and those of the nodes that it retired.
    pub lives: RwLock<Lives>,
    pub counter: AtomicU64,
    /// Whether the object store can create an object only if it is absent.
    pub conditional_create: bool,
    pub map: IndexMap,
    pub namespaces: RwLock<NamespaceTable>,
    /// How many namespaces each tenant's opens have added to them.
    pub namespaces_added: Mutex<BTreeMap<String, u32>>,
    pub identities: Mutex<BTreeMap<NamespaceId, Arc<ModelIdentity>>>,
    /// Identities that this life has decided on and may not yet have written down.
    pub identities_chosen: Mutex<BTreeMap<NamespaceId, Bytes>>,
    /// The plain keys that this node holds, by namespace, in order.
    pub plain: Mutex<PlainNames>,
    /// The newest generation of a head that this process has seen, by the hash of its name.
    pub generations: Mutex<BTreeMap<(NamespaceId, [u8; 32]), u64>>,
    pub dead: Mutex<DeadBook>,
    pub ghosts: Mutex<Ghosts>,
    /// What was used, on its way to the accounts.
    pub uses: Uses,
    pub accounts: Mutex<Accounts>,
    /// Whether there is any budget to keep accounts for.
    pub has_budgets: bool,
    /// Batches whose objects are being removed: who forgets waits for the object store rather than run away from it.
    pub removals: Arc<Semaphore>,
    /// Set while the store opens; empty where accesses are not remembered.
    pub signals: OnceLock<Signals>,
    /// Tells whoever keeps the accounts that there is something to do.
    pub housekeeping: Notify,
    pub nodes: Mutex<Vec<String>>,
    pub unresolved: Mutex<Unresolved>,
    /// Dead marks that are not confirmed yet: a delete of their key is not acknowledged before they are.
    pub owed: Mutex<BTreeMap<PutId, Owed>>,
    /// While the bucket is listed: deletes bury every version of the key that the same node wrote up to this order.
    pub horizons: Mutex<BTreeMap<(Owner, ValueKey), (u64, u64)>>,
    /// One task of upkeep at a time.
    pub upkeep_turn: tokio::sync::Mutex<()>,
    /// The namespace that was used last, by number; `NO_NAMESPACE` before the first use.
    pub active: AtomicU64,
    /// One first open of a namespace at a time, so that its identity is written once.
    pub identity_turns: KeyLocks<NamespaceId>,
    pub loads: Loads,
    pub memory: MemoryTier,
    pub disk: Option<DiskTier>,
    /// Why this process runs without the disk tier that it was to have.
    pub disk_trouble: Option<String>,
    pub disk_health: Breaker,
    pub estimates: Estimates,
    pub flights: Flights<Fetched>,
    pub stats: Stats,
    pub fate: watch::Sender<Option<Fate>>,
    pub recovery: Mutex<Recovery>,
    /// `None` runs without level `journal`.
    pub journal: Option<Journal<W>>,
    /// Entries of the durable index that a journaled put of their key hides until it is uploaded.
    pub shadowed: Mutex<BTreeMap<Key, Entry>>,
    /// Entries of level `memory` that take the place of a durable one in the moment in which that is durably gone.
    pub replacing: Mutex<BTreeMap<Key, ValueRow>>,
    /// Tells the uploader that there is something to do.
    pub uploads: Notify,
    pub upload_troubles: Troubles,
    /// Callers who wait for uploads.
    pub flushes: AtomicU64,
    pub packs: Mutex<PackBook>,
    /// Tells the task that tends the packs that there is something to do.
    pub repacks: Notify,
}

/// Stands for no namespace; numbers have 32 bits.
pub(super) const NO_NAMESPACE: u64 = u64::MAX;

/// What the last start found.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    pub from: &'static str,
    pub values: u64,
    pub duration_ms: u64,
    pub directory_rolled_back: bool,
    /// Puts that only the journal had.
    pub replayed: u64,
}

/// The plain keys that this node holds, by namespace in order, and by the key's hash.
#[derive(Debug, Default)]
pub(super) struct PlainNames {
    ordered: BTreeMap<(NsNum, Arc<str>), Key>,
    names: BTreeMap<Key, Arc<str>>,
}

impl PlainNames {
    fn insert(&mut self, key: Key, name: &str) {
        let name: Arc<str> = name.into();
        self.names.insert(key, name.clone());
        self.ordered.insert((key.ns, name), key);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(name) = self.names.remove(key) {
            self.ordered.remove(&(key.ns, name));
        }
    }

    /// Names of `ns` from `from` on, in order.
    pub fn range(&self, ns: NsNum, from: Bound<&str>) -> impl Iterator<Item = (&Arc<str>, &Key)> {
        let from = from.map(|name| (ns, Arc::from(name)));
        let all = self.ordered.range((from, Bound::Unbounded));
        all.take_while(move |((held, _), _)| *held == ns).map(|((_, name), key)| (name, key))
    }

    /// The name of a key.
    pub fn name(&self, key: &Key) -> Option<Arc<str>> {
        self.names.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }
}

/// The put ids that are dead.
#[derive(Debug, Default)]
pub(super) struct DeadBook {
    rows: BTreeMap<PutId, DeadRow>,
    of_keys: BTreeSet<(ValueKey, PutId)>,
    /// Pack, then what is dead in it.
    in_packs: BTreeSet<(PutId, PutId)>,
}

impl DeadBook {
    pub fn insert(&mut self, put_id: PutId, row: DeadRow) {
        self.remove(put_id);
        self.of_keys.insert((row.key, put_id));
        self.in_packs.extend(row.pack.map(|pack| (pack, put_id)));
        self.rows.insert(put_id, row);
    }

    pub fn remove(&mut self, put_id: PutId) {
        if let Some(row) = self.rows.remove(&put_id) {
            self.of_keys.remove(&(row.key, put_id));
            row.pack.map(|pack| self.in_packs.remove(&(pack, put_id)));
        }
    }

    /// What is dead in packs, by pack.
    pub fn in_packs(&self) -> impl Iterator<Item = (PutId, &DeadRow)> {
        self.in_packs.iter().filter_map(|(_, put_id)| Some((*put_id, self.rows.get(put_id)?)))
    }

    pub fn in_pack(&self, pack: PutId) -> impl Iterator<Item = (PutId, &DeadRow)> {
        let of_pack =
            self.in_packs.range((pack, PutId { life: 0, counter: 0 })..).take_while(move |(of, _)| *of == pack);
        of_pack.filter_map(|(_, put_id)| Some((*put_id, self.rows.get(put_id)?)))
    }

    /// The next `count` rows behind `after`, in the order of put ids.
    pub fn page(&self, after: Option<PutId>, count: usize) -> Vec<(PutId, DeadRow)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.rows.range((from, Bound::Unbounded)).take(count).map(|(put_id, row)| (*put_id, *row)).collect()
    }

    pub fn of_key(&self, key: &ValueKey) -> impl Iterator<Item = (PutId, &DeadRow)> {
        let first = (*key, PutId { life: 0, counter: 0 });
        let of_key = self.of_keys.range(first..).take_while(move |(of, _)| *of == first.0);
        of_key.filter_map(|(_, put_id)| Some((*put_id, self.rows.get(put_id)?)))
    }

    /// Replaced or evicted versions of `key` that no mark names and whose bytes are still there, and the packs that they
    /// are in: another node may still look for them, and a listing would find them.
    pub fn lingering(&self, key: &ValueKey) -> Vec<(PutId, Option<PutId>)> {
        let unmarked = self.of_key(key).filter(|(_, row)| row.mark == Mark::None);
        unmarked.map(|(put_id, row)| (put_id, row.pack)).collect()
    }

    pub fn contains(&self, put_id: PutId) -> bool {
        self.rows.contains_key(&put_id)
    }

    pub fn get(&self, put_id: PutId) -> Option<DeadRow> {
        self.rows.get(&put_id).copied()
    }

    pub fn all(&self) -> impl Iterator<Item = (PutId, &DeadRow)> {
        self.rows.iter().map(|(put_id, row)| (*put_id, row))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// Keys of puts whose outcome this process does not know, bounded: a delete of such a key leaves a mark although
/// nothing is visible.
#[derive(Debug, Default)]
pub(super) struct Unresolved(BTreeSet<Key>);

impl Unresolved {
    const MAX: usize = 65_536;

    pub fn insert(&mut self, key: Key) {
        if self.0.len() >= Self::MAX {
            self.0.pop_first();
        }
        self.0.insert(key);
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.0.contains(key)
    }

    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

/// A dead mark that the bucket has not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub key: ValueKey,
    pub horizon: PutId,
    pub wall_ms: u64,
}

/// Names of values that were evicted, bounded, oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Each name with the number of its eviction, and the level that it had.
    names: BTreeMap<Key, (u64, Level)>,
    /// Evictions in order; those of names that have come back since are passed over.
    order: VecDeque<(Key, u64)>,
    evictions: u64,
}

impl Ghosts {
    pub fn insert(&mut self, key: Key, level: Level, max: usize) {
        if max == 0 {
            return;
        }
        self.evictions += 1;
        self.names.insert(key, (self.evictions, level));
        self.order.push_back((key, self.evictions));
        while self.names.len() > max || self.order.len() > max.saturating_mul(2) {
            let Some((oldest, eviction)) = self.order.pop_front() else { return };
            if self.names.get(&oldest).is_some_and(|(newest, _)| *newest == eviction) {
                self.names.remove(&oldest);
            }
        }
    }

    /// Forgets a name: the value is there again, or was deleted by name. Says whether it was known.
    pub fn remove(&mut self, key: &Key) -> bool {
        self.names.remove(key).is_some()
    }

    pub fn contains(&self, key: &Key) -> bool {
        self.names.contains_key(key)
    }

    /// The level that an evicted value had.
    pub fn level(&self, key: &Key) -> Option<Level> {
        self.names.get(key).map(|(_, level)| *level)
    }
}

impl<W: World> Shared<W> {
    pub fn wall_ms(&self) -> u64 {
        self.world.clock().wall_ms()
    }

    /// The put id of the next write.
    pub fn draw_put_id(&self) -> PutId {
        PutId { life: self.life.life, counter: self.counter.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The namespace was used.
    pub fn set_active(&self, ns: NsNum) {
        self.active.store(ns.0.into(), Ordering::Relaxed);
    }

    /// The namespace that was used last.
    pub fn active(&self) -> Option<NsNum> {
        u32::try_from(self.active.load(Ordering::Relaxed)).ok().map(NsNum)
    }

    pub fn namespace_id(&self, ns: NsNum) -> NamespaceId {
        self.namespaces.read().id(ns).unwrap_or(NamespaceId([0; 32]))
    }

    pub fn value_key(&self, key: &Key) -> ValueKey {
        ValueKey { kind: key.kind, namespace: self.namespace_id(key.ns), hash: key.hash, part: key.part }
    }

    /// The key of a row, giving its namespace a number; `None` where the namespace table is full.
    pub fn key(&self, key: &ValueKey) -> Option<Key> {
        let known = self.namespaces.read().get(key.namespace);
        let ns = known.or_else(|| self.namespaces.write().number(key.namespace))?;
        Some(Key { ns, kind: key.kind, part: key.part, hash: key.hash })
    }

    pub fn object_path(&self, key: &ValueKey, put_id: PutId) -> object_store::path::Path {
        let ValueKey { kind, namespace, hash, part } = *key;
        self.names.payload(&PayloadName { namespace, kind, hash, part, put_id })
    }

    pub fn disk_key(&self, key: &Key) -> DiskKey {
        DiskKey::new(&self.namespace_id(key.ns), key)
    }

    /// A coarse stamp for recency: seconds of monotone time, from `STAMP_ZERO` on.
    pub fn stamp(&self) -> u32 {
        let seconds = self.world.clock().mono().0 / 1_000_000_000;
        STAMP_ZERO.saturating_add(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// Whether this node, or one that it retired, wrote what this life wrote.
    pub fn is_own_life(&self, life: u64) -> bool {
        self.lives.read().contains(life)
    }

    /// Orders two versions of one key that this node wrote: by life, then by counter. Inherited ones are older.
    pub fn order(&self, put_id: PutId) -> (u64, u64) {
        self.lives.read().order(put_id)
    }

    /// Shows an entry of this node.
    pub fn show_entry(&self, key: &Key, entry: &Entry, plain_key: &str) {
        self.map.set(key, entry, self.stamp());
        let again = self.ghosts.lock().remove(key);
        self.world.reached_if(again && entry.level > Level::Memory, State::EvictedPutAgain);
        if key.kind == Kind::Plain {
            self.plain.lock().insert(*key, plain_key);
        }
    }

    /// Takes an entry of `put_id` out of the map and its bytes out of memory.
    pub fn hide_entry(&self, key: &Key, node: NodeNum, put_id: PutId) -> bool {
        let hidden = self.map.remove(key, node, put_id);
        self.memory.remove(put_id);
        if hidden && node == NodeNum::SELF {
            if key.kind == Kind::Plain {
                let mut plain = self.plain.lock();
                // Another version may have been shown since: whoever shows one names it after it is in the map.
                if self.map.get(key, NodeNum::SELF).is_none() {
                    plain.remove(key);
                }
            }
            self.account_gone(key, put_id);
        }
        hidden
    }

    /// Notes a use, for recency. Costs nanoseconds.
    pub fn used(&self, key: &Key) {
        if self.uses.note(self.map.name(key)) {
            self.housekeeping.notify_one();
        }
    }

    /// This version takes nothing of any budget any more.
    fn account_gone(&self, key: &Key, put_id: PutId) {
        if self.has_budgets {
            self.accounts.lock().gone(key.ns, self.map.name(key), put_id);
        }
    }

    /// Notes the volatile values that memory evicted since the last call: they are nowhere now.
    pub fn settle_losses(&self) {
        for (key, put_id) in self.memory.take_losses() {
            if self.hide_entry(&key, NodeNum::SELF, put_id) {
                self.ghosts.lock().insert(key, Level::Memory, self.config.ghosts_max);
            }
        }
    }
}

impl<W: World> Shared<W> {
    /// What the durable index says of `key`, as far as the map and what hides it show.
    pub fn durable(&self, key: &Key) -> Option<Entry> {
        let shown = self.map.get(key, NodeNum::SELF).filter(|entry| entry.level == Level::Object);
        shown.or_else(|| self.shadowed.lock().get(key).copied())
    }

    /// Keeps the account of packs when the row of `key` becomes `new`, or goes. Before the map shows it: what was there
    /// is taken from the map. Every change that writes or removes a row comes by here.
    fn account_in_packs(&self, key: &Key, new: Option<&Entry>) {
        let old = self.durable(key).and_then(|old| Some((old.in_pack?, old.object_bytes())));
        let new = new.and_then(|new| Some((new.in_pack?, new.object_bytes())));
        if old == new {
            return;
        }
        let mut packs = self.packs.lock();
        if let Some((place, bytes)) = new {
            packs.enter(place.pack, self.namespace_id(key.ns), bytes);
        }
        if let Some((place, bytes)) = old
            && packs.leave(place.pack, bytes)
        {
            self.repacks.notify_one();
        }
    }
}

impl<W: World> Visible for Shared<W> {
    fn show(&self, change: &IndexChange) {
        match change {
            IndexChange::Put { key, row } => {
                if let Some(map_key) = self.key(key) {
                    let ValueRow { entry, plain_key } = row;
                    self.account_in_packs(&map_key, Some(entry));
                    // A journaled put that reaches the index keeps its bytes.
                    if let Some(old) = self.map.get(&map_key, NodeNum::SELF)
                        && old.put_id != entry.put_id
                    {
                        self.memory.remove(old.put_id);
                    }
                    self.show_entry(&map_key, entry, plain_key);
                }
            }
            IndexChange::Remove { key, put_id } => {
                if let Some(map_key) = self.key(key) {
                    self.account_in_packs(&map_key, None);
                    match self.replacing.lock().remove(&map_key) {
                        Some(ValueRow { entry, plain_key }) => {
                            self.memory.remove(*put_id);
                            self.account_gone(&map_key, *put_id);
                            self.show_entry(&map_key, &entry, &plain_key);
                        }
                        None => {
                            // First, so that nobody finds an evicted value absent.
                            if self.has_budgets && self.accounts.lock().is_going(*put_id) {
                                self.ghosts.lock().insert(map_key, Level::Object, self.config.ghosts_max);
                            }
                            self.hide_entry(&map_key, NodeNum::SELF, *put_id);
                        }
                    }
                }
            }
            IndexChange::Move { key, row } => {
                if let Some(map_key) = self.key(key) {
                    self.account_in_packs(&map_key, Some(&row.entry));
                    self.map.relocate(&map_key, &row.entry);
                }
            }
            IndexChange::Dead { key, put_id, wall_ms, mark, pack } => {
                let row = DeadRow { wall_ms: *wall_ms, mark: *mark, key: *key, pack: *pack };
                self.dead.lock().insert(*put_id, row);
                self.memory.remove(*put_id);
                if let Some(map_key) = self.key(key) {
                    for version in self.map.versions(&map_key).into_iter().filter(|held| held.put_id == *put_id) {
                        self.hide_entry(&map_key, version.node, *put_id);
                    }
                }
            }
            IndexChange::Forget { put_id } => self.dead.lock().remove(*put_id),
            IndexChange::Quarantine { key, put_id } => {
                if let Some(map_key) = self.key(key) {
                    self.map.quarantine(&map_key, NodeNum::SELF, *put_id);
                }
            }
            IndexChange::Pack { pack, row } => self.packs.lock().add(*pack, *row),
            IndexChange::PackGone { pack } => self.packs.lock().remove(*pack),
            IndexChange::Inherit { node_id, state } => self.lives.write().set_state(node_id, state.clone()),
            IndexChange::Complete | IndexChange::Incomplete => {}
        }
    }

    fn journaled(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::synced_through)
    }

    fn fenced(&self, why: &str) {
        self.world.reached(State::FencedByNewerLife);
        let puts = self.journal.as_ref().map_or(0, |journal| journal.state(|state| state.backlog().puts));
        self.ends(Fate::Fenced(format!("{why}{}", left_behind(puts))));
    }

    fn broken(&self, task: &'static str) {
        self.ends(Fate::Broken(task));
    }
}

impl<W: World> Shared<W> {
    /// The store has to end. The first reason stays.
    fn ends(&self, fate: Fate) {
        self.fate.send_if_modified(|held| {
            let first = held.is_none();
            held.get_or_insert(fate);
            first
        });
    }

    /// Runs `task`, without which the store cannot work, in the background: the store ends where it panics.
    pub fn spawn_vital(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.world.spawn(self.clone().watched(name, task));
    }

    /// As `spawn_vital`, for work that nobody waits for.
    pub fn spawn_vital_behind(self: &Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.world.spawn_behind(self.clone().watched(name, task));
    }

    async fn watched(self: Arc<Self>, name: &'static str, task: impl Future<Output = ()> + Send) {
        if vital::run(&self.world, task).await == End::Panicked {
            self.broken(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::Part;

    #[test]
    fn the_newest_ghosts_are_remembered_and_their_number_is_bounded() {
        let key = |n: u8| Key { ns: NsNum(0), kind: Kind::Block, part: Part(0), hash: [n; 32] };
        let mut ghosts = Ghosts::default();
        (0..9).for_each(|n| ghosts.insert(key(n), Level::Object, 4));
        assert!((0..9).all(|n| ghosts.contains(&key(n)) == (n >= 5)));
        assert!(ghosts.remove(&key(5)) && !ghosts.remove(&key(5)));
        ghosts.insert(key(5), Level::Memory, 4);
        ghosts.insert(key(9), Level::Object, 4);
        assert!((5..10).all(|n| ghosts.contains(&key(n)) == (n != 6)), "{ghosts:?}");
        assert_eq!((ghosts.level(&key(5)), ghosts.level(&key(6))), (Some(Level::Memory), None));
        for _ in 0..100 {
            ghosts.insert(key(1), Level::Object, 4);
            ghosts.remove(&key(1));
        }
        assert!(ghosts.order.len() <= 8 && ghosts.names.len() <= 4, "{ghosts:?}");
        ghosts.insert(key(1), Level::Object, 0);
        assert!(!ghosts.contains(&key(1)));
    }
}
