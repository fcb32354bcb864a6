//! Getting values: memory, then disk, then object, promoting upward. A hit is right or it is a miss with its reason.

use super::Store;
use super::fetch::{Fetched, Good};
use crate::index::{Entry, InPack, NodeNum};
use crate::keys::Key;
use crate::observe::State;
use crate::race::timeout;
use crate::service::Deadline;
use crate::stats::Timed;
use crate::world::{Clock, Mono, World};
use bettong_wire::request::{Level, Tier};
use bettong_wire::{MissReason, Payload, PutId};
use std::cell::LazyCell;
use std::time::Duration;

/// How a read ended.
#[derive(Clone, Debug)]
pub enum ReadOutcome {
    Hit { payload: Payload, entry: Entry, tier: Tier },
    Miss(MissReason),
}

/// How long a caller waits for a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    pub deadline: Deadline,
    /// The read is declined at once when it is expected to take longer. Memory hits are never declined.
    pub decline_over: Option<Duration>,
}

impl From<Deadline> for Patience {
    fn from(deadline: Deadline) -> Self {
        Self { deadline, decline_over: None }
    }
}

/// One copy of a write in the object store: of a write whose pack was rewritten, nodes may name several.
type Copied = (PutId, Option<InPack>);

fn copied(entry: &Entry) -> Copied {
    (entry.put_id, entry.in_pack)
}

/// Times that one read follows its version from one place to the next.
pub(super) const MOVES_MAX: u32 = 8;

impl<W: World> Store<W> {
    /// Reads one value, whole, before its caller's patience ends.
    pub async fn get(&self, key: &Key, patience: impl Into<Patience>) -> ReadOutcome {
        let shared = &self.shared;
        let began = shared.world.clock().mono();
        shared.set_active(key.ns);
        let outcome = self.read(key, patience.into()).await;
        self.count_read(key, &outcome, began);
        outcome
    }

    /// What `get` finds, where that is in memory.
    pub fn hit_in_memory(&self, key: &Key) -> Option<ReadOutcome> {
        let shared = &self.shared;
        let began = shared.world.clock().mono();
        if shared.fate.borrow().is_some() {
            return None;
        }
        let entry = self.candidate(key, &[]).ok()?;
        let payload = shared.memory.get(entry.put_id)?;
        shared.set_active(key.ns);
        let outcome = ReadOutcome::Hit { payload, entry, tier: Tier::Memory };
        self.count_read(key, &outcome, began);
        Some(outcome)
    }

    fn count_read(&self, key: &Key, outcome: &ReadOutcome, began: Mono) {
        let shared = &self.shared;
        let elapsed = shared.world.clock().mono().since(began);
        match outcome {
            ReadOutcome::Hit { payload, tier, .. } => {
                shared.used(key);
                shared.stats.hit(*tier, payload.len() as u64);
                let (what, state) = match tier {
                    Tier::Memory => (Timed::GetMemory, State::HitMemory),
                    Tier::Disk => (Timed::GetDisk, State::HitDisk),
                    Tier::Object => (Timed::GetObject, State::HitObject),
                };
                shared.world.reached(state);
                shared.stats.timed(what, elapsed);
            }
            ReadOutcome::Miss(reason) => {
                shared.stats.miss(*reason);
                shared.world.reached_if(*reason == MissReason::Expired, State::Expired);
                shared.stats.timed(Timed::GetMiss, elapsed);
            }
        }
    }

