//! Keeping budgets: who is told of uses, and what is forgotten when there is too much.
//!
//! Of a node's own values in the object store those go that are worth least, children before their parents, and never
//! what only the journal has. What was used after it had been chosen stays: uses are looked at once more under the lock
//! of the key, and between that look and the index there is no wait.
//!
//! Values of all kinds go. A plain value is as good as a block here: clients of the Redis protocol keep blocks under
//! plain keys. Whoever must not lose one sets no budget that covers it.

use super::Store;
use super::forget::Going;
use super::put::Prepared;
use super::signals::Signal;
use crate::evict::{Block, Scope, Use};
use crate::index::committer::CommitError;
use crate::index::{Entry, NodeNum};
use crate::keys::{Key, NsNum};
use crate::locks::KeyGuard;
use crate::observe::{Point, Reason, State};
use crate::race::timeout;
use crate::stats::Event;
use crate::world::{Clock, Mono, World};
use bettong_wire::envelope::Kind;
use bettong_wire::request::Level;
use bettong_wire::{BlockHash, BlockKey, Part};
use std::time::Duration;

/// How often uses are collected while there are any.
const COLLECT_EVERY: Duration = Duration::from_millis(100);
/// How often an idle node looks.
const IDLE: Duration = Duration::from_secs(1);
/// Victims are chosen for so many bytes at a time: what is chosen late is chosen by what was used meanwhile, and the
/// accounts are not held for long.
const CHOOSE_BYTES: u64 = 32 << 20;
/// A sidecar's place behind any block of its chain.
const SIDECAR_SEQUENCE: u32 = u32::MAX;

impl<W: World> Store<W> {
    /// Starts what keeps the accounts; it ends with the store.
    pub(super) fn start_housekeeping(&self) {
        let store = self.clone();
        self.shared.spawn_vital("the keeper of the budgets", async move {
            let shared = &store.shared;
            while store.is_running() {
                let used = store.collect_uses();
                let over = store.keep_budgets().await;
                let pause = if used || over { COLLECT_EVERY } else { IDLE };
                let _ = timeout(&shared.world, pause, shared.housekeeping.notified()).await;
            }
        });
    }

    /// The budget of a namespace; zero where it has none. Bytes.
    pub(super) fn namespace_budget(&self, ns: NsNum) -> u64 {
        let config = &self.shared.config;
        if config.namespace_budgets.is_empty() {
            return config.namespace_bytes_max;
        }
        let id = self.shared.namespace_id(ns);
        config.namespace_budgets.get(&id).copied().unwrap_or(config.namespace_bytes_max)
    }

    /// A put is visible: from now on it takes of the budgets. Needs the key's lock.
    pub(super) fn account(&self, put: &Prepared) {
        let shared = &self.shared;
        self.signal(&put.key, Signal::Put, 1);
        if !shared.has_budgets {
            return;
        }
        let parent = put.sealed.as_ref().and_then(|sealed| sealed.header.parent);
        let parent = parent.and_then(|parent| self.parent_name(&put.key, parent));
        let block = self.block_of(&put.key, &put.row.entry, parent);
        let mut accounts = shared.accounts.lock();
        accounts.open(put.key.ns, || self.namespace_budget(put.key.ns));
        accounts.insert(put.key.ns, block);
        if accounts.over().is_some() {
            shared.housekeeping.notify_one();
        }
    }

    /// Values that another node put are this node's now: they take of the budgets, and count as used once. Of which chain
    /// they are is known from the next start on. Needs the keys' locks.
    pub(super) fn account_taken(&self, taken: &[(Key, Entry)]) {
        let shared = &self.shared;
        if !shared.has_budgets {
            return;
        }
        let mut accounts = shared.accounts.lock();
        for (key, entry) in taken {
            accounts.open(key.ns, || self.namespace_budget(key.ns));
            accounts.restore(key.ns, self.block_of(key, entry, None), 0);
        }
        if accounts.over().is_some() {
            shared.housekeeping.notify_one();
        }
    }

    pub(super) fn block_of(&self, key: &Key, entry: &Entry, parent: Option<u64>) -> Block {
        let sequence = if key.kind == Kind::Sidecar { SIDECAR_SEQUENCE } else { entry.sequence };
        let bytes = u32::try_from(entry.object_bytes()).unwrap_or(u32::MAX);
        Block { name: self.shared.map.name(key), parent, sequence, bytes }
    }

    /// The name of the block before `key` in its chain. A sidecar comes after the first part of its tip.
    fn parent_name(&self, key: &Key, parent: BlockHash) -> Option<u64> {
        let shared = &self.shared;
        let part = match key.kind {
            Kind::Block => key.part,
            Kind::Sidecar => {
                let identities = shared.identities.lock();
                let parts =
                    identities.get(&shared.namespace_id(key.ns)).map(|identity| identity.parts.first().copied());
                Part(parts.flatten().unwrap_or_default())
            }
            Kind::Plain => return None,
        };
        Some(shared.map.name(&Key::block(key.ns, BlockKey { hash: parent, part })))
    }

