//! Removing what is past its time. It is hidden at once; its bytes go only when the wall clock has said so for long,
//! by a clock that does not jump: whoever sets the wall clock by mistake has that time to set it right.

use super::Store;
use super::forget::Going;
use crate::index::NodeNum;
use crate::index::map::Cursor;
use crate::keys::Key;
use crate::observe::{Reason, State};
use crate::stats::Event;
use crate::world::{Clock, Mono, World};
use bettong_wire::PutId;
use bettong_wire::request::Level;
use std::collections::BTreeMap;

/// Slots of the map that one round looks at: a round is short, and an index of 16 million is seen within 40 minutes.
const SLOTS_A_ROUND: usize = 65_536;
/// Values past their time that are watched at once; more are found when these are gone.
const WATCHED_MAX: usize = 65_536;
/// Values that go at once.
const BATCH: usize = 64;

/// Values that are past their time.
#[derive(Default)]
struct Watch {
    cursor: Cursor,
    /// Each version, and since when the wall clock has said so at every look.
    since: BTreeMap<Key, (PutId, Mono)>,
}

impl<W: World> Store<W> {
    /// Starts the walk; it ends with the store.
    pub(super) fn start_expiry(&self) {
        let store = self.clone();
        self.shared.spawn_vital("the walk for what is expired", async move {
            let mut watch = Watch::default();
            while store.is_running() {
                store.watch_expired(&mut watch);
                store.remove_expired(&mut watch).await;
                store.shared.world.clock().sleep(store.shared.config.expiry_walk_every).await;
            }
        });
    }

    fn watch_expired(&self, watch: &mut Watch) {
        let shared = &self.shared;
        let (wall_ms, now) = (shared.wall_ms(), shared.world.clock().mono());
        watch.since.retain(|key, (put_id, _)| {
            let held = shared.map.get(key, NodeNum::SELF);
            held.is_some_and(|held| held.put_id == *put_id && held.is_expired(wall_ms))
        });
        let next = shared.map.walk(watch.cursor, SLOTS_A_ROUND, |key, entry| {
            if entry.node == NodeNum::SELF && entry.is_expired(wall_ms) && watch.since.len() < WATCHED_MAX {
                watch.since.entry(key).or_insert((entry.put_id, now));
            }
            true
        });
        watch.cursor = next.unwrap_or_default();
    }

    /// Removes what has been past its time for long enough.
    async fn remove_expired(&self, watch: &mut Watch) {
        let shared = &self.shared;
        let patience = shared.config.expiry_patience;
        let now = shared.world.clock().mono();
        let due = watch.since.iter().filter(|(_, (_, since))| now.since(*since) >= patience);
        let due: Vec<(Key, PutId)> = due.map(|(key, (put_id, _))| (*key, *put_id)).collect();
        for batch in due.chunks(BATCH) {
            let Ok(permit) = shared.removals.clone().acquire_owned().await else { return };
            let wall_ms = shared.wall_ms();
            let mut going = Vec::new();
            for (key, put_id) in batch {
                // Somebody changes it: it is looked at again.
                let Some(guard) = self.locks.try_lock(*key) else { continue };
                let held = shared.map.get(key, NodeNum::SELF);
                let held = held.filter(|held| held.put_id == *put_id && held.is_expired(wall_ms));
                match held {
                    Some(held) if held.level == Level::Memory => drop(shared.hide_entry(key, NodeNum::SELF, *put_id)),
                    Some(entry) if self.may_be_forgotten(&entry) => {
                        going.push(Going { key: *key, entry, why: Reason::Expired, guard });
                    }
                    _ => {}
                }
            }
            let count = going.len() as u64;
            if count == 0 {
                continue;
            }
            if let Err(error) = self.forget(going, permit).await {
                return tracing::warn!(%error, "expired values are still in the index; they are removed later");
            }
            shared.stats.add(Event::ExpiredRemoved, count);
            shared.world.reached(State::ExpiredRemoved);
        }
    }
}
