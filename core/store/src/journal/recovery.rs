//! Reading a whole journal: which segments there are, what is void, where the log ends, and whether anything that was
//! synced is damaged. Reads only.

use super::batch::{Batch, FIXED_LEN, VERSION};
use super::error::{Corruption, Fault, OpenError};
use super::header::BATCH_COUNT_MAX;
use super::low_water::{self, FIRST_SEGMENT};
use super::names::{self, FileName};
use super::newest::Newest;
use super::record::{RECORD_HEAD_LEN, Record};
use super::scan::{Expected, Scanned, Scanner, resynchronise};
use super::state::{JournalState, Place};
use crate::observe::Point;
use crate::world::{Disk, DiskError, World};
use std::collections::BTreeMap;

/// Called with the bytes read so far and the bytes to read in all.
pub type Progress<'a> = dyn FnMut(u64, u64) + Send + 'a;

/// Where the log ends, and what lies behind it does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    pub segment: u64,
    pub offset: u64,
    /// The sequence number that would come there.
    pub sequence: u64,
}

/// What a recovery found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recovered {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    /// Bytes that were read and verified.
    pub bytes: u64,
    /// The sequence number behind the last record that counts; at least 1.
    pub end: u64,
    /// Where a torn tail was cut off, if there was one.
    pub cut: Option<Cut>,
    /// Segments that were being begun when the process ended: nothing in them was ever acknowledged.
    pub passed_over: Vec<u64>,
    /// Segments before the low-water mark that were still there.
    pub dead: Vec<u64>,
}

/// What a recovery found, and what the writer goes on from.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) state: JournalState,
    /// Bytes of the files of all segments that are not dead, by number.
    pub(super) files: BTreeMap<u64, u64>,
    /// Segments whose end is not known to be synced.
    pub(super) unsynced: Vec<u64>,
    pub(super) next_segment: u64,
    pub(super) next_sequence: u64,
    pub(super) previous: [u8; 32],
    pub(super) previous_nonce: u64,
    pub(super) low: u64,
}

/// Longest file of a segment that was only begun: its first batch, a segment record and a void, which holds no client's
/// bytes and is synced before anything follows it.
pub(super) const BEGINNING_BYTES_MAX: u64 = FIXED_LEN as u64 + 2 * (RECORD_HEAD_LEN as u64 + 32);

/// One segment as the survey saw it.
pub(super) struct Surveyed {
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) len: u64,
    /// Its first batch.
    pub(super) head: Result<Batch, Fault>,
    /// Where it ends: at its length, or at the void of a later segment.
    pub(super) end: u64,
    /// Nothing of it counts.
    pub(super) skipped: bool,
}

/// The files of a journal.
pub(super) struct Survey {
    pub(super) dir: String,
    /// The first segment that is not dead.
    pub(super) low: u64,
    /// The last segment that is known to have begun whole.
    pub(super) newest: Option<Newest>,
    pub(super) segments: Vec<Surveyed>,
    pub(super) dead: Vec<u64>,
    pub(super) passed_over: Vec<u64>,
    /// Highest `synced_through` of the first batches that count.
    pub(super) synced_through: u64,
    /// What is wrong with the directory, damage inside of segments apart.
    pub(super) problems: Vec<OpenError>,
}

