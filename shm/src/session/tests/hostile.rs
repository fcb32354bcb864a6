//! A side that breaks the protocol: an error that names the rule, no panic, and nothing after it.

use super::*;
use crate::frame::{Frame, InvalidFrame, MmapRef, SlotRef};
use crate::pool::NotLeased;
use crate::ring::{Receiver, Scribble, Segment as _, Sender, Violation};
use crate::session::staging::OwnStaging as _;
use bettong_wire::DecodeError;
use bettong_wire::message::{Op, encode_request, encode_response};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// A pair whose client is played by hand.
struct Rig {
    pair: Pair,
    client: Sender<Segment, Segment>,
}

/// One that has not shown who it is.
fn stranger(plan: &Plan) -> Rig {
    let pair = pair(plan);
    let client = Sender::new(pair.to_daemon.clone(), pair.to_client.clone(), INLINE_MAX).unwrap();
    Rig { pair, client }
}

fn client() -> Rig {
    let mut rig = stranger(&Plan::default());
    rig.pair.server.set_authenticated();
    rig
}

impl Rig {
    fn send(&mut self, frame: Frame<'_>) -> Result<ServerEvent, SessionError> {
        self.client.send(&frame).unwrap();
        self.pair.server.next_event()
    }
}

fn message(id: u64, request: &Request) -> Vec<u8> {
    let body = request.payload_lens().iter().map(|len| vec![0; *len as usize].into()).collect();
    encode_request(id, request, body).unwrap().head.to_vec()
}

fn staged(offset: u64, len: u32) -> Frame<'static> {
    Frame::Mmap(MmapRef { map: MAP_STAGING, generation: 0, offset, len })
}

const SLOT: SlotRef = SlotRef { class: 0, extent: 0, slot: 0, generation: 1 };

#[test]
fn every_rule_of_a_request_has_its_error() {
    let broken = |frames: &[Frame<'_>]| {
        let mut rig = client();
        let Some((last, before)) = frames.split_last() else { panic!("no frame") };
        for frame in before {
            assert!(matches!(rig.send(*frame), Ok(ServerEvent::Idle)), "{frame:?}");
        }
        let error = rig.send(*last).unwrap_err();
        // Nothing that comes later is looked at.
        assert_eq!(rig.send(Frame::Inline(&message(9, &Request::Ping))).unwrap_err(), error);
        error
    };
    let mmap = |map, generation| Frame::Mmap(MmapRef { map, generation, offset: 0, len: 1000 });
    let range = |offset, len| SessionError::Range { what: "staging", offset, len, limit: STAGING_BYTES as u64 };
    let put = &message(1, &put_one(1000));
    let put = Frame::Inline(put);
    let empty = &message(1, &put_one(0));
    let empty = Frame::Inline(empty);
    let longer = &message(1, &put_one(STAGING_BYTES as u64 + 1));
    assert_eq!(broken(&[Frame::Inline(longer)]), range(0, STAGING_BYTES as u64 + 1));
    assert_eq!(broken(&[put, mmap(2, 0)]), SessionError::Map { got: 2, must: 1 });
    assert_eq!(broken(&[put, mmap(0, 0)]), SessionError::Map { got: 0, must: 1 });
    assert_eq!(broken(&[put, mmap(1, 7)]), SessionError::Generation { got: 7 });
    assert_eq!(broken(&[put, staged(STAGING_BYTES as u64 - 999, 1000)]), range(STAGING_BYTES as u64 - 999, 1000));
    assert_eq!(broken(&[put, staged(u64::MAX, 1000)]), range(u64::MAX, 1000));
    assert_eq!(broken(&[put, staged(0, 999)]), SessionError::PayloadLength { said: 1000, got: 999 });
    assert_eq!(broken(&[put, staged(0, 1001)]), SessionError::PayloadLength { said: 1000, got: 1001 });
    assert_eq!(broken(&[put, Frame::Inline(b"")]), SessionError::PayloadLength { said: 1000, got: 0 });
    assert_eq!(broken(&[put, Frame::Inline(b"abc")]), SessionError::PayloadLength { said: 1000, got: 3 });
    assert!(matches!(broken(&[put, Frame::Slot(SLOT)]), SessionError::Frame { got: "a release", .. }));
    assert!(matches!(broken(&[empty, staged(0, 0)]), SessionError::Frame { got: "a mapping frame", .. }));
    assert_eq!(broken(&[Frame::Slot(SLOT)]), SessionError::Release(NotLeased { slot: SLOT }));
    assert_eq!(broken(&[mmap(7, 0)]), SessionError::Map { got: 7, must: 1 });
    assert!(matches!(broken(&[staged(0, 5 << 20)]), SessionError::Range { .. }));
    assert!(matches!(broken(&[Frame::Inline(b"")]), SessionError::Message(DecodeError::Truncated { .. })));
    let ping = message(1, &Request::Ping);
    let said = |bytes: &[u8]| match broken(&[Frame::Inline(bytes)]) {
        SessionError::Message(error) => error,
        error => panic!("{error}"),
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = ping.clone();
        bytes[at] = byte;
        said(&bytes)
    };
    assert!(matches!(changed(0, 0), DecodeError::BadMagic { .. }));
    assert!(matches!(changed(24, 99), DecodeError::Unknown { .. }));
    assert!(matches!(changed(27, 1), DecodeError::Unknown { what: "a flag of a whole message", .. }));
    assert!(matches!(changed(28, 1), DecodeError::LengthMismatch { said: 1, got: 0, .. }));
    assert!(matches!(changed(31, 255), DecodeError::TooLong { .. }));
    assert!(matches!(said(&[ping.as_slice(), b"x"].concat()), DecodeError::LengthMismatch { said: 0, got: 1, .. }));
    assert_eq!(broken(&[Frame::Inline(&message(0, &Request::Ping))]), SessionError::RequestId { id: 0 });
}

