//! Prefetch: blocks that only the object tier has, and that are likely to be asked for soon, come into the local tiers
//! before somebody asks.
//!
//! It asks nothing of an object store that fails, takes no room that a reader waits for, and pushes nothing out of
//! memory: what does not fit there goes to disk only.

use super::super::Store;
use super::super::fetch::{Good, ObjectRead};
use super::{Report, Slice, bad_cursor};
use crate::index::Entry;
use crate::index::map::Cursor;
use crate::keys::{Key, NsNum};
use crate::observe::State;
use crate::world::{Clock, World};
use bettong_wire::ServiceError;
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Task};
use serde_json::json;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// Blocks that a dry run names.
const NAMED_MAX: usize = 100;
/// Slots of the index that are walked over at once.
const SLOTS_A_STEP: usize = 16_384;
/// The age at which recency counts half.
const HALF_LIFE_S: f64 = 600.0;
const STARTS_CHAIN: f64 = 0.3;
const ACTIVE_MODEL: f64 = 0.2;
/// Pause before a read that found no room is tried again: whoever waits for bytes goes first.
const ROOM_PAUSE: Duration = Duration::from_millis(10);

/// What the slices of one prefetch have done so far: their cursor.
#[derive(Clone, Copy, Default)]
struct Spent {
    bytes: u64,
    blocks: u64,
    time_us: u64,
}

impl Spent {
    fn decode(cursor: &[u8]) -> Result<Self, ServiceError> {
        if cursor.is_empty() {
            return Ok(Self::default());
        }
        let (numbers, []) = cursor.as_chunks::<8>() else { return Err(bad_cursor()) };
        let [bytes, blocks, time_us] = numbers else { return Err(bad_cursor()) };
        let [bytes, blocks, time_us] = [bytes, blocks, time_us].map(|number| u64::from_le_bytes(*number));
        Ok(Self { bytes, blocks, time_us })
    }

    fn encode(self) -> Vec<u8> {
        [self.bytes, self.blocks, self.time_us].map(u64::to_le_bytes).concat()
    }
}

/// How much a block is worth to have near; nothing for its recency where nobody knows its age.
fn score(age_s: Option<u32>, starts_chain: bool, active: bool) -> f64 {
    let recency = age_s.map_or(0.0, |age_s| (-f64::from(age_s) / HALF_LIFE_S).exp2());
    recency + if starts_chain { STARTS_CHAIN } else { 0.0 } + if active { ACTIVE_MODEL } else { 0.0 }
}

