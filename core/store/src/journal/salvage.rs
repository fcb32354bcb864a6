//! Going on without what is damaged: what verifies and still waits to be uploaded is written into fresh segments with a
//! chain of their own, the damaged segments are put aside, and what is lost is said.
//!
//! Killed anywhere it is run again: the plan names the first fresh segment before there is one; until the low-water mark
//! names it too, the fresh segments are thrown away and written anew. From then on the plan also says what is lost, so
//! that the run that ends the salvage can say it.
//!
//! Where the record that an upload has ended is among what is lost, its put is shown and uploaded once more; a value that
//! was evicted meanwhile comes back so, one that was deleted does not.

use super::batch::{Link, seal};
use super::header::BATCH_COUNT_MAX;
use super::low_water::{self, read_record, write_record};
use super::names::{self, QUARANTINE, SALVAGE_PLAN};
use super::newest::Newest;
use super::record::{PutRecord, Record};
use super::recovery::{Survey, survey};
use super::state::{JournalState, Pending, Place};
use super::walk::{Seen, walk};
use super::{JournalConfig, OpenError};
use crate::life::Life;
use crate::observe::State;
use crate::world::{Clock, Disk, DiskError, World};
use bettong_wire::PutId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Ending of the reports in the quarantine.
const REPORT: &str = ".report";

/// What of a report is remembered until the salvage has ended: losses, and texts of problems. The bytes themselves are in
/// the quarantine.
const REMEMBERED_MAX: usize = 2048;

/// What the file `salvage` holds.
#[derive(Clone, Serialize, Deserialize)]
struct Plan {
    /// The first fresh segment.
    first: u64,
    /// Once the fresh segments are whole: what is lost. Where the salvage is killed after that, nobody could tell again.
    said: Option<Said>,
}

/// A report on its way to whoever asks.
#[derive(Clone, Serialize, Deserialize)]
struct Said {
    puts: u64,
    heads: u64,
    lost: Vec<(u64, u64)>,
    /// Hash of the key, part, put id: life and counter.
    lost_puts: Vec<(String, u16, u64, u64)>,
    quarantined: Vec<u64>,
    problems: Vec<String>,
}

impl Said {
    fn of(salvaged: &Salvaged) -> Self {
        let hex = |hash: &[u8; 32]| blake3::Hash::from_bytes(*hash).to_hex().to_string();
        let lost_puts = salvaged.lost_puts.iter().take(REMEMBERED_MAX);
        Self {
            puts: salvaged.puts,
            heads: salvaged.heads,
            lost: salvaged.lost.iter().take(REMEMBERED_MAX).copied().collect(),
            lost_puts: lost_puts.map(|(hash, part, id)| (hex(hash), *part, id.life, id.counter)).collect(),
            quarantined: salvaged.quarantined.clone(),
            problems: salvaged.problems.iter().take(REMEMBERED_MAX).cloned().collect(),
        }
    }

    fn again(self) -> Salvaged {
        let put = |(hash, part, life, counter): (String, u16, u64, u64)| {
            Some((*blake3::Hash::from_hex(hash).ok()?.as_bytes(), part, PutId { life, counter }))
        };
        Salvaged {
            puts: self.puts,
            heads: self.heads,
            lost: self.lost,
            lost_puts: self.lost_puts.into_iter().filter_map(put).collect(),
            quarantined: self.quarantined,
            problems: self.problems,
        }
    }
}

/// What a salvage kept and what is lost.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Salvaged {
    pub puts: u64,
    pub heads: u64,
    /// Ranges of sequence numbers that were synced and are lost, the ends exclusive: from 1 on where nothing says where a
    /// gap begins, up to `u64::MAX` where nothing says where it ends. Some may have been used by nothing.
    pub lost: Vec<(u64, u64)>,
    /// Puts whose records are there and whose bytes, or whose group, are not: hash of the key, part and put id.
    pub lost_puts: Vec<([u8; 32], u16, PutId)>,
    /// Segments that were put aside, by their numbers.
    pub quarantined: Vec<u64>,
    /// What was wrong.
    pub problems: Vec<String>,
}