/// Looks at the directory and at the first batch of every segment.
///
/// # Errors
/// Only where something cannot be read; what is wrong is in `problems`.
pub(super) async fn survey<W: World>(world: &W, dir: &str) -> Result<Survey, DiskError> {
    let disk = world.disk();
    let (mut numbers, mut problems) = (Vec::new(), Vec::new());
    let (names, marks) = listed(disk, dir).await?;
    for name in names {
        let file = || format!("{dir}/{name}");
        match names::file(&name) {
            FileName::Segment(number) => numbers.push(number),
            FileName::LowWater | FileName::Newest | FileName::Reserve | FileName::Unfinished => {}
            FileName::SalvagePlan => problems.push(OpenError::SalvageUnfinished { file: file() }),
            FileName::Foreign => problems.push(OpenError::Foreign { file: file() }),
        }
    }
    for name in disk.others(dir).await?.into_iter().filter(|name| name != names::QUARANTINE) {
        problems.push(OpenError::NoFile { file: format!("{dir}/{name}") });
    }
    numbers.sort_unstable();
    let marked = match marks.low {
        Ok(marked) => marked,
        Err(damaged) => {
            problems.push(damaged);
            numbers.first().copied()
        }
    };
    let newest = match marks.newest {
        Ok(newest) => newest,
        Err(damaged) => {
            problems.push(damaged);
            None
        }
    };
    let low = marked.unwrap_or(FIRST_SEGMENT);
    let dead: Vec<u64> = numbers.iter().copied().filter(|number| *number < low).collect();
    let mut segments = Vec::new();
    for number in numbers.into_iter().filter(|number| *number >= low) {
        let path = format!("{dir}/{}", names::segment(number));
        let len = disk.len(&path).await?;
        let bytes = disk.read_at(&path, 0, BEGINNING_BYTES_MAX).await?;
        if Batch::is_newer(&bytes) {
            let version = bytes.get(4).copied().unwrap_or_default();
            problems.push(OpenError::Newer { file: path.clone(), offset: 0, version, supported: VERSION });
        }
        let head = Batch::decode(&bytes).map_err(Fault::from).and_then(|batch| match batch.records.first() {
            Some(Record::Segment { number: said, .. }) if *said == number => Ok(batch),
            _ => Err(Fault::Segment),
        });
        segments.push(Surveyed { number, path, len, head, end: len, skipped: false });
    }
    if segments.first().map(|first| first.number) != Some(low) && (marked.is_some() || !segments.is_empty()) {
        problems.push(OpenError::Missing { file: format!("{dir}/{}", names::segment(low)) });
    }
    let synced_through = void(&mut segments);
    let passed_over = pass_over(&mut segments, newest);
    problems.extend(missing(dir, &segments));
    let survey = Survey { dir: dir.to_owned(), low, newest, segments, dead, passed_over, synced_through, problems };
    let lost = survey.lost_newest().map(|number| format!("{dir}/{}", names::segment(number)));
    Ok(Survey {
        problems: survey.problems.into_iter().chain(lost.map(|file| OpenError::Missing { file })).collect(),
        ..survey
    })
}

/// Listings of a directory whose marks move meanwhile.
const LISTINGS_MAX: u32 = 100;

/// The marks of the directory; errors where they are damaged.
#[derive(PartialEq, Eq)]
struct Marks {
    low: Result<Option<u64>, OpenError>,
    newest: Result<Option<Newest>, OpenError>,
}

impl Marks {
    async fn read<D: Disk>(disk: &D, dir: &str) -> Result<Self, DiskError> {
        let low = of_the_mark(low_water::read(disk, dir).await)?;
        Ok(Self { low, newest: of_the_mark(Newest::read(disk, dir).await)? })
    }
}

/// Tells a mark that cannot be read from one that is damaged.
fn of_the_mark<T>(read: Result<T, OpenError>) -> Result<Result<T, OpenError>, DiskError> {
    match read {
        Err(OpenError::Disk(error)) => Err(error),
        read => Ok(read),
    }
}

/// The names in the directory and the marks, of one moment: a daemon may be writing it.
async fn listed<D: Disk>(disk: &D, dir: &str) -> Result<(Vec<String>, Marks), DiskError> {
    let mut before = Marks::read(disk, dir).await?;
    for _ in 1..LISTINGS_MAX {
        let names = disk.list(dir).await?;
        let after = Marks::read(disk, dir).await?;
        if after == before {
            return Ok((names, after));
        }
        before = after;
    }
    Ok((disk.list(dir).await?, before))
}

/// Whether a segment that is not there may be so: it has died since the directory was looked at.
pub(super) async fn has_died<D: Disk>(disk: &D, dir: &str, segment: u64) -> Result<bool, DiskError> {
    Ok(of_the_mark(low_water::read(disk, dir).await)?.ok().flatten().is_some_and(|low| low > segment))
}

/// Marks what later segments say is void. Returns the highest `synced_through` of the beginnings that count.
fn void(segments: &mut [Surveyed]) -> u64 {
    let mut synced_through = 0;
    // From the last on: what a void covers has no say.
    for at in (0..segments.len()).rev() {
        let (before, rest) = segments.split_at_mut(at);
        let Some(Surveyed { skipped: false, head: Ok(batch), .. }) = rest.first() else { continue };
        synced_through = synced_through.max(batch.link.synced_through);
        for record in &batch.records {
            let Record::Void { segment, offset, .. } = record else { continue };
            for covered in before.iter_mut().rev().take_while(|covered| covered.number >= *segment) {
                covered.skipped |= covered.number > *segment || *offset == 0;
                covered.end = covered.end.min(*offset);
            }
        }
    }
    synced_through
}

