//! Looks at an honest session's rings whenever the daemon reaches for them, and holds its leases against what it has
//! published.

use super::Book;
use crate::model::recognise;
use crate::run::Run;
use bettong_shm::pool::{Leases, SessionId};
use bettong_shm::ring::{HeapSegment, Receiver, Violation};
use bettong_shm::{Frame, SlotRef};
use bettong_wire::Payload;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

type Reader = Receiver<Arc<HeapSegment>, Arc<HeapSegment>>;

pub struct Watch {
    run: Run,
    daemon: String,
    session: SessionId,
    leases: Arc<Leases>,
    book: Arc<Book>,
    seen: Mutex<Seen>,
}

struct Seen {
    published: Reader,
    requested: Reader,
    /// Frames of answers that the client has not taken.
    frames: VecDeque<Part>,
    /// Nobody reads for the session any more.
    over: bool,
}

/// A frame of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Inline,
    Slot(SlotRef),
    Within(u64),
}

impl Watch {
    pub fn new(
        run: &Run,
        daemon: &str,
        session: SessionId,
        leases: Arc<Leases>,
        book: Arc<Book>,
        (down, up): (Arc<HeapSegment>, Arc<HeapSegment>),
        inline_max: u16,
    ) -> Option<Self> {
        // Both readers say how far they are where nobody looks.
        let reader = |segment: Arc<HeapSegment>| {
            use bettong_shm::ring::Segment;
            Receiver::new(Arc::new(HeapSegment::new(segment.words().len())), segment, inline_max).ok()
        };
        let (published, requested) = (reader(down)?, reader(up)?);
        let seen = Seen { published, requested, frames: VecDeque::new(), over: false };
        Some(Self { run: run.clone(), daemon: daemon.to_owned(), session, leases, book, seen: Mutex::new(seen) })
    }

    fn fail(&self, oracle: &str, what: &str) {
        self.run.fail(oracle, format!("session {} of {}: {what}", self.session.0, self.daemon));
    }

    /// Whatever has been published is leased, and no more than a session may.
    pub fn look(&self) {
        let mut seen = self.seen.lock();
        if seen.over || self.run.failure().is_some() {
            return;
        }
        if let Err(violation) = self.follow(&mut seen) {
            self.fail("O3", &format!("S2: two honest sides do not understand each other: {violation}"));
        }
        let may_read = self.book.bytes_of(self.session);
        let (leased, quota) = (self.leases.bytes_of(self.session), self.leases.quota_bytes());
        // A session that has ended and holds nothing has no account any more.
        if leased.unwrap_or(0) < may_read {
            self.fail("O6", &format!("S4: {may_read} bytes of slots are published to it, {leased:?} are leased"));
        }
        if leased.is_some_and(|leased| leased > quota) {
            self.fail("O7", &format!("{leased:?} bytes of slots are leased, over its quota of {quota}"));
        }
    }

    /// Releases first: the daemon may have heard them already.
    fn follow(&self, seen: &mut Seen) -> Result<(), Violation> {
        while let Some(frame) = seen.requested.recv()? {
            if let Frame::Slot(slot) = frame
                && !self.book.released(self.session, slot)
            {
                self.fail("O6", &format!("an honest client releases {slot:?}, which it was not told of"));
            }
        }
        while let Some(frame) = seen.published.recv()? {
            let part = match frame {
                Frame::Inline(_) => Part::Inline,
                Frame::Slot(slot) => Part::Slot(slot),
                Frame::Mmap(within) => Part::Within(within.offset),
            };
            if let Part::Slot(slot) = part
                && let Err(what) = self.book.published(self.session, slot)
            {
                self.fail("O6", &what);
            }
            seen.frames.push_back(part);
        }
        Ok(())
    }

    /// The client has taken the next answer, with these payloads: the slots that they are in.
    pub fn taken(&self, payloads: &[Payload]) -> Vec<Option<SlotRef>> {
        let mut seen = self.seen.lock();
        seen.frames.pop_front();
        let slots = payloads.iter().map(|payload| {
            let Some(Part::Slot(slot)) = seen.frames.pop_front() else { return None };
            let at = match seen.frames.front() {
                Some(Part::Within(at)) => *at,
                _ => 0,
            };
            if at > 0 {
                seen.frames.pop_front();
            }
            if let Some(attempt) = recognise(payload.as_ref())
                && let Err(what) = self.book.names(slot, at, attempt)
            {
                self.fail("O6", &what);
            }
            Some(slot)
        });
        slots.collect()
    }

    /// Everything is answered and released, as far as the client knows: the daemon's account is its own.
    pub fn settled(&self) {
        self.look();
        let may_read = self.book.bytes_of(self.session);
        // A session that holds nothing may be over: then it has no account any more.
        let leased = self.leases.bytes_of(self.session).unwrap_or(0);
        if leased != may_read && self.run.failure().is_none() {
            self.fail("O6", &format!("S4: it may read {may_read} bytes of slots, {leased} are leased"));
        }
    }

    pub fn is_over(&self) -> bool {
        self.seen.lock().over
    }

    /// Nobody reads for this session any more.
    pub fn gone(&self) {
        self.seen.lock().over = true;
        self.book.gone(self.session);
    }
}