#[test]
fn a_long_message_has_a_limit() {
    let what = "the length of a message in bytes";
    let mut rig = stranger(&Plan::default());
    let error = rig.send(staged(0, 40_000)).unwrap_err();
    assert_eq!(error, DecodeError::TooLong { what, got: 40_000, limit: (32 << 10) + 32 }.into());
    // Once it has shown who it is, its messages may be longer, and are judged by what they are.
    let error = client().send(staged(0, 40_000)).unwrap_err();
    assert!(
        matches!(error, SessionError::Message(DecodeError::LengthMismatch { said: 0, got: 39_968, .. })),
        "{error}"
    );
}

/// One call judges one of them: others wait, too.
#[test]
fn long_messages_are_judged_one_at_a_time() {
    let mut rig = client();
    rig.pair.server.drain();
    for id in 1..=5u64 {
        let message = message(id, &get_many(100));
        rig.pair.staging.write(id * 8192, &message);
        rig.client.send(&staged(id * 8192, message.len() as u32)).unwrap();
    }
    for left in (0..5).rev() {
        let turned_away = rig.pair.server.next_event();
        assert!(matches!(turned_away, Ok(ServerEvent::More)), "{left} are left: {turned_away:?}");
    }
    assert!(matches!(rig.pair.server.next_event(), Ok(ServerEvent::Idle)));
}

#[test]
fn an_id_is_under_way_until_its_answer_is_written() {
    let mut rig = client();
    assert!(matches!(rig.send(Frame::Inline(&message(5, &Request::Ping))), Ok(ServerEvent::Request { id: 5, .. })));
    rig.pair.server.answer(5, Response::ok(Answer::Pong));
    rig.pair.server.answer(5, Response::ok(Answer::Pong));
    rig.pair.server.answer(6, Response::ok(Answer::Pong));
    assert!(matches!(rig.send(Frame::Inline(&message(5, &Request::Ping))), Ok(ServerEvent::Request { id: 5, .. })));
    let error = rig.send(Frame::Inline(&message(5, &Request::Stats))).unwrap_err();
    assert_eq!(error, SessionError::RequestId { id: 5 });
}

#[test]
fn who_asks_more_than_may_be_unanswered_breaks_the_protocol() {
    for request in [Request::Stats, Request::Ping] {
        let mut rig = client();
        for id in 1..=6 {
            assert!(matches!(rig.send(Frame::Inline(&message(id, &request))), Ok(ServerEvent::Request { .. })));
        }
        let error = rig.send(Frame::Inline(&message(7, &request))).unwrap_err();
        assert_eq!(error, SessionError::Inflight { limit: 6 });
        rig.pair.server.answer(1, Response::ok(Answer::Pong));
        assert!(rig.pair.client.recv().unwrap().is_none(), "an answer after the end");
    }
}

