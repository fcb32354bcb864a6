//! Looking at a journal without changing it, while a daemon writes it or when none does.

use super::record::Record;
use super::recovery::{Cut, Survey, survey};
use super::state::{Backlog, JournalState, Place};
use super::walk::{Seen, walk};
use crate::world::{DiskError, World};
use serde_json::{Value, json};

/// Looks at a directory whose segments die while it is looked at.
const ATTEMPTS_MAX: u32 = 100;

/// What `check` found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub bytes: u64,
    /// What waits to be uploaded, by what verifies.
    pub backlog: Backlog,
    /// The sequence number behind the last record that verifies.
    pub end: u64,
    /// Highest sequence number that is known to have been synced.
    pub synced_through: u64,
    /// A torn tail: of a crash, or of an append that is under way.
    pub torn: Option<Cut>,
    /// Segments that were only begun.
    pub passed_over: Vec<u64>,
    /// Segments that are dead and still there.
    pub dead: Vec<u64>,
    /// What a start would refuse, in words that name file and offset.
    pub problems: Vec<String>,
    /// Those of them that are no damage: a salvage refuses them as well.
    pub beyond_salvage: u64,
}

/// What is in the directory. Nothing was said yet of a segment that dies meanwhile, so that it can be looked at again.
async fn surveyed<W: World>(world: &W, dir: &str) -> Result<Survey, DiskError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match survey(world, dir).await {
            Err(DiskError::NotFound { .. }) if attempts < ATTEMPTS_MAX => {}
            done => return done,
        }
    }
}

/// Reads the journal in `dir` and says what is in it and what is wrong. Writes nothing. Beside a daemon that writes, it
/// tells of the moment when it began, and leaves out what dies meanwhile.
pub async fn check<W: World>(world: &W, dir: &str) -> Result<CheckReport, DiskError> {
    let survey = surveyed(world, dir).await?;
    let mut report = CheckReport {
        segments: survey.segments.iter().filter(|segment| !segment.skipped).count() as u64,
        passed_over: survey.passed_over.clone(),
        dead: survey.dead.clone(),
        problems: survey.problems.iter().map(ToString::to_string).collect(),
        beyond_salvage: survey.problems.iter().filter(|problem| !problem.is_damage()).count() as u64,
        ..CheckReport::default()
    };
    let last = survey.segments.iter().rev().find(|segment| !segment.skipped).map(|segment| segment.number);
    let mut state = JournalState::default();
    // Faults, each with where it is; those from `tail` on have nothing behind them that verifies.
    let mut faults: Vec<(Cut, String)> = Vec::new();
    let (mut tail, mut next) = (0, 1);
    let walked = walk(world, &survey, &mut |seen| match seen {
        // Its fault was seen before.
        Seen::Batch { bodies, .. } if bodies.contains(&false) => {}
        Seen::Batch { segment, offset, batch, .. } => {
            report.batches += 1;
            report.records += u64::from(batch.header.count);
            report.bytes += batch.total_len();
            // A repetition adds nothing.
            if batch.header.first >= next {
                apply(&mut state, segment, offset, batch);
                next = batch.end();
            }
            tail = faults.len();
        }
        // Nothing that came so far is pending any more.
        Seen::Died => state = JournalState::default(),
        Seen::Fault { segment, offset, fault, sequence } => {
            let cut = Cut { segment: segment.number, offset, sequence };
            faults.push((cut, format!("{}: offset {offset}: {fault}", segment.path)));
        }
    })
    .await?;
    state.abandon_groups();
    // A segment that cannot be read at all was more than begun: a start does not take that for a torn tail.
    let torn = |cut: &Cut| Some(cut.segment) == last && walked.synced_through < cut.sequence && !walked.unreadable;
    report.torn = faults.get(tail).map(|(cut, _)| *cut).filter(torn);
    if report.torn.is_some() {
        faults.truncate(tail);
    }
    report.problems.extend(faults.into_iter().map(|(_, text)| text));
    (report.backlog, report.end, report.synced_through) = (state.backlog(), next, walked.synced_through);
    Ok(report)
}