impl Survey {
    /// Whether nothing but a beginning was ever in the segment, as far as is known.
    pub(super) fn only_begun(&self, segment: &Surveyed) -> bool {
        only_begun(segment, self.newest)
    }

    /// The number of the newest segment, where it is not there.
    pub(super) fn lost_newest(&self) -> Option<u64> {
        let newest = self.newest.filter(|newest| newest.segment >= self.low)?.segment;
        let last = self.segments.last().map_or(0, |last| last.number);
        (newest > last).then_some(newest)
    }
}

fn only_begun(segment: &Surveyed, newest: Option<Newest>) -> bool {
    segment.len <= BEGINNING_BYTES_MAX && newest.is_none_or(|newest| segment.number > newest.segment)
}

/// Segments at the end whose beginning was never whole.
fn pass_over(segments: &mut [Surveyed], newest: Option<Newest>) -> Vec<u64> {
    let unwhole = |segment: &Surveyed| segment.head.is_err() && only_begun(segment, newest);
    let mut passed_over = Vec::new();
    for segment in segments.iter_mut().rev().take_while(|segment| unwhole(segment)) {
        segment.skipped = true;
        passed_over.push(segment.number);
    }
    passed_over.reverse();
    passed_over
}

/// Every number between two segments is there, or void.
fn missing(dir: &str, segments: &[Surveyed]) -> Option<OpenError> {
    for pair in segments.windows(2) {
        let [one, next] = pair else { continue };
        let absent = one.number + 1;
        let void = segments.iter().filter(|segment| !segment.skipped && segment.number >= next.number).any(|segment| {
            let records = segment.head.as_ref().map(|batch| batch.records.as_slice()).unwrap_or_default();
            records.iter().any(|record| matches!(record, Record::Void { segment, .. } if *segment < absent))
        });
        // What was being begun may have been removed again, or may never have reached the directory.
        if next.number != absent && !void && !next.skipped {
            return Some(OpenError::Missing { file: format!("{dir}/{}", names::segment(absent)) });
        }
    }
    None
}

/// Reads the journal in `dir`. Changes nothing.
pub(super) async fn recover<W: World>(world: &W, dir: &str, progress: &mut Progress<'_>) -> Result<Found, OpenError> {
    let mut survey = survey(world, dir).await?;
    if !survey.problems.is_empty() {
        return Err(survey.problems.remove(0));
    }
    let total = survey.segments.iter().filter(|segment| !segment.skipped).map(|segment| segment.end).sum();
    let mut found = Found {
        recovered: Recovered { dead: survey.dead, passed_over: survey.passed_over, end: 1, ..Recovered::default() },
        low: survey.low,
        next_segment: survey.segments.last().map_or(survey.low, |last| last.number + 1),
        ..Found::default()
    };
    let mut synced_through = survey.synced_through;
    let mut last: Vec<(u64, u64)> = Vec::new();
    let mut end = None;
    let mut chain = None;
    for (at, segment) in survey.segments.iter().enumerate() {
        found.files.insert(segment.number, segment.len);
        if segment.skipped {
            continue;
        }
        if found.recovered.cut.is_some() {
            break;
        }
        world.at(Point::DuringJournalRecovery).await;
        let nonce = segment.head.as_ref().map_or(0, |batch| batch.link.nonce);
        let start = beginning(segment, chain);
        let mut scanner = Scanner::new(world, segment.path.clone(), 0, segment.end, Expected { nonce, chain: start });
        let fault = loop {
            let before = found.recovered.bytes;
            match scanner.next().await? {
                None => break None,
                Some(Scanned { fault: Some(fault), offset, .. }) => break Some((offset, fault)),
                Some(Scanned { offset, batch: Some(batch), fault: None, .. }) => {
                    synced_through = synced_through.max(batch.link.synced_through);
                    apply(&mut found, segment.number, offset, &batch);
                    chain = Some((batch.header.hash, batch.end()));
                }
                Some(Scanned { batch: None, .. }) => break None,
            }
            if found.recovered.bytes != before {
                progress(found.recovered.bytes, total);
            }
        };
        if let Ok(batch) = &segment.head {
            found.previous_nonce = batch.link.nonce;
        }
        found.recovered.segments += 1;
        end = Some((segment.number, scanner.position()));
        if let Some((_, sequence)) = chain {
            last.push((segment.number, sequence - 1));
        }
        if let Some((offset, fault)) = fault {
            let sequence = chain.map_or(1, |(_, sequence)| sequence);
            let later = survey.segments[at + 1..].iter().any(|later| !later.skipped);
            let damage = Corruption {
                file: segment.path.clone(),
                offset,
                fault,
                sequence,
                synced_through,
                batches_after: 0,
                records_after: 0,
            };
            let damage = behind(world, segment, nonce, damage).await?;
            // Behind a beginning that is bad there would be nothing, had it not been synced once.
            let rotten = segment.head.is_err();
            if later || rotten || damage.batches_after > 0 || damage.synced_through >= sequence {
                return Err(OpenError::Corrupt(Box::new(damage)));
            }
            found.recovered.cut = Some(Cut { segment: segment.number, offset, sequence });
        }
    }
    finish(&mut found, chain, end, &last, synced_through);
    Ok(found)
}