/// Also: that a lease is there before anybody is told of it. Who reads the ring and finds a slot finds its lease.
#[test]
fn a_release_ends_one_lease_and_no_other() {
    let mut rig = client();
    let value = rig.pair.put(4096, 3);
    let get = message(1, &get_many(1));
    assert!(matches!(rig.send(Frame::Inline(&get)), Ok(ServerEvent::Request { .. })));
    rig.pair.server.answer(1, hits(vec![value.clone()]));
    let mut answers = Receiver::new(rig.pair.to_daemon.clone(), rig.pair.to_client.clone(), INLINE_MAX).unwrap();
    assert!(matches!(answers.recv(), Ok(Some(Frame::Inline(_)))));
    let Ok(Some(Frame::Slot(slot))) = answers.recv() else { panic!("no slot") };
    drop(value);
    assert_eq!(rig.pair.pool.usage().slots, 1, "what is named is leased");
    let forged = SlotRef { generation: slot.generation + 1, ..slot };
    assert!(matches!(rig.send(Frame::Slot(slot)), Ok(ServerEvent::Idle)));
    assert_eq!(rig.pair.pool.usage().slots, 0);
    let mut other = client();
    assert_eq!(other.send(Frame::Slot(forged)).unwrap_err(), NotLeased { slot: forged }.into());
    assert_eq!(rig.send(Frame::Slot(slot)).unwrap_err(), NotLeased { slot }.into(), "a release that is played again");
}

#[test]
fn leases_of_who_broke_the_protocol_stay() {
    let mut pair = opened(&Plan::default());
    let id = pair.client.request(&get_many(1), &[]).unwrap();
    pair.request();
    pair.server.answer(id, hits(vec![pair.put(4096, 3)]));
    let (_, response) = pair.client.recv().unwrap().unwrap();
    pair.to_daemon.control().scribble(Scribble { tail: u64::MAX, watermark: 0, head: 0, waits: 0, bell: 0 });
    let error = pair.server.next_event().unwrap_err();
    assert!(matches!(error, SessionError::Ring(Violation::Distance { .. })), "{error}");
    assert_eq!((pair.pool.usage().slots, response.payloads[0].as_ref()), (1, [3; 4096].as_slice()));
    assert_eq!((pair.server.detach(), pair.pool.usage().slots), (4096, 0));
}

/// Frames that are close to what a client sends.
fn any_frame() -> impl Strategy<Value = (u8, Vec<u8>, u64)> {
    (0..7u8, prop::collection::vec(any::<u8>(), 0..=usize::from(INLINE_MAX)), any::<u64>())
}

proptest! {
    /// Whatever a client sends: requests within the staging area, or an error.
    #[test]
    fn any_frames_are_requests_or_an_error(
        frames in prop::collection::vec(any_frame(), 0..60),
        staging in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut rig = client();
        rig.pair.staging.write(0, &staging);
        for (kind, bytes, number) in &frames {
            let (put, ping) = (message(*number % 9, &put_one(*number % 300)), message(*number % 9, &Request::Ping));
            let slot = SlotRef { class: *number as u8, extent: (*number >> 8) as u8, ..SLOT };
            let frame = match kind {
                0 => Frame::Inline(bytes),
                1 => Frame::Inline(&ping),
                2 => Frame::Inline(&put),
                3 => staged(*number % (STAGING_BYTES as u64 + 100), (*number >> 32) as u32 % 300),
                4 => staged(*number, 100),
                5 => Frame::Inline(b""),
                _ => Frame::Slot(slot),
            };
            if rig.client.send(&frame).is_err() {
                break;
            }
            match rig.pair.server.next_event() {
                Ok(ServerEvent::Request { id, request, body }) => {
                    let to = rig.pair.pool.reserve_all(&request.payload_lens()).unwrap();
                    prop_assert!(rig.pair.server.copy_body(&body, to).is_ok());
                    prop_assert!(body.iter().all(|range| range.end <= STAGING_BYTES as u64));
                    rig.pair.server.answer(id, Response::miss(bettong_wire::MissReason::Absent));
                }
                Ok(_) => {}
                Err(error) => {
                    prop_assert_eq!(rig.pair.server.next_event().unwrap_err(), error);
                    return Ok(());
                }
            }
        }
    }

    /// Whatever is in a segment: no panic, no endless work, on either side.
    #[test]
    fn scribbled_segments_are_answers_or_an_error(
        tail in prop_oneof![0..200u64, any::<u64>()],
        mark in prop_oneof![0..200u64, any::<u64>()],
        head in prop_oneof![0..200u64, any::<u64>()],
        words in prop::collection::vec(prop_oneof![0..140u32, any::<u32>()], 128),
    ) {
        let mut pair = opened(&Plan { to_daemon_words: 128, ..Plan::default() });
        for segment in [&pair.to_daemon, &pair.to_client] {
            segment.control().scribble(Scribble { tail, watermark: mark, head, waits: 3, bell: 0 });
            segment.words().iter().zip(&words).for_each(|(word, value)| word.store(*value, Ordering::Relaxed));
        }
        for _ in 0..200 {
            if pair.server.next_event().is_err() {
                break;
            }
        }
        for _ in 0..200 {
            if pair.client.recv().is_err() {
                break;
            }
        }
    }
}

