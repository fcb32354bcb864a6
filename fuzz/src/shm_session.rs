//! Both ends of a session over shared memory, each against a peer that writes what it likes, and the packets of an attach.
//!
//! Of the daemon's end: leases stay within the quota, work is bounded, a session that is over stays over, and when its client
//! is gone everything is free. Of the client's: what it is told to read lies in the pool.

use arbitrary::{Arbitrary, Unstructured};
use bettong_shm::pool::{HeapRegion, Leases, SessionId, SlotPool};
use bettong_shm::real::attach::{Hello, Reply};
use bettong_shm::ring::{HeapSegment, Scribble, Segment, Sender};
use bettong_shm::session::staging::{HeapStaging, OwnStaging, StagingArea};
use bettong_shm::session::{ClientSession, ServerEvent, ServerLimits, ServerParts, ServerSession};
use bettong_shm::{Frame, MmapRef, SlotRef};
use bettong_wire::message::{Op, encode_request, encode_response};
use bettong_wire::request::{Get, Level, NsHandle, Put, ReadLimits, Target};
use bettong_wire::response::{Answer, Hit};
use bettong_wire::{BlockMemory, Payload, PutId, Request, Response};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const WORDS: usize = 256;
const STAGING_BYTES: usize = 8 << 10;
const POOL_BYTES: usize = 256 << 10;
const QUOTA: u64 = 40 << 10;
const SESSION: SessionId = SessionId(1);

#[derive(Arbitrary, Debug)]
enum Step {
    Inline(Vec<u8>),
    Slot {
        class: u8,
        extent: u8,
        slot: u8,
        generation: u8,
    },
    Mmap {
        map: u8,
        generation: u8,
        offset: u16,
        len: u16,
    },
    Put {
        id: u8,
        len: u16,
    },
    Get {
        id: u8,
    },
    Ping {
        id: u8,
    },
    /// The other side's answer, or request, with a payload of so many bytes.
    Answer {
        nth: u8,
        len: u16,
    },
    Stage {
        at: u16,
        bytes: Vec<u8>,
    },
    Word {
        at: u8,
        value: u32,
    },
    Control {
        tail: u64,
        watermark: u64,
        head: u64,
    },
    /// Releases what is really leased.
    ReleaseTrue,
    Next,
    Packet(Vec<u8>),
}

type Heap = Arc<HeapSegment>;

pub fn run(data: &[u8]) {
    let Some((side, steps)) = data.split_first() else { return };
    let mut input = Unstructured::new(steps);
    match side % 2 {
        0 => Daemon::new().run(&mut input),
        _ => client(&mut input),
    }
}

fn packet(bytes: &[u8]) {
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(hello.encode().expect("its name is short"), bytes);
    }
    if let Ok(reply) = Reply::decode(bytes) {
        assert_eq!(reply.encode(), bytes);
    }
}

fn scribble(segment: &HeapSegment, tail: u64, watermark: u64, head: u64) {
    segment.control().scribble(Scribble { tail, watermark, head, waits: 1, bell: tail as u32 });
}

fn put(id: u64, len: u64) -> Vec<u8> {
    let target = Target::Plain("key".to_owned());
    let put = Put { ns: NsHandle(0), target, level: Level::Memory, ttl_ms: 0, parent: None, sequence: 0, len };
    let message = encode_request(id, &Request::Put(put), vec![vec![0; len as usize].into()]);
    message.expect("a request that is right").head.to_vec()
}

fn get(id: u64) -> Vec<u8> {
    let target = Target::Plain("key".to_owned());
    let get = Get { ns: NsHandle(0), target, range: None, limits: ReadLimits::default() };
    encode_request(id, &Request::Get(get), Vec::new()).expect("a request that is right").head.to_vec()
}

fn hit(payload: Payload) -> Response {
    let hit = Hit {
        total_len: payload.len() as u64,
        put_id: PutId { life: 1, counter: 1 },
        tier: bettong_wire::request::Tier::Memory,
        expires_at_ms: 0,
    };
    Response::with_payloads(Answer::Hit(hit), vec![payload])
}