/// Salvages the journal of `config.dir`. No daemon may run on it. Of an append of several puts in one batch what verifies
/// is kept even where a part is lost; of one that filled several batches all or nothing.
///
/// # Errors
/// A newer format, or files that are not the journal's, are not touched.
pub async fn salvage<W: World>(world: &W, config: &JournalConfig) -> Result<Salvaged, OpenError> {
    let (disk, dir) = (world.disk(), config.dir.as_str());
    let plan: Option<Plan> = read_record(disk, dir, SALVAGE_PLAN).await?.ok().flatten();
    let mut found = survey(world, dir).await?;
    found.problems.retain(|problem| !matches!(problem, OpenError::SalvageUnfinished { .. }));
    if let Some(fatal) = found.problems.iter().find(|problem| !problem.is_damage()) {
        return Err(fatal.clone());
    }
    if let Some(plan) = plan {
        let first = plan.first;
        if found.low >= first {
            let nothing_said = || Salvaged { quarantined: found.dead.clone(), ..Salvaged::default() };
            let salvaged = plan.said.clone().map_or_else(nothing_said, Said::again);
            if let Some((number, Ok(batch))) = found.segments.last().map(|last| (last.number, &last.head)) {
                Newest { segment: number, nonce: batch.link.nonce }.write(disk, dir).await?;
            }
            put_aside(world, dir, &found.dead, &salvaged.quarantined, &plan).await?;
            world.reached(State::JournalSalvaged);
            return Ok(salvaged);
        }
        for segment in found.segments.iter().rev().filter(|segment| segment.number >= first) {
            low_water::remove(disk, &segment.path).await?;
        }
        disk.sync_dir(dir).await?;
        found = survey(world, dir).await?;
        found.problems.retain(|problem| !matches!(problem, OpenError::SalvageUnfinished { .. }));
    }
    let (state, mut salvaged, damaged, end) = read(world, &found).await?;
    // The number of a newest segment that is lost is not used again.
    let last = found.segments.last().map(|last| last.number).max(found.newest.map(|newest| newest.segment));
    let first = last.map_or(found.low, |last| last + 1);
    write_record(disk, dir, SALVAGE_PLAN, &Plan { first, said: None }).await?;
    let mut fresh = Fresh::new(world, config, first, end + 4 * u64::from(BATCH_COUNT_MAX));
    fresh.write(&state).await?;
    let old: Vec<u64> = found.dead.iter().copied().chain(found.segments.iter().map(|segment| segment.number)).collect();
    salvaged.quarantined = old.iter().copied().filter(|number| damaged.contains(number)).collect();
    let backlog = state.backlog();
    (salvaged.puts, salvaged.heads) = (backlog.puts, backlog.heads);
    let plan = Plan { first, said: Some(Said::of(&salvaged)) };
    write_record(disk, dir, SALVAGE_PLAN, &plan).await?;
    low_water::write(disk, dir, first).await?;
    Newest { segment: fresh.number, nonce: fresh.link.nonce }.write(disk, dir).await?;
    put_aside(world, dir, &old, &salvaged.quarantined, &plan).await?;
    world.reached(State::JournalSalvaged);
    Ok(salvaged)
}

/// What the salvages of the journal in `dir` said, oldest first: also of one that was killed before it could be heard.
pub async fn reports<W: World>(world: &W, dir: &str) -> Result<Vec<Salvaged>, DiskError> {
    let (disk, quarantine) = (world.disk(), format!("{dir}/{QUARANTINE}"));
    let mut reports = Vec::new();
    for name in disk.list(&quarantine).await?.into_iter().filter(|name| name.ends_with(REPORT)) {
        let plan: Option<Plan> = read_record(disk, &quarantine, &name).await?.ok().flatten();
        reports.extend(plan.and_then(|plan| plan.said).map(Said::again));
    }
    Ok(reports)
}

