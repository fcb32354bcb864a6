//! When a session looks for its client's next request, and when it sleeps.

use super::*;
use crate::door::fake::FakeService;
use crate::service::Rights;
use crate::world::Mono;
use bettong_shm::pool::{HeapRegion, Leases, SessionId, SlotPool};
use bettong_shm::ring::HeapSegment;
use bettong_shm::session::staging::{HeapStaging, StagingArea};
use bettong_shm::session::{ClientSession, ServerLimits, ServerParts};
use bettong_wire::request::{Get, NsHandle, Open, ReadLimits, Target};
use bettong_wire::{Request, memory::HeapMemory};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};

const POOL_BYTES: usize = 64 << 20;
const SPIN: Duration = Duration::from_micros(100);

/// Time that a test moves, in nanoseconds.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn mono(&self) -> Mono {
        Mono(self.0.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}

/// Nothing is said beside the rings.
struct Silent;

impl Line for Silent {
    fn wake(&mut self) {}

    fn say_why(&mut self, _: &Ended) {}

    fn poll_heard(&mut self, _: &mut Context<'_>) -> Poll<Heard> {
        Poll::Pending
    }
}

/// Whether a session wants to be polled again at once.
#[derive(Default)]
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether the session looks on, or sleeps.
fn looks(serving: &mut Pin<Box<impl Future<Output = ()>>>) -> bool {
    let again = Arc::new(Again::default());
    let polled = serving.as_mut().poll(&mut Context::from_waker(&Waker::from(again.clone())));
    assert!(polled.is_pending(), "it is over");
    again.0.load(Ordering::Relaxed)
}

fn open() -> Request {
    Request::open(Open {
        protocol_version: bettong_wire::limits::PROTOCOL_VERSION,
        tenant: "tenant".to_owned(),
        token: String::new(),
        namespace: "chat".to_owned(),
        identity: None,
        payload_crc: false,
    })
}

#[test]
fn it_looks_for_who_asks_soon_and_sleeps_for_who_waits_or_stays_away() {
    let region = Arc::new(HeapRegion::new(POOL_BYTES));
    let pool = SlotPool::new(region.clone()).unwrap();
    let leases = Arc::new(Leases::new(pool, u64::MAX));
    let (down, up) = (Arc::new(HeapSegment::new(1024)), Arc::new(HeapSegment::new(1024)));
    let staging = HeapStaging::new(4096);
    let limits = ServerLimits::default();
    let parts = ServerParts {
        own: down.clone(),
        peer: up.clone(),
        staging: staging.clone(),
        session: SessionId(1),
        leases: leases.clone(),
        memory: Arc::new(HeapMemory::new(1 << 20, 1 << 20)),
        pool_bytes: POOL_BYTES as u64,
    };
    let served = ServerSession::new(parts, &limits).unwrap();
    let mut client = ClientSession::new(up, down, StagingArea::new(staging), region, limits.inline_max).unwrap();
    let (service, hand) = (Arc::new(FakeService::default()), Hand::default());
    let anybody = |_: &str, _: &str, _: &str| Ok(Rights { admin: true });
    let limits = ShmLimits { spin: SPIN, ..ShmLimits::default() };
    let door = ShmDoor::new(service.clone(), hand.clone(), anybody, Sessions::new(leases), limits);
    let mut serving = Box::pin(door.serve(Client::default(), served, Silent, std::future::pending(), |_| {}));

    client.request(&open(), &[]).unwrap();
    assert!(looks(&mut serving) && client.recv().unwrap().is_some());
    client.request(&Request::Ping, &[]).unwrap();
    assert!(looks(&mut serving) && client.recv().unwrap().is_some());

    // It asks for what takes its time: until that is there, it asks for nothing else.
    let target = Target::Plain("slow/".to_owned());
    let get = Request::Get(Get { ns: NsHandle(0), target, range: None, limits: ReadLimits::default() });
    client.request(&get, &[]).unwrap();
    // The calls under way are looked at once more after each that has begun.
    looks(&mut serving);
    assert!(!looks(&mut serving) && client.recv().unwrap().is_none());
    client.request(&Request::Ping, &[]).unwrap();
    assert!(client.must_wake() && !looks(&mut serving), "it waits still, whatever else it asks for");
    hand.pass(SPIN * 100);
    service.release.notify_one();
    assert!(looks(&mut serving), "what it waited for is there");

    hand.pass(SPIN * 2);
    assert!(!looks(&mut serving) && !looks(&mut serving), "it stays away");
}
