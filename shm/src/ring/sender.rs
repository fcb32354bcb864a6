//! The writing end of a half ring.

use super::{Geometry, GeometryError, Segment, Violation, WORD_BYTES};
use crate::frame::{Frame, InvalidFrame};
use crate::sync::{Ordering, fence, release};

/// Why a frame was not written. The ring is as it was.
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

/// Writes frames into its own segment, as far as the other side has read.
#[derive(Debug)]
pub struct Sender<Own, Peer> {
    own: Own,
    peer: Peer,
    geometry: Geometry,
    tail: u64,
    /// How far the other side had read when it was last asked.
    head: u64,
    bytes: Vec<u8>,
}

impl<Own: Segment, Peer: Segment> Sender<Own, Peer> {
    /// The writing end of a fresh session; `own` is written here, `peer` by the other side.
    pub fn new(own: Own, peer: Peer, inline_max: u16) -> Result<Self, GeometryError> {
        let geometry = Geometry::new(own.words().len(), inline_max)?;
        Ok(Self { own, peer, geometry, tail: 0, head: 0, bytes: Vec::new() })
    }

    /// Writes one frame, whole or not at all. Never waits.
    pub fn send(&mut self, frame: &Frame<'_>) -> Result<(), SendError> {
        self.bytes.clear();
        frame.encode(self.geometry.inline_max, &mut self.bytes)?;
        let needed = (self.bytes.len() / WORD_BYTES) as u64;
        let (tail, capacity, lap_end) = (self.tail, self.geometry.capacity, self.geometry.lap_end(self.tail));
        let start = if needed <= lap_end - tail { tail } else { lap_end };
        let end = start + needed;
        if end - self.head > capacity {
            self.head = read_up_to(&self.peer, self.head, tail)?;
        }
        if end - self.head > capacity {
            return Err(SendError::Full { needed: end - tail, free: capacity - (tail - self.head) });
        }
        if start > tail {
            self.own.control().outgoing.watermark.store(!tail, Ordering::Relaxed);
        }
        let words = self.own.words().iter().skip(self.geometry.index(start));
        for (word, bytes) in words.zip(self.bytes.as_chunks::<WORD_BYTES>().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.tail = end;
        // SYNC POINT: frame and watermark are written before the position says so; see `Receiver::recv`.
        self.own.control().outgoing.tail.store(end, release());
        self.own.control().outgoing.bell.store(end as u32, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the other side sleeps and must be woken for what was sent. Asked once for any number of frames.
    pub fn must_wake(&self) -> bool {
        // SYNC POINT: the tail is written before this reads whether anybody waits, and the sleeper has it the other way
        // round (`Receiver::may_sleep`): one of the two sees what the other wrote.
        fence(Ordering::SeqCst);
        self.peer.control().incoming.waits.load(Ordering::Relaxed) != 0
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
