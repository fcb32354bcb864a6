//! Appends on their way to the writer: cut into pieces that fit a batch, and kept in order.

use super::config::JournalConfig;
use super::error::AppendError;
use super::header::BATCH_COUNT_MAX;
use super::record::{PutRecord, RECORD_BYTES_MAX, Record};
use crate::seal::Sealed;
use bettong_wire::envelope::Algorithm;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use tokio::sync::oneshot;

/// What the queue charges for a record besides its body. Bytes.
const RECORD_COST: u64 = 4096;

/// One write to be journaled.
#[derive(Clone, Debug)]
pub enum Write {
    /// A put of this life.
    Put(Sealed),
    /// Anything but `Put`, `Commit`, `Void`, `Segment` and `Mark`, which the journal makes itself.
    Record(Record),
}

/// The sequence numbers that an append has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub first: u64,
    pub last: u64,
}

/// A record with the body that follows it.
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) body: Bytes,
}

/// An append on its way. Each piece goes into one batch; the last one bears the commit where there are several.
pub(super) struct Submission {
    pub(super) pieces: VecDeque<Vec<Entry>>,
    pub(super) grouped: bool,
    /// Whether its records stay in the backlog: records that shrink it are taken however full it is.
    pub(super) grows: bool,
    pub(super) cost: u64,
    pub(super) records: u64,
    /// Sequence number of its first record, once it has one.
    pub(super) first: Option<u64>,
    /// Which entries of the batch that is being written are its own.
    pub(super) own: Range<u64>,
}

/// A place in the queue.
pub(super) struct Ticket {
    pub(super) id: u64,
    pub(super) done: oneshot::Receiver<Result<Appended, AppendError>>,
}

pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) submission: Submission,
    pub(super) done: oneshot::Sender<Result<Appended, AppendError>>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) next_id: u64,
    /// Of what waits.
    pub(super) cost: u64,
    pub(super) records: u64,
    /// Of what the writer has taken and not yet answered.
    pub(super) taken: Taken,
    pub(super) closed: bool,
}

impl Queue {
    /// Takes what grows out of the queue.
    pub(super) fn take_growing(&mut self) -> VecDeque<Waiting> {
        let waiting = std::mem::take(&mut self.waiting);
        let (growing, others): (VecDeque<_>, _) = waiting.into_iter().partition(|waiting| waiting.submission.grows);
        self.waiting = others;
        for waiting in &growing {
            self.cost -= waiting.submission.cost;
            self.records -= waiting.submission.records;
        }
        growing
    }
}

/// What is between the queue and the files.
#[derive(Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) cost: u64,
    pub(super) records: u64,
}

impl Submission {
    pub(super) fn new(writes: Vec<Write>, config: &JournalConfig) -> Result<Self, AppendError> {
        if writes.is_empty() {
            return Err(AppendError::Invalid("an append without a record".to_owned()));
        }
        let mut entries = Vec::with_capacity(writes.len());
        for write in writes {
            entries.push(entry(write, config)?);
        }
        let grows = entries.iter().any(|entry| matches!(entry.record, Record::Put(_) | Record::Head(_)));
        let records = entries.len() as u64;
        let cost = entries.iter().map(|entry| entry.body.len() as u64 + RECORD_COST).sum();
        if grows && cost > config.bytes_max {
            let limit = config.bytes_max;
            return Err(AppendError::TooLarge { what: format!("an append of {cost} bytes"), limit });
        }
        let mut pieces = cut(entries, config.batch_bytes_max);
        let grouped = pieces.len() > 1;
        if grouped {
            if pieces.iter().flatten().any(|entry| !matches!(entry.record, Record::Put(_))) {
                let limit = config.batch_bytes_max;
                return Err(AppendError::Invalid(format!(
                    "an append of over {BATCH_COUNT_MAX} records or {limit} bytes takes puts only"
                )));
            }
            // The commit has room in the last piece: pieces are one record short of a batch.
            if let Some(last) = pieces.back_mut() {
                last.push(Entry { record: Record::Commit { group: 0, puts: 0 }, body: Bytes::new() });
            }
        }
        Ok(Self { pieces, grouped, grows, cost, records, first: None, own: 0..0 })
    }

    /// The numbers of its records in a batch that begins at `first`.
    pub(super) fn numbered(&mut self, first: u64) -> Appended {
        let own = *self.first.get_or_insert(first + self.own.start);
        Appended { first: own, last: first + self.own.end - 1 }
    }

    /// Names the group and counts its puts, once the group has its number.
    pub(super) fn name_group(&mut self, number: u64) {
        if !self.grouped {
            return;
        }
        let mut count = 0;
        for entry in self.pieces.iter_mut().flatten() {
            match &mut entry.record {
                Record::Put(put) => {
                    put.group = number;
                    count += 1;
                }
                Record::Commit { group, puts } => (*group, *puts) = (number, count),
                _ => {}
            }
        }
    }
}

fn entry(write: Write, config: &JournalConfig) -> Result<Entry, AppendError> {
    match write {
        Write::Put(sealed) => {
            let [head, body] = sealed.parts().map(Bytes::clone);
            let header = sealed.header;
            // The payload's own hash is there already; a compressed body's is taken here, once.
            let compressed = header.algorithm != Algorithm::None;
            let stored_hash = compressed.then(|| *blake3::hash(&body).as_bytes());
            if header.put_id.life != config.life.life {
                let (found, own) = (header.put_id, config.life.life);
                return Err(AppendError::Invalid(format!("put {found} is not of this life ({own:016x})")));
            }
            let ordinal = config.life.ordinal;
            Ok(Entry { record: Record::Put(PutRecord { group: 0, ordinal, header, head, stored_hash }), body })
        }
        Write::Record(record) => match record {
            Record::Delete { .. } | Record::Overwrite { .. } | Record::Head(_) | Record::UploadDone { .. } => {
                Ok(Entry { record, body: Bytes::new() })
            }
            other => Err(AppendError::Invalid(format!("a {} record is the journal's own to write", other.name()))),
        },
    }
}

/// Cuts entries into pieces that fit a batch. One piece where all fit; else each has room for a commit record.
fn cut(entries: Vec<Entry>, bytes_max: u64) -> VecDeque<Vec<Entry>> {
    let total: u64 = entries.iter().map(|entry| entry.body.len() as u64).sum();
    if entries.len() <= BATCH_COUNT_MAX.into() && (entries.len() == 1 || total <= bytes_max) {
        return VecDeque::from([entries]);
    }
    let mut pieces = VecDeque::new();
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let len = entry.body.len() as u64;
        let full = piece.len() + 1 >= BATCH_COUNT_MAX.into() || bytes + len > bytes_max;
        if full && !piece.is_empty() {
            pieces.push_back(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += len;
        piece.push(entry);
    }
    pieces.push_back(piece);
    pieces
}

/// Bytes that a batch of these entries takes at most.
pub(super) fn batch_bytes(entries: &[Entry]) -> u64 {
    let bodies: u64 = entries.iter().map(|entry| entry.body.len() as u64).sum();
    bodies + (super::batch::FIXED_LEN + entries.len() * RECORD_BYTES_MAX) as u64
}
