//! Two honest sides, in many orders.

use super::*;
use crate::session::client::RequestError;
use bettong_wire::{ErrorKind, MissReason};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Where a value of an answer is.
#[derive(Debug, Clone)]
enum Value {
    Miss,
    InPool(usize),
    /// Not all of a value.
    Part(usize),
    Elsewhere(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Ping,
    Put(usize),
    PutBlocks(Vec<usize>),
    /// A request and an answer that are too long for a frame.
    GetMany(Vec<Value>),
    /// The daemon looks for a request.
    Serve,
    /// It answers one of those that it has.
    Answer(usize),
    Recv,
    /// The client lets go of a value.
    Drop(usize),
    Flush,
}

fn value() -> impl Strategy<Value = Value> {
    let len = || prop_oneof![Just(0), 1..200usize, 4000..9000usize];
    prop_oneof![
        Just(Value::Miss),
        len().prop_map(Value::InPool),
        len().prop_map(Value::InPool),
        (200..3000usize).prop_map(Value::Part),
        len().prop_map(Value::Elsewhere)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![Just(0), 1..200usize, 4000..9000usize];
    prop_oneof![
        1 => Just(Step::Ping),
        1 => len().prop_map(Step::Put),
        1 => prop::collection::vec(len(), 0..8).prop_map(Step::PutBlocks),
        3 => prop::collection::vec(value(), 0..8).prop_map(Step::GetMany),
        4 => Just(Step::Serve),
        4 => any::<usize>().prop_map(Step::Answer),
        4 => Just(Step::Recv),
        3 => any::<usize>().prop_map(Step::Drop),
        1 => Just(Step::Flush),
    ]
}

/// Bytes that tell one value from another, and one place in it from the next.
fn pattern(len: usize, byte: u8) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add(at as u8)).collect()
}

/// A request that the client sent.
struct Sent {
    request: Request,
    body: Vec<Vec<u8>>,
    values: Vec<Value>,
}

struct World {
    pair: Pair,
    sent: BTreeMap<u64, Sent>,
    /// Those that the daemon has, in the order in which they came.
    served: Vec<u64>,
    last_served: u64,
    answers: BTreeMap<u64, Response>,
    /// What the client holds, and what it must be.
    held: Vec<(Payload, Vec<u8>)>,
    byte: u8,
}

