//! O12: what a daemon counts is what its doors saw it answer.
//!
//! A tally of one life is kept at the doors: what is certain, and what requests that are still under way, were given up or
//! ended in an error may have counted besides. The daemon's numbers must lie between the two.

use super::{Verdict, no};
use crate::workload::PARTS;
use bettong_wire::request::{Level, Request, Target};
use bettong_wire::response::{Answer, Hit, ItemOutcome, Outcome, Stored};
use bettong_wire::{MissReason, PutId, Response};
use std::collections::{BTreeMap, BTreeSet};

/// A number of the STATS document, by its place in it.
type Counter = String;
type Counts = BTreeMap<Counter, u64>;

/// Keys of which a life may say that an upload is due; more are forgotten.
const DUE_MAX: usize = 4096;

fn hits(tier: &str) -> Counter {
    format!("/hits/{tier}/count")
}

fn hit_bytes(tier: &str) -> Counter {
    format!("/hits/{tier}/bytes")
}

fn misses(reason: &str) -> Counter {
    format!("/misses/{reason}")
}

fn event(name: &str) -> Counter {
    format!("/events/{name}")
}

fn reads() -> impl Iterator<Item = Counter> {
    let tiers = bettong_wire::request::Tier::ALL.iter().map(|tier| hits(tier.as_str()));
    tiers.chain(MissReason::ALL.iter().map(|reason| misses(reason.as_str())))
}

/// What one request may make its daemon count.
#[derive(Debug, Clone, Default)]
pub struct Stake {
    reads: u64,
    puts: u64,
    put_bytes: u64,
    deletes: u64,
    hashes: u64,
    level: Option<Level>,
    /// What it writes, journaled or not.
    targets: Vec<Target>,
}

impl Stake {
    pub fn of(request: &Request) -> Self {
        let none = Self::default();
        match request {
            Request::Get(_) | Request::GetSidecar(_) => Self { reads: 1, ..none },
            Request::GetMany(get) => Self { reads: get.targets.len() as u64, ..none },
            Request::GetBlocks(get) => Self { reads: get.keys.len() as u64, ..none },
            Request::Restore(restore) => Self { reads: restore.keys.len() as u64, ..none },
            Request::Put(put) => {
                Self { puts: 1, put_bytes: put.len, level: Some(put.level), targets: vec![put.target.clone()], ..none }
            }
            Request::PutSidecar(put) => Self {
                puts: 1,
                put_bytes: put.len,
                level: Some(put.level),
                targets: vec![Target::Sidecar(put.key)],
                ..none
            },
            Request::PutBlocks(batch) => Self {
                puts: batch.blocks.len() as u64,
                put_bytes: batch.blocks.iter().map(|block| block.len).sum(),
                level: Some(batch.level),
                targets: batch.blocks.iter().map(|block| Target::Block(block.key)).collect(),
                ..none
            },
            Request::Delete(delete) => Self { deletes: 1, targets: vec![delete.target.clone()], ..none },
            Request::RestoreChain(restore) => {
                let hashes = restore.hashes.len() as u64;
                let values = hashes * PARTS.len() as u64 + u64::from(restore.sidecar.is_some());
                Self { reads: values, hashes, ..none }
            }
            Request::LookupBlockPrefix(lookup) => Self { hashes: lookup.hashes.len() as u64, ..none },
            _ => none,
        }
    }

    /// Everything that it may have counted, whatever became of it.
    fn doubts(&self) -> Counts {
        let mut doubts = Counts::new();
        let mut add = |counter: Counter, count: u64| {
            if count > 0 {
                *doubts.entry(counter).or_default() += count;
            }
        };
        reads().for_each(|counter| add(counter, self.reads));
        for tier in bettong_wire::request::Tier::ALL {
            // No payload of a run is longer.
            add(hit_bytes(tier.as_str()), self.reads << 32);
        }
        add(READS.to_owned(), self.reads);
        add(event("puts_stored"), self.puts);
        add(event("puts_already_stored"), self.puts);
        add(event("puts_failed_or_unknown"), self.puts.min(1));
        add(event("put_bytes"), self.put_bytes);
        if self.level == Some(Level::Journal) {
            add(JOURNALED.to_owned(), self.puts);
        }
        add(event("deleted"), self.deletes);
        add(event("lookup_blocks_asked"), self.hashes);
        add(event("lookup_blocks_found"), self.hashes);
        doubts
    }
}