/// What the first batch of a segment must follow. Behind a gap that its void covers, the numbers go on there.
pub(super) fn beginning(segment: &Surveyed, chain: Option<([u8; 32], u64)>) -> Option<([u8; 32], u64)> {
    let (previous, sequence) = chain?;
    let Ok(batch) = &segment.head else { return chain };
    let covered = batch.records.iter().any(
        |record| matches!(record, Record::Void { from, to, .. } if *from == sequence && *to == batch.header.first),
    );
    Some((previous, if covered { batch.header.first } else { sequence }))
}

fn apply(found: &mut Found, segment: u64, offset: u64, batch: &Batch) {
    let mut body = offset + batch.head_len;
    for (record, sequence) in batch.records.iter().zip(batch.header.first..) {
        found.state.apply(Place { sequence, segment, offset: body }, record);
        body += record.body_len();
    }
    found.previous = batch.header.hash;
    found.recovered.batches += 1;
    found.recovered.records += u64::from(batch.header.count);
    found.recovered.bytes += batch.total_len();
}

/// Adds to `damage` what verifies in its segment from there on: behind it, or there itself where another batch belongs, which no
/// crash leaves.
async fn behind<W: World>(
    world: &W,
    segment: &Surveyed,
    nonce: u64,
    mut damage: Corruption,
) -> Result<Corruption, OpenError> {
    if segment.head.is_err() {
        return Ok(damage);
    }
    let mut from = damage.offset;
    while let Some(at) = resynchronise(world.disk(), &segment.path, from, segment.end, nonce).await? {
        let expected = Expected { nonce, chain: None };
        let mut scanner = Scanner::new(world, segment.path.clone(), at, segment.end, expected);
        from = at + 1;
        while let Some(scanned) = scanner.next().await? {
            let Scanned { batch: Some(batch), fault, .. } = scanned else { break };
            damage.synced_through = damage.synced_through.max(batch.link.synced_through);
            from = scanner.position();
            if fault.is_none() {
                damage.batches_after += 1;
                damage.records_after += u64::from(batch.header.count);
            }
        }
    }
    Ok(damage)
}

fn finish(
    found: &mut Found,
    chain: Option<([u8; 32], u64)>,
    end: Option<(u64, u64)>,
    last: &[(u64, u64)],
    synced_through: u64,
) {
    // Nobody commits what its own life did not.
    found.state.abandon_groups();
    let sequence = chain.map_or(1, |(_, sequence)| sequence);
    found.recovered.end = sequence;
    let first_passed = found.recovered.passed_over.first().copied();
    if let (None, Some(first)) = (found.recovered.cut, first_passed) {
        let (segment, offset) = end.unwrap_or((first, 0));
        found.recovered.cut = Some(Cut { segment, offset, sequence });
    }
    // One batch can have been in flight, and one in each segment that was being begun.
    let torn = match found.recovered.cut {
        Some(_) => 1 + found.recovered.passed_over.len() as u64,
        None => 0,
    };
    found.next_sequence = sequence + torn * u64::from(BATCH_COUNT_MAX);
    found.unsynced =
        last.iter().filter(|(_, sequence)| *sequence > synced_through).map(|(number, _)| *number).collect();
}
