//! A node behind its shared-memory door: every request and answer crosses rings, staging area and pool, within one process.
#![expect(clippy::disallowed_methods, reason = "a test on the real clock bounds how long it waits")]

use super::door::Crossing;
use super::rig::{Bucket, Node, config, identity};
use bettong_core::World;
use bettong_core::door::shm::{Client, Ended, Heard, Line, Sessions, ShmDoor, ShmLimits};
use bettong_core::service::handler::PROTOCOL_VERSION;
use bettong_core::{Rights, Store, StoreConfig, real::RealWorld};
use bettong_shm::pool::{HeapRegion, Leases, SessionId, SlotPool};
use bettong_shm::ring::{HeapSegment, Scribble, Segment};
use bettong_shm::session::staging::{HeapStaging, StagingArea};
use bettong_shm::session::{ClientSession, ServerLimits, ServerParts, ServerSession};
use bettong_wire::request::{NsHandle, Open};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{Payload, Request, Response};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// So few words that batches wait for room in the ring.
const WORDS: usize = 256;
const STAGING_BYTES: usize = 1 << 20;

/// The daemon's end of a line to a client in this process.
struct HeapLine {
    heard: mpsc::UnboundedReceiver<Heard>,
    wake: Arc<Notify>,
    why: Arc<Mutex<Option<String>>>,
}

impl Line for HeapLine {
    fn wake(&mut self) {
        self.wake.notify_one();
    }

    fn say_why(&mut self, end: &Ended) {
        *self.why.lock().unwrap() = Some(end.to_string());
    }

    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        self.heard.poll_recv(cx).map(|heard| heard.unwrap_or(Heard::Gone))
    }
}

type Rings = ClientSession<Arc<HeapSegment>, Arc<HeapSegment>, HeapStaging>;

/// A client's end, with a namespace open.
pub struct Attached {
    pub rings: Rings,
    pub say: mpsc::UnboundedSender<Heard>,
    wake: Arc<Notify>,
    pub why: Arc<Mutex<Option<String>>>,
    pub ended: mpsc::UnboundedReceiver<Ended>,
    pub leases: Arc<Leases>,
    pub sessions: Sessions,
    pub pool: SlotPool,
    up: Arc<HeapSegment>,
    ns: NsHandle,
}

impl Attached {
    /// A node whose door has one client.
    pub async fn with(bucket: &Bucket, quota_bytes: u64) -> (Node, Self) {
        Self::with_config(bucket, config("a"), quota_bytes).await
    }

    pub async fn with_config(bucket: &Bucket, config: StoreConfig, quota_bytes: u64) -> (Node, Self) {
        let region = Arc::new(HeapRegion::new(config.memory_bytes as usize));
        let pool = SlotPool::new(region.clone()).unwrap();
        let world = bucket.world("a");
        let store = bucket.store_in(pool.clone(), world.clone(), config, Duration::MAX).await.unwrap();
        let attached = Self::to(&store, &world, region, pool, quota_bytes);
        (Node::of(store).await, attached)
    }

    fn to(
        store: &Store<RealWorld>,
        world: &RealWorld,
        region: Arc<HeapRegion>,
        pool: SlotPool,
        quota_bytes: u64,
    ) -> Self {
        let leases = Arc::new(Leases::new(pool.clone(), quota_bytes));
        let (down, up) = (Arc::new(HeapSegment::new(WORDS)), Arc::new(HeapSegment::new(WORDS)));
        let staging = HeapStaging::new(STAGING_BYTES);
        let parts = ServerParts {
            own: down.clone(),
            peer: up.clone(),
            staging: staging.clone(),
            session: SessionId(1),
            leases: leases.clone(),
            memory: store.memory(),
            pool_bytes: config("a").memory_bytes,
        };
        let limits = ServerLimits::default();
        let served = ServerSession::new(parts, &limits).unwrap();
        let rings = ClientSession::new(up.clone(), down, StagingArea::new(staging), region, limits.inline_max).unwrap();
        let (say, heard) = mpsc::unbounded_channel();
        let (wake, why, sessions) = (Arc::new(Notify::new()), Arc::default(), Sessions::new(leases.clone()));
        let line = HeapLine { heard, wake: wake.clone(), why: Arc::clone(&why) };
        let service = bettong_core::service::handler::StoreService::new(store.clone());
        let operator = |_: &str, _: &str, _: &str| Ok(Rights { admin: true });
        let door = ShmDoor::new(Arc::new(service), *world.clock(), operator, sessions.clone(), ShmLimits::default());
        let (tell, ended) = mpsc::unbounded_channel();
        world.spawn(async move {
            let client = Client { name: "test".to_owned(), pid: 7, ..Client::default() };
            let told = |end: &Ended| drop(tell.send(end.clone()));
            door.serve(client, served, line, std::future::pending(), told).await;
        });
        Self { rings, say, wake, why, ended, leases, sessions, pool, up, ns: NsHandle(0) }
    }

    pub async fn open_namespace(&mut self) {
        match self.ask(&open("chat"), &[]).await.outcome {
            Outcome::Ok(Answer::Opened(opened)) => self.ns = opened.ns,
            other => panic!("{other:?}"),
        }
    }

    /// Writes what no ring can hold where the client's ring says how far it has written.
    pub fn scribble(&self) {
        let scribble = Scribble { tail: u64::MAX, watermark: 0, head: 0, waits: 0, bell: 0 };
        self.up.control().scribble(scribble);
    }

    pub async fn ask(&mut self, request: &Request, body: &[&[u8]]) -> Response {
        let asked = self.rings.request(request, body).unwrap();
        loop {
            if let Some((id, response)) = self.rings.recv().unwrap() {
                assert_eq!(id, asked);
                return response;
            }
            if self.rings.must_wake() {
                self.say.send(Heard::Woken).unwrap();
            }
            if self.rings.may_sleep() {
                tokio::time::timeout(Duration::from_secs(30), self.wake.notified()).await.expect("nobody wakes it");
            }
            self.rings.awake();
        }
    }
}

pub fn open(namespace: &str) -> Request {
    Request::open(Open {
        protocol_version: PROTOCOL_VERSION,
        tenant: "tenant".to_owned(),
        token: String::new(),
        namespace: namespace.to_owned(),
        identity: Some(identity()),
        payload_crc: true,
    })
}

impl Crossing for Attached {
    async fn open(bucket: &Bucket) -> (Node, Self) {
        let (node, mut attached) = Self::with(bucket, u64::MAX).await;
        attached.open_namespace().await;
        (node, attached)
    }

    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        let body: Vec<&[u8]> = body.iter().map(AsRef::as_ref).collect();
        self.ask(&request, &body).await
    }

    fn namespace(&self) -> NsHandle {
        self.ns
    }
}
