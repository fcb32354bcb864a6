//! Reading a segment's file from its beginning, or from any batch of it, and verifying what is read.

use super::batch::{Batch, FIXED_LEN};
use super::error::Fault;
use super::header::MAGIC;
use super::record::Record;
use crate::world::{Disk, DiskError, World};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes of one read. The next one is under way while this one is verified.
const CHUNK_BYTES: u64 = 8 << 20;
/// Reads that wait to be looked at.
const CHUNKS_AHEAD: usize = 1;

/// What the next batch must be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Expected {
    pub(super) nonce: u64,
    /// Hash of the batch before it, and its sequence number; `None` behind a gap.
    pub(super) chain: Option<([u8; 32], u64)>,
}

/// A batch that was read.
pub(super) struct Scanned {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// What is wrong with it; the batch itself is there if its records verify.
    pub(super) fault: Option<Fault>,
    pub(super) batch: Option<Batch>,
    /// For each of its bodies, whether it verifies.
    pub(super) bodies: Vec<bool>,
}

/// Reads the batches of one segment in order.
pub(super) struct Scanner {
    chunks: mpsc::Receiver<Result<Bytes, DiskError>>,
    buffer: Bytes,
    position: u64,
    end: u64,
    expected: Expected,
}

impl Scanner {
    /// Reads the file `path` from `position` up to `end`.
    pub(super) fn new<W: World>(world: &W, path: String, position: u64, end: u64, expected: Expected) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let reader = world.clone();
        world.spawn(async move {
            let mut at = position;
            while at < end {
                let read = reader.disk().read_at(&path, at, CHUNK_BYTES.min(end - at)).await;
                let got = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
                // A file that ends early ends the reading; whoever is told so sees that bytes are missing.
                if sender.send(read).await.is_err() || got == 0 {
                    return;
                }
                at += got;
            }
        });
        Self { chunks, buffer: Bytes::new(), position, end, expected }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch, or `None` at the end. After a fault of anything but a body nothing more can be read.
    pub(super) async fn next(&mut self) -> Result<Option<Scanned>, DiskError> {
        // A segment has a first batch, always.
        if self.position >= self.end && self.end > 0 {
            return Ok(None);
        }
        let offset = self.position;
        let faulty = |fault| Ok(Some(Scanned { offset, fault: Some(fault), batch: None, bodies: Vec::new() }));
        let head = match self.head().await? {
            Ok(head) => head,
            Err(fault) => return faulty(fault),
        };
        let batch = match Batch::decode(&head) {
            Ok(batch) => batch,
            Err(error) => return faulty(error.into()),
        };
        if let Some(fault) = self.misplaced(&batch, offset) {
            return faulty(fault);
        }
        if batch.total_len() > self.end - offset {
            return faulty(Fault::Short { needed: batch.total_len(), got: self.end - offset });
        }
        let (mut bodies, mut fault) = (Vec::new(), None);
        for body in batch.bodies() {
            let Some(hash) = self.hash(body.record.header.stored_len).await? else {
                return faulty(Fault::Short { needed: batch.total_len(), got: self.position - offset });
            };
            let right = hash == body.record.body_hash();
            bodies.push(right);
            if !right && fault.is_none() {
                fault = Some(Fault::Body { put_id: body.record.header.put_id });
            }
        }
        self.expected.chain = Some((batch.header.hash, batch.end()));
        Ok(Some(Scanned { offset, fault, batch: Some(batch), bodies }))
    }

    /// The bytes of a batch up to its bodies.
    async fn head(&mut self) -> Result<Result<Bytes, Fault>, DiskError> {
        let there = self.end - self.position;
        let short = |needed: usize| Fault::Short { needed: needed as u64, got: there };
        let Some(fixed) = self.take(FIXED_LEN).await? else { return Ok(Err(short(FIXED_LEN))) };
        let len = match Batch::head_len(&fixed) {
            Ok(len) => len,
            // A version that is not ours needs more of the batch to be judged.
            Err(error) => return Ok(Err(error.into())),
        };
        let Some(rest) = self.take(len - FIXED_LEN).await? else { return Ok(Err(short(len))) };
        Ok(Ok([fixed, rest].concat().into()))
    }

    fn misplaced(&self, batch: &Batch, offset: u64) -> Option<Fault> {
        if batch.link.nonce != self.expected.nonce {
            return Some(Fault::Nonce);
        }
        let first_only = |record: &Record| matches!(record, Record::Segment { .. } | Record::Void { .. });
        let begins = matches!(batch.records.first(), Some(Record::Segment { .. }));
        if begins != (offset == 0) || !begins && batch.records.iter().any(first_only) {
            return Some(Fault::Segment);
        }
        let (previous, expected) = self.expected.chain?;
        if batch.header.first != expected {
            return Some(Fault::Sequence { expected, found: batch.header.first });
        }
        (batch.link.previous != previous).then_some(Fault::Chain)
    }

    /// BLAKE3 of the next `len` bytes; `None` where the file ends before.
    async fn hash(&mut self, mut len: u64) -> Result<Option<[u8; 32]>, DiskError> {
        let mut hasher = blake3::Hasher::new();
        while len > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Ok(None);
            }
            let some = usize::try_from(len).unwrap_or(usize::MAX).min(self.buffer.len());
            hasher.update(&self.buffer.split_to(some));
            self.position += some as u64;
            len -= some as u64;
        }
        Ok(Some(*hasher.finalize().as_bytes()))
    }

    /// The next `len` bytes; `None` where the file ends before.
    async fn take(&mut self, len: usize) -> Result<Option<Bytes>, DiskError> {
        if self.buffer.len() < len {
            let mut joined = BytesMut::with_capacity(len);
            while joined.len() < len {
                if self.buffer.is_empty() && !self.fill().await? {
                    return Ok(None);
                }
                let some = (len - joined.len()).min(self.buffer.len());
                joined.extend_from_slice(&self.buffer.split_to(some));
            }
            self.position += len as u64;
            return Ok(Some(joined.freeze()));
        }
        self.position += len as u64;
        Ok(Some(self.buffer.split_to(len)))
    }

    /// False at the end.
    async fn fill(&mut self) -> Result<bool, DiskError> {
        match self.chunks.recv().await {
            Some(chunk) => self.buffer = chunk?,
            None => return Ok(false),
        }
        Ok(!self.buffer.is_empty())
    }
}

/// The first place at or behind `from` where a batch of the segment begins whose records verify. Bytes that only look
/// like one, a client's payload among them, do not bear the nonce and cost nothing more than the look.
pub(super) async fn resynchronise<D: Disk>(
    disk: &D,
    path: &str,
    from: u64,
    end: u64,
    nonce: u64,
) -> Result<Option<u64>, DiskError> {
    let mut at = from;
    while at.saturating_add(FIXED_LEN as u64) <= end {
        let window = disk.read_at(path, at, CHUNK_BYTES.min(end - at)).await?;
        let Some(last) = window.len().checked_sub(FIXED_LEN) else { return Ok(None) };
        for start in 0..=last {
            let Some(fixed) = window.get(start..start + FIXED_LEN) else { break };
            if fixed[..4] != MAGIC || fixed[104..112] != nonce.to_le_bytes() {
                continue;
            }
            let Ok(len) = Batch::head_len(fixed) else { continue };
            let head = disk.read_at(path, at + start as u64, len as u64).await?;
            if Batch::decode(&head).is_ok() {
                return Ok(Some(at + start as u64));
            }
        }
        at += last as u64 + 1;
    }
    Ok(None)
}
