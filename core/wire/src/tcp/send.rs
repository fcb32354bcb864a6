//! One direction's outgoing frames: messages in, slices for vectored writes out.

use super::frame::{FRAME_FLAG_PAYLOAD_CRC, FRAME_HEADER_BYTES, FrameHeader, TRAILER_BYTES};
use crate::error::ServiceError;
use crate::message::{Direction, EncodedMessage, FLAG_CONTINUED, FLAG_MORE, HEAD_BYTES, MessageHead};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Payload bytes of one frame at most: a large message leaves room between its frames for others.
const CHUNK_BYTES: u64 = 4 << 20;
/// Frames are cut from messages until this much is ready to be written.
const STAGED_BYTES: u64 = 1 << 20;
const STAGED_SLICES: usize = 64;

struct Outgoing {
    /// Head and archive; `None` once they are sent.
    first: Option<Bytes>,
    head: MessageHead,
    payloads: VecDeque<Bytes>,
    left: u64,
    /// Checksum of the payload bytes that are sent, where there is one.
    crc: Option<u32>,
}

/// Queues messages and cuts them into frames, one of each in turn.
pub struct Sender {
    direction: Direction,
    frame_bytes_max: u32,
    payload_crc: bool,
    queue: VecDeque<Outgoing>,
    queued_bytes: u64,
    staged: VecDeque<Bytes>,
    staged_bytes: u64,
}

impl Sender {
    pub fn new(direction: Direction, frame_bytes_max: u32) -> Self {
        Self {
            direction,
            frame_bytes_max,
            payload_crc: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            staged: VecDeque::new(),
            staged_bytes: 0,
        }
    }

    /// From the next message on, payloads bear a checksum.
    pub fn set_payload_crc(&mut self) {
        self.payload_crc = true;
    }

    /// From the next frame on, no frame is longer.
    pub fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Messages that are not wholly handed to the transport, those in the last write apart.
    pub fn queued_messages(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that wait to be written. Their payloads stay in memory so long.
    pub fn unsent_bytes(&self) -> u64 {
        self.queued_bytes.saturating_add(self.staged_bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.staged.is_empty()
    }

    /// Queues a message. Fails where its head and archive do not fit one frame.
    pub fn push(&mut self, message: EncodedMessage) -> Result<(), ServiceError> {
        let frame = FRAME_HEADER_BYTES as u64 + message.head.len() as u64 + TRAILER_BYTES;
        let limit = u64::from(self.frame_bytes_max);
        if frame >= limit {
            let text = format!("a message of {frame} bytes is over this session's limit of {limit} bytes a frame");
            return Err(ServiceError::too_large(text, limit));
        }
        let head = MessageHead::read(&message.head, self.direction)?;
        let left = message.payload_len();
        self.queued_bytes = self.queued_bytes.saturating_add(message.head.len() as u64).saturating_add(left);
        self.queue.push_back(Outgoing {
            first: Some(message.head.into()),
            head,
            payloads: message.payloads.into_iter().map(crate::Payload::into_bytes).collect(),
            left,
            crc: (self.payload_crc && left > 0).then_some(0),
        });
        Ok(())
    }

    /// What to write next, in order; empty where there is nothing. Tell `advance` how much was written.
    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        while self.staged_bytes < STAGED_BYTES && self.staged.len() < STAGED_SLICES {
            let Some(mut outgoing) = self.queue.pop_front() else { break };
            self.stage(&mut outgoing);
            if outgoing.left > 0 {
                self.queue.push_back(outgoing);
            }
        }
        self.staged.iter().take(STAGED_SLICES).map(|bytes| IoSlice::new(bytes)).collect()
    }

    /// `n` bytes of `slices` were written.
    pub fn advance(&mut self, n: usize) {
        let mut n = n;
        self.staged_bytes = self.staged_bytes.saturating_sub(n as u64);
        while let Some(front) = self.staged.front_mut() {
            if n < front.len() {
                front.advance(n);
                return;
            }
            n -= front.len();
            self.staged.pop_front();
        }
    }

    /// Cuts the next frame from a message.
    fn stage(&mut self, outgoing: &mut Outgoing) {
        let first = outgoing.first.take();
        let message_len = first.as_ref().map_or(HEAD_BYTES, Bytes::len) as u64;
        let overhead = FRAME_HEADER_BYTES as u64 + message_len + TRAILER_BYTES;
        let room = u64::from(self.frame_bytes_max).saturating_sub(overhead).clamp(1, CHUNK_BYTES);
        let payload_len = outgoing.left.min(room);
        outgoing.left -= payload_len;
        let more = if outgoing.left > 0 { FLAG_MORE } else { 0 };
        let continued = if first.is_none() { FLAG_CONTINUED } else { 0 };
        let archive_len = if first.is_none() { 0 } else { outgoing.head.archive_len };
        let head = MessageHead { flags: more | continued, archive_len, ..outgoing.head };
        let trailer = outgoing.crc.is_some() && more == 0;
        let len = message_len + payload_len + if trailer { TRAILER_BYTES } else { 0 };

        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + message_len as usize);
        bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        bytes.extend_from_slice(&head.to_bytes());
        if let Some(archive) = first.as_ref().and_then(|first| first.get(HEAD_BYTES..)) {
            bytes.extend_from_slice(archive);
        }
        let flags = if trailer { FRAME_FLAG_PAYLOAD_CRC } else { 0 };
        // `len` is at most the frame limit, a u32.
        let header = FrameHeader::seal(flags, u32::try_from(len).unwrap_or(u32::MAX), &bytes[FRAME_HEADER_BYTES..]);
        bytes[..FRAME_HEADER_BYTES].copy_from_slice(&header.to_bytes());

        self.queued_bytes = self.queued_bytes.saturating_sub(payload_len);
        if first.is_some() {
            self.queued_bytes = self.queued_bytes.saturating_sub(message_len);
        }
        self.put(bytes.into());
        self.stage_payloads(outgoing, payload_len);
        if let (true, Some(crc)) = (trailer, outgoing.crc) {
            self.put(Bytes::copy_from_slice(&crc.to_le_bytes()));
        }
    }

    fn stage_payloads(&mut self, outgoing: &mut Outgoing, payload_len: u64) {
        let mut wanted = payload_len;
        while wanted > 0 {
            let Some(front) = outgoing.payloads.front_mut() else { return };
            let n = usize::try_from(wanted).unwrap_or(usize::MAX).min(front.len());
            let piece = front.split_to(n);
            if front.is_empty() {
                outgoing.payloads.pop_front();
            }
            if let Some(crc) = &mut outgoing.crc {
                *crc = crc32c::crc32c_append(*crc, &piece);
            }
            wanted = wanted.saturating_sub(n as u64);
            if !piece.is_empty() {
                self.put(piece);
            }
        }
    }

    fn put(&mut self, bytes: Bytes) {
        self.staged_bytes = self.staged_bytes.saturating_add(bytes.len() as u64);
        self.staged.push_back(bytes);
    }
}
