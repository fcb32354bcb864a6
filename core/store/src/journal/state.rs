//! What the journal holds, by what its records say. One function applies a record, for the writer after a sync and for
//! recovery alike, so that what was acknowledged is what is replayed.

use super::record::{HeadRecord, PutRecord, Record, Version};
use crate::index::rows::ValueKey;
use crate::life::Life;
use bettong_wire::PutId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a record stands, and the body that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub sequence: u64,
    pub segment: u64,
    /// Where the body begins in the segment's file; of no meaning without one.
    pub offset: u64,
}

/// A put that is not yet in the object store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingPut {
    pub place: Place,
    pub record: PutRecord,
}

/// What waits to be brought to the object store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pending {
    Put(Arc<PendingPut>),
    Head(Arc<HeadRecord>),
}

impl Pending {
    pub fn version(&self) -> Version {
        match self {
            Self::Put(put) => put.record.version(),
            Self::Head(head) => head.version,
        }
    }

    /// Stored bytes that are to be uploaded.
    pub fn len(&self) -> u64 {
        match self {
            Self::Put(put) => put.record.header.stored_len,
            Self::Head(_) => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is not yet in the object store.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Backlog {
    pub puts: u64,
    pub heads: u64,
    /// Stored bytes of the puts.
    pub bytes: u64,
}

/// One segment that is on disk.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Segment {
    /// Pending puts and heads, puts of groups that are not committed, and groups that begin here, end in a later segment
    /// and are pending.
    live: u64,
    /// Put and head records, dead or alive.
    records: u64,
    /// Keys that a put of this segment wrote.
    keys: Vec<ValueKey>,
}

/// The newest put of a key in the segments that are on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    segment: u64,
    version: Version,
    /// Where it is pending; zero where it is not.
    sequence: u64,
}

/// What the journal holds. Grows with the records of the segments on disk, which `JournalConfig::records_max` bounds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct JournalState {
    pending: BTreeMap<u64, Item>,
    by_put: BTreeMap<PutId, u64>,
    keys: BTreeMap<ValueKey, Held>,
    /// Puts of the groups that are not committed.
    groups: BTreeMap<u64, Vec<PendingPut>>,
    /// Committed groups of several segments of which something is pending, by the sequence number of their commit.
    spans: BTreeMap<u64, Span>,
    segments: BTreeMap<u64, Segment>,
    backlog: Backlog,
    records: u64,
    life: Option<Life>,
    /// The lives that began the segments that are on disk.
    lives: BTreeMap<u64, Life>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Item {
    segment: u64,
    what: Pending,
    /// The span that it belongs to.
    span: Option<u64>,
}

/// A commit counts its puts: a recovery must find all of them as long as one is pending.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Span {
    /// The segment of its first put, which stays.
    first: u64,
    pending: u64,
}

impl JournalState {
    /// Applies one record. Records come in the order of their sequence numbers, whole batches at a time.
    pub fn apply(&mut self, place: Place, record: &Record) {
        match record {
            Record::Put(put) => self.put(PendingPut { place, record: put.clone() }),
            Record::Commit { group, puts } => self.commit(place, *group, *puts),
            Record::Delete { key, horizon, .. } => self.supersede(key, *horizon, Reach::UpTo),
            Record::Overwrite { key, version, .. } => self.supersede(key, *version, Reach::Before),
            Record::Head(head) => self.head(place, head),
            Record::UploadDone { put_id } => self.done(*put_id),
            Record::Segment { life, .. } => self.begin_segment(place.segment, *life),
            Record::Void { .. } | Record::Mark => {}
        }
    }

    fn begin_segment(&mut self, number: u64, life: Life) {
        self.segments.entry(number).or_default();
        self.lives.insert(number, life);
        // A group that its own life did not commit is committed by nobody.
        if self.life.replace(life) != Some(life) {
            self.abandon_groups();
        }
    }

    fn put(&mut self, put: PendingPut) {
        self.record_in(put.place.segment);
        match put.record.group {
            0 => self.show(put, None),
            group => self.groups.entry(group).or_default().push(put),
        }
    }

    fn commit(&mut self, place: Place, group: u64, count: u32) {
        let puts = self.groups.remove(&group).unwrap_or_default();
        if puts.len() as u64 != u64::from(count) {
            puts.into_iter().for_each(|put| self.release(put.place.segment));
            return;
        }
        let first = puts.first().map_or(place.segment, |put| put.place.segment);
        let span = (first != place.segment).then_some(place.sequence);
        if let Some(span) = span {
            self.hold(first);
            // Held by one put that is none until all are shown: they may supersede one another.
            self.spans.insert(span, Span { first, pending: 1 });
        }
        puts.into_iter().for_each(|put| self.show(put, span));
        self.leave(span);
    }

    /// One put of a span less is pending.
    fn leave(&mut self, span: Option<u64>) {
        let Some((number, span)) = span.and_then(|number| Some((number, self.spans.get_mut(&number)?))) else { return };
        span.pending -= 1;
        if span.pending == 0 {
            let first = span.first;
            self.spans.remove(&number);
            self.release(first);
        }
    }

    /// Makes a put visible: it supersedes what the journal held of its key.
    fn show(&mut self, put: PendingPut, span: Option<u64>) {
        let (key, version) = (put.record.key(), put.record.version());
        let Place { sequence, segment, .. } = put.place;
        if self.keys.get(&key).is_some_and(|held| held.version >= version) || sequence == 0 {
            self.release(segment);
            return;
        }
        self.supersede(&key, version, Reach::Before);
        if let Some(held) = self.segments.get_mut(&segment) {
            held.keys.push(key);
        }
        self.keys.insert(key, Held { segment, version, sequence });
        self.backlog.puts += 1;
        self.backlog.bytes += put.record.header.stored_len;
        if let Some(span) = span.and_then(|span| self.spans.get_mut(&span)) {
            span.pending += 1;
        }
        self.insert(sequence, Item { segment, what: Pending::Put(Arc::new(put)), span });
    }

