//! Rings on the heap: against a queue, at the ends of the array, and with a peer that lies.

use super::*;
use crate::frame::{Frame, InvalidFrame, MmapRef, SlotRef};
use crate::sync::Ordering;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

const INLINE_MAX: u16 = 40;
const WORDS: usize = 32;

struct Rig {
    writer: Arc<HeapSegment>,
    reader: Arc<HeapSegment>,
    sender: Sender<Arc<HeapSegment>, Arc<HeapSegment>>,
    receiver: Receiver<Arc<HeapSegment>, Arc<HeapSegment>>,
}

fn rig() -> Rig {
    let (writer, reader) = (Arc::new(HeapSegment::new(WORDS)), Arc::new(HeapSegment::new(WORDS)));
    let sender = Sender::new(writer.clone(), reader.clone(), INLINE_MAX).unwrap();
    let receiver = Receiver::new(reader.clone(), writer.clone(), INLINE_MAX).unwrap();
    Rig { writer, reader, sender, receiver }
}

fn slot(slot: u32) -> Frame<'static> {
    Frame::Slot(SlotRef { class: 1, extent: 2, slot, generation: 3 })
}

#[derive(Debug, Clone)]
enum Step {
    Inline(Vec<u8>),
    Slot(u32),
    Mmap(u64),
    /// Several at once.
    Slots(u32),
    /// Written, and shown only with the next that is sent, or by `Publish`.
    Push(u32),
    Publish,
    Recv,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=usize::from(INLINE_MAX)).prop_map(Step::Inline),
        any::<u32>().prop_map(Step::Slot),
        any::<u64>().prop_map(Step::Mmap),
        (0..8u32).prop_map(Step::Slots),
        any::<u32>().prop_map(Step::Push),
        Just(Step::Publish),
        Just(Step::Recv),
        Just(Step::Recv),
    ]
}

