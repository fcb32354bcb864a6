//! Answers: what they refer to is leased, then they are written as the ring has room.

use crate::frame::{Frame, MmapRef, SlotRef};
use crate::pool::{Found, LeaseError, Leases, SessionId};
use crate::ring::{Segment, SendError, Sender};
use crate::session::places::Places;
use crate::session::{MAP_POOL, SessionError};
use bettong_wire::message::{EncodedMessage, HEAD_BYTES, Op, encode_response};
use bettong_wire::response::Outcome;
use bettong_wire::{BlockMemory, ErrorKind, Payload, Response, ServiceError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Milliseconds after which a client that holds too much may have let go of some of it.
const RETRY_AFTER_MS: u32 = 10;
/// Parts of answers that are shown at once.
const PUBLISH_EVERY: u32 = 16;
/// Parts for which there is always room in the queue. More are let go of once it is empty.
const QUEUE_KEPT: usize = 256;
/// Bytes of an error's message besides its text, and some more.
const ERROR_BYTES: usize = HEAD_BYTES + 32;

/// A frame of an answer. What it refers to is leased.
enum Part {
    Inline(Vec<u8>),
    Slot(SlotRef),
    /// Bytes that do not begin where their slot does: two frames that are seen at once.
    Within(SlotRef, MmapRef),
}

impl Part {
    /// Of its frames, at most.
    fn bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => 16 + bytes.len() as u64,
            Self::Slot(_) | Self::Within(..) => 64,
        }
    }
}

/// Makes answers of what is in the pool, or brings it there.
pub(super) struct Lender {
    pub session: SessionId,
    pub leases: Arc<Leases>,
    pub memory: Arc<dyn BlockMemory>,
    pub places: Places,
    pub inline_max: u16,
}

/// What was leased for an answer, given back unless it is kept.
struct Granted<'a> {
    lender: &'a Lender,
    slots: &'a mut Vec<(SlotRef, u64)>,
}

/// An answer that is being composed.
#[derive(Default)]
struct Composed {
    parts: Vec<Part>,
    /// Slots that are leased for it and not kept yet, and their lengths; one may be there several times.
    slots: Vec<(SlotRef, u64)>,
}

impl Lender {
    /// Composes an answer of at most `bytes_max` of frames. When this returns, all that they name is leased.
    fn compose(&self, message: EncodedMessage, bytes_max: u64, answer: &mut Composed) -> Result<(), ServiceError> {
        let Composed { parts, slots } = answer;
        let mut granted = Granted { lender: self, slots };
        parts.clear();
        if message.head.len() <= usize::from(self.inline_max) {
            parts.push(Part::Inline(message.head));
        } else {
            parts.push(Part::Slot(granted.copied(&message.head.into())?.slot));
        }
        for payload in &message.payloads {
            parts.push(granted.payload(payload)?);
        }
        let bytes = bytes_of(parts);
        if bytes > bytes_max {
            let text = format!("an answer of {bytes} bytes of frames: {bytes_max} may wait for this client to read");
            return Err(ServiceError::busy(text, RETRY_AFTER_MS));
        }
        // From here on the client has them.
        granted.slots.clear();
        Ok(())
    }

    /// An error with as much of its text as travels in a frame.
    fn error(&self, op: Op, id: u64, mut error: ServiceError) -> Part {
        let max = usize::from(self.inline_max).saturating_sub(ERROR_BYTES);
        let end = (0..=max.min(error.message.len())).rev().find(|end| error.message.is_char_boundary(*end));
        error.message.truncate(end.unwrap_or(0));
        let message = encode_response(Some(op), id, Response::error(error));
        debug_assert!(message.head.len() <= usize::from(self.inline_max), "{} bytes", message.head.len());
        Part::Inline(message.head)
    }
}

impl Granted<'_> {
    fn payload(&mut self, payload: &Payload) -> Result<Part, ServiceError> {
        if payload.len() <= usize::from(self.lender.inline_max) {
            return Ok(Part::Inline(payload.as_ref().to_vec()));
        }
        let found = match self.grant(payload) {
            Err(LeaseError::NotInPool) => self.copied(payload)?,
            granted => granted.map_err(|error| self.refused(error))?,
        };
        if found.offset == 0 {
            return Ok(Part::Slot(found.slot));
        }
        let internal = |error: &dyn std::fmt::Display| ServiceError::new(ErrorKind::Internal, error.to_string());
        let slot = self.lender.places.range(found.slot).map_err(|error| internal(&error))?;
        let len = u32::try_from(payload.len()).map_err(|error| internal(&error))?;
        let named = MmapRef { map: MAP_POOL, generation: 0, offset: slot.start + found.offset, len };
        Ok(Part::Within(found.slot, named))
    }

    /// A copy of the bytes in the pool, leased.
    fn copied(&mut self, payload: &Payload) -> Result<Found, ServiceError> {
        let copy = self.lender.memory.adopt(payload.clone().into_bytes())?;
        self.grant(&copy).map_err(|error| self.refused(error))
    }

    fn grant(&mut self, payload: &Payload) -> Result<Found, LeaseError> {
        let found = self.lender.leases.grant(self.lender.session, payload)?;
        self.slots.push((found.slot, found.slot_bytes));
        Ok(found)
    }

    fn refused(&self, error: LeaseError) -> ServiceError {
        match error {
            LeaseError::OverQuota { slot_bytes, limit, .. } => {
                let asked: BTreeMap<SlotRef, u64> = self.slots.iter().copied().collect();
                let bytes = asked.values().sum::<u64>().saturating_add(slot_bytes);
                if bytes <= limit {
                    return ServiceError::busy(error.to_string(), RETRY_AFTER_MS);
                }
                // No release would help: the answer alone is over the limit.
                let text = format!("an answer of {bytes} bytes of slots or more: a client may lease {limit}");
                ServiceError::too_large(text, limit)
            }
            LeaseError::Ended(_) => ServiceError::new(ErrorKind::Retry, error.to_string()),
            LeaseError::NotInPool => ServiceError::new(ErrorKind::Internal, "a copy that is not in the pool"),
        }
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        for (slot, _) in self.slots.drain(..) {
            let released = self.lender.leases.release(self.lender.session, slot);
            debug_assert!(released.is_ok() || self.lender.leases.bytes_of(self.lender.session).is_none());
        }
    }
}

