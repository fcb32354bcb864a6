//! The journal of a node that is down, in bad hands and in good ones: what damages it, and the operator who goes on
//! without what is lost.

use super::Shared;
use crate::faults::{FaultKind, Strike};
use crate::model::{LostKey, ValueKey};
use crate::random::Stream;
use crate::run::Life;
use crate::world::{SimDisk, SimWorld, elapsed};
use bettong_core::index::rows::ValueKey as StoredKey;
use bettong_core::journal::{DumpLine, HEADER_LEN, OpenError, Record, Salvaged, check, dump, reports, salvage};
use bettong_core::life::Life as StoreLife;
use bettong_core::record::{RECORD_BYTES_MAX, decode};
use bettong_core::world::{Disk, World};
use bettong_wire::{NamespaceId, PutId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DIR: &str = "journal";
const MARKS: [&str; 2] = ["journal/low-water", "journal/newest"];
const FOREIGN: &str = "journal/core.4711";
/// A cut batch keeps less than its header.
const BATCH_HEADER_BYTES: u64 = HEADER_LEN as u64;
/// Batches that one fault damages at most.
const BATCHES_MAX: u64 = 3;

/// What is known of a journal that was damaged and not salvaged yet.
#[derive(Default)]
pub struct Damage {
    /// When it was damaged first.
    since: Duration,
    /// The puts that were in it before, by sequence number.
    puts: BTreeMap<u64, (StoredKey, PutId)>,
    /// What a start must not overlook: bytes or files that are damaged or gone, or a file that is not the journal's.
    damaged: bool,
    foreign: bool,
    kinds: Vec<FaultKind>,
}

/// What the mark of the newest segment says.
#[derive(Deserialize)]
struct Newest {
    segment: u64,
}

/// One record of a sound journal.
struct Line {
    segment: u64,
    /// Where its batch is.
    offset: u64,
    sequence: u64,
    put: Option<(StoredKey, PutId)>,
    /// The append of several batches that it belongs to, if any.
    group: u64,
}

/// Strikes the journal of a node that is about to start, as the plan says.
pub async fn strike(life: &Life, shared: &Shared) {
    let run = life.world.run();
    // A directory that went back to an older state has fewer reports than were heard of.
    let told = reports(&life.world.aside(life.world.disk().quietly(), "reports"), DIR).await.unwrap_or_default().len();
    if let Some(heard) = shared.salvages.lock().get_mut(&life.node) {
        *heard = told.min(*heard);
    }
    let mut struck = shared.damages.lock().get(&life.node).map(|damage| damage.kinds.clone()).unwrap_or_default();
    for kind in FaultKind::ALL.iter().filter(|kind| kind.strikes_the_journal()) {
        let Some(strike) = run.fault_event(&life.node, *kind) else { continue };
        let disk = life.world.disk().quietly();
        let world = life.world.aside(disk.clone(), "damage");
        let (lines, synced_through) = lines(&world).await;
        // Without the marks nobody could tell that the first segment is missing, or the last.
        let told = match kind {
            FaultKind::JournalMissing => FaultKind::JournalMark,
            FaultKind::JournalMark => FaultKind::JournalMissing,
            other => *other,
        };
        // And a second flip might undo the first.
        let rots_again = *kind == FaultKind::JournalRot && struck.contains(kind);
        // A cut might take away what tells of the rest.
        let hides = *kind == FaultKind::JournalCut && !struck.is_empty();
        if told != *kind && struck.contains(&told) || rots_again || hides {
            continue;
        }
        let changed = match kind {
            FaultKind::JournalRot => told_for_good(&disk).await && rot(&disk, &lines, synced_through, &strike),
            FaultKind::JournalCut => cut(life, shared, &disk, &lines, &strike),
            FaultKind::JournalMissing => lose_segment(&disk, &lines, &strike).await,
            FaultKind::JournalMark => {
                let mark = MARKS[usize::from(strike.choice & 1 == 1)];
                told_for_good(&disk).await && disk.flip(mark, strike.choice >> 1)
            }
            _ => disk.plant(FOREIGN, b"not a journal"),
        };
        if *kind == FaultKind::JournalCut {
            if changed {
                run.fault_changed(&strike.key);
            }
            continue;
        }
        // Damage to what nobody will read again is none.
        let noticed = check(&world, DIR).await.is_ok_and(|report| !report.problems.is_empty());
        if !(changed && noticed) {
            continue;
        }
        run.fault_changed(&strike.key);
        struck.push(*kind);
        let mut damages = shared.damages.lock();
        let damage =
            damages.entry(life.node.clone()).or_insert_with(|| Damage { since: elapsed(), ..Damage::default() });
        let foreign = *kind == FaultKind::JournalForeign;
        damage.foreign |= foreign;
        damage.damaged |= !foreign;
        damage.kinds.clone_from(&struck);
        for line in lines {
            let Some(put) = line.put else { continue };
            damage.puts.entry(line.sequence).or_insert(put);
        }
    }
}

/// Everything that verifies, and how far the journal is known to be synced.
async fn lines(world: &SimWorld) -> (Vec<Line>, u64) {
    let mut lines = Vec::new();
    let mut each = |line| {
        let DumpLine::Record { segment, offset, sequence, record, .. } = line else { return };
        let (put, group) = match *record {
            Record::Put(put) => (Some((put.key(), put.header.put_id)), put.group),
            Record::Commit { group, .. } => (None, group),
            _ => (None, 0),
        };
        lines.push(Line { segment, offset, sequence, put, group });
    };
    // A handle that nothing strikes reads everything that is there.
    let _ = dump(world, DIR, &mut each).await;
    let synced_through = check(world, DIR).await.map_or(0, |report| report.synced_through);
    (lines, synced_through)
}

/// What tells of damage must not go with a power cut: the marks, and whatever was written behind it.
async fn told_for_good(disk: &SimDisk) -> bool {
    for name in disk.list(DIR).await.unwrap_or_default() {
        if disk.sync(&format!("{DIR}/{name}")).await.is_err() {
            return false;
        }
    }
    disk.sync_dir(DIR).await.is_ok()
}

fn segment_file(number: u64) -> String {
    format!("{DIR}/{number:020}.seg")
}

fn rot(disk: &SimDisk, lines: &[Line], synced_through: u64, strike: &Strike) -> bool {
    let mut random = Stream::new(strike.choice, "journal-rot");
    let batches: BTreeSet<(u64, u64)> =
        lines.iter().filter(|line| line.sequence <= synced_through).map(|line| (line.segment, line.offset)).collect();
    let mut batches: Vec<_> = batches.into_iter().collect();
    random.shuffle(&mut batches);
    let mut changed = false;
    // One bit of each: two may make a newer release's version of one, and nobody could tell.
    for (segment, offset) in batches.into_iter().take(1 + random.below(BATCHES_MAX) as usize) {
        let ends = lines.iter().filter(|line| line.segment == segment && line.offset > offset).map(|line| line.offset);
        let end = ends.min().unwrap_or(u64::MAX);
        changed |= disk.flip_within(&segment_file(segment), offset..end, random.draw());
    }
    changed
}

/// Cuts the last segment off within one of its batches, but the first. Only the index can tell, where it was written since:
/// what was behind the cut may be lost, and nothing before it.
fn cut(life: &Life, shared: &Shared, disk: &SimDisk, lines: &[Line], strike: &Strike) -> bool {
    let mut random = Stream::new(strike.choice, "journal-cut");
    let Some(last) = lines.iter().map(|line| line.segment).max() else { return false };
    let offsets: BTreeSet<u64> = lines.iter().filter(|line| line.segment == last).map(|line| line.offset).collect();
    let offsets: Vec<u64> = offsets.into_iter().skip(1).collect();
    let Some(offset) = random.pick(&offsets).copied() else { return false };
    let next = offsets.iter().find(|next| **next > offset).copied().unwrap_or(u64::MAX);
    let len = offset + random.draw() % (next - offset).min(BATCH_HEADER_BYTES);
    if !disk.cut(&segment_file(last), len) {
        return false;
    }
    let is_behind = |line: &&Line| line.segment == last && line.offset >= offset;
    // A group is lost with any of its batches.
    let groups: BTreeSet<u64> =
        lines.iter().filter(is_behind).map(|line| line.group).filter(|group| *group > 0).collect();
    let behind = lines.iter().filter(|line| is_behind(line) || groups.contains(&line.group));
    let lost: BTreeSet<LostKey> = behind.filter_map(|line| lost_key(shared, &line.put.as_ref()?.0)).collect();
    let run = life.world.run();
    run.trace(&life.node, format_args!("the journal is cut at {len} of segment {last}; these may be lost: {lost:?}"));
    run.lose_records(&life.node);
    shared.model.lock().salvaged(&life.node, elapsed(), lost);
    true
}

/// What the model calls a value that a journal names.
fn lost_key(shared: &Shared, stored: &StoredKey) -> Option<LostKey> {
    let namespace = (0..shared.setup.namespaces).find(|number| {
        let (tenant, name) = shared.setup.namespace(*number);
        NamespaceId::derive(&tenant, &name) == stored.namespace
    })?;
    Some(LostKey { namespace, hash: stored.hash, part: stored.part.0 })
}

/// Any segment but one that was only begun: of that nobody can tell that it was there.
async fn lose_segment(disk: &SimDisk, lines: &[Line], strike: &Strike) -> bool {
    let newest = disk.read_at(MARKS[1], 0, RECORD_BYTES_MAX).await.ok();
    let newest = newest.and_then(|bytes| decode::<Newest>(&bytes).ok()).map_or(0, |newest| newest.segment);
    let segments: BTreeSet<u64> = lines.iter().map(|line| line.segment).filter(|number| *number <= newest).collect();
    let segments: Vec<u64> = segments.into_iter().collect();
    let mut random = Stream::new(strike.choice, "journal-missing-segment");
    told_for_good(disk).await && random.pick(&segments).is_some_and(|segment| disk.lose(&segment_file(*segment)))
}

/// A store has opened: whatever was damaged must have been noticed before.
pub async fn opened(life: &Life, shared: &Shared) {
    // A salvage that was killed when all was done has said what is lost to nobody yet.
    let world = life.world.aside(life.world.disk().quietly(), "reports");
    let reports = reports(&world, DIR).await.unwrap_or_default();
    let heard = shared.salvages.lock().get(&life.node).copied().unwrap_or_default();
    for report in reports.iter().skip(heard) {
        settle(life, shared, report);
    }
    let rolled_back = life.world.run().rolled_back().remove(&life.node).unwrap_or_default();
    // What a rollback brought back is older than the damage, and may be without it.
    let undone = |damage: &Damage| rolled_back.iter().any(|at| *at >= damage.since);
    let damage = shared.damages.lock().remove(&life.node).filter(|damage| !undone(damage));
    // Moved away by an operator who died before he could say so.
    let foreign = world.disk().len(FOREIGN).await.is_ok();
    if let Some(damage) = damage.filter(|damage| damage.damaged || damage.foreign && foreign) {
        let (node, since) = (&life.node, damage.since.as_secs_f64());
        life.world.run().fail("O2", format!("the journal of {node} was damaged at {since:.6}, and the start went on"));
    }
}

/// What an operator does about a journal that does not open. Says whether anything was done.
pub async fn repair(life: &Life, node_id: &str, error: &OpenError, shared: &Shared) -> bool {
    let (run, world) = (life.world.run(), &life.world);
    if let OpenError::Foreign { file } = error {
        let moved = world.disk().remove(file).await.is_ok();
        let mut damages = shared.damages.lock();
        if let Some(damage) = damages.get_mut(&life.node).filter(|damage| moved && damage.foreign) {
            damage.foreign = false;
            run.state_reached("sim foreign file moved away");
        }
        return moved;
    }
    if !error.is_damage() {
        return false;
    }
    let config = shared.setup.store_config(node_id).journal(StoreLife { ordinal: 0, life: 0 });
    match salvage(world, &config).await {
        Ok(salvaged) => {
            run.trace(&life.node, format_args!("salvaged: {salvaged:?}"));
            settle(life, shared, &salvaged);
            true
        }
        Err(error) => {
            run.trace(&life.node, format_args!("not salvaged: {error}"));
            false
        }
    }
}

/// What the operator was told is lost may be lost from now on, and nothing else.
fn settle(life: &Life, shared: &Shared, salvaged: &Salvaged) {
    *shared.salvages.lock().entry(life.node.clone()).or_default() += 1;
    let damage = shared.damages.lock().remove(&life.node).unwrap_or_default();
    let said: BTreeSet<PutId> = salvaged.lost_puts.iter().map(|(_, _, put_id)| *put_id).collect();
    let in_a_gap = |sequence: &u64| salvaged.lost.iter().any(|(from, to)| (*from..*to).contains(sequence));
    let lost = damage.puts.iter().filter(|(sequence, (_, put_id))| in_a_gap(sequence) || said.contains(put_id));
    let lost: BTreeSet<LostKey> = lost.filter_map(|(_, (stored, _))| lost_key(shared, stored)).collect();
    let run = life.world.run();
    let held: Vec<String> = damage.puts.iter().map(|(sequence, (_, put_id))| format!("{sequence} {put_id}")).collect();
    run.trace(&life.node, format_args!("the salvaged journal held {held:?}; these may be lost: {lost:?}"));
    run.state_reached(if lost.is_empty() { "sim salvage lost nothing" } else { "sim salvage lost puts" });
    if !salvaged.lost.is_empty() {
        run.lose_records(&life.node);
    }
    shared.model.lock().salvaged(&life.node, elapsed(), lost);
}

impl LostKey {
    /// What a value is called where names are hashes.
    pub fn of(key: &ValueKey) -> Self {
        use bettong_wire::request::Target;
        let (hash, part) = match &key.target {
            Target::Plain(key) => (*blake3::hash(key.as_bytes()).as_bytes(), 0),
            Target::Block(key) => (key.hash.0, key.part.0),
            Target::Sidecar(key) => (key.0, 0),
        };
        Self { namespace: key.namespace, hash, part }
    }
}
