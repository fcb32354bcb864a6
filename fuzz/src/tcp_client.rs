//! The client's end of a connection against any daemon.

use crate::steps::Sent;
use arbitrary::{Arbitrary, Unstructured};
use bettong_wire::memory::HeapMemory;
use bettong_wire::message::{Direction, Op, encode_response};
use bettong_wire::request::*;
use bettong_wire::response::*;
use bettong_wire::tcp::{ClientConnection, ClientEvent, Sender};
use bettong_wire::{BlockHash, BlockKey, BlockMemory, NamespaceId, Part, Payload, Request, Response};
use bytes::BufMut;
use std::collections::BTreeSet;

#[derive(Arbitrary, Debug)]
enum Step {
    Sent(Sent),
    /// An answer as a daemon sends it.
    Answered {
        what: Told,
        id: u8,
    },
    Ask {
        what: u8,
    },
    Abandon {
        id: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Told {
    Pong,
    Opened { frame_bytes_max: u32, requests_inflight_max: u32, checksum: bool },
    Hit { len: u16, more: u8 },
    Items { len: u16, items: u8 },
    Miss { reason: u8 },
}

struct Run {
    client: ClientConnection,
    told: Sender,
    memory: HeapMemory,
    unanswered: BTreeSet<u64>,
    closed: bool,
}

pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut run = Run {
        client: ClientConnection::new(),
        told: Sender::new(Direction::Response, 2_000),
        memory: HeapMemory::new(1 << 20, 1 << 20),
        unanswered: BTreeSet::new(),
        closed: false,
    };
    while let Ok(step) = Step::arbitrary(&mut input) {
        let piece = usize::from(u16::arbitrary(&mut input).unwrap_or(1)).max(1);
        run.step(step, piece);
        if input.is_empty() {
            break;
        }
    }
}

impl Run {
    fn step(&mut self, step: Step, piece: usize) {
        match step {
            Step::Sent(sent) => self.feed(&sent.bytes(Direction::Response), piece),
            Step::Answered { what, id } => self.tell(what, u64::from(id), piece),
            Step::Ask { what } => {
                if let Ok(id) = self.client.send(&request(what), Vec::new()) {
                    assert!(self.unanswered.insert(id), "an id is given once");
                }
                self.write();
            }
            Step::Abandon { id } => {
                self.client.abandon(u64::from(id));
                self.unanswered.remove(&u64::from(id));
                self.write();
            }
        }
    }

    /// The daemon takes whatever the client sends.
    fn write(&mut self) {
        while self.client.has_unsent() {
            let n = self.client.slices().iter().map(|slice| slice.len()).sum();
            self.client.advance_written(n);
        }
    }

    fn tell(&mut self, told: Told, id: u64, piece: usize) {
        let (op, response) = told.response();
        if self.told.push(encode_response(Some(op), id, response)).is_err() {
            return;
        }
        while !self.told.is_empty() {
            let bytes: Vec<u8> = self.told.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            self.told.advance(bytes.len());
            self.feed(&bytes, piece);
        }
    }

    fn feed(&mut self, bytes: &[u8], piece: usize) {
        // Cut anywhere, but a large payload not into single bytes.
        let piece = piece.max(bytes.len() / 64);
        let mut rest = bytes;
        loop {
            match self.client.next_event() {
                ClientEvent::Closed { .. } => {
                    self.closed = true;
                    return;
                }
                _ if self.closed => panic!("a closed connection goes on"),
                ClientEvent::Reserve { id, lens } => {
                    let buffers = lens.iter().map(|len| self.memory.reserve(*len)).collect::<Result<Vec<_>, _>>();
                    match buffers {
                        Ok(buffers) => self.client.fill(buffers),
                        Err(error) => {
                            self.client.refuse(id, error.into());
                            assert!(self.unanswered.remove(&id));
                        }
                    }
                }
                ClientEvent::Response { id, response } => self.heard(id, &response),
                ClientEvent::NeedBytes if rest.is_empty() => return,
                ClientEvent::NeedBytes => {
                    let mut into = self.client.read_into();
                    let n = piece.min(rest.len()).min(into.remaining_mut());
                    into.put_slice(&rest[..n]);
                    self.client.advance_read(n);
                    rest = &rest[n..];
                }
            }
        }
    }

    fn heard(&mut self, id: u64, response: &Response) {
        assert!(self.unanswered.remove(&id), "an answer that nobody waits for");
        let payloads = match &response.outcome {
            Outcome::Ok(Answer::Hit(_) | Answer::Stats) => 1,
            Outcome::Ok(Answer::Items(items)) => {
                items.iter().filter(|item| matches!(item, ItemOutcome::Hit(_))).count()
            }
            _ => 0,
        };
        assert_eq!(response.payloads.len(), payloads, "an answer comes with its payloads");
    }
}

fn request(what: u8) -> Request {
    let (ns, limits) = (NsHandle(0), ReadLimits::default());
    let key = BlockKey { hash: BlockHash([1; 32]), part: Part(0) };
    match what % 5 {
        0 => Request::Ping,
        1 => Request::Stats,
        2 => Request::Get(Get { ns, target: Target::Block(key), range: None, limits }),
        3 => Request::GetBlocks(GetBlocks { ns, keys: vec![key; usize::from(what % 8)], leading: true, limits }),
        _ => Request::open(Open {
            protocol_version: 1,
            tenant: "t".to_owned(),
            token: String::new(),
            namespace: "n".to_owned(),
            identity: None,
            payload_crc: true,
        }),
    }
}

impl Told {
    fn response(self) -> (Op, Response) {
        let hit = |len: u16, more: u8| {
            let len = len % 5000;
            let total_len = u64::from(len) + u64::from(more);
            let hit = Hit { total_len, put_id: Default::default(), tier: Tier::Disk, expires_at_ms: 0 };
            (hit, Payload::from(vec![3; usize::from(len)]))
        };
        match self {
            Self::Pong => (Op::Ping, Response::ok(Answer::Pong)),
            Self::Miss { reason } => {
                (Op::Get, Response::miss(MissReason::from_u8(reason).unwrap_or(MissReason::Absent)))
            }
            Self::Hit { len, more } => {
                let (hit, payload) = hit(len, more);
                (Op::Get, Response::with_payloads(Answer::Hit(hit), vec![payload]))
            }
            Self::Items { len, items } => {
                let one = |_| {
                    let (hit, payload) = hit(len, 0);
                    (ItemOutcome::Hit(hit), payload)
                };
                let (items, payloads) = (0..items % 4).map(one).unzip();
                (Op::GetBlocks, Response::with_payloads(Answer::Items(items), payloads))
            }
            Self::Opened { frame_bytes_max, requests_inflight_max, checksum } => {
                let limits = SessionLimits { frame_bytes_max, requests_inflight_max, ..SessionLimits::default() };
                let opened = Opened {
                    ns: NsHandle(1),
                    namespace_id: NamespaceId([0; 32]),
                    protocol_version: 1,
                    parts: vec![],
                    payload_crc: checksum,
                    limits,
                };
                (Op::Open, Response::ok(Answer::Opened(opened)))
            }
        }
    }
}