/// A daemon, and what its client may write.
struct Daemon {
    up: Heap,
    staging: HeapStaging,
    sender: Sender<Heap, Heap>,
    session: ServerSession<Heap, Heap, HeapStaging>,
    pool: SlotPool,
    leases: Arc<Leases>,
    calls: Vec<(u64, Request)>,
    leased: Vec<SlotRef>,
}

impl Daemon {
    fn new() -> Self {
        let pool = SlotPool::on_the_heap(POOL_BYTES).expect("a pool");
        let leases = Arc::new(Leases::new(pool.clone(), QUOTA));
        let (up, down) = (Arc::new(HeapSegment::new(WORDS)), Arc::new(HeapSegment::new(WORDS)));
        let staging = HeapStaging::new(STAGING_BYTES);
        let parts = ServerParts {
            own: down.clone(),
            peer: up.clone(),
            staging: staging.clone(),
            session: SESSION,
            leases: leases.clone(),
            memory: Arc::new(pool.clone()),
            pool_bytes: POOL_BYTES as u64,
        };
        let limits = ServerLimits { requests_inflight_max: 4, queued_bytes_max: 4096, ..ServerLimits::default() };
        let mut session = ServerSession::new(parts, &limits).expect("a session");
        session.set_authenticated();
        let sender = Sender::new(up.clone(), down, limits.inline_max).expect("a ring");
        Self { up, staging, sender, session, pool, leases, calls: Vec::new(), leased: Vec::new() }
    }

    fn run(mut self, input: &mut Unstructured<'_>) {
        let mut over = None;
        while !input.is_empty() {
            let Ok(step) = Step::arbitrary(input) else { break };
            self.step(step);
            match self.session.next_event() {
                Ok(ServerEvent::Request { id, request, body }) => {
                    assert!(over.is_none() && self.calls.len() < 8);
                    let lens = request.payload_lens();
                    if let Ok(to) = self.pool.reserve_all(&lens) {
                        let copied = self.session.copy_body(&body, to).unwrap();
                        assert!(copied.iter().map(|payload| payload.len() as u64).eq(lens));
                    }
                    self.calls.push((id, request));
                }
                Ok(_) => assert!(over.is_none(), "a session that is over goes on"),
                Err(error) => {
                    assert!(over.get_or_insert(error.clone()) == &error);
                }
            }
            let held = self.leases.bytes_of(SESSION).expect("it is attached");
            assert!(held <= QUOTA && held <= self.pool.usage().in_use);
        }
        self.session.detach();
        assert_eq!(self.pool.usage().in_use, 0, "something is held for nobody");
    }

    fn step(&mut self, step: Step) {
        let mut send = |frame: &Frame<'_>| _ = self.sender.send(frame);
        match step {
            Step::Inline(bytes) => send(&Frame::Inline(&bytes)),
            Step::Slot { class, extent, slot, generation } => {
                let (slot, generation) = (slot.into(), generation.into());
                send(&Frame::Slot(SlotRef { class, extent, slot, generation }));
            }
            Step::Mmap { map, generation, offset, len } => {
                let (map, generation, offset, len) = (map.into(), generation.into(), offset.into(), len.into());
                send(&Frame::Mmap(MmapRef { map, generation, offset, len }));
            }
            Step::Put { id, len } => {
                send(&Frame::Inline(&put(id.into(), len.into())));
                send(&Frame::Mmap(MmapRef { map: 1, generation: 0, offset: 0, len: len.into() }));
            }
            Step::Get { id } => send(&Frame::Inline(&get(id.into()))),
            Step::Ping { id } => {
                let ping = encode_request(id.into(), &Request::Ping, Vec::new()).expect("a ping");
                send(&Frame::Inline(&ping.head));
            }
            Step::Answer { nth, len } => {
                if self.calls.is_empty() {
                    return;
                }
                let (id, request) = self.calls.swap_remove(usize::from(nth) % self.calls.len());
                let response = match request {
                    Request::Get(_) => self.value(len),
                    _ => Response::ok(Answer::Pong),
                };
                self.session.answer(id, response);
            }
            Step::Stage { at, bytes } => self.staging.write(at.into(), &bytes),
            Step::Word { at, value } => self.up.words()[usize::from(at) % WORDS].store(value, Ordering::Relaxed),
            Step::Control { tail, watermark, head } => scribble(&self.up, tail, watermark, head),
            Step::ReleaseTrue => {
                if let Some(slot) = self.leased.pop() {
                    send(&Frame::Slot(slot));
                }
            }
            Step::Next => {}
            Step::Packet(bytes) => packet(&bytes),
        }
    }