proptest! {
    /// A ring is a queue that is sometimes full: what was sent comes out, in order, once.
    #[test]
    fn a_ring_is_a_bounded_queue(steps in prop::collection::vec(step(), 0..400)) {
        let mut rig = rig();
        let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
        let mut hidden: VecDeque<Vec<u8>> = VecDeque::new();
        for step in &steps {
            let frame = match step {
                Step::Inline(bytes) => Frame::Inline(bytes),
                Step::Slot(number) => slot(*number),
                Step::Mmap(offset) => Frame::Mmap(MmapRef { map: 7, generation: 8, offset: *offset, len: 9 }),
                Step::Slots(count) => {
                    let frames: Vec<_> = (0..*count).map(slot).collect();
                    match rig.sender.send_all(&frames) {
                        Ok(()) => queue.extend(hidden.drain(..).chain(frames.iter().map(encoded))),
                        Err(SendError::Full { .. }) => {
                            let fits = rig.sender.check_length(&frames).is_ok();
                            prop_assert!(!queue.is_empty() || !hidden.is_empty() || !fits);
                        }
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                    continue;
                }
                Step::Push(number) => {
                    match rig.sender.push(&[slot(*number)]) {
                        Ok(()) => hidden.push_back(encoded(&slot(*number))),
                        Err(SendError::Full { .. }) => prop_assert!(!queue.is_empty() || !hidden.is_empty()),
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                    continue;
                }
                Step::Publish => {
                    rig.sender.publish();
                    queue.append(&mut hidden);
                    continue;
                }
                Step::Recv => {
                    let got = rig.receiver.recv().unwrap().map(|frame| encoded(&frame));
                    prop_assert_eq!(got, queue.pop_front());
                    continue;
                }
            };
            match rig.sender.send(&frame) {
                Ok(()) => queue.extend(hidden.drain(..).chain([encoded(&frame)])),
                // A frame always fits into an empty ring.
                Err(SendError::Full { .. }) => prop_assert!(!queue.is_empty() || !hidden.is_empty()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    /// Whatever the other side writes into its segment: an answer or a violation, no panic, no endless work.
    #[test]
    fn a_scribbled_segment_is_a_violation_or_a_frame(
        tail in prop_oneof![0..40u64, any::<u64>()],
        mark in prop_oneof![0..40u64, any::<u64>()],
        head in prop_oneof![0..40u64, any::<u64>()],
        words in prop::collection::vec(prop_oneof![0..100u32, any::<u32>()], WORDS),
    ) {
        let mut rig = rig();
        rig.writer.control().outgoing.tail.store(tail, Ordering::Relaxed);
        rig.writer.control().outgoing.watermark.store(!mark, Ordering::Relaxed);
        rig.writer.words().iter().zip(&words).for_each(|(word, value)| word.store(*value, Ordering::Relaxed));
        for _ in 0..=WORDS {
            match rig.receiver.recv() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        rig.reader.control().incoming.head.store(head, Ordering::Relaxed);
        for number in 0..=WORDS as u32 {
            if rig.sender.send(&slot(number)).is_err() {
                return Ok(());
            }
        }
        prop_assert!(false, "more was sent than the ring holds");
    }
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(INLINE_MAX, &mut bytes).unwrap();
    bytes
}

#[test]
fn frames_go_round_and_round() {
    let mut rig = rig();
    for number in 0..1000 {
        rig.sender.send(&slot(number)).unwrap();
        assert_eq!(rig.receiver.recv().unwrap(), Some(slot(number)));
        assert_eq!(rig.receiver.recv().unwrap(), None);
    }
}

#[test]
fn a_full_ring_takes_more_once_it_is_read() {
    let mut rig = rig();
    let sent = (0..).take_while(|number| rig.sender.send(&slot(*number)).is_ok()).count();
    assert_eq!(sent, WORDS / 5);
    assert!(matches!(rig.sender.send(&slot(0)), Err(SendError::Full { .. })));
    assert_eq!(rig.receiver.recv().unwrap(), Some(slot(0)));
    // Its room lies before the array's end and behind it: two frames that are read make room for one there.
    assert_eq!(rig.receiver.recv().unwrap(), Some(slot(1)));
    rig.sender.send(&slot(6)).unwrap();
}

#[test]
fn cursors_that_lie_are_violations() {
    let mut ahead = rig();
    ahead.writer.control().outgoing.tail.store(WORDS as u64 + 1, Ordering::Relaxed);
    assert!(matches!(ahead.receiver.recv(), Err(Violation::Distance { tail: 33, head: 0, capacity: 32 })));

    let mut back = rig();
    back.sender.send(&slot(1)).unwrap();
    back.receiver.recv().unwrap();
    back.writer.control().outgoing.tail.store(4, Ordering::Relaxed);
    assert!(matches!(back.receiver.recv(), Err(Violation::Backwards { whose: "writer", from: 5, to: 4 })));

    let mut unread = rig();
    while unread.sender.send(&slot(1)).is_ok() {}
    unread.reader.control().incoming.head.store(31, Ordering::Relaxed);
    let error = unread.sender.send(&slot(2)).unwrap_err();
    assert!(matches!(error, SendError::Violation(Violation::Distance { tail: 30, head: 31, .. })), "{error}");

    let mut marked = rig();
    marked.sender.send(&slot(1)).unwrap();
    marked.writer.control().outgoing.watermark.store(!0, Ordering::Relaxed);
    assert!(matches!(marked.receiver.recv(), Err(Violation::Watermark { mark: 0, tail: 5 })));
}

#[test]
fn a_frame_ends_where_the_writer_has_been() {
    let mut rig = rig();
    rig.sender.send(&slot(1)).unwrap();
    rig.writer.words()[0].store(24u32.to_le(), Ordering::Relaxed);
    let error = rig.receiver.recv().unwrap_err();
    assert_eq!(error, Violation::Frame(InvalidFrame::Truncated { needed: 24, got: 20 }));
}

#[test]
fn a_ring_has_room_for_its_frames() {
    let ring = |words, inline_max| {
        let segment = || Arc::new(HeapSegment::new(words));
        Sender::new(segment(), segment(), inline_max).map(|_| ())
    };
    assert_eq!(ring(48, 40), Err(GeometryError::NoPowerOfTwo { words: 48 }));
    assert_eq!(ring(16, 40), Err(GeometryError::TooSmall { words: 16, frame: 12, least: 24 }));
    assert_eq!(ring(16, 0), Ok(()));
}

#[test]
fn whoever_sleeps_is_woken() {
    let mut rig = rig();
    assert!(!rig.sender.must_wake());
    assert!(rig.receiver.may_sleep());
    rig.sender.send(&slot(1)).unwrap();
    assert!(rig.sender.must_wake());
    assert!(!rig.receiver.may_sleep(), "something is there");
    rig.receiver.awake();
    assert!(!rig.sender.must_wake());
    assert_eq!(rig.receiver.recv().unwrap(), Some(slot(1)));
    assert!(rig.receiver.may_sleep());
}

#[test]
fn who_sleeps_on_the_bell_is_not_woken_on_the_line() {
    let mut rig = rig();
    assert!(rig.receiver.may_sleep_on_bell());
    rig.sender.send(&slot(1)).unwrap();
    assert!(!rig.sender.must_wake());
    assert!(!rig.receiver.may_sleep_on_bell(), "something is there");
    assert!(!rig.receiver.may_sleep() && rig.sender.must_wake());
}

#[test]
fn who_waits_for_room_is_woken() {
    let mut rig = rig();
    let writer = Receiver::new(rig.writer.clone(), rig.reader.clone(), INLINE_MAX).unwrap();
    while rig.sender.send(&slot(1)).is_ok() {}
    assert!(!rig.receiver.must_wake());
    assert!(writer.may_sleep() && !rig.receiver.must_wake(), "it does not wait for room");
    assert!(rig.sender.may_sleep_until_read() && rig.receiver.must_wake());
    rig.receiver.recv().unwrap();
    assert!(!rig.sender.may_sleep_until_read(), "something was read");
    writer.awake();
    assert!(!rig.receiver.must_wake());
}