/// Puts that the journal holds or held; the daemon has no number for them.
const JOURNALED: &str = "journaled";
/// Hits and misses together.
const READS: &str = "reads";

/// What the doors saw of one life of a daemon.
#[derive(Debug, Default)]
pub struct Tally {
    sure: Counts,
    doubt: Counts,
    under_way: BTreeMap<u64, Stake>,
    begun: u64,
    /// Versions that came from a tier below memory: each was verified once at least.
    verified: BTreeSet<PutId>,
    /// What was journaled last of all that was written under its name.
    due: BTreeSet<Target>,
}

impl Tally {
    /// A request comes in; answers its number.
    pub fn begin(&mut self, stake: Stake) -> u64 {
        self.due.retain(|target| !stake.targets.contains(target));
        self.begun += 1;
        self.under_way.insert(self.begun, stake);
        self.begun
    }

    /// Nobody waits for it any more.
    pub fn give_up(&mut self, number: u64) {
        if let Some(stake) = self.under_way.remove(&number) {
            self.doubt(&stake);
        }
    }

    /// It is answered.
    pub fn end(&mut self, number: u64, response: &Response) {
        let Some(stake) = self.under_way.remove(&number) else { return };
        match &response.outcome {
            // How many of a chain were read, it does not say.
            _ if stake.hashes > 0 && stake.reads > 0 => self.doubt(&stake),
            Outcome::Ok(Answer::Hit(hit)) => self.hit(hit),
            Outcome::Miss(reason) if stake.reads == 1 => self.miss(*reason),
            Outcome::Ok(Answer::Items(items)) if items.len() as u64 == stake.reads => {
                for item in items {
                    match item {
                        ItemOutcome::Hit(hit) => self.hit(hit),
                        ItemOutcome::Miss(reason) => self.miss(*reason),
                    }
                }
            }
            // The leading ones, or the count, or the reason of one: all were read.
            Outcome::Ok(Answer::Items(_) | Answer::Warmed { .. }) | Outcome::Miss(_) => {
                self.doubt(&stake);
                self.sure(READS.to_owned(), stake.reads);
                self.undoubt(READS, stake.reads);
            }
            Outcome::Ok(Answer::Stored(stored)) => self.stored(&stake, std::slice::from_ref(stored)),
            Outcome::Ok(Answer::StoredBatch(stored)) => self.stored(&stake, stored),
            Outcome::Ok(Answer::Removed { count }) if stake.deletes > 0 => self.sure(event("deleted"), *count),
            Outcome::Ok(Answer::Prefix { blocks }) => {
                self.sure(event("lookup_blocks_asked"), stake.hashes);
                self.sure(event("lookup_blocks_found"), u64::from(*blocks));
            }
            _ => self.doubt(&stake),
        }
    }

    fn sure(&mut self, counter: Counter, count: u64) {
        *self.sure.entry(counter).or_default() += count;
    }

    fn doubt(&mut self, stake: &Stake) {
        for (counter, count) in stake.doubts() {
            *self.doubt.entry(counter).or_default() += count;
        }
    }

    fn undoubt(&mut self, counter: &str, count: u64) {
        if let Some(doubt) = self.doubt.get_mut(counter) {
            *doubt = doubt.saturating_sub(count);
        }
    }

