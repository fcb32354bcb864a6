//! The reading end of a half ring.

use super::{Geometry, GeometryError, Segment, Violation, WAITS, WAITS_ON_BELL, WAITS_UNTIL_READ, WORD_BYTES};
use crate::frame::{FRAME_HEADER_BYTES, Frame, InvalidFrame};
use crate::sync::{Ordering, fence, release};

/// Reads frames from the other side's segment, and says in its own how far.
#[derive(Debug)]
pub struct Receiver<Own, Peer> {
    own: Own,
    peer: Peer,
    geometry: Geometry,
    head: u64,
    /// How far the other side had written when it was last asked.
    tail: u64,
    bytes: Vec<u8>,
}

impl<Own: Segment, Peer: Segment> Receiver<Own, Peer> {
    /// The reading end of a fresh session; `own` is written here, `peer` by the other side.
    pub fn new(own: Own, peer: Peer, inline_max: u16) -> Result<Self, GeometryError> {
        let geometry = Geometry::new(peer.words().len(), inline_max)?;
        Ok(Self { own, peer, geometry, head: 0, tail: 0, bytes: Vec::new() })
    }

    /// The next frame, out of a private copy; `None` where there is none yet. Never waits, and does at most one frame's
    /// work whatever the other side writes.
    pub fn recv(&mut self) -> Result<Option<Frame<'_>>, Violation> {
        if self.head == self.tail {
            self.tail = self.written_up_to()?;
        }
        self.pass_watermark()?;
        if self.head == self.tail {
            return Ok(None);
        }
        self.copy_frame()?;
        let (frame, taken) = Frame::decode(&self.bytes, self.geometry.inline_max)?;
        self.head += (taken / WORD_BYTES) as u64;
        // SYNC POINT: the words are copied before the writer may use them again; see `sender::read_up_to`.
        self.own.control().incoming.head.store(self.head, release());
        Ok(Some(frame))
    }

    /// Says that this side is about to sleep; whether it may, since nothing has come meanwhile. Whoever may not, or has
    /// slept, says `awake`.
    pub fn may_sleep(&self) -> bool {
        self.may_sleep_as(WAITS)
    }

    /// As `may_sleep`, on the other side's bell, for as long as that says `seen`. What is only read wakes nobody there.
    pub fn may_sleep_on_bell(&self) -> bool {
        self.may_sleep_as(WAITS_ON_BELL)
    }

    fn may_sleep_as(&self, waits: u32) -> bool {
        self.own.control().sleep.waits.store(waits, Ordering::Relaxed);
        // SYNC POINT: see `Sender::must_wake`.
        fence(Ordering::SeqCst);
        self.head == self.tail && self.peer.control().outgoing.tail.load(Ordering::Relaxed) == self.tail
    }

    /// Whether the other side sleeps until there is room, and must be woken for what was read. Asked once for any number of
    /// frames.
    pub fn must_wake(&self) -> bool {
        // SYNC POINT: the head is written before this reads whether anybody waits; `Sender::may_sleep_until_read` has it the
        // other way round.
        fence(Ordering::SeqCst);
        self.peer.control().sleep.waits.load(Ordering::Relaxed) == WAITS_UNTIL_READ
    }

    /// The segment that is read.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the other side's bell said when there was nothing left.
    pub fn seen(&self) -> u32 {
        self.tail as u32
    }

    /// Whether nothing is known to be left to read.
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Whether the other side's tail says anything new. It is not believed here, only that there is something to look at.
    pub fn has_news(&self) -> bool {
        self.head != self.tail || self.peer.control().outgoing.tail.load(Ordering::Relaxed) != self.tail
    }

    /// Nobody need wake this side any more.
    pub fn awake(&self) {
        self.own.control().sleep.waits.store(0, Ordering::Relaxed);
    }

    fn written_up_to(&self) -> Result<u64, Violation> {
        // SYNC POINT: frame and watermark were written before the position says so; see `Sender::send`.
        let tail = self.peer.control().outgoing.tail.load(Ordering::Acquire);
        if tail < self.tail {
            return Err(Violation::Backwards { whose: "writer", from: self.tail, to: tail });
        }
        let capacity = self.geometry.capacity;
        if tail - self.head > capacity {
            return Err(Violation::Distance { tail, head: self.head, capacity });
        }
        Ok(tail)
    }

    /// Goes on at the array's beginning where the writer did. A watermark that is not here is of another lap: the writer
    /// sets the next one only when this one has been passed.
    fn pass_watermark(&mut self) -> Result<(), Violation> {
        let mark = !self.peer.control().outgoing.watermark.load(Ordering::Relaxed);
        if self.head == self.tail || mark != self.head {
            return Ok(());
        }
        let beginning = self.geometry.lap_end(self.head);
        if beginning >= self.tail {
            return Err(Violation::Watermark { mark, tail: self.tail });
        }
        self.head = beginning;
        Ok(())
    }

    /// Copies what the frame at the head says that it is long, as far as anybody may have written it.
    fn copy_frame(&mut self) -> Result<(), Violation> {
        let Self { peer, geometry, head, tail, bytes, .. } = self;
        let there = (*tail).min(geometry.lap_end(*head)) - *head;
        let words = peer.words().get(geometry.index(*head)..).unwrap_or_default();
        let got = there * WORD_BYTES as u64;
        let Some((first, words)) = words.split_first() else {
            return Err(InvalidFrame::Truncated { needed: FRAME_HEADER_BYTES as u64, got: 0 }.into());
        };
        let first = first.load(Ordering::Relaxed).to_ne_bytes();
        let total = u32::from_le_bytes(first);
        if u64::from(total) > got {
            return Err(InvalidFrame::Truncated { needed: total.into(), got }.into());
        }
        // Never more than the longest frame: what says that it is longer is refused by what it says itself.
        let longest = FRAME_HEADER_BYTES + usize::from(geometry.inline_max).next_multiple_of(WORD_BYTES);
        let longest = longest.max(crate::frame::MMAP_REF_BYTES);
        let rest = (total as usize).min(longest).div_ceil(WORD_BYTES).saturating_sub(1);
        bytes.resize((1 + rest) * WORD_BYTES, 0);
        if let Some((copied, copies)) = bytes.as_chunks_mut::<WORD_BYTES>().0.split_first_mut() {
            *copied = first;
            copies.iter_mut().zip(words).for_each(|(copy, word)| *copy = word.load(Ordering::Relaxed).to_ne_bytes());
        }
        Ok(())
    }
}
