//! The daemon's side of a host: its door, and how clients come to share memory with it.

use super::line::line;
use super::memory::{Area, ClientSegment, DaemonSegment, Meddler};
use super::{Book, ClientLine, Watch};
use crate::random::Stream;
use crate::run::Run;
use crate::world::SimWorld;
use bettong_core::door::Deadlines;
use bettong_core::door::shm::{Client, Ended, Sessions, ShmDoor};
use bettong_core::{Fate, Rights, Service, World};
use bettong_shm::pool::{Classes, HeapRegion, Leases, PoolError, Region, SessionId, SlotPool};
use bettong_shm::ring::HeapSegment;
use bettong_shm::session::staging::{HeapStaging, Staging};
use bettong_shm::session::{ServerLimits, ServerParts, ServerSession};
use bettong_wire::{BlockMemory, ServiceError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// Looks at a client's ring in one turn of its session, after which others have theirs: more than what there may be in a ring,
/// and what 32 rounds ask and answer.
const LOOKS_MAX: u64 = 1 << 13;

/// What sessions of a daemon may use.
#[derive(Debug, Clone)]
pub struct ShmLimits {
    /// Of either ring.
    pub words: usize,
    pub inline_max: u16,
    pub requests_inflight_max: u32,
    pub queued_bytes_max: u64,
    pub staging_bytes: u64,
    /// Bytes of slots that a session may lease.
    pub quota_bytes: u64,
    /// How long a request may take.
    pub deadline: Duration,
}

/// Memory of one life of a daemon, made before its store opens.
pub struct Parts {
    region: Arc<HeapRegion>,
    pub pool: SlotPool,
}

impl Parts {
    pub fn new(bytes: u64) -> Result<Self, PoolError> {
        let region = Arc::new(HeapRegion::new(usize::try_from(bytes).unwrap_or(usize::MAX)));
        Ok(Self { pool: SlotPool::new(region.clone())?, region })
    }
}

/// What a door is opened with.
pub struct Start<S> {
    pub world: SimWorld,
    pub life: u64,
    pub service: Arc<S>,
    pub memory: Arc<dyn BlockMemory>,
    pub fate: watch::Receiver<Option<Fate>>,
    pub limits: ShmLimits,
}

/// One life of a daemon as the clients on its host have it. What they map stays when it is gone.
pub struct Host {
    pub daemon: String,
    pub life: u64,
    pub limits: ShmLimits,
    pub leases: Arc<Leases>,
    pub sessions: Sessions,
    pub book: Arc<Book>,
    pub region: Arc<dyn Region>,
    asks: mpsc::UnboundedSender<Asks>,
    ended: Mutex<BTreeMap<SessionId, Ended>>,
}

/// A client that wants to attach.
struct Asks {
    client: Client,
    hostile: Option<Stream>,
    line: super::line::DaemonLine,
    reply: oneshot::Sender<Shared>,
}

/// What a client shares with the daemon.
struct Shared {
    session: SessionId,
    down: Arc<HeapSegment>,
    bell: Arc<Notify>,
    up: Arc<HeapSegment>,
    staging: HeapStaging,
    watch: Option<Arc<Watch>>,
    meddler: Option<Arc<Meddler>>,
}

/// A client's end of a session.
pub struct Attached {
    pub host: Arc<Host>,
    pub session: SessionId,
    /// Written by the daemon.
    pub down: Arc<HeapSegment>,
    /// Rung by the daemon.
    pub bell: Arc<Notify>,
    /// Written by the client.
    pub up: Arc<HeapSegment>,
    pub staging: HeapStaging,
    pub line: ClientLine,
    /// Of an honest client.
    pub watch: Option<Arc<Watch>>,
    /// Of a hostile one.
    pub meddler: Option<Arc<Meddler>>,
}

impl Host {
    /// Opens the door of one life, over the pool of its store.
    pub fn open<S: Service>(parts: Parts, start: Start<S>) -> Arc<Self> {
        let Parts { region, pool } = parts;
        let (asks, mut asked) = mpsc::unbounded_channel::<Asks>();
        let leases = Arc::new(Leases::new(pool.clone(), start.limits.quota_bytes));
        let host = Arc::new(Self {
            daemon: start.world.node().to_owned(),
            life: start.life,
            limits: start.limits.clone(),
            sessions: Sessions::new(leases.clone()),
            leases,
            book: Arc::new(Book::new(Classes::of_layout(pool.layout()))),
            region,
            asks,
            ended: Mutex::default(),
        });
        let (own, world) = (host.clone(), start.world.clone());
        world.spawn(async move {
            let door = Arc::new(own.door(&start));
            let mut number = 0;
            while let Some(asks) = asked.recv().await {
                number += 1;
                own.serve(&start, &door, SessionId(number), asks);
            }
        });
        host
    }

    fn door<S: Service>(&self, start: &Start<S>) -> ShmDoor<S, crate::world::SimClock, Anybody> {
        let deadlines = Deadlines { default: self.limits.deadline, max: self.limits.deadline };
        let limits = bettong_core::door::shm::ShmLimits { deadlines, spin: Duration::ZERO };
        let clock = start.world.clock().clone();
        ShmDoor::new(start.service.clone(), clock, anybody, self.sessions.clone(), limits)
    }

    /// Makes a session's memory, gives it away, and serves the session.
    fn serve<S: Service>(
        self: &Arc<Self>,
        start: &Start<S>,
        door: &Arc<ShmDoor<S, crate::world::SimClock, Anybody>>,
        session: SessionId,
        asks: Asks,
    ) {
        let run = start.world.run().clone();
        let ShmLimits { words, inline_max, staging_bytes, .. } = self.limits;
        let (down, up) = (Arc::new(HeapSegment::new(words)), Arc::new(HeapSegment::new(words)));
        let (bell, looks) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let staging = HeapStaging::new(staging_bytes as usize);
        let is_hostile = asks.hostile.is_some();
        let meddler = asks.hostile.map(|random| Arc::new(Meddler::new(random)));
        let rings = (down.clone(), up.clone());
        let (leases, book) = (self.leases.clone(), self.book.clone());
        let watch = (!is_hostile).then(|| Watch::new(&run, &self.daemon, session, leases, book, rings, inline_max));
        let watch = watch.flatten().map(Arc::new);
        let parts = ServerParts {
            own: DaemonSegment { segment: down.clone(), bell: bell.clone(), watch: watch.clone() },
            peer: ClientSegment {
                segment: up.clone(),
                looks: looks.clone(),
                watch: watch.clone(),
                meddler: meddler.clone(),
            },
            staging: Area { staging: staging.clone(), meddler: meddler.clone() },
            session,
            leases: self.leases.clone(),
            memory: start.memory.clone(),
            pool_bytes: self.region.len() as u64,
        };
        let limits = ServerLimits {
            inline_max,
            requests_inflight_max: self.limits.requests_inflight_max,
            queued_bytes_max: self.limits.queued_bytes_max,
        };
        let served = match ServerSession::new(parts, &limits) {
            Ok(served) => served,
            Err(error) => return run.fail("setup", format!("no session begins: {error}")),
        };
        let shared = Shared { session, down, bell, up, staging, watch, meddler };
        let (host, door, mut fate, honest) = (self.clone(), door.clone(), start.fate.clone(), shared.watch.clone());
        let client = Client { staging_bytes: Staging::len(&shared.staging), ..asks.client };
        start.world.spawn(async move {
            let stop = async move {
                // A store that is dropped has no fate: it never stops.
                if fate.wait_for(Option::is_some).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let judge = run.clone();
            let told = |end: &Ended| {
                let is_honest = honest.is_some_and(|watch| !watch.is_over());
                host.session_ended(&run, session, end, is_honest);
            };
            let mut serving = pin!(door.serve(client, served, asks.line, stop, told));
            poll_fn(|cx| {
                looks.store(0, Ordering::Relaxed);
                let polled = serving.as_mut().poll(cx);
                let looked = looks.load(Ordering::Relaxed);
                if looked > LOOKS_MAX {
                    let what = format!("S6: {} looks {looked} times at the ring of session {}", host.daemon, session.0);
                    judge.fail("O3", format!("{what} before others have their turn"));
                }
                polled
            })
            .await;
        });
        // Who has died meanwhile says so on its line.
        let _ = asks.reply.send(shared);
    }

    fn session_ended(&self, run: &Run, session: SessionId, end: &Ended, is_honest: bool) {
        run.trace(&self.daemon, format_args!("session {} ends: {end}", session.0));
        self.ended.lock().insert(session, end.clone());
        if let (Ended::Broken(_) | Ended::Refused(_), true) = (end, is_honest) {
            run.fail("O3", format!("{} shuts an honest client out: {end}", self.daemon));
        }
    }

    /// Why the session is over, if it is.
    pub fn ended(&self, session: SessionId) -> Option<Ended> {
        self.ended.lock().get(&session).cloned()
    }

    /// Whether the daemon's life goes on.
    pub fn is_up(&self) -> bool {
        !self.asks.is_closed()
    }

    /// Attaches a client; one that is `hostile` may meddle with what it writes. `None` where the daemon died meanwhile.
    pub async fn attach(self: &Arc<Self>, name: &str, pid: u32, hostile: Option<Stream>) -> Option<Attached> {
        let (theirs, line) = line();
        let (reply, answer) = oneshot::channel();
        let client = Client { name: name.to_owned(), pid, ..Client::default() };
        self.asks.send(Asks { client, hostile, line: theirs, reply }).ok()?;
        let Shared { session, down, bell, up, staging, watch, meddler } = answer.await.ok()?;
        Some(Attached { host: self.clone(), session, down, bell, up, staging, line, watch, meddler })
    }
}

type Anybody = fn(&str, &str, &str) -> Result<Rights, ServiceError>;

fn anybody(_tenant: &str, _token: &str, _origin: &str) -> Result<Rights, ServiceError> {
    Ok(Rights::default())
}

/// The hosts of the daemons that run, by daemon.
#[derive(Clone, Default)]
pub struct Hosts(Arc<Mutex<BTreeMap<String, Arc<Host>>>>);

impl Hosts {
    pub fn open(&self, host: Arc<Host>) {
        self.0.lock().insert(host.daemon.clone(), host);
    }

    pub fn close(&self, daemon: &str) {
        self.0.lock().remove(daemon);
    }

    pub fn of(&self, daemon: &str) -> Option<Arc<Host>> {
        self.0.lock().get(daemon).filter(|host| host.is_up()).cloned()
    }
}