/// Moves the damaged ones of the old segments into the quarantine, removes the others, and ends the plan: what it says is
/// kept in the quarantine.
async fn put_aside<W: World>(world: &W, dir: &str, old: &[u64], damaged: &[u64], plan: &Plan) -> Result<(), DiskError> {
    let disk = world.disk();
    for number in old {
        let name = names::segment(*number);
        if damaged.contains(number) {
            disk.rename(&format!("{dir}/{name}"), &format!("{dir}/{QUARANTINE}/{name}")).await?;
        } else {
            low_water::remove(disk, &format!("{dir}/{name}")).await?;
        }
    }
    let quarantine = format!("{dir}/{QUARANTINE}");
    if !damaged.is_empty() {
        disk.sync_dir(&quarantine).await?;
    }
    disk.sync_dir(dir).await?;
    // The report is durable before the plan goes: of a rename a power cut may keep the one half only. Killed in between, it
    // is only said again.
    write_record(disk, &quarantine, &format!("{:020}{REPORT}", plan.first), plan).await?;
    low_water::remove(disk, &format!("{dir}/{SALVAGE_PLAN}")).await?;
    disk.sync_dir(dir).await
}

/// What verifies: the state that it comes to, what is lost, the damaged segments, and the end of the sequence numbers.
async fn read<W: World>(world: &W, found: &Survey) -> Result<(JournalState, Salvaged, BTreeSet<u64>, u64), DiskError> {
    let mut state = JournalState::default();
    let mut salvaged =
        Salvaged { problems: found.problems.iter().map(ToString::to_string).collect(), ..Salvaged::default() };
    let mut damaged = BTreeSet::new();
    let mut groups: BTreeMap<u64, Vec<PutRecord>> = BTreeMap::new();
    let mut uploaded = BTreeSet::new();
    // Where the first segment is missing, what was before the second is lost.
    let begins_late = found.segments.first().is_some_and(|first| first.number != found.low);
    let mut life = None;
    let (mut next, mut highest) = (begins_late.then_some(1), 1);
    let walked = walk(world, found, &mut |seen| match seen {
        Seen::Fault { segment, offset, fault, .. } => {
            // Before anything that verifies: nothing says where what it held began.
            next.get_or_insert(1);
            damaged.insert(segment.number);
            salvaged.problems.push(format!("{}: offset {offset}: {fault}", segment.path));
        }
        // Nobody writes beside a salvage.
        Seen::Died => {}
        Seen::Batch { segment, offset, batch, bodies } => {
            let first = batch.header.first;
            // Seen before: a repetition adds nothing.
            if next.is_some_and(|next| first < next) {
                return;
            }
            // What a void names was never acknowledged; what was before it is lost.
            let void = batch.records.iter().find_map(|record| match record {
                Record::Void { from, .. } => Some(*from),
                _ => None,
            });
            let missing = void.map_or(first, |from| from.min(first));
            if let Some(next) = next.filter(|next| *next < missing) {
                salvaged.lost.push((next, missing));
            }
            next = Some(batch.end());
            highest = highest.max(batch.end());
            let (mut body, mut verified) = (offset + batch.head_len, bodies.iter());
            for (record, sequence) in batch.records.iter().zip(first..) {
                let place = Place { sequence, segment, offset: body };
                body += record.body_len();
                match record {
                    Record::Put(put) if verified.next() == Some(&false) => {
                        salvaged.lost_puts.push(lost(put));
                    }
                    Record::Put(put) => {
                        if put.group != 0 {
                            groups.entry(put.group).or_default().push(put.clone());
                        }
                        state.apply(place, record);
                    }
                    Record::Commit { group, puts } => {
                        let there = groups.remove(group).unwrap_or_default();
                        if there.len() as u64 != u64::from(*puts) {
                            salvaged.lost_puts.extend(there.iter().map(lost));
                        }
                        state.apply(place, record);
                    }
                    // Numbers of groups are a life's own.
                    Record::Segment { life: begun, .. } => {
                        if life.replace(*begun) != Some(*begun) {
                            abandon(&mut groups, &mut salvaged);
                        }
                        state.apply(place, record);
                    }
                    Record::UploadDone { put_id } => {
                        uploaded.insert(*put_id);
                        state.apply(place, record);
                    }
                    _ => state.apply(place, record),
                }
            }
        }
    })
    .await?;
    state.abandon_groups();
    let end = next.unwrap_or(1);
    if walked.unreadable {
        salvaged.lost.push((end, u64::MAX));
    } else if walked.synced_through >= end {
        salvaged.lost.push((end, walked.synced_through + 1));
    }
    abandon(&mut groups, &mut salvaged);
    salvaged.lost_puts.retain(|(_, _, put_id)| !uploaded.contains(put_id));
    Ok((state, salvaged, damaged, highest.max(walked.synced_through + 1)))
}