    async fn read(&self, key: &Key, patience: Patience) -> ReadOutcome {
        let shared = &self.shared;
        if shared.fate.borrow().is_some() {
            return ReadOutcome::Miss(MissReason::TierDown);
        }
        let mut tried: Vec<Copied> = Vec::new();
        let mut failed: Option<MissReason> = None;
        let mut gone = 0;
        loop {
            let entry = match self.candidate(key, &tried) {
                Ok(entry) => entry,
                Err(reason) => return ReadOutcome::Miss(failed.unwrap_or(reason)),
            };
            if let Some(payload) = shared.memory.get(entry.put_id) {
                return ReadOutcome::Hit { payload, entry, tier: Tier::Memory };
            }
            if self.declines(key, &entry, patience.decline_over) {
                shared.world.reached(State::Declined);
                return ReadOutcome::Miss(failed.unwrap_or(MissReason::Declined));
            }
            // In a place of its own: a hit in memory would have to make room for it.
            match Box::pin(self.board(key, &entry, patience.deadline)).await {
                None => {
                    shared.world.reached(State::DeadlineDetached);
                    return ReadOutcome::Miss(MissReason::Deadline);
                }
                Some(Fetched::Good(good)) => {
                    shared.world.reached_if(entry.node != NodeNum::SELF, State::HitPeer);
                    if entry.node != NodeNum::SELF {
                        self.heal_own(key, &entry, &good);
                    }
                    let Good { payload, tier, .. } = good;
                    return ReadOutcome::Hit { payload, entry, tier };
                }
                // The map has changed: it may name the same write at another place by now.
                Some(Fetched::Gone) if gone < MOVES_MAX => {
                    gone += 1;
                    continue;
                }
                Some(Fetched::Gone) => {}
                Some(other) => failed = Some(failed.map_or(other.reason(), |worst| worst.max(other.reason()))),
            }
            tried.push(copied(&entry));
        }
    }

    /// The version to read: this node's first, else another node's; or why there is none.
    fn candidate(&self, key: &Key, tried: &[Copied]) -> Result<Entry, MissReason> {
        let shared = &self.shared;
        let wall_ms = LazyCell::new(|| shared.wall_ms());
        let is_expired = |entry: &Entry| entry.is_expired_by(|| *wall_ms);
        let readable = |entry: &Entry| !entry.quarantined && !is_expired(entry) && !tried.contains(&copied(entry));
        // The common case without an allocation.
        if let Some(own) = shared.map.get(key, NodeNum::SELF).filter(readable) {
            return Ok(own);
        }
        let versions = shared.map.versions(key);
        if let Some(entry) = versions.iter().find(|entry| readable(entry)) {
            return Ok(*entry);
        }
        if versions.iter().any(|entry| entry.quarantined) {
            return Err(MissReason::Corrupt);
        }
        if versions.iter().any(is_expired) {
            return Err(MissReason::Expired);
        }
        let evicted = shared.ghosts.lock().contains(key);
        Err(if evicted { MissReason::Evicted } else { MissReason::Absent })
    }

    /// Whether the caller would rather not have the value than wait for it as long as it is expected to take.
    fn declines(&self, key: &Key, entry: &Entry, decline_over: Option<Duration>) -> bool {
        let shared = &self.shared;
        let Some(limit) = decline_over.filter(|_| entry.level > Level::Memory) else { return false };
        let tier = if self.local_copy(key, entry) { Tier::Disk } else { Tier::Object };
        shared.estimates.declines(tier, entry.stored_len.into(), limit, shared.world.clock().mono())
    }

    /// Joins or starts the flight of one version and waits for it until the deadline; `None` when that passes first. The
    /// flight goes on without its waiters.
    async fn board(&self, key: &Key, entry: &Entry, deadline: Deadline) -> Option<Fetched> {
        let world = &self.shared.world;
        let left = deadline.0.since(world.clock().mono());
        if left.is_zero() {
            return None;
        }
        let (seat, pilot) = self.shared.flights.join(entry.put_id);
        match pilot {
            Some(pilot) => {
                let (store, key, entry) = (self.clone(), *key, *entry);
                world.spawn(async move {
                    let fetched = store.fetch(&key, &entry, || pilot.goes_on()).await;
                    store.shared.world.reached_if(!pilot.has_passengers(), State::FlightOutlivedWaiter);
                    pilot.land(fetched);
                });
            }
            None => world.reached(State::FlightShared),
        }
        let landed = timeout(world, left, seat.landed()).await?;
        Some(landed.unwrap_or(Fetched::Down))
    }
}