    /// Brings the uses since the last call to the accounts. Says whether there were any.
    pub(super) fn collect_uses(&self) -> bool {
        let shared = &self.shared;
        let uses = shared.uses.collect();
        let stamp = shared.stamp();
        let mut known = Vec::with_capacity(uses.len());
        for (name, times) in &uses {
            if let Some((key, _)) = shared.map.named(*name) {
                shared.map.touch(&key, stamp);
                self.signal(&key, Signal::Hit, *times);
                known.push((key.ns, *name, *times));
            }
        }
        if shared.has_budgets && !known.is_empty() {
            let mut accounts = shared.accounts.lock();
            known.into_iter().for_each(|(ns, name, times)| accounts.used(ns, name, times));
        }
        !uses.is_empty()
    }

    /// Evicts until every budget is kept, or nothing more may go. Says whether one is still exceeded.
    async fn keep_budgets(&self) -> bool {
        let shared = &self.shared;
        if !shared.has_budgets {
            return false;
        }
        loop {
            let Some((scope, excess)) = shared.accounts.lock().over() else { return false };
            match self.evict(scope, excess).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "an eviction was not indexed; it is tried again");
                    return true;
                }
            }
        }
    }

    /// Evicts `excess` bytes of a scope; answers how many went.
    async fn evict(&self, scope: Scope, excess: u64) -> Result<u64, CommitError> {
        let shared = &self.shared;
        let mut freed = 0;
        while freed < excess && self.is_running() {
            self.collect_uses();
            let chosen = shared.world.clock().mono();
            let may_go = |name| shared.map.named(name).is_none_or(|(_, entry)| self.may_be_forgotten(&entry));
            let victims = shared.accounts.lock().victims(scope, (excess - freed).min(CHOOSE_BYTES), may_go);
            let before = freed;
            for batch in victims.chunks(shared.config.evict_batch_max) {
                freed += self.evict_batch(scope, batch, chosen).await?;
            }
            if freed == before {
                break;
            }
        }
        Ok(freed)
    }

    /// Whether an entry is this node's, in the object store, and the journal is done with it: what the journal might
    /// show again at a start would come back.
    pub(super) fn may_be_forgotten(&self, entry: &Entry) -> bool {
        let pending = |put_id| {
            let journal = self.shared.journal.as_ref();
            journal.is_some_and(|journal| journal.state(|state| state.pending(put_id).is_some()))
        };
        entry.node == NodeNum::SELF && entry.level == Level::Object && !pending(entry.put_id)
    }

    /// Evicts those of a batch that were not used since they were chosen; answers how many bytes went.
    async fn evict_batch(&self, scope: Scope, victims: &[Use], chosen: Mono) -> Result<u64, CommitError> {
        let shared = &self.shared;
        shared.world.at(Point::BeforeEvictIndex).await;
        let Ok(permit) = shared.removals.clone().acquire_owned().await else { return Ok(0) };
        let mut locked = Vec::new();
        let mut free = Vec::new();
        for victim in victims {
            let Some((key, _)) = shared.map.named(victim.name) else {
                shared.accounts.lock().strike_out(victim.name);
                continue;
            };
            // Somebody changes it: whoever waits for him would hold up all the others, and what is put now is used.
            match self.locks.try_lock(key) {
                Some(guard) => {
                    locked.push((key, guard));
                    free.push(*victim);
                }
                None => shared.world.reached(State::EvictionBusy),
            }
        }
        let going = self.still_unused(scope, &free, locked, chosen);
        if going.is_empty() {
            return Ok(0);
        }
        let count = going.len() as u64;
        let bytes = going.iter().map(|going| going.entry.object_bytes()).sum();
        let went: Vec<_> = going.iter().map(|going| (going.key, going.entry.put_id)).collect();
        if let Err(error) = self.forget(going, permit).await {
            let mut accounts = shared.accounts.lock();
            went.into_iter().for_each(|(_, put_id)| accounts.withdraw(put_id));
            return Err(error);
        }
        went.iter().for_each(|(key, _)| self.signal(key, Signal::Evict, 1));
        shared.stats.add(Event::Evicted, count);
        shared.stats.add(Event::EvictedBytes, bytes);
        shared.world.reached(State::Evicted);
        Ok(bytes)
    }

    /// Those of `victims`, whose keys are `locked`, that may still go; of these the eviction has begun.
    fn still_unused(&self, scope: Scope, victims: &[Use], locked: Vec<(Key, KeyGuard)>, chosen: Mono) -> Vec<Going> {
        let shared = &self.shared;
        self.collect_uses();
        let mut accounts = shared.accounts.lock();
        let (unused, used) = accounts.unused_since(scope, victims);
        shared.stats.add(Event::EvictionsRefused, used as u64);
        shared.world.reached_if(used > 0, State::EvictionRefused);
        let mut going = Vec::new();
        let mut unused = unused.iter().peekable();
        for (victim, (key, guard)) in victims.iter().zip(locked) {
            if unused.next_if_eq(&victim).is_none() {
                continue;
            }
            let entry = shared.map.get(&key, NodeNum::SELF).filter(|entry| self.may_be_forgotten(entry));
            // What comes behind may be its ancestors.
            let Some(entry) = entry else { break };
            accounts.begin(entry.put_id);
            going.push(Going { key, entry, why: Reason::Evicted { chosen }, guard });
        }
        going
    }
}
