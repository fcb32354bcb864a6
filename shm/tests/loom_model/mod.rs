//! The sessions that the model checker plays.

use bettong_shm::ring::{Control, HeapSegment, Receiver, Segment as _, SendError, Sender};
use bettong_shm::{Frame, SlotRef};
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

/// Room for three references to slots, with one word left at the array's end.
const WORDS: usize = 16;
/// One lap, and into the next.
const FRAMES: u32 = 5;

type Segment = std::sync::Arc<HeapSegment>;

fn slot(slot: u32) -> Frame<'static> {
    Frame::Slot(SlotRef { class: 1, extent: 2, slot, generation: slot })
}

fn session() -> (Sender<Segment, Segment>, Receiver<Segment, Segment>) {
    let (writer, reader) = (Segment::new(HeapSegment::new(WORDS)), Segment::new(HeapSegment::new(WORDS)));
    let sender = Sender::new(writer.clone(), reader.clone(), 0).unwrap();
    (sender, Receiver::new(reader, writer, 0).unwrap())
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(preemptions);
    checker.check(model);
}

/// More frames than fit, round the array's end: whole, in order, none twice.
pub fn send_and_receive() {
    arrive(1);
}

/// The same, of which the other side sees several at once.
pub fn push_and_receive() {
    arrive(2);
}

fn arrive(at_once: u32) {
    check(3, move || {
        let (mut sender, mut receiver) = session();
        let writing = thread::spawn(move || {
            for number in 0..FRAMES {
                loop {
                    match sender.push(&[slot(number)]) {
                        Ok(()) => break,
                        Err(SendError::Full { .. }) => {
                            sender.publish();
                            thread::yield_now();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                if (number + 1) % at_once == 0 {
                    sender.publish();
                }
            }
            sender.publish();
        });
        for number in 0..FRAMES {
            loop {
                if let Some(frame) = receiver.recv().expect("a frame") {
                    assert_eq!(frame, slot(number), "a frame");
                    break;
                }
                thread::yield_now();
            }
        }
        writing.join().unwrap();
    });
}

/// One side sleeps until something is there, the other wakes it when it must. A wake-up that is lost is a deadlock.
pub fn sleep_and_wake() {
    check(3, || {
        let (mut sender, mut receiver) = session();
        let bell = Arc::new(loom::sync::Notify::new());
        let rung = bell.clone();
        let sleeping = thread::spawn(move || {
            loop {
                if let Some(frame) = receiver.recv().unwrap() {
                    assert_eq!(frame, slot(1));
                    break;
                }
                if receiver.may_sleep() {
                    rung.wait();
                }
                receiver.awake();
            }
        });
        sender.send(&slot(1)).unwrap();
        if sender.must_wake() {
            bell.notify();
        }
        sleeping.join().unwrap();
    });
}

/// A segment whose bell is a futex, as the kernel has it: whether to sleep is decided under the lock under which is woken.
struct Belled {
    segment: HeapSegment,
    futex: Mutex<()>,
    sleeper: Condvar,
}

impl Belled {
    fn new() -> Arc<Self> {
        Arc::new(Self { segment: HeapSegment::new(WORDS), futex: Mutex::new(()), sleeper: Condvar::new() })
    }

    fn wait(&self, seen: u32) {
        let futex = self.futex.lock().unwrap();
        if self.control().bell().load(Ordering::Relaxed) == seen {
            drop(self.sleeper.wait(futex).unwrap());
        }
    }
}

impl bettong_shm::ring::Segment for Belled {
    fn control(&self) -> &Control {
        self.segment.control()
    }

    fn words(&self) -> &[AtomicU32] {
        self.segment.words()
    }

    fn ring(&self) {
        let _futex = self.futex.lock().unwrap();
        self.sleeper.notify_one();
    }
}

/// As `sleep_and_wake`, on the writer's bell.
pub fn sleep_on_bell() {
    check(3, || {
        let (writer, reader) = (Belled::new(), Belled::new());
        let mut sender = Sender::new(writer.clone(), reader.clone(), 0).unwrap();
        let mut receiver = Receiver::new(reader, writer.clone(), 0).unwrap();
        let sleeping = thread::spawn(move || {
            loop {
                if let Some(frame) = receiver.recv().unwrap() {
                    assert_eq!(frame, slot(1));
                    break;
                }
                if receiver.may_sleep_on_bell() {
                    writer.wait(receiver.seen());
                }
                receiver.awake();
            }
        });
        sender.send(&slot(1)).unwrap();
        assert!(!sender.must_wake(), "nobody sleeps on the line");
        sleeping.join().unwrap();
    });
}

/// One side sleeps until there is room, and the other reads. A wake-up that is lost is a deadlock.
pub fn sleep_until_read() {
    check(3, || {
        let (writer, reader) = (Segment::new(HeapSegment::new(WORDS)), Segment::new(HeapSegment::new(WORDS)));
        let mut sender = Sender::new(writer.clone(), reader.clone(), 0).unwrap();
        let answers = Receiver::new(writer.clone(), reader.clone(), 0).unwrap();
        let mut receiver = Receiver::new(reader, writer, 0).unwrap();
        // Two at once, and one more is all that fits.
        sender.send_all(&[slot(0), slot(1)]).unwrap();
        sender.send(&slot(2)).unwrap();
        let bell = Arc::new(loom::sync::Notify::new());
        let rung = bell.clone();
        let sleeping = thread::spawn(move || {
            while let Err(error) = sender.send(&slot(3)) {
                assert!(matches!(error, SendError::Full { .. }), "{error}");
                if answers.may_sleep() && sender.may_sleep_until_read() {
                    rung.wait();
                }
                answers.awake();
            }
        });
        for number in 0..3 {
            assert_eq!(receiver.recv().expect("a frame"), Some(slot(number)));
            if receiver.must_wake() {
                bell.notify();
            }
        }
        sleeping.join().unwrap();
    });
}