/// The error for an answer that cannot be said. Whoever hears BUSY believes that nothing was done.
fn unsaid(op: Op, error: ServiceError) -> ServiceError {
    match op {
        Op::Put | Op::PutBlocks | Op::PutSidecar | Op::Delete | Op::Clear | Op::PublishHead | Op::Maintain => {
            ServiceError::new(ErrorKind::Retry, format!("done, but there is no room to say what: {}", error.message))
        }
        _ => error,
    }
}

fn bytes_of(parts: &[Part]) -> u64 {
    parts.iter().map(Part::bytes).sum()
}

/// A part of an answer that is not written.
struct Queued {
    part: Part,
    /// The request whose answer ends with it.
    answers: Option<u64>,
}

/// Answers on their way into the ring, in the order in which they were given.
pub(super) struct Outgoing<Own, Peer> {
    sender: Sender<Own, Peer>,
    queue: VecDeque<Queued>,
    answer: Composed,
    queued_bytes: u64,
    queued_bytes_max: u64,
    wrote: bool,
}

impl<Own: Segment, Peer: Segment> Outgoing<Own, Peer> {
    pub fn new(sender: Sender<Own, Peer>, queued_bytes_max: u64) -> Self {
        Self {
            sender,
            queue: VecDeque::new(),
            answer: Composed::default(),
            queued_bytes: 0,
            queued_bytes_max,
            wrote: false,
        }
    }

    pub fn sender(&self) -> &Sender<Own, Peer> {
        &self.sender
    }

    /// Whether anything was written since this was last asked.
    pub fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.wrote)
    }

    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Leases what the answer refers to and puts it behind those that wait. One that cannot be had becomes an error.
    pub fn queue(&mut self, id: u64, lender: &Lender, op: Op, response: Response) {
        // An answer of any length may wait alone.
        let waits_alone = self.queue.is_empty();
        let left = if waits_alone { u64::MAX } else { self.queued_bytes_max.saturating_sub(self.queued_bytes) };
        let said = match &response.outcome {
            Outcome::Error(error) => Some(error.clone()),
            _ => None,
        };
        if let Err(error) = lender.compose(encode_response(Some(op), id, response), left, &mut self.answer) {
            self.answer.parts.clear();
            self.answer.parts.push(lender.error(op, id, said.unwrap_or_else(|| unsaid(op, error))));
        }
        self.queued_bytes += bytes_of(&self.answer.parts);
        self.queue.extend(self.answer.parts.drain(..).map(|part| Queued { part, answers: None }));
        if let Some(last) = self.queue.back_mut() {
            last.answers = Some(id);
        }
    }

    /// Writes as much as there is room for, and says whose answers are written.
    pub fn flush(&mut self, written: impl FnMut(u64)) -> Result<(), SessionError> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let flushed = self.push(written);
        self.sender.publish();
        if self.queue.is_empty() {
            self.queue.shrink_to(QUEUE_KEPT);
        }
        flushed
    }

    /// The client sees a few frames at a time: each time costs both sides a cache line, and none at all would keep it waiting.
    fn push(&mut self, mut written: impl FnMut(u64)) -> Result<(), SessionError> {
        let mut pushed = 0;
        while let Some(Queued { part, answers }) = self.queue.front() {
            let sent = match part {
                Part::Inline(bytes) => self.sender.push(&[Frame::Inline(bytes)]),
                Part::Slot(slot) => self.sender.push(&[Frame::Slot(*slot)]),
                Part::Within(slot, named) => self.sender.push(&[Frame::Slot(*slot), Frame::Mmap(*named)]),
            };
            match sent {
                Ok(()) => {}
                Err(SendError::Full { .. }) => return Ok(()),
                Err(SendError::Frame(error)) => return Err(crate::ring::Violation::from(error).into()),
                Err(SendError::Violation(violation)) => return Err(violation.into()),
            }
            self.wrote = true;
            pushed += 1;
            if pushed % PUBLISH_EVERY == 0 {
                self.sender.publish();
            }
            self.queued_bytes = self.queued_bytes.saturating_sub(part.bytes());
            if let Some(id) = *answers {
                written(id);
            }
            self.queue.pop_front();
        }
        Ok(())
    }
}
