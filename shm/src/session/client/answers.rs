//! Frames from the daemon: answers, in several frames.

use super::leased::{Leased, Releases};
use crate::frame::{Frame, MmapRef, SlotRef};
use crate::pool::{Region, View};
use crate::ring::{Receiver, Segment};
use crate::session::places::Places;
use crate::session::{MAP_POOL, SessionError, StartError};
use bettong_wire::limits::MESSAGE_BYTES_MAX;
use bettong_wire::message::{Direction, HEAD_BYTES, MessageHead, ResponseHead, decode_response};
use bettong_wire::{DecodeError, Payload, Response};
use std::borrow::Cow;
use std::sync::Arc;

/// The pool as this side has it.
pub(super) struct Pool {
    view: Arc<View>,
    places: Places,
    pub releases: Arc<Releases>,
    inline_max: u16,
}

/// A frame that is taken out of the ring.
enum Taken<'a> {
    Inline(Cow<'a, [u8]>),
    Slot(SlotRef),
    Mmap(MmapRef),
}

/// An answer whose payloads are not all there.
pub(super) struct Answering {
    pub id: u64,
    head: ResponseHead,
    payloads: Vec<Payload>,
}

/// Puts frames together.
#[derive(Default)]
pub(super) struct Answers {
    answering: Option<Answering>,
    /// A frame that was looked at and not used.
    ahead: Option<Taken<'static>>,
}

impl Answers {
    /// Judges the next frame, or two that belong together; `None` where there is none.
    pub fn step<Own: Segment, Peer: Segment>(
        &mut self,
        receiver: &mut Receiver<Own, Peer>,
        pool: &Pool,
        check: impl Fn(u64, &ResponseHead) -> Result<(), SessionError>,
    ) -> Result<Option<Step>, SessionError> {
        let Some(frame) = self.next(receiver)? else { return Ok(None) };
        let mut answering = match self.answering.take() {
            None => {
                let (id, head) = match frame {
                    Taken::Inline(message) => decode(&message)?,
                    Taken::Slot(slot) => decode(&pool.message(slot)?)?,
                    Taken::Mmap(_) => return Err(misplaced("the frame of a message", "a mapping frame")),
                };
                check(id, &head)?;
                Answering { id, head, payloads: Vec::new() }
            }
            Some(mut answering) => {
                let said = answering.head.payload_lens.get(answering.payloads.len()).copied().unwrap_or(0);
                let slot = match frame {
                    Taken::Inline(bytes) if bytes.len() as u64 != said => {
                        return Err(SessionError::PayloadLength { said, got: bytes.len() as u64 });
                    }
                    Taken::Inline(bytes) => {
                        answering.payloads.push(Payload::from(bytes.into_owned()));
                        None
                    }
                    Taken::Slot(slot) => Some(slot),
                    Taken::Mmap(_) => return Err(misplaced("the frame of a payload", "a mapping frame")),
                };
                if let Some(slot) = slot {
                    let within = self.within(receiver)?;
                    answering.payloads.push(pool.payload(slot, within, said)?);
                }
                answering
            }
        };
        if answering.payloads.len() < answering.head.payload_lens.len() {
            self.answering = Some(answering);
            return Ok(Some(Step::Part));
        }
        let payloads = std::mem::take(&mut answering.payloads);
        Ok(Some(Step::Answer { id: answering.id, response: Response { outcome: answering.head.outcome, payloads } }))
    }

    /// Whether a frame is here that the ring does not have any more.
    pub fn has_frame(&self) -> bool {
        self.ahead.is_some()
    }

    /// What part of its slot a payload is, where it does not begin with it. Both frames are published at once: where the second
    /// is not there, there is none.
    fn within<Own: Segment, Peer: Segment>(
        &mut self,
        receiver: &mut Receiver<Own, Peer>,
    ) -> Result<Option<MmapRef>, SessionError> {
        self.ahead = match self.next(receiver)? {
            Some(Taken::Mmap(named)) => return Ok(Some(named)),
            Some(Taken::Inline(bytes)) => Some(Taken::Inline(bytes.into_owned().into())),
            Some(Taken::Slot(slot)) => Some(Taken::Slot(slot)),
            None => None,
        };
        Ok(None)
    }

