//! A segment whose writer does what it likes: cursors, watermark and words, before and between honest frames. The other side
//! answers each step with a frame, nothing or a violation, does bounded work, and is never out of step with itself.

use arbitrary::{Arbitrary, Unstructured};
use bettong_shm::ring::{HeapSegment, Receiver, Scribble, Segment, SendError, Sender};
use bettong_shm::{Frame, SlotRef};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const WORDS: usize = 64;
const INLINE_MAX: u16 = 100;

#[derive(Arbitrary, Debug)]
enum Step {
    /// The peer sends what a peer should.
    Honest(u8),
    Inline(Vec<u8>),
    Control {
        tail: i8,
        watermark: i8,
        head: i8,
    },
    Far {
        tail: u64,
        watermark: u64,
        head: u64,
    },
    Word {
        at: u8,
        value: u32,
    },
    Recv,
    Send,
}

pub fn run(data: &[u8]) {
    let (peer, own) = (Arc::new(HeapSegment::new(WORDS)), Arc::new(HeapSegment::new(WORDS)));
    let mut honest = Sender::new(peer.clone(), own.clone(), INLINE_MAX).expect("a ring");
    let mut receiver = Receiver::new(own.clone(), peer.clone(), INLINE_MAX).expect("a ring");
    let mut sender = Sender::new(own.clone(), peer.clone(), INLINE_MAX).expect("a ring");
    let mut sent = 0u64;
    let slot = |slot| Frame::Slot(SlotRef { class: 0, extent: 0, slot, generation: 1 });
    let mut input = Unstructured::new(data);
    // Out of bytes, it would go on for ever with steps of zeros.
    while !input.is_empty() {
        let Ok(step) = Step::arbitrary(&mut input) else { return };
        match step {
            Step::Honest(number) => drop(honest.send(&slot(number.into()))),
            Step::Inline(bytes) => drop(honest.send(&Frame::Inline(&bytes))),
            Step::Control { tail, watermark, head } => {
                let near = |delta: i8| sent.saturating_add_signed(delta.into());
                let (tail, watermark, head) = (near(tail), near(watermark), near(head));
                peer.control().scribble(Scribble { tail, watermark, head, waits: 1, bell: 0 });
            }
            Step::Far { tail, watermark, head } => {
                peer.control().scribble(Scribble { tail, watermark, head, waits: 5, bell: u32::MAX });
            }
            Step::Word { at, value } => {
                peer.words()[usize::from(at) % WORDS].store(value, Ordering::Relaxed);
            }
            Step::Recv => match receiver.recv() {
                Ok(Some(Frame::Inline(bytes))) => assert!(bytes.len() <= usize::from(INLINE_MAX)),
                Ok(Some(_) | None) => {}
                // The session is over.
                Err(_) => return,
            },
            Step::Send => match sender.send(&slot(1)) {
                Ok(()) => sent += 5,
                Err(SendError::Full { needed, free }) => assert!(free <= WORDS as u64 && needed <= 2 * WORDS as u64),
                Err(SendError::Frame(error)) => panic!("{error}"),
                Err(SendError::Violation(_)) => return,
            },
        }
        let _ = (sender.must_wake(), receiver.may_sleep());
    }
}