    fn hit(&mut self, hit: &Hit) {
        let tier = hit.tier;
        self.sure(hits(tier.as_str()), 1);
        self.sure(hit_bytes(tier.as_str()), hit.total_len);
        self.sure(READS.to_owned(), 1);
        if tier != bettong_wire::request::Tier::Memory {
            self.verified.insert(hit.put_id);
        }
    }

    fn miss(&mut self, reason: MissReason) {
        self.sure(misses(reason.as_str()), 1);
        self.sure(READS.to_owned(), 1);
    }

    fn stored(&mut self, stake: &Stake, stored: &[Stored]) {
        let fresh = stored.iter().filter(|stored| !stored.already).count() as u64;
        let already = stored.len() as u64 - fresh;
        self.sure(event("puts_stored"), fresh);
        self.sure(event("puts_already_stored"), already);
        // How long the fresh ones are is not said.
        if already == 0 {
            self.sure(event("put_bytes"), stake.put_bytes);
        } else if fresh > 0 {
            *self.doubt.entry(event("put_bytes")).or_default() += stake.put_bytes;
        }
        if stake.level != Some(Level::Journal) {
            return;
        }
        self.sure(JOURNALED.to_owned(), fresh);
        let elsewhere = |target: &Target| self.under_way.values().any(|other| other.targets.contains(target));
        let due = stake.targets.iter().zip(stored).filter(|(target, stored)| !stored.already && !elsewhere(target));
        let due: Vec<Target> = due.map(|(target, _)| target.clone()).collect();
        if self.due.len() + due.len() <= DUE_MAX {
            self.due.extend(due);
        }
    }

    /// Judges a STATS document that was made in this moment. `heals` says that the daemon may have put copies of its own.
    /// Says whether every number was certain.
    pub fn judge(&self, daemon: &str, stats: &serde_json::Value, heals: bool) -> Result<bool, super::No> {
        let mut doubt = self.doubt.clone();
        for (counter, count) in self.under_way.values().flat_map(Stake::doubts) {
            *doubt.entry(counter).or_default() += count;
        }
        let number = |counter: &str| stats.pointer(counter).and_then(serde_json::Value::as_u64);
        let said = |counter: &str| match counter {
            READS => reads().map(|counter| number(&counter)).sum(),
            _ => number(counter),
        };
        let known: BTreeSet<&Counter> = self.sure.keys().chain(doubt.keys()).collect();
        let everything = known.into_iter().map(String::as_str).filter(|counter| *counter != JOURNALED);
        for counter in everything.chain(reads().collect::<Vec<_>>().iter().map(String::as_str)) {
            let Some(said) = said(counter) else {
                return Err(super::No { oracle: "O12", what: format!("{daemon}: STATS has no {counter}") });
            };
            let least = self.sure.get(counter).copied().unwrap_or(0);
            let healed = heals && counter.starts_with("/events/put");
            let most = if healed { u64::MAX } else { least + doubt.get(counter).copied().unwrap_or(0) };
            if !(least..=most).contains(&said) {
                let what = format!("{daemon}: {counter} is {said}, and its doors saw {least} to {most}");
                return Err(super::No { oracle: "O12", what });
            }
        }
        self.judge_background(daemon, &doubt, number)?;
        Ok(doubt.values().all(|doubt| *doubt == 0))
    }

