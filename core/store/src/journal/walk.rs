//! Going through a whole journal, damaged or not: what verifies, and what does not.

use super::batch::Batch;
use super::error::Fault;
use super::record::Record;
use super::recovery::{Survey, Surveyed, beginning, has_died};
use super::scan::{Expected, Scanned, Scanner, resynchronise};
use crate::world::{DiskError, World};

/// What a walk comes by, in order.
pub(super) enum Seen<'a> {
    /// A batch whose records verify. `bodies` tells for each body whether it does.
    Batch { segment: u64, offset: u64, batch: &'a Batch, bodies: &'a [bool] },
    /// Bytes that do not verify, and where they should have begun to: the next sequence number there.
    Fault { segment: &'a Surveyed, offset: u64, fault: &'a Fault, sequence: u64 },
    /// A segment that died while it was walked: nothing in it, or before it, was pending any more.
    Died,
}

/// What a walk found out about the end of the log.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Walked {
    /// Highest `synced_through` of all batches.
    pub(super) synced_through: u64,
    /// The sequence number behind the last batch.
    pub(super) end: u64,
    /// A segment that held more than its beginning is not there, or could not be read at all: what was in it nobody knows.
    pub(super) unreadable: bool,
}

/// Goes through all segments that count. Those that die meanwhile, because a daemon is writing, are left out.
pub(super) async fn walk<W: World>(
    world: &W,
    survey: &Survey,
    visit: &mut (dyn FnMut(Seen<'_>) + Send + '_),
) -> Result<Walked, DiskError> {
    let unreadable = survey.lost_newest().is_some();
    let mut walked = Walked { synced_through: survey.synced_through, end: 1, unreadable };
    let mut chain = None;
    for (at, segment) in survey.segments.iter().enumerate().filter(|(_, segment)| !segment.skipped) {
        let Some(nonce) = nonce(survey, at) else {
            // Nothing tells its batches from a client's bytes.
            walked.unreadable |= !survey.only_begun(segment);
            if let Err(fault) = &segment.head {
                visit(Seen::Fault { segment, offset: 0, fault, sequence: walked.end });
            }
            chain = None;
            continue;
        };
        match walk_segment(world, segment, nonce, chain, &mut walked, visit).await {
            Ok(end) => {
                walked.unreadable |= end.is_none() && segment.head.is_err();
                chain = end;
            }
            Err(gone @ DiskError::NotFound { .. }) => {
                if !has_died(world.disk(), &survey.dir, segment.number).await? {
                    return Err(gone);
                }
                visit(Seen::Died);
                chain = None;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(walked)
}

/// The hash of a batch, and the sequence number that follows it.
type Chain = Option<([u8; 32], u64)>;

/// Goes through one segment; answers what the next one must follow.
async fn walk_segment<W: World>(
    world: &W,
    segment: &Surveyed,
    nonce: u64,
    mut chain: Chain,
    walked: &mut Walked,
    visit: &mut (dyn FnMut(Seen<'_>) + Send + '_),
) -> Result<Chain, DiskError> {
    let mut from = 0;
    let mut reported = None;
    let mut expected = Expected { nonce, chain: beginning(segment, chain) };
    loop {
        let mut scanner = Scanner::new(world, segment.path.clone(), from, segment.end, expected);
        let mut fault_at = None;
        while let Some(Scanned { offset, fault, batch, bodies }) = scanner.next().await? {
            // A batch that is read again on its own has one fault, not two.
            if let Some(fault) = fault.as_ref().filter(|_| reported != Some(offset)) {
                reported = Some(offset);
                visit(Seen::Fault { segment, offset, fault, sequence: walked.end });
            }
            let Some(batch) = batch else {
                fault_at = Some(offset);
                break;
            };
            walked.synced_through = walked.synced_through.max(batch.link.synced_through);
            if !bodies.contains(&false) {
                walked.end = walked.end.max(batch.end());
            }
            chain = Some((batch.header.hash, batch.end()));
            visit(Seen::Batch { segment: segment.number, offset, batch: &batch, bodies: &bodies });
        }
        let Some(fault_at) = fault_at else { return Ok(chain) };
        chain = None;
        // A batch that only does not follow the one before it is read on its own, once.
        let again = fault_at == from && expected.chain.is_none();
        let behind = if again { fault_at + 1 } else { fault_at };
        let next = resynchronise(world.disk(), &segment.path, behind, segment.end, nonce).await?;
        let Some(next) = next else { return Ok(chain) };
        (from, expected) = (next, Expected { nonce, chain: None });
    }
}

/// The nonce of a segment: its own first batch says it, the mark of the newest one, or the segment that follows.
fn nonce(survey: &Survey, at: usize) -> Option<u64> {
    let segment = survey.segments.get(at)?;
    if let Ok(batch) = &segment.head {
        return Some(batch.link.nonce);
    }
    if let Some(newest) = survey.newest.filter(|newest| newest.segment == segment.number) {
        return Some(newest.nonce);
    }
    let next = survey.segments.iter().skip(at + 1).find(|segment| !segment.skipped)?;
    match next.head.as_ref().ok()?.records.first()? {
        Record::Segment { previous_nonce, .. } => Some(*previous_nonce),
        _ => None,
    }
}
