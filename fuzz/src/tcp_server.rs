//! The daemon's end of a connection against any peer.

use crate::steps::Sent;
use arbitrary::{Arbitrary, Unstructured};
use bettong_wire::memory::HeapMemory;
use bettong_wire::message::{Direction, encode_request};
use bettong_wire::request::*;
use bettong_wire::response::*;
use bettong_wire::tcp::{Received, Receiver, Sender, ServerConnection, ServerEvent, ServerLimits};
use bettong_wire::{
    BlockHash, BlockKey, BlockMemory, ErrorKind, NamespaceId, Part, Payload, Request, Response, ServiceError, limits,
};
use bytes::BufMut;

#[derive(Arbitrary, Debug)]
enum Step {
    Sent(Sent),
    /// A request as a client sends it.
    Asked {
        what: Ask,
        id: u8,
    },
    /// The service answers the n-th of what it has.
    Answer {
        nth: u8,
        len: u16,
    },
    Withdraw {
        id: u8,
    },
    /// The peer reads everything.
    Read,
    Drain,
}

#[derive(Arbitrary, Debug)]
enum Ask {
    Ping,
    Open { checksum: bool },
    Put { len: u16 },
    Get,
    GetBlocks { keys: u8 },
    PutBlocks { len: u16, blocks: u8 },
    Cancel { id: u8 },
}

const UNSENT_MAX: u64 = 256 << 10;
/// Items of a batch: enough to interleave, few enough to be quick.
const ITEMS_MAX: u8 = 4;
/// The credit may be passed by one answer.
const ANSWER_MAX: u64 = (ITEMS_MAX as u64) << 16;
const RECEIVED_MAX: u64 = 1 << 20;
const INFLIGHT_MAX: u32 = 8;

struct Run {
    server: ServerConnection,
    asked: Sender,
    memory: HeapMemory,
    /// What is with the service.
    calls: Vec<(u64, Request)>,
    answers: Receiver,
    closed: bool,
}

pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let limits = ServerLimits {
        frame_bytes_max: limits::FRAME_BYTES_MIN,
        requests_inflight_max: INFLIGHT_MAX,
        unsent_bytes_max: UNSENT_MAX,
    };
    let mut run = Run {
        server: ServerConnection::new(limits),
        asked: Sender::new(Direction::Request, 2_000),
        memory: HeapMemory::new(RECEIVED_MAX, RECEIVED_MAX),
        calls: Vec::new(),
        answers: Receiver::new(Direction::Response, u32::MAX, 1000),
        closed: false,
    };
    while let Ok(step) = Step::arbitrary(&mut input) {
        let piece = usize::from(u16::arbitrary(&mut input).unwrap_or(1)).max(1);
        run.step(step, piece);
        let unsent = run.server.unsent_bytes();
        assert!(unsent <= UNSENT_MAX + ANSWER_MAX, "{unsent} bytes are unsent");
        if input.is_empty() {
            break;
        }
    }
    run.read();
}

impl Run {
    fn step(&mut self, step: Step, piece: usize) {
        match step {
            Step::Sent(sent) => self.feed(&sent.bytes(Direction::Request), piece),
            Step::Asked { what, id } => self.ask(what, u64::from(id), piece),
            Step::Answer { nth, len } => {
                if !self.calls.is_empty() {
                    let (id, request) = self.calls.remove(usize::from(nth) % self.calls.len());
                    self.server.answer(id, answer(&request, mostly_short(len)));
                }
            }
            Step::Withdraw { id } => {
                self.server.withdraw(u64::from(id));
            }
            Step::Read => self.read(),
            Step::Drain => self.server.drain(),
        }
    }

    fn ask(&mut self, what: Ask, id: u64, piece: usize) {
        let request = what.request();
        let payloads: Vec<Payload> =
            request.payload_lens().iter().map(|len| Payload::from(vec![id as u8; *len as usize])).collect();
        let Ok(message) = encode_request(id, &request, payloads) else { return };
        if self.asked.push(message).is_err() {
            return;
        }
        while !self.asked.is_empty() {
            let bytes: Vec<u8> = self.asked.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            self.asked.advance(bytes.len());
            self.feed(&bytes, piece);
        }
    }

    fn feed(&mut self, bytes: &[u8], piece: usize) {
        // Cut anywhere, but a large payload not into single bytes.
        let piece = piece.max(bytes.len() / 64);
        let mut rest = bytes;
        loop {
            match self.server.next_event() {
                ServerEvent::Closing { .. } => {
                    self.closed = true;
                    return;
                }
                _ if self.closed => panic!("a closed connection goes on"),
                ServerEvent::Weigh { id, request } => {
                    let bytes = match &request {
                        Request::GetMany(body) => body.targets.len() << 16,
                        Request::GetBlocks(body) => body.keys.len() << 16,
                        _ => 1 << 16,
                    };
                    self.server.weighed(id, request, bytes as u64);
                }
                ServerEvent::ReserveArchive { len } => match self.memory.reserve(len.into()) {
                    Ok(buf) => self.server.fill_archive(buf),
                    Err(error) => self.server.refuse_archive(error.into()),
                },
                ServerEvent::Reserve { id, lens } => {
                    let buffers = lens.iter().map(|len| self.memory.reserve(*len)).collect::<Result<Vec<_>, _>>();
                    match buffers {
                        Ok(buffers) => self.server.fill(buffers),
                        Err(error) => self.server.refuse(id, error.into()),
                    }
                }
                ServerEvent::Request { id, request, body } => self.call(id, request, body),
                ServerEvent::NeedBytes if rest.is_empty() || !self.server.wants_bytes() => return,
                ServerEvent::NeedBytes => {
                    let mut into = self.server.read_into();
                    let n = piece.min(rest.len()).min(into.remaining_mut());
                    into.put_slice(&rest[..n]);
                    self.server.advance_read(n);
                    rest = &rest[n..];
                }
            }
        }
    }