    /// What the store does by itself, as far as the doors can tell.
    fn judge_background(&self, daemon: &str, doubt: &Counts, number: impl Fn(&str) -> Option<u64>) -> Verdict {
        let said = |counter: &str| number(counter).unwrap_or(0);
        let verified = said("/events/verified");
        if verified < self.verified.len() as u64 {
            let served = self.verified.len();
            return no("O12", format!("{daemon}: {verified} payloads were verified, {served} were served from below"));
        }
        let uploaded = said("/events/uploaded");
        let journaled = [&self.sure, doubt].iter().filter_map(|counts| counts.get(JOURNALED)).sum::<u64>();
        let journaled = journaled + said("/recovery/replayed");
        if uploaded > journaled {
            return no(
                "O12",
                format!("{daemon}: {uploaded} puts were uploaded, {journaled} were journaled or replayed"),
            );
        }
        let drained = number("/journal/backlog_puts") == Some(0);
        if drained && uploaded < self.due.len() as u64 {
            let due = self.due.len();
            return no("O12", format!("{daemon}: nothing is left to upload, {uploaded} puts were, {due} had to be"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::request::{Get, NsHandle, Put, ReadLimits, Tier};
    use serde_json::json;

    fn get() -> Stake {
        let (target, limits) = (Target::Plain("k".to_owned()), ReadLimits::default());
        Stake::of(&Request::Get(Get { ns: NsHandle(0), target, range: None, limits }))
    }

    fn put(level: Level) -> Stake {
        let target = Target::Plain("k".to_owned());
        let put = Put { ns: NsHandle(0), target, level, ttl_ms: 0, parent: None, sequence: 0, len: 10 };
        Stake::of(&Request::Put(put))
    }

    fn hit() -> Response {
        let put_id = PutId { life: 1, counter: 1 };
        Response::ok(Answer::Hit(Hit { total_len: 10, put_id, tier: Tier::Disk, expires_at_ms: 0 }))
    }

    /// A document of these hits on disk and these misses `absent`.
    fn stats(disk: u64, absent: u64) -> serde_json::Value {
        let mut document = json!({
            "hits": { "memory": { "count": 0, "bytes": 0 }, "object": { "count": 0, "bytes": 0 } },
            "misses": {},
            "events": { "verified": disk, "puts_stored": 1, "puts_already_stored": 0, "puts_failed_or_unknown": 0,
                "put_bytes": 10, "uploaded": 0 },
            "journal": { "backlog_puts": 0 },
        });
        document["hits"]["disk"] = json!({ "count": disk, "bytes": disk * 10 });
        for reason in MissReason::ALL {
            document["misses"][reason.as_str()] = 0.into();
        }
        document["misses"]["absent"] = absent.into();
        document
    }

    #[test]
    fn numbers_are_exact_and_doubts_are_bounded() {
        let mut tally = Tally::default();
        let number = tally.begin(get());
        tally.end(number, &hit());
        let stored = Stored { put_id: PutId { life: 1, counter: 1 }, already: false };
        let number = tally.begin(put(Level::Object));
        tally.end(number, &Response::ok(Answer::Stored(stored)));
        assert_eq!(tally.judge("d", &stats(1, 0), false), Ok(true));
        for wrong in [stats(2, 0), stats(0, 1), stats(1, 1)] {
            assert!(tally.judge("d", &wrong, false).is_err(), "{wrong}");
        }
        let number = tally.begin(get());
        tally.give_up(number);
        for right in [stats(1, 0), stats(2, 0), stats(1, 1)] {
            assert_eq!(tally.judge("d", &right, false), Ok(false), "{right}");
        }
        assert!(tally.judge("d", &stats(2, 1), false).is_err(), "one request is no two reads");
        let mut unverified = stats(1, 0);
        unverified["events"]["verified"] = 0.into();
        assert!(tally.judge("d", &unverified, false).is_err());
    }

    #[test]
    fn what_is_journaled_last_is_uploaded() {
        let mut tally = Tally::default();
        let stored = |counter| Stored { put_id: PutId { life: 1, counter }, already: false };
        let number = tally.begin(put(Level::Journal));
        tally.end(number, &Response::ok(Answer::Stored(stored(1))));
        assert!(tally.judge("d", &stats(0, 0), false).is_err_and(|no| no.what.contains("had to be")));
        let mut busy = stats(0, 0);
        busy["journal"]["backlog_puts"] = 1.into();
        assert_eq!(tally.judge("d", &busy, false), Ok(true));
        let number = tally.begin(put(Level::Object));
        tally.give_up(number);
        assert_eq!(tally.judge("d", &stats(0, 0), false), Ok(false), "replaced, perhaps");
    }
}