    fn next<'a, Own: Segment, Peer: Segment>(
        &mut self,
        receiver: &'a mut Receiver<Own, Peer>,
    ) -> Result<Option<Taken<'a>>, SessionError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        Ok(receiver.recv()?.map(|frame| match frame {
            Frame::Inline(bytes) => Taken::Inline(bytes.into()),
            Frame::Slot(slot) => Taken::Slot(slot),
            Frame::Mmap(named) => Taken::Mmap(named),
        }))
    }
}

/// What a frame brings.
pub(super) enum Step {
    /// Nothing that is complete.
    Part,
    Answer {
        id: u64,
        response: Response,
    },
}

impl Pool {
    pub fn new(region: Arc<dyn Region>, inline_max: u16) -> Result<Self, StartError> {
        let places = Places::of(region.len() as u64)?;
        Ok(Self { view: Arc::new(View::new(region)?), places, releases: Arc::default(), inline_max })
    }

    fn leased(&self, slot: SlotRef, offset: u64, len: u64) -> Leased {
        Leased::new(self.view.clone(), slot, offset, len, self.releases.clone())
    }

    /// A private copy of a message that stands at the beginning of a slot, which is released.
    fn message(&self, slot: SlotRef) -> Result<Vec<u8>, SessionError> {
        let place = self.places.range(slot)?;
        let slot_bytes = place.end - place.start;
        let leased = self.leased(slot, 0, slot_bytes);
        let head = MessageHead::read(leased.as_ref(), Direction::Response)?;
        let (got, limit) = (u64::from(head.archive_len), u64::from(MESSAGE_BYTES_MAX));
        if got > limit {
            return Err(DecodeError::TooLong { what: "the length of a message in bytes", got, limit }.into());
        }
        let len = HEAD_BYTES + head.archive_len as usize;
        let out = SessionError::Range { what: "a slot", offset: 0, len: len as u64, limit: slot_bytes };
        leased.as_ref().get(..len).map(<[u8]>::to_vec).ok_or(out)
    }

    /// The payload that a slot has, or a part of it.
    fn payload(&self, slot: SlotRef, within: Option<MmapRef>, said: u64) -> Result<Payload, SessionError> {
        let place = self.places.range(slot)?;
        let slot_bytes = place.end - place.start;
        if said <= u64::from(self.inline_max) {
            return Err(misplaced("the frame of a short payload", "a slot"));
        }
        let offset = match within {
            None => 0,
            Some(MmapRef { map, .. }) if map != MAP_POOL => return Err(SessionError::Map { got: map, must: MAP_POOL }),
            Some(MmapRef { generation, .. }) if generation != 0 => {
                return Err(SessionError::Generation { got: generation });
            }
            Some(MmapRef { len, .. }) if u64::from(len) != said => {
                return Err(SessionError::PayloadLength { said, got: len.into() });
            }
            Some(MmapRef { offset, .. }) => {
                let out = SessionError::Range { what: "the pool", offset, len: said, limit: place.end };
                offset.checked_sub(place.start).ok_or(out)?
            }
        };
        if offset.checked_add(said).is_none_or(|end| end > slot_bytes) {
            return Err(SessionError::Range { what: "a slot", offset, len: said, limit: slot_bytes });
        }
        Ok(Payload::from_owner(self.leased(slot, offset, said)))
    }
}

fn misplaced(what: &'static str, got: &'static str) -> SessionError {
    SessionError::Frame { what, got, must: "inline, or a slot where it is long" }
}

fn decode(message: &[u8]) -> Result<(u64, ResponseHead), SessionError> {
    let head = MessageHead::read(message, Direction::Response)?;
    let archive = message.get(HEAD_BYTES..).unwrap_or_default();
    let (said, got) = (u64::from(head.archive_len), archive.len() as u64);
    if said != got {
        return Err(DecodeError::LengthMismatch { what: "the archive of an answer", said, got }.into());
    }
    if head.flags != 0 {
        return Err(DecodeError::Unknown { what: "a flag of a whole message", got: head.flags.into() }.into());
    }
    Ok((head.request_id, decode_response(&head, archive)?))
}