/// A pair whose daemon is played by hand, with a request for one value under way.
fn daemon(frames: &[Frame<'_>]) -> SessionError {
    let mut pair = pair(&Plan::default());
    pair.client.request(&get_many(1), &[]).unwrap();
    let mut daemon = Sender::new(pair.to_client.clone(), pair.to_daemon.clone(), INLINE_MAX).unwrap();
    daemon.send_all(frames).unwrap();
    for _ in 0..frames.len() {
        if let Err(error) = pair.client.recv() {
            assert_eq!(pair.client.recv(), Err(error.clone()));
            assert!(pair.client.request(&Request::Ping, &[]).is_err());
            return error;
        }
    }
    panic!("nothing is wrong with {frames:?}")
}

#[test]
fn every_rule_of_an_answer_has_its_error() {
    let answer = |id, op, count: usize| {
        let payloads = vec![vec![1; 5000].into(); count];
        encode_response(Some(op), id, hits(payloads)).head.to_vec()
    };
    let one = &answer(1, Op::GetMany, 1);
    let one = Frame::Inline(one);
    let slot = |class, extent, slot| Frame::Slot(SlotRef { class, extent, slot, generation: 1 });
    let part = |map, generation, offset, len| Frame::Mmap(MmapRef { map, generation, offset, len });
    // Slots of 5,120 bytes, three to each extent of 16,384.
    let whole = slot(1, 2, 1);
    let begin = 2 * 16_384 + 5120;
    assert_eq!(daemon(&[Frame::Inline(&answer(2, Op::GetMany, 1))]), SessionError::NotAsked { id: 2 });
    assert!(matches!(
        daemon(&[Frame::Inline(&answer(1, Op::GetBlocks, 1))]),
        SessionError::Message(DecodeError::Invalid { .. })
    ));
    assert!(matches!(
        daemon(&[Frame::Inline(&answer(1, Op::GetMany, 0))]),
        SessionError::Message(DecodeError::LengthMismatch { said: 1, got: 0, .. })
    ));
    assert_eq!(daemon(&[one, slot(1, 2, 3)]), SessionError::NoSlot { class: 1, extent: 2, slot: 3 });
    assert_eq!(daemon(&[one, slot(200, 2, 0)]), SessionError::NoSlot { class: 200, extent: 2, slot: 0 });
    let range = |what, offset, len, limit| SessionError::Range { what, offset, len, limit };
    assert_eq!(daemon(&[one, slot(0, 2, 1)]), range("a slot", 0, 5000, 4096));
    assert_eq!(daemon(&[one, whole, part(1, 0, begin, 5000)]), SessionError::Map { got: 1, must: 0 });
    assert_eq!(daemon(&[one, whole, part(0, 3, begin, 5000)]), SessionError::Generation { got: 3 });
    assert_eq!(daemon(&[one, whole, part(0, 0, begin, 4999)]), SessionError::PayloadLength { said: 5000, got: 4999 });
    let before = range("the pool", begin - 1, 5000, begin + 5120);
    assert_eq!(daemon(&[one, whole, part(0, 0, begin - 1, 5000)]), before);
    assert_eq!(daemon(&[one, whole, part(0, 0, begin + 121, 5000)]), range("a slot", 121, 5000, 5120));
    assert_eq!(daemon(&[one, whole, part(0, 0, u64::MAX, 5000)]), range("a slot", u64::MAX - begin, 5000, 5120));
    assert_eq!(daemon(&[one, Frame::Inline(b"ab")]), SessionError::PayloadLength { said: 5000, got: 2 });
    assert!(matches!(daemon(&[one, part(0, 0, begin, 5000)]), SessionError::Frame { .. }));
    assert!(matches!(daemon(&[part(0, 0, 0, 0)]), SessionError::Frame { .. }));
    // A slot without a message: the pool is zeros.
    assert!(matches!(
        daemon(&[whole]),
        SessionError::Message(DecodeError::Unknown { .. } | DecodeError::BadMagic { .. })
    ));
    let short = encode_response(Some(Op::GetMany), 1, hits(vec![vec![1; 100].into()])).head.to_vec();
    assert!(matches!(daemon(&[Frame::Inline(&short), whole]), SessionError::Frame { .. }));
    let unaligned = SessionError::Ring(Violation::Frame(InvalidFrame::Unaligned { total: 3 }));
    assert!(unaligned.to_string().contains("multiple of 4"));
}
