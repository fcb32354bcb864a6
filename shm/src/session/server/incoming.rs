//! Frames from a client: requests, in several frames, and releases.

use crate::frame::{Frame, MmapRef, SlotRef};
use crate::session::staging::Staging;
use crate::session::{MAP_STAGING, SessionError};
use bettong_wire::limits::{MESSAGE_BYTES_MAX, OPENING_BYTES_MAX};
use bettong_wire::message::{Direction, HEAD_BYTES, MessageHead, decode_request};
use bettong_wire::{DecodeError, Request};
use std::ops::Range;

/// What a frame brings.
pub(super) enum Read {
    /// Nothing that is complete.
    Part,
    Release(SlotRef),
    Request {
        id: u64,
        request: Request,
        body: Vec<Range<u64>>,
    },
}

/// Puts frames together.
pub(super) struct Incoming {
    /// Of an archive.
    archive_bytes_max: u32,
    reading: Option<Box<Reading>>,
}

/// A request whose payloads are not all named.
struct Reading {
    id: u64,
    request: Request,
    lens: Vec<u64>,
    body: Vec<Range<u64>>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { archive_bytes_max: OPENING_BYTES_MAX, reading: None }
    }
}

impl Incoming {
    pub fn allow_long_messages(&mut self) {
        self.archive_bytes_max = MESSAGE_BYTES_MAX;
    }

    /// Whether to judge the frame is much work: it names a long message.
    pub fn is_long(&self, frame: &Frame<'_>) -> bool {
        self.reading.is_none() && matches!(frame, Frame::Mmap(_))
    }

    /// Judges the next frame.
    pub fn take(
        &mut self,
        frame: Frame<'_>,
        staging: &impl Staging,
        is_under_way: impl Fn(u64) -> bool,
    ) -> Result<Read, SessionError> {
        let Some(mut reading) = self.reading.take() else {
            return match frame {
                Frame::Slot(slot) => Ok(Read::Release(slot)),
                Frame::Inline(message) => self.begin(message, staging.len(), is_under_way),
                Frame::Mmap(named) => self.begin(&self.long_message(&named, staging)?, staging.len(), is_under_way),
            };
        };
        reading.add(frame, staging.len())?;
        if reading.body.len() < reading.lens.len() {
            self.reading = Some(reading);
            return Ok(Read::Part);
        }
        let Reading { id, request, body, .. } = *reading;
        Ok(Read::Request { id, request, body })
    }

    /// A private copy of a message in the staging area.
    fn long_message(&self, named: &MmapRef, staging: &impl Staging) -> Result<Vec<u8>, SessionError> {
        let range = staged(named, staging.len())?;
        let (got, limit) = (u64::from(named.len), HEAD_BYTES as u64 + u64::from(self.archive_bytes_max));
        if got > limit {
            return Err(DecodeError::TooLong { what: "the length of a message in bytes", got, limit }.into());
        }
        let mut message = bytes::BufMut::limit(Vec::with_capacity(named.len as usize), named.len as usize);
        let out = SessionError::Range { what: "staging", offset: named.offset, len: got, limit: staging.len() };
        staging.read(range, &mut message).map_err(|_| out)?;
        Ok(message.into_inner())
    }

    fn begin(
        &mut self,
        message: &[u8],
        staging_bytes: u64,
        is_under_way: impl Fn(u64) -> bool,
    ) -> Result<Read, SessionError> {
        let head = MessageHead::read(message, Direction::Request)?;
        let archive = message.get(HEAD_BYTES..).unwrap_or_default();
        let (got, limit) = (u64::from(head.archive_len), u64::from(self.archive_bytes_max));
        if got > limit {
            return Err(DecodeError::TooLong { what: "the length of a message in bytes", got, limit }.into());
        }
        if got != archive.len() as u64 {
            let got = archive.len() as u64;
            let said = u64::from(head.archive_len);
            return Err(DecodeError::LengthMismatch { what: "the archive of a request", said, got }.into());
        }
        if head.flags != 0 {
            return Err(DecodeError::Unknown { what: "a flag of a whole message", got: head.flags.into() }.into());
        }
        let id = head.request_id;
        if id == 0 || is_under_way(id) {
            return Err(SessionError::RequestId { id });
        }
        let request = decode_request(&head, archive)?;
        let lens = request.payload_lens();
        // Each byte is named once: what a client may have copied is no more than it has written.
        let len = lens.iter().fold(0_u64, |sum, len| sum.saturating_add(*len));
        if len > staging_bytes {
            return Err(SessionError::Range { what: "staging", offset: 0, len, limit: staging_bytes });
        }
        if lens.is_empty() {
            return Ok(Read::Request { id, request, body: Vec::new() });
        }
        self.reading = Some(Box::new(Reading { id, request, lens, body: Vec::new() }));
        Ok(Read::Part)
    }
}

impl Reading {
    /// The frame of the next payload.
    fn add(&mut self, frame: Frame<'_>, staging_bytes: u64) -> Result<(), SessionError> {
        let said = self.lens.get(self.body.len()).copied().unwrap_or(0);
        let range = match frame {
            Frame::Inline([]) => 0..0,
            Frame::Inline(bytes) => return Err(SessionError::PayloadLength { said, got: bytes.len() as u64 }),
            Frame::Mmap(named) if named.len == 0 => {
                let must = "an empty frame";
                return Err(SessionError::Frame { what: "a payload of no bytes", got: "a mapping frame", must });
            }
            Frame::Mmap(named) => staged(&named, staging_bytes)?,
            Frame::Slot(_) => {
                let must = "a mapping frame, or an empty one";
                return Err(SessionError::Frame { what: "the frame of a payload", got: "a release", must });
            }
        };
        let got = range.end - range.start;
        if got != said {
            return Err(SessionError::PayloadLength { said, got });
        }
        self.body.push(range);
        Ok(())
    }
}

/// The range of the staging area that a frame names.
fn staged(named: &MmapRef, staging_bytes: u64) -> Result<Range<u64>, SessionError> {
    let MmapRef { map, generation, offset, len } = *named;
    if map != MAP_STAGING {
        return Err(SessionError::Map { got: map, must: MAP_STAGING });
    }
    if generation != 0 {
        return Err(SessionError::Generation { got: generation });
    }
    let out = SessionError::Range { what: "staging", offset, len: len.into(), limit: staging_bytes };
    named.range(staging_bytes).ok_or(out)
}