    fn head(&mut self, place: Place, head: &HeadRecord) {
        self.record_in(place.segment);
        self.backlog.heads += 1;
        let what = Pending::Head(Arc::new(head.clone()));
        self.insert(place.sequence, Item { segment: place.segment, what, span: None });
    }

    fn record_in(&mut self, segment: u64) {
        self.hold(segment);
        self.segments.entry(segment).or_default().records += 1;
        self.records += 1;
    }

    fn insert(&mut self, sequence: u64, item: Item) {
        self.by_put.insert(item.what.version().put_id, sequence);
        self.pending.insert(sequence, item);
    }

    fn supersede(&mut self, key: &ValueKey, version: Version, reach: Reach) {
        let Some(held) = self.keys.get_mut(key) else { return };
        let reached = match reach {
            Reach::UpTo => held.version <= version,
            Reach::Before => held.version < version,
        };
        if reached && held.sequence != 0 {
            let sequence = std::mem::take(&mut held.sequence);
            self.take(sequence);
        }
    }

    fn done(&mut self, put_id: PutId) {
        let Some(sequence) = self.by_put.get(&put_id).copied() else { return };
        if let Some(Pending::Put(put)) = self.take(sequence)
            && let Some(held) = self.keys.get_mut(&put.record.key())
            && held.sequence == sequence
        {
            held.sequence = 0;
        }
    }

    /// What was pending at `sequence` is so no more.
    fn take(&mut self, sequence: u64) -> Option<Pending> {
        let Item { segment, what, span } = self.pending.remove(&sequence)?;
        self.by_put.remove(&what.version().put_id);
        self.release(segment);
        self.leave(span);
        match what {
            Pending::Put(_) => self.backlog.puts -= 1,
            Pending::Head(_) => self.backlog.heads -= 1,
        }
        self.backlog.bytes -= what.len();
        Some(what)
    }

    fn hold(&mut self, segment: u64) {
        self.segments.entry(segment).or_default().live += 1;
    }

    fn release(&mut self, segment: u64) {
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live -= 1;
        }
    }

    /// Gives up the groups that are not committed: nobody will commit them.
    pub(super) fn abandon_groups(&mut self) {
        for put in std::mem::take(&mut self.groups).into_values().flatten() {
            self.release(put.place.segment);
        }
    }

    /// The first segment that must stay: it, or an older one, has something that lives, or it is `current`.
    pub(super) fn first_live(&self, current: u64) -> u64 {
        let live = self.segments.iter().find(|(_, segment)| segment.live > 0);
        live.map_or(current, |(number, _)| current.min(*number))
    }

    /// Forgets the segments before `number`: their files are dead.
    pub(super) fn forget_before(&mut self, number: u64) {
        self.lives = self.lives.split_off(&number);
        let kept = self.segments.split_off(&number);
        for (number, segment) in std::mem::replace(&mut self.segments, kept) {
            self.records -= segment.records;
            for key in segment.keys {
                if self.keys.get(&key).is_some_and(|held| held.segment == number) {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// Whether a run of the process with these random bits began one of the segments on disk.
    pub fn knows(&self, life: u64) -> bool {
        self.lives.values().any(|known| known.life == life)
    }

    /// Where a salvage wrote the oldest segments on disk: the ordinal of the first life that went on from them.
    pub fn salvaged_before(&self) -> Option<u64> {
        let salvaged = self.lives.values().any(|life| life.ordinal == 0);
        let first = self.lives.values().map(|life| life.ordinal).filter(|ordinal| *ordinal > 0).min();
        salvaged.then(|| first.unwrap_or(u64::MAX))
    }

    /// Whether a segment on disk holds a put of the key: a write or a delete of it must then be journaled before it is
    /// acknowledged, or a replay would bring the old version back.
    pub fn holds(&self, key: &ValueKey) -> bool {
        self.keys.contains_key(key)
    }

    /// The newest version of the key among the puts of the segments on disk.
    pub fn newest(&self, key: &ValueKey) -> Option<Version> {
        self.keys.get(key).map(|held| held.version)
    }

    /// The put of `key` that is visible here and not yet in the object store.
    pub fn pending_of(&self, key: &ValueKey) -> Option<Arc<PendingPut>> {
        let held = self.keys.get(key)?;
        match &self.pending.get(&held.sequence)?.what {
            Pending::Put(put) => Some(put.clone()),
            Pending::Head(_) => None,
        }
    }

    pub fn pending(&self, put_id: PutId) -> Option<Pending> {
        self.pending.get(self.by_put.get(&put_id)?).map(|item| item.what.clone())
    }

    /// What waits to be uploaded, in the order in which it was acknowledged, behind sequence number `after`; at most
    /// `max` with their sequence numbers. Start at 0.
    pub fn next_pending(&self, after: u64, max: usize) -> Vec<(u64, Pending)> {
        let behind = self.pending.range(after.saturating_add(1)..);
        behind.take(max).map(|(sequence, item)| (*sequence, item.what.clone())).collect()
    }

    pub fn backlog(&self) -> Backlog {
        self.backlog
    }

    /// Put and head records in the segments on disk.
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[derive(Clone, Copy)]
enum Reach {
    /// The version itself included.
    UpTo,
    /// The versions before it.
    Before,
}