    /// An answer from the pool, where there is room.
    fn value(&mut self, len: u16) -> Response {
        let Ok(mut buf) = self.pool.reserve(len.into()) else { return Response::ok(Answer::Pong) };
        buf.unfilled().put_bytes(7, len.into());
        let payload = buf.seal().expect("it is full");
        self.leased.extend(self.pool.find(&payload).map(|found| found.slot));
        hit(payload)
    }
}

/// A client, and what its daemon may write.
fn client(input: &mut Unstructured<'_>) {
    let region = Arc::new(HeapRegion::new(POOL_BYTES));
    let (up, down) = (Arc::new(HeapSegment::new(WORDS)), Arc::new(HeapSegment::new(WORDS)));
    let inline_max = ServerLimits::default().inline_max;
    let mut sender = Sender::new(down.clone(), up.clone(), inline_max).expect("a ring");
    let area = StagingArea::new(HeapStaging::new(STAGING_BYTES));
    let mut session = ClientSession::new(up, down.clone(), area, region, inline_max).expect("a session");
    let mut asked = Vec::new();
    let mut held = Vec::new();
    while !input.is_empty() {
        let Ok(step) = Step::arbitrary(input) else { return };
        let mut send = |frame: &Frame<'_>| _ = sender.send(frame);
        match step {
            Step::Inline(bytes) => send(&Frame::Inline(&bytes)),
            Step::Slot { class, extent, slot, generation } => {
                let (slot, generation) = (slot.into(), generation.into());
                send(&Frame::Slot(SlotRef { class, extent, slot, generation }));
            }
            Step::Mmap { map, generation, offset, len } => {
                let (map, generation, offset, len) = (map.into(), generation.into(), offset.into(), len.into());
                send(&Frame::Mmap(MmapRef { map, generation, offset, len }));
            }
            Step::Put { len, .. } => {
                let put = Put {
                    ns: NsHandle(0),
                    target: Target::Plain("key".to_owned()),
                    level: Level::Memory,
                    ttl_ms: 0,
                    parent: None,
                    sequence: 0,
                    len: len.into(),
                };
                asked.extend(session.request(&Request::Put(put), &[&vec![3; len.into()]]).ok());
            }
            Step::Get { .. } => {
                let target = Target::Plain("key".to_owned());
                let get = Get { ns: NsHandle(0), target, range: None, limits: ReadLimits::default() };
                asked.extend(session.request(&Request::Get(get), &[]).ok());
            }
            Step::Ping { .. } => asked.extend(session.request(&Request::Ping, &[]).ok()),
            Step::Answer { nth, len } => {
                let Some(id) = asked.get(usize::from(nth) % asked.len().max(1)) else { continue };
                let message = encode_response(Some(Op::Get), *id, hit(vec![0; len.into()].into()));
                send(&Frame::Inline(&message.head));
            }
            Step::Word { at, value } => down.words()[usize::from(at) % WORDS].store(value, Ordering::Relaxed),
            Step::Control { tail, watermark, head } => scribble(&down, tail, watermark, head),
            Step::ReleaseTrue => drop(held.pop()),
            Step::Next | Step::Stage { .. } => {}
            Step::Packet(bytes) => packet(&bytes),
        }
        match session.recv() {
            Ok(Some((_, response))) => held.extend(response.payloads),
            Ok(None) => {}
            Err(_) => break,
        }
        assert!(held.iter().all(|payload: &Payload| payload.as_ref().len() <= POOL_BYTES));
        let _ = (session.must_wake(), session.may_sleep_on_bell(), session.may_sleep(), session.flush_releases());
    }
    // What it reads stays readable without the session.
    drop(session);
    let read: u64 = held.iter().flat_map(|payload| payload.as_ref()).map(|byte| u64::from(*byte)).sum();
    std::hint::black_box(read);
}