/// Groups without a commit: it may be among what is lost.
fn abandon(groups: &mut BTreeMap<u64, Vec<PutRecord>>, salvaged: &mut Salvaged) {
    let puts: Vec<PutRecord> = std::mem::take(groups).into_values().flatten().collect();
    if !salvaged.lost.is_empty() {
        salvaged.lost_puts.extend(puts.iter().map(lost));
    }
}

fn lost(put: &PutRecord) -> ([u8; 32], u16, PutId) {
    (put.header.key, put.header.part.0, put.header.put_id)
}

/// The fresh segments.
struct Fresh<'a, W: World> {
    world: &'a W,
    config: &'a JournalConfig,
    number: u64,
    path: String,
    len: u64,
    sequence: u64,
    link: Link,
}

impl<'a, W: World> Fresh<'a, W> {
    fn new(world: &'a W, config: &'a JournalConfig, number: u64, sequence: u64) -> Self {
        let link = Link { previous: [0; 32], synced_through: 0, nonce: 0 };
        Self { world, config, number, path: String::new(), len: 0, sequence, link }
    }

    async fn write(&mut self, state: &JournalState) -> Result<(), DiskError> {
        self.begin().await?;
        let (mut records, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (_, pending) in state.next_pending(0, usize::MAX) {
            let len = pending.len();
            let full = records.len() == usize::from(BATCH_COUNT_MAX) || bytes + len > self.config.batch_bytes_max;
            if full && !records.is_empty() {
                self.append(std::mem::take(&mut records), std::mem::take(&mut bodies)).await?;
                bytes = 0;
                if self.len >= self.config.segment_bytes {
                    self.number += 1;
                    self.begin().await?;
                }
            }
            match pending {
                Pending::Put(put) => {
                    let path = format!("{}/{}", self.config.dir, names::segment(put.place.segment));
                    bodies.push(self.world.disk().read_at(&path, put.place.offset, len).await?);
                    records.push(Record::Put(PutRecord { group: 0, ..put.record.clone() }));
                }
                Pending::Head(head) => records.push(Record::Head((*head).clone())),
            }
            bytes += len;
        }
        if !records.is_empty() {
            self.append(records, bodies).await?;
        }
        self.append(vec![Record::Mark], Vec::new()).await
    }

    /// No life of the node wrote it: its ordinal is before all.
    async fn begin(&mut self) -> Result<(), DiskError> {
        let previous_nonce = self.link.nonce;
        self.link.nonce = self.world.random_u64();
        self.path = format!("{}/{}", self.config.dir, names::segment(self.number));
        self.len = 0;
        self.world.disk().create(&self.path).await?;
        let life = Life { ordinal: 0, life: 0 };
        self.append(vec![Record::Segment { life, number: self.number, previous_nonce }], Vec::new()).await?;
        self.world.disk().sync_dir(&self.config.dir).await
    }

    async fn append(&mut self, records: Vec<Record>, bodies: Vec<Bytes>) -> Result<(), DiskError> {
        let now_ns = self.world.clock().wall_ms().saturating_mul(1_000_000);
        let (header, head) = seal(&self.link, self.sequence, now_ns, &records);
        let buffers: Vec<Bytes> = std::iter::once(head).chain(bodies).collect();
        self.world.disk().append(&self.path, &buffers).await?;
        self.world.disk().sync(&self.path).await?;
        self.len += buffers.iter().map(|buffer| buffer.len() as u64).sum::<u64>();
        self.sequence += records.len() as u64;
        self.link.previous = header.hash;
        self.link.synced_through = self.sequence - 1;
        Ok(())
    }
}