impl World {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.byte = self.byte.wrapping_add(1);
        pattern(len, self.byte)
    }

    fn send(&mut self, request: Request, body: Vec<Vec<u8>>, values: Vec<Value>) -> Result<(), TestCaseError> {
        let slices: Vec<&[u8]> = body.iter().map(Vec::as_slice).collect();
        let free = self.pair.client.staging().free_bytes();
        match self.pair.client.request(&request, &slices) {
            Ok(id) => {
                self.sent.insert(id, Sent { request, body, values });
            }
            Err(RequestError::Full { .. } | RequestError::NoStaging(_) | RequestError::Inflight { .. }) => {
                prop_assert_eq!(self.pair.client.staging().free_bytes(), free);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<(), TestCaseError> {
        match self.pair.server.next_event() {
            Ok(ServerEvent::Request { id, request, body }) => {
                prop_assert_eq!(id, self.last_served + 1, "requests come in order");
                self.last_served = id;
                let sent = &self.sent[&id];
                prop_assert_eq!(&request, &sent.request);
                if let Ok(to) = self.pair.pool.reserve_all(&request.payload_lens()) {
                    let body = self.pair.server.copy_body(&body, to).unwrap();
                    let body: Vec<_> = body.iter().map(AsRef::as_ref).collect();
                    prop_assert_eq!(&body, &sent.body);
                }
                self.served.push(id);
            }
            Ok(ServerEvent::Idle | ServerEvent::More) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
        Ok(())
    }

    fn answer(&mut self, which: usize) {
        if self.served.is_empty() {
            return;
        }
        let id = self.served.swap_remove(which % self.served.len());
        let values = self.sent[&id].values.clone();
        let response = match &self.sent[&id].request {
            Request::Ping => Response::ok(Answer::Pong),
            Request::Put(_) => stored(),
            Request::PutBlocks(batch) => {
                let one = Stored { put_id: PutId { life: 1, counter: 2 }, already: true };
                Response::ok(Answer::StoredBatch(vec![one; batch.blocks.len()]))
            }
            Request::GetMany(_) => self.values(&values),
            other => panic!("{other:?}"),
        };
        self.answers.insert(id, response.clone());
        self.pair.server.answer(id, response);
    }

    fn values(&mut self, values: &[Value]) -> Response {
        let mut payloads = Vec::new();
        let mut items = Vec::new();
        for value in values {
            let payload = match value {
                Value::Miss => None,
                Value::InPool(len) => {
                    let bytes = self.bytes(*len);
                    self.pair.pool.adopt(bytes.into()).ok()
                }
                Value::Part(len) => {
                    let bytes = self.bytes(len + 70);
                    self.pair.pool.adopt(bytes.into()).ok().and_then(|payload| payload.slice(50, *len as u64))
                }
                Value::Elsewhere(len) => Some(self.bytes(*len).into()),
            };
            items.push(match &payload {
                Some(payload) => ItemOutcome::Hit(hit(payload.len() as u64)),
                None => ItemOutcome::Miss(MissReason::Absent),
            });
            payloads.extend(payload);
        }
        Response::with_payloads(Answer::Items(items), payloads)
    }

    fn recv(&mut self) -> Result<bool, TestCaseError> {
        let Some((id, response)) = self.pair.client.recv().unwrap() else { return Ok(false) };
        let Response { outcome, payloads } = self.answers.remove(&id).expect("an answer that was given");
        if let Outcome::Error(error) = &response.outcome {
            // What changes something was done before its answer found no room.
            let is_read = matches!(self.sent[&id].request, Request::GetMany(_));
            let expected = match error.kind {
                ErrorKind::Busy | ErrorKind::TooLarge => is_read,
                ErrorKind::Retry => !is_read,
                _ => false,
            };
            prop_assert!(expected, "{}", error);
        } else {
            prop_assert_eq!(&response.outcome, &outcome);
            prop_assert_eq!(&response.payloads, &payloads);
            let bytes = payloads.iter().map(|payload| payload.as_ref().to_vec());
            self.held.extend(response.payloads.into_iter().zip(bytes));
        }
        self.sent.remove(&id);
        Ok(true)
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (payload, bytes) in &self.held {
            prop_assert!(payload.as_ref() == bytes, "what is leased has changed");
        }
        Ok(())
    }
}

proptest! {
    /// What is asked arrives, what is answered arrives, values stay as they are while they are held, and in the end nothing
    /// is lost. Answers and nothing else are kept in the pool, so a slot that is free too soon is soon another's.
    #[test]
    fn what_is_sent_arrives_and_nothing_is_lost(steps in prop::collection::vec(step(), 0..300)) {
        let pair = opened(&Plan::default());
        let mut world = World {
            pair, sent: BTreeMap::new(), served: vec![], last_served: 1, answers: BTreeMap::new(), held: vec![], byte: 0,
        };
        for step in steps {
            match step {
                Step::Ping => world.send(Request::Ping, vec![], vec![])?,
                Step::Put(len) => {
                    let bytes = world.bytes(len);
                    world.send(put_one(len as u64), vec![bytes], vec![])?;
                }
                Step::PutBlocks(lens) => {
                    let body = lens.iter().map(|len| world.bytes(*len)).collect();
                    world.send(put_blocks(&lens), body, vec![])?;
                }
                Step::GetMany(values) => world.send(get_many(values.len()), vec![], values)?,
                Step::Serve => world.serve()?,
                Step::Answer(which) => world.answer(which),
                Step::Recv => { world.recv()?; }
                Step::Drop(which) if !world.held.is_empty() => {
                    let which = which % world.held.len();
                    world.held.swap_remove(which);
                }
                Step::Drop(_) => {}
                Step::Flush => { world.pair.client.flush_releases().unwrap(); }
            }
            world.check()?;
        }
        for _ in 0..1000 {
            world.serve()?;
            world.answer(0);
            world.recv()?;
        }
        prop_assert!(world.sent.is_empty(), "{} requests are not answered", world.sent.len());
        world.check()?;
        world.held.clear();
        world.pair.is_idle();
        prop_assert_eq!(world.pair.pool.usage().slots, 0);
    }
}

pub fn put_blocks(lens: &[usize]) -> Request {
    let block = |(number, len): (usize, &usize)| BlockPut {
        key: bettong_wire::BlockKey { hash: bettong_wire::BlockHash([number as u8; 32]), part: bettong_wire::Part(0) },
        parent: None,
        sequence: 0,
        len: *len as u64,
    };
    let blocks = lens.iter().enumerate().map(block).collect();
    Request::PutBlocks(PutBlocks { ns: NsHandle(1), level: Level::Memory, blocks })
}

#[test]
fn a_batch_of_a_thousand_goes_through_a_small_ring() {
    let mut pair = opened(&Plan { quota_bytes: 1 << 20, ..Plan::default() });
    let value = pair.pool.adopt(pattern(9000, 5).into()).unwrap();
    let payloads: Vec<_> = (0..1024).map(|at| value.slice(at % 7, 2000).unwrap()).collect();
    let id = pair.client.request(&get_many(1024), &[]).unwrap();
    pair.request();
    pair.server.answer(id, hits(payloads.clone()));
    let mut rounds = 0;
    let (answered, response) = loop {
        if let Some(answer) = pair.client.recv().unwrap() {
            break answer;
        }
        // The daemon waits for room only, and the client's reading must wake it.
        assert!(pair.server.may_sleep() || pair.client.must_wake());
        pair.server.awake();
        pair.server.next_event().unwrap();
        rounds += 1;
    };
    assert!(rounds > 50, "{rounds} rounds: the ring is not small");
    assert_eq!((answered, response.payloads.len()), (id, 1024));
    assert_eq!(response, hits(payloads));
    drop((response, value));
    pair.is_idle();
    assert_eq!(pair.pool.usage().slots, 0);
}

#[test]
fn a_daemon_that_waits_for_room_is_woken_by_who_reads() {
    let mut pair = opened(&Plan::default());
    let value = pair.put(4096, 5);
    let id = pair.client.request(&get_many(100), &[]).unwrap();
    pair.request();
    pair.server.answer(id, hits(vec![value; 100]));
    assert!(pair.server.queued_bytes() > 0);
    pair.client.must_wake();
    assert!(pair.server.may_sleep() && !pair.client.must_wake(), "nothing was read");
    assert!(pair.client.recv().unwrap().is_none() && pair.client.must_wake() && !pair.client.must_wake());
    assert!(!pair.server.may_sleep(), "there is room");
}

#[test]
fn a_payload_outlives_its_session() {
    let mut pair = opened(&Plan::default());
    let id = pair.client.request(&get_many(1), &[]).unwrap();
    pair.request();
    pair.server.answer(id, hits(vec![pair.put(5000, 9)]));
    let (_, response) = pair.client.recv().unwrap().unwrap();
    let Pair { client, server, pool, leases, .. } = pair;
    drop((client, server));
    assert_eq!(response.payloads[0].as_ref(), [9; 5000]);
    // The session is over and the lease is not: its holder may be reading.
    assert_eq!((leases.bytes_of(SESSION), pool.usage().slots), (Some(5120), 1));
    assert_eq!((leases.detach(SESSION), pool.usage().slots), (5120, 0));
}

#[test]
fn what_is_staged_in_place_is_sent_or_given_back() {
    let mut pair = opened(&Plan::default());
    let mut staged = pair.client.staging().reserve(1000).unwrap();
    staged.write(0, &[1; 400]);
    staged.write(400, &[2; 4000]);
    let unsent = pair.client.request_staged(&put_one(999), vec![staged]).unwrap_err();
    assert!(matches!(unsent.error, RequestError::Invalid(_)), "{unsent}");
    let id = pair.client.request_staged(&put_one(1000), unsent.body).unwrap();
    let (_, _, body) = pair.request();
    assert_eq!(body[0].as_ref(), [[1; 400].as_slice(), &[2; 600]].concat());
    assert!(pair.client.staging().free_bytes() < STAGING_BYTES as u64, "the daemon may be reading it");
    pair.server.answer(id, stored());
    pair.client.recv().unwrap().unwrap();
    drop(body);
    pair.is_idle();

    let foreign = opened(&Plan::default()).client.staging().stage(&[1; 10]).unwrap();
    let unsent = pair.client.request_staged(&put_one(10), vec![foreign]).unwrap_err();
    assert_eq!(unsent.error, RequestError::Foreign);
}

#[test]
fn an_answer_that_nobody_waits_for_is_released() {
    let mut pair = opened(&Plan::default());
    let id = pair.client.request(&get_many(1), &[]).unwrap();
    pair.request();
    pair.client.abandon(id);
    let (cancel, request, _) = pair.request();
    assert_eq!(request, Request::Cancel { request_id: id });
    pair.server.answer(id, hits(vec![pair.put(5000, 9)]));
    pair.server.answer(cancel, Response::ok(Answer::Cancelled));
    assert_eq!(pair.client.recv().unwrap(), None);
    pair.is_idle();
}
