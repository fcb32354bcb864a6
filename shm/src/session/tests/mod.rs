//! Sessions over memory of the heap.

mod hostile;
mod limits;
mod together;

use super::staging::{HeapStaging, StagingArea};
use super::*;
use crate::pool::{HeapRegion, Leases, SessionId, SlotPool};
use crate::ring::HeapSegment;
use bettong_wire::ids::{NamespaceId, PutId};
use bettong_wire::request::*;
use bettong_wire::response::*;
use bettong_wire::{BlockMemory, Payload, Request, Response};
use std::sync::Arc;

const POOL_BYTES: usize = 1 << 20;
const STAGING_BYTES: usize = 64 << 10;
const INLINE_MAX: u16 = 128;
const SESSION: SessionId = SessionId(7);

type Segment = Arc<HeapSegment>;
type Client = ClientSession<Segment, Segment, HeapStaging>;
type Server = ServerSession<Segment, Segment, HeapStaging>;

/// Drivers hand them from thread to thread.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Client>();
    is_send::<Server>();
};

/// How a pair of sessions is made.
struct Plan {
    to_daemon_words: usize,
    to_client_words: usize,
    quota_bytes: u64,
    limits: ServerLimits,
}

impl Default for Plan {
    fn default() -> Self {
        let limits = ServerLimits { inline_max: INLINE_MAX, requests_inflight_max: 6, queued_bytes_max: 2048 };
        Self { to_daemon_words: 256, to_client_words: 128, quota_bytes: 96 << 10, limits }
    }
}

struct Pair {
    client: Client,
    server: Server,
    pool: SlotPool,
    leases: Arc<Leases>,
    staging: HeapStaging,
    /// What each side writes, for those who write something else.
    to_client: Segment,
    to_daemon: Segment,
}

fn pair(plan: &Plan) -> Pair {
    let region = Arc::new(HeapRegion::new(POOL_BYTES));
    let pool = SlotPool::new(region.clone()).unwrap();
    let leases = Arc::new(Leases::new(pool.clone(), plan.quota_bytes));
    let staging = HeapStaging::new(STAGING_BYTES);
    let to_client = Arc::new(HeapSegment::new(plan.to_client_words));
    let to_daemon = Arc::new(HeapSegment::new(plan.to_daemon_words));
    let parts = ServerParts {
        own: to_client.clone(),
        peer: to_daemon.clone(),
        staging: staging.clone(),
        session: SESSION,
        leases: leases.clone(),
        memory: Arc::new(pool.clone()),
        pool_bytes: POOL_BYTES as u64,
    };
    let server = ServerSession::new(parts, &plan.limits).unwrap();
    let area = StagingArea::new(staging.clone());
    let client = ClientSession::new(to_daemon.clone(), to_client.clone(), area, region, INLINE_MAX).unwrap();
    Pair { client, server, pool, leases, staging, to_client, to_daemon }
}

/// A pair whose client has opened a namespace.
fn opened(plan: &Plan) -> Pair {
    let mut pair = pair(plan);
    let id = pair.client.request(&open(), &[]).unwrap();
    let (asked, ..) = pair.request();
    assert_eq!(asked, id);
    pair.server.set_authenticated();
    let answer = Opened {
        ns: NsHandle(1),
        namespace_id: NamespaceId([1; 32]),
        protocol_version: 1,
        parts: vec![],
        payload_crc: true,
        limits: SessionLimits::default(),
    };
    pair.server.answer(id, Response::ok(Answer::Opened(answer)));
    let (answered, response) = pair.client.recv().unwrap().unwrap();
    let Outcome::Ok(Answer::Opened(opened)) = response.outcome else { panic!("{response:?}") };
    assert_eq!((answered, opened.payload_crc), (id, false));
    assert_eq!(opened.limits.requests_inflight_max, plan.limits.requests_inflight_max);
    pair
}

impl Pair {
    /// The request that is there.
    fn request(&mut self) -> (u64, Request, Vec<Payload>) {
        match self.server.next_event().unwrap() {
            ServerEvent::Request { id, request, body } => {
                let to = self.pool.reserve_all(&request.payload_lens()).unwrap();
                let body = self.server.copy_body(&body, to).unwrap();
                (id, request, body)
            }
            event => panic!("{event:?}"),
        }
    }

    fn put(&self, len: usize, byte: u8) -> Payload {
        self.pool.adopt(vec![byte; len].into()).unwrap()
    }

    /// All is read, released and free.
    fn is_idle(&mut self) {
        for _ in 0..1000 {
            self.client.flush_releases().unwrap();
            self.server.next_event().unwrap();
            if self.client.pending_releases() == 0 {
                break;
            }
        }
        assert!(matches!(self.server.next_event(), Ok(ServerEvent::Idle)));
        assert_eq!(self.leases.bytes_of(SESSION), Some(0));
        assert_eq!(self.client.staging().free_bytes(), STAGING_BYTES as u64);
        assert_eq!((self.client.unanswered(), self.server.unanswered(), self.server.queued_bytes()), (0, 0, 0));
    }
}

fn open() -> Request {
    Request::open(Open {
        protocol_version: 1,
        tenant: "t".into(),
        token: String::new(),
        namespace: "n".into(),
        identity: None,
        payload_crc: true,
    })
}

fn key(number: usize) -> Target {
    Target::Plain(format!("{number}"))
}

fn get_many(count: usize) -> Request {
    let targets = (0..count).map(key).collect();
    Request::GetMany(GetMany { ns: NsHandle(1), targets, limits: ReadLimits::default() })
}

fn put_one(len: u64) -> Request {
    Request::Put(Put {
        ns: NsHandle(1),
        target: key(0),
        level: Level::Memory,
        ttl_ms: 0,
        parent: None,
        sequence: 0,
        len,
    })
}

fn hit(len: u64) -> Hit {
    Hit { total_len: len, put_id: PutId { life: 1, counter: 2 }, tier: Tier::Memory, expires_at_ms: 0 }
}

/// The answer to `get_many` that has these values.
fn hits(payloads: Vec<Payload>) -> Response {
    let items = payloads.iter().map(|payload| ItemOutcome::Hit(hit(payload.len() as u64))).collect();
    Response::with_payloads(Answer::Items(items), payloads)
}

fn stored() -> Response {
    Response::ok(Answer::Stored(Stored { put_id: PutId { life: 1, counter: 2 }, already: false }))
}
