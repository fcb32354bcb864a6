//! The writing end of a half ring.

use super::{Geometry, GeometryError, Segment, Violation, WAITS_ON_BELL, WAITS_UNTIL_READ, WORD_BYTES};
use crate::frame::{Frame, InvalidFrame};
use crate::sync::{Ordering, fence, release};

/// Why frames were not written. The ring is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The other side has to read first.
    #[error("the ring is full: {needed} words are needed, {free} are free")]
    Full { needed: u64, free: u64 },
    /// This side made it wrong.
    #[error(transparent)]
    Frame(#[from] InvalidFrame),
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// Frames that are not certain to fit at once even where the ring is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("frames that take up to {needed} words at once: the ring has {capacity}")]
pub struct TooLong {
    pub needed: u64,
    pub capacity: u64,
}

/// Writes frames into its own segment, as far as the other side has read.
#[derive(Debug)]
pub struct Sender<Own, Peer> {
    own: Own,
    peer: Peer,
    geometry: Geometry,
    tail: u64,
    /// What the other side is shown of it.
    shown: u64,
    /// How far the other side had read when it was last asked.
    head: u64,
    bytes: Vec<u8>,
}

impl<Own: Segment, Peer: Segment> Sender<Own, Peer> {
    /// The writing end of a fresh session; `own` is written here, `peer` by the other side.
    pub fn new(own: Own, peer: Peer, inline_max: u16) -> Result<Self, GeometryError> {
        let geometry = Geometry::new(own.words().len(), inline_max)?;
        Ok(Self { own, peer, geometry, tail: 0, shown: 0, head: 0, bytes: Vec::new() })
    }

    /// Writes one frame, whole or not at all. Never waits.
    pub fn send(&mut self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.send_all(std::slice::from_ref(frame))
    }

    /// Writes all of the frames or none; the other side sees them at once. Never waits. Whether they ever fit is what
    /// `check_length` knows.
    pub fn send_all(&mut self, frames: &[Frame<'_>]) -> Result<(), SendError> {
        self.push(frames)?;
        self.publish();
        Ok(())
    }

    /// As `send_all`, but that the other side sees nothing of it before `publish`.
    pub fn push(&mut self, frames: &[Frame<'_>]) -> Result<(), SendError> {
        let (tail, capacity) = (self.tail, self.geometry.capacity);
        let mut end = tail;
        self.bytes.clear();
        for frame in frames {
            let before = self.bytes.len();
            frame.encode(self.geometry.inline_max, &mut self.bytes)?;
            let words = ((self.bytes.len() - before) / WORD_BYTES) as u64;
            end = self.geometry.start(end, words) + words;
        }
        if end - self.head > capacity {
            self.head = read_up_to(&self.peer, self.head, tail)?;
        }
        if end - self.head > capacity {
            return Err(SendError::Full { needed: end - tail, free: capacity - (tail - self.head) });
        }
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = bytes.as_slice();
        // A frame begins with its own length.
        while let Some((frame, behind)) =
            rest.first_chunk().and_then(|total| rest.split_at_checked(u32::from_le_bytes(*total) as usize))
        {
            self.write(frame);
            rest = behind;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Shows the other side what was pushed.
    pub fn publish(&mut self) {
        if self.shown == self.tail {
            return;
        }
        self.shown = self.tail;
        // SYNC POINT: frames and watermark are written before the position says so; see `Receiver::recv`.
        self.own.control().outgoing.tail.store(self.tail, release());
        self.own.control().outgoing.bell.store(self.tail as u32, Ordering::Relaxed);
    }

    /// Whether the frames fit at once into a ring that is empty, wherever its tail is. A single frame does.
    pub fn check_length(&self, frames: &[Frame<'_>]) -> Result<(), TooLong> {
        let lens = || frames.iter().filter_map(|frame| frame.total().map(|bytes| (bytes / WORD_BYTES) as u64));
        let capacity = self.geometry.capacity;
        // At most one frame does not fit before the array's end, and leaves less than its own length unused.
        let needed = lens().sum::<u64>() + lens().max().unwrap_or(1) - 1;
        if needed > capacity && frames.len() > 1 { Err(TooLong { needed, capacity }) } else { Ok(()) }
    }

    /// Writes a frame for which there is room. Nobody sees it before the tail says so.
    fn write(&mut self, frame: &[u8]) {
        let words = (frame.len() / WORD_BYTES) as u64;
        let start = self.geometry.start(self.tail, words);
        if start > self.tail {
            self.own.control().outgoing.watermark.store(!self.tail, Ordering::Relaxed);
        }
        let places = self.own.words().get(self.geometry.index(start)..).unwrap_or_default();
        for (word, bytes) in places.iter().zip(frame.as_chunks::<WORD_BYTES>().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.tail = start + words;
    }

    /// Says that this side is about to sleep until the other has read something, too: after `Receiver::may_sleep`. Whether it
    /// may, since nothing was read since the ring was found full.
    pub fn may_sleep_until_read(&self) -> bool {
        self.own.control().sleep.waits.store(WAITS_UNTIL_READ, Ordering::Relaxed);
        // SYNC POINT: see `Receiver::must_wake`.
        fence(Ordering::SeqCst);
        self.peer.control().incoming.head.load(Ordering::Relaxed) == self.head
    }

    /// Wakes the other side for what was sent where it sleeps on the bell; whether it sleeps on the line, and must be woken
    /// there. Asked once for any number of frames.
    pub fn must_wake(&self) -> bool {
        // SYNC POINT: the tail is written before this reads whether anybody waits, and the sleeper has it the other way
        // round (`Receiver::may_sleep`): one of the two sees what the other wrote.
        fence(Ordering::SeqCst);
        match self.peer.control().sleep.waits.load(Ordering::Relaxed) {
            0 => false,
            WAITS_ON_BELL => {
                self.own.ring();
                false
            }
            _ => true,
        }
    }
}

/// How far the peer says that it has read; `known` is what it said before.
fn read_up_to<Peer: Segment>(peer: &Peer, known: u64, tail: u64) -> Result<u64, Violation> {
    // SYNC POINT: the words were copied before the position says so; see `Receiver::recv`.
    let head = peer.control().incoming.head.load(Ordering::Acquire);
    if head < known {
        return Err(Violation::Backwards { whose: "reader", from: known, to: head });
    }
    if head > tail {
        return Err(Violation::Distance { tail, head, capacity: peer.words().len() as u64 });
    }
    Ok(head)
}
