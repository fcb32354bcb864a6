//! A session's memory as the daemon reaches it.

use super::{Feeder, Watch};
use crate::random::Stream;
use bettong_shm::ring::{Control, HeapSegment, Scribble, Segment};
use bettong_shm::session::staging::{HeapStaging, NotRead, OwnStaging, Staging};
use bytes::BufMut;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;

/// The segment that the daemon writes.
#[derive(Clone)]
pub struct DaemonSegment {
    pub segment: Arc<HeapSegment>,
    /// Wakes who sleeps on it at this moment, as a futex does.
    pub bell: Arc<Notify>,
    pub watch: Option<Arc<Watch>>,
}

impl Segment for DaemonSegment {
    fn control(&self) -> &Control {
        self.watch.iter().for_each(|watch| watch.look());
        self.segment.control()
    }

    fn words(&self) -> &[AtomicU32] {
        self.segment.words()
    }

    fn ring(&self) {
        self.bell.notify_waiters();
    }
}

/// The segment that the client writes: before each access of the daemon's, somebody hostile may write it.
#[derive(Clone)]
pub struct ClientSegment {
    pub segment: Arc<HeapSegment>,
    /// The daemon's looks at it.
    pub looks: Arc<AtomicU64>,
    pub watch: Option<Arc<Watch>>,
    pub meddler: Option<Arc<Meddler>>,
}

impl Segment for ClientSegment {
    fn control(&self) -> &Control {
        self.watch.iter().for_each(|watch| watch.look());
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.meddler.iter().for_each(|meddler| meddler.control(&self.segment));
        self.segment.control()
    }

    fn words(&self) -> &[AtomicU32] {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.meddler.iter().for_each(|meddler| meddler.words(&self.segment));
        self.segment.words()
    }

    fn ring(&self) {
        self.segment.ring();
    }
}

/// The staging area, which somebody hostile may write while the daemon copies.
#[derive(Clone)]
pub struct Area {
    pub staging: HeapStaging,
    pub meddler: Option<Arc<Meddler>>,
}

impl Staging for Area {
    fn len(&self) -> u64 {
        Staging::len(&self.staging)
    }

    fn read(&self, range: Range<u64>, to: &mut dyn BufMut) -> Result<(), NotRead> {
        let fits =
            range.end <= Staging::len(self) && range.end.saturating_sub(range.start) <= to.remaining_mut() as u64;
        let Some(meddler) = self.meddler.as_ref().filter(|meddler| fits && meddler.is_armed()) else {
            return self.staging.read(range, to);
        };
        let middle = range.start + (range.end - range.start) / 2;
        meddler.staging(&self.staging, &range);
        self.staging.read(range.start..middle, to)?;
        meddler.staging(&self.staging, &range);
        self.staging.read(middle..range.end, to)
    }
}

/// Somebody hostile on another processor: writes what it may at the worst of moments, from when it is armed on.
pub struct Meddler {
    armed: AtomicBool,
    random: Mutex<Stream>,
    feeder: Mutex<Option<Feeder>>,
}

impl Meddler {
    pub fn new(random: Stream) -> Self {
        Self { armed: AtomicBool::new(false), random: Mutex::new(random), feeder: Mutex::new(None) }
    }

    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Asks for more and more from now on, and tells the truth.
    pub fn feed(&self, feeder: Feeder) {
        *self.feeder.lock() = Some(feeder);
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// Says that the ring is where it is, or lies.
    fn control(&self, segment: &HeapSegment) {
        self.feeder.lock().iter_mut().for_each(Feeder::feed);
        if self.is_armed() {
            segment.control().scribble(lie(segment, &mut self.random.lock()));
        }
    }

    fn words(&self, segment: &HeapSegment) {
        if self.is_armed() {
            scribble_words(segment, &mut self.random.lock());
        }
    }

    fn staging(&self, staging: &HeapStaging, range: &Range<u64>) {
        let mut random = self.random.lock();
        let at = random.within(range.clone());
        let noise: Vec<u8> = (0..random.within(1..64)).map(|_| random.draw() as u8).collect();
        staging.write(at, &noise);
    }
}

/// A control block that is mostly near the truth, as far as its owner knows it, and sometimes absurd.
pub fn lie(segment: &HeapSegment, random: &mut Stream) -> Scribble {
    let bell = segment.control().bell().load(Ordering::Relaxed);
    let truth = u64::from(bell);
    let words = segment.words().len() as u64;
    let mut position = |honest: f64| {
        if random.chance(honest) {
            return truth;
        }
        match random.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => random.draw(),
            3 => truth.saturating_sub(random.within(1..16)),
            4 => truth + random.below(words),
            _ => truth + words + random.below(4),
        }
    };
    let (tail, head, watermark) = (position(0.7), position(0.2), position(0.0));
    let head = if random.chance(0.7) { 0 } else { head };
    Scribble { tail, watermark, head, waits: random.below(5) as u32, bell }
}

pub fn scribble_words(segment: &HeapSegment, random: &mut Stream) {
    for _ in 0..random.within(1..6) {
        if let Some(word) = random.pick(&(0..segment.words().len()).collect::<Vec<_>>()).copied() {
            let value = if random.chance(0.5) { random.draw() as u32 } else { random.below(64) as u32 };
            segment.words().get(word).into_iter().for_each(|word| word.store(value, Ordering::Relaxed));
        }
    }
}

/// Leaves the beginning of a frame where nobody has been told of it: its writer died.
pub fn scribble_behind(segment: &HeapSegment, random: &mut Stream) {
    let words = segment.words();
    let tail = segment.control().bell().load(Ordering::Relaxed) as usize;
    for at in 0..random.within(1..4) as usize {
        let word = words.get((tail + at) & (words.len() - 1));
        word.into_iter().for_each(|word| word.store(random.draw() as u32, Ordering::Relaxed));
    }
}