/// A block that could be fetched. Ordered by score, then by key.
struct Candidate {
    score: f64,
    age_s: Option<u32>,
    key: Key,
    entry: Entry,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.key.cmp(&self.key))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl<W: World> Store<W> {
    /// Fetches in the background, where that is configured; ends with the store.
    pub(in crate::store) fn start_prefetch(&self) {
        let every = self.shared.config.prefetch_every;
        if every.is_zero() {
            return;
        }
        let store = self.clone();
        self.shared.world.spawn(async move {
            while store.is_running() {
                store.shared.world.clock().sleep(every).await;
                let until = store.mono().plus(every / 2);
                match store.maintain(Task::Prefetch, "", &[], Slice { until, dry_run: false }).await {
                    Ok((_, report)) => tracing::debug!(fetched = report.counted("fetched"), "prefetch"),
                    Err(error) => tracing::debug!(%error, "prefetch"),
                }
            }
        });
    }

    pub(super) async fn prefetch(
        &self,
        cursor: &[u8],
        slice: Slice,
        report: &mut Report,
    ) -> Result<Vec<u8>, ServiceError> {
        let shared = &self.shared;
        let began = self.mono();
        let mut spent = Spent::decode(cursor)?;
        report.stage("blocks");
        let time_left = shared.config.prefetch_time_max.saturating_sub(Duration::from_micros(spent.time_us));
        let mut left = shared.config.prefetch_bytes.saturating_sub(spent.bytes);
        let most =
            shared.config.prefetch_blocks_max.saturating_sub(usize::try_from(spent.blocks).unwrap_or(usize::MAX));
        let chosen = self.candidates(most).await.into_iter().filter(|candidate| {
            let bytes = u64::from(candidate.entry.raw_len);
            let fits = bytes <= left;
            left -= if fits { bytes } else { 0 };
            fits
        });
        for (at, candidate) in chosen.enumerate() {
            let Candidate { key, entry, .. } = &candidate;
            if slice.dry_run {
                report.count("would_fetch");
                report.add("would_fetch_bytes", entry.raw_len.into());
                if at < NAMED_MAX {
                    self.name(&candidate, report);
                }
                continue;
            }
            if shared.objects.health.is_open() {
                report.note("the object store fails and is not asked now");
                return Ok(Vec::new());
            }
            let took = self.mono().since(began);
            if took >= time_left {
                report.note(format!("the time of a prefetch has passed ({:?})", shared.config.prefetch_time_max));
                return Ok(Vec::new());
            }
            if self.is_over(slice) {
                let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                spent.time_us = spent.time_us.saturating_add(took_us);
                return Ok(spent.encode());
            }
            let fits = shared.memory.has_room(entry.raw_len.into());
            if shared.disk.is_none() && !fits {
                report.note("memory is full, and there is no disk tier: what else were fetched could not be kept");
                return Ok(Vec::new());
            }
            let read_at = self.mono();
            let Some(_room) = shared.loads.object_now(entry) else {
                report.count("no_room");
                shared.world.clock().sleep(ROOM_PAUSE).await;
                continue;
            };
            match self.read_object(key, entry).await {
                ObjectRead::Good(Good { payload, .. }, envelope) => {
                    let current = shared.map.while_current(key, entry.node, entry.put_id, || {
                        if fits {
                            shared.memory.insert(*key, entry.put_id, payload.clone(), false);
                        }
                    });
                    if let Some(disk) = shared.disk.as_ref().filter(|_| current) {
                        disk.store_whole(shared.disk_key(key), envelope);
                    }
                    spent.bytes = spent.bytes.saturating_add(entry.raw_len.into());
                    spent.blocks = spent.blocks.saturating_add(1);
                    report.count("fetched");
                    report.add("fetched_bytes", entry.raw_len.into());
                    shared.world.reached_if(current, State::Prefetched);
                }
                ObjectRead::Bad => {
                    self.quarantine(key, entry);
                    report.count("quarantined");
                }
                ObjectRead::Gone | ObjectRead::Newer => report.count("not_there"),
                ObjectRead::Down => report.count("not_answered"),
                ObjectRead::NoRoom => report.count("no_room"),
            }
            self.rest(read_at).await;
        }
        Ok(Vec::new())
    }

    fn name(&self, candidate: &Candidate, report: &mut Report) {
        let Candidate { score, age_s, key, entry } = candidate;
        report.item(json!({
            "block": blake3::Hash::from_bytes(key.hash).to_hex().as_str(),
            "part": key.part.0,
            "namespace": self.shared.namespace_id(key.ns).to_hex(),
            "bytes": entry.raw_len,
            "age_s": age_s,
            "starts_chain": starts_chain(entry),
            "score": (score * 1000.0).round() / 1000.0,
        }));
    }

    /// The `most` best blocks that no local tier has, best first. Rests between its steps: an index may hold millions.
    async fn candidates(&self, most: usize) -> Vec<Candidate> {
        let shared = &self.shared;
        let (now, wall_ms) = (shared.stamp(), shared.wall_ms());
        let active = shared.active();
        let mut best: BinaryHeap<Reverse<Candidate>> = BinaryHeap::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let began = self.mono();
            cursor = shared.map.walk(at, SLOTS_A_STEP, |key, entry| {
                if let Some(candidate) = self.candidate_of(key, entry, now, wall_ms, active) {
                    best.push(Reverse(candidate));
                    if best.len() > most {
                        best.pop();
                    }
                }
                true
            });
            if cursor.is_some() {
                self.rest(began).await;
            }
        }
        best.into_sorted_vec().into_iter().map(|Reverse(candidate)| candidate).collect()
    }

    fn candidate_of(&self, key: Key, entry: Entry, now: u32, wall_ms: u64, active: Option<NsNum>) -> Option<Candidate> {
        let shared = &self.shared;
        let far = key.kind == Kind::Block && entry.level == Level::Object;
        if !far || entry.quarantined || entry.is_expired(wall_ms) || shared.memory.contains(entry.put_id) {
            return None;
        }
        if shared.disk.as_ref().is_some_and(|disk| disk.may_contain(&shared.disk_key(&key))) {
            return None;
        }
        // Of a block that several nodes have, the version that a get would read.
        let readable = |held: &&Entry| !held.quarantined && !held.is_expired(wall_ms);
        let first = shared.map.versions(&key).iter().find(readable).map(|first| first.put_id);
        // A stamp of 0 says that nothing is known.
        let used_at = Some(shared.map.accessed(&key, entry.node)?).filter(|stamp| *stamp > 0);
        let age_s = used_at.map(|stamp| now.saturating_sub(stamp));
        let score = score(age_s, starts_chain(&entry), active == Some(key.ns));
        (first == Some(entry.put_id)).then_some(Candidate { score, age_s, key, entry })
    }
}

fn starts_chain(entry: &Entry) -> bool {
    entry.sequence == 0 && entry.parent_tag == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_design() {
        let near = |score: f64, expected: f64| (score - expected).abs() < 1e-9;
        assert!(near(score(Some(0), false, false), 1.0));
        assert!(near(score(Some(600), false, false), 0.5));
        assert!(near(score(Some(1200), true, false), 0.55));
        assert!(near(score(Some(600), true, true), 1.0));
        assert!(score(Some(u32::MAX), false, false) >= 0.0);
        assert!(near(score(None, true, false), 0.3));
    }
}