fn apply(state: &mut JournalState, segment: u64, offset: u64, batch: &super::Batch) {
    let mut body = offset + batch.head_len;
    for (record, sequence) in batch.records.iter().zip(batch.header.first..) {
        state.apply(Place { sequence, segment, offset: body }, record);
        body += record.body_len();
    }
}

/// One record, or one place that does not verify, of a dump.
#[derive(Clone, Debug)]
pub enum DumpLine {
    Record { segment: u64, offset: u64, sequence: u64, record: Box<Record>, body_verifies: Option<bool> },
    Fault { segment: u64, offset: u64, what: String },
}

/// Gives every record of the journal in `dir` to `each`, in order. Writes nothing.
pub async fn dump<W: World>(
    world: &W,
    dir: &str,
    each: &mut (dyn FnMut(DumpLine) + Send + '_),
) -> Result<(), DiskError> {
    let survey = surveyed(world, dir).await?;
    let mut visit = |seen: Seen<'_>| match seen {
        Seen::Batch { segment, offset, batch, bodies } => {
            let mut bodies = bodies.iter();
            for (record, sequence) in batch.records.iter().zip(batch.header.first..) {
                let body_verifies = matches!(record, Record::Put(_)).then(|| bodies.next().copied()).flatten();
                each(DumpLine::Record { segment, offset, sequence, record: Box::new(record.clone()), body_verifies });
            }
        }
        Seen::Fault { segment, offset, fault, .. } => {
            each(DumpLine::Fault { segment: segment.number, offset, what: fault.to_string() });
        }
        Seen::Died => {}
    };
    walk(world, &survey, &mut visit).await.map(drop)
}

impl DumpLine {
    /// The line as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Record { segment, offset, sequence, record, body_verifies } => json!({
                "segment": segment, "offset": offset, "sequence": sequence, "kind": record.name(),
                "record": details(record), "body_verifies": body_verifies,
            }),
            Self::Fault { segment, offset, what } => json!({ "segment": segment, "offset": offset, "fault": what }),
        }
    }
}

impl std::fmt::Display for DumpLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record { segment, offset, sequence, record, body_verifies } => {
                write!(f, "{segment:>6} {offset:>10} {sequence:>12} {:<11}", record.name())?;
                if let Value::Object(fields) = details(record) {
                    for (name, value) in fields {
                        match value {
                            Value::String(text) => write!(f, " {name}={text}")?,
                            other => write!(f, " {name}={other}")?,
                        }
                    }
                }
                if *body_verifies == Some(false) { f.write_str(" BODY DAMAGED") } else { Ok(()) }
            }
            Self::Fault { segment, offset, what } => write!(f, "{segment:>6} {offset:>10} {what}"),
        }
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

fn details(record: &Record) -> Value {
    let key = |key: &crate::index::rows::ValueKey| {
        format!("{:?}/{}/{}.{}", key.kind, key.namespace, hex(&key.hash), key.part.0).to_lowercase()
    };
    match record {
        Record::Put(put) => json!({
            "key": key(&put.key()), "put_id": put.header.put_id.to_string(), "life_ordinal": put.ordinal,
            "group": put.group, "raw_len": put.header.raw_len, "stored_len": put.header.stored_len,
        }),
        Record::Commit { group, puts } => json!({ "group": group, "puts": puts }),
        Record::Delete { key: of, horizon, wall_ms } => {
            json!({ "key": key(of), "horizon": horizon.put_id.to_string(), "wall_ms": wall_ms })
        }
        Record::Overwrite { key: of, version, level } => {
            json!({ "key": key(of), "put_id": version.put_id.to_string(), "level": format!("{level:?}").to_lowercase() })
        }
        Record::Head(head) => json!({
            "namespace": head.namespace.to_string(), "name": head.name.escape_default().to_string(),
            "generation": head.generation, "put_id": head.version.put_id.to_string(),
        }),
        Record::UploadDone { put_id } => json!({ "put_id": put_id.to_string() }),
        Record::Void { from, to, segment, offset } => {
            json!({ "from": from, "to": to, "segment": segment, "offset": offset })
        }
        Record::Segment { life, number, .. } => {
            json!({ "life_ordinal": life.ordinal, "life": format!("{:016x}", life.life), "number": number })
        }
        Record::Mark => json!({}),
    }
}