    fn call(&mut self, id: u64, request: Request, body: Vec<Payload>) {
        let lens: Vec<u64> = body.iter().map(|payload| payload.len() as u64).collect();
        assert_eq!(lens, request.payload_lens(), "a request comes with what it announced");
        assert!(self.calls.iter().all(|(other, _)| *other != id), "one id names one request");
        match &request {
            Request::Ping => return self.server.answer(id, Response::ok(Answer::Pong)),
            Request::Cancel { .. } => return self.server.answer(id, Response::ok(Answer::Cancelled)),
            Request::Open(_) => self.server.set_authenticated(),
            _ => {}
        }
        self.calls.push((id, request));
        assert!(self.calls.len() <= INFLIGHT_MAX as usize, "more requests than allowed are with the service");
    }

    /// The peer reads, and understands, everything.
    fn read(&mut self) {
        while self.server.has_unsent() {
            let bytes: Vec<u8> = self.server.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            self.server.advance_written(bytes.len());
            self.understand(&bytes);
        }
        assert_eq!(self.server.unsent_bytes(), 0);
    }

    fn understand(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            match self.answers.poll().expect("a server's frames are sound") {
                Received::Message { head, archive } => {
                    let response = bettong_wire::message::decode_response(&head, &archive).expect("and its answers");
                    self.answers.expect(&response.payload_lens).expect("with the payloads that they announce");
                    let memory = HeapMemory::new(u64::MAX, u64::MAX);
                    let buffers = response.payload_lens.iter().map(|len| memory.reserve(*len).expect("room"));
                    self.answers.fill(buffers.collect());
                }
                Received::Refused { error, .. } => panic!("{error}"),
                Received::LongArchive { len } => panic!("room is asked for {len} bytes where nobody limits them"),
                Received::Body { intact, .. } => intact.expect("payloads arrive as they were sent"),
                Received::NeedBytes if rest.is_empty() => return,
                Received::NeedBytes => {
                    let mut into = self.answers.read_into();
                    let n = rest.len().min(into.remaining_mut());
                    into.put_slice(&rest[..n]);
                    self.answers.advance(n);
                    rest = &rest[n..];
                }
            }
        }
    }
}

impl Ask {
    fn request(self) -> Request {
        let ns = NsHandle(0);
        let limits = ReadLimits::default();
        let target = Target::Plain("k".to_owned());
        let key = BlockKey { hash: BlockHash([1; 32]), part: Part(0) };
        match self {
            Self::Ping => Request::Ping,
            Self::Open { checksum } => Request::open(Open {
                protocol_version: 1,
                tenant: "t".to_owned(),
                token: String::new(),
                namespace: "n".to_owned(),
                identity: None,
                payload_crc: checksum,
            }),
            Self::Put { len } => Request::Put(Put {
                ns,
                target,
                level: Level::Memory,
                ttl_ms: 0,
                parent: None,
                sequence: 0,
                len: mostly_short(len) as u64,
            }),
            Self::Get => Request::Get(Get { ns, target, range: None, limits }),
            Self::GetBlocks { keys } => Request::GetBlocks(GetBlocks {
                ns,
                keys: vec![key; usize::from(keys % ITEMS_MAX)],
                leading: true,
                limits,
            }),
            Self::PutBlocks { len, blocks } => {
                let block = BlockPut { key, parent: None, sequence: 0, len: mostly_short(len) as u64 };
                Request::PutBlocks(PutBlocks {
                    ns,
                    level: Level::Memory,
                    blocks: vec![block; usize::from(blocks % ITEMS_MAX)],
                })
            }
            Self::Cancel { id } => Request::Cancel { request_id: u64::from(id) },
        }
    }
}

/// Some payloads take several frames of the daemon's; most are short, for speed.
fn mostly_short(len: u16) -> usize {
    usize::from(if len.is_multiple_of(16) { len } else { len % 3000 })
}

/// An answer of the service; where it does not fit the request, the connection has to make an error of it.
fn answer(request: &Request, len: usize) -> Response {
    let hit = Hit { total_len: len as u64, put_id: Default::default(), tier: Tier::Memory, expires_at_ms: 0 };
    let payload = Payload::from(vec![2; len]);
    match request {
        Request::Open(open) => Response::ok(Answer::Opened(Opened {
            ns: NsHandle(0),
            namespace_id: NamespaceId([0; 32]),
            protocol_version: 1,
            parts: vec![],
            payload_crc: open.payload_crc,
            limits: SessionLimits::default(),
        })),
        Request::GetBlocks(get) => {
            let (items, payloads) = get.keys.iter().map(|_| (ItemOutcome::Hit(hit.clone()), payload.clone())).unzip();
            Response::with_payloads(Answer::Items(items), payloads)
        }
        _ if len.is_multiple_of(5) => Response::error(ServiceError::new(ErrorKind::Retry, "so it is")),
        _ => Response::with_payloads(Answer::Hit(hit), vec![payload]),
    }
}
