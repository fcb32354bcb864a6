//! The same daemon behind a socket by which memory is shared.

use super::{Server, Shared, Verdict};
use bettong_shm::Frame;
use bettong_shm::frame::INLINE_BYTES_DEFAULT;
use bettong_shm::pool::{Leases, SessionId, SlotPool};
use bettong_shm::real::Memfd;
use bettong_shm::real::attach::{Heard, Listener, Offer, Offered, Pending, Refusal, Welcome, own_uid};
use bettong_shm::real::{OneDescriptor, OwnSegment, PeerSegment, StagingMapping, Watched, WatchedLink};
use bettong_shm::ring::{Control, Segment, Sender};
use bettong_shm::session::{RING_WORDS_DEFAULT, ServerEvent, ServerLimits, ServerParts, ServerSession};
use bettong_wire::BlockMemory;
use bettong_wire::response::{Answer, Outcome};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::{AbortHandle, yield_now};

/// How a daemon shares memory.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub pool_bytes: usize,
    /// Bytes of slots that a client may lease.
    pub quota_bytes: u64,
    /// No client gets more, whatever it asks for.
    pub staging_bytes_max: u64,
    pub ring_words: usize,
    pub requests_inflight_max: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        let pool_bytes = 64 << 20;
        Self {
            pool_bytes,
            quota_bytes: pool_bytes as u64,
            staging_bytes_max: 8 << 20,
            ring_words: RING_WORDS_DEFAULT,
            requests_inflight_max: 128,
        }
    }
}

/// A daemon that can go away and come back. Must be made where a runtime is current.
pub struct Daemon {
    pub server: Server,
    pub path: PathBuf,
    /// What the next client is told.
    pub refusal: Arc<Mutex<Option<Refusal>>>,
    /// The next session begins with an answer that is none.
    pub lies: Arc<Mutex<bool>>,
    /// Sessions look at their rings only, and leave what is said by their sockets.
    pub deaf: Arc<AtomicBool>,
    /// What is asked is answered when its client may sleep.
    pub slow: Arc<AtomicBool>,
    /// How often a client was woken by its bell.
    pub rings: Arc<AtomicU64>,
    /// Why the next session that is ended is, if it is said.
    pub last_words: Arc<Mutex<Option<Refusal>>>,
    /// What clients have said of themselves.
    pub names: Arc<Mutex<Vec<String>>>,
    house: House,
    _folder: TempDir,
}

/// What all sessions have in common.
#[derive(Clone)]
struct House {
    shared: Shared,
    sizes: Sizes,
    pool: SlotPool,
    pool_fd: Arc<Memfd>,
    leases: Arc<Leases>,
    last_session: Arc<AtomicU64>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    lies: Arc<Mutex<bool>>,
    deaf: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    rings: Arc<AtomicU64>,
    last_words: Arc<Mutex<Option<Refusal>>>,
    names: Arc<Mutex<Vec<String>>>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_with(Sizes::default())
    }

    pub fn start_with(sizes: Sizes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bettong.sock");
        let (pool_fd, memory) = Memfd::own(sizes.pool_bytes).unwrap();
        let pool = SlotPool::new(Arc::new(memory)).unwrap();
        let leases = Arc::new(Leases::new(pool.clone(), sizes.quota_bytes));
        let house = House {
            shared: Shared::default(),
            sizes,
            pool,
            pool_fd: Arc::new(pool_fd),
            leases,
            last_session: Arc::default(),
            refusal: Arc::default(),
            lies: Arc::default(),
            deaf: Arc::default(),
            slow: Arc::default(),
            rings: Arc::default(),
            last_words: Arc::default(),
            names: Arc::default(),
            tasks: Arc::default(),
        };
        let server = Server::of(format!("shm://{}", path.display()), &house.shared);
        let (refusal, lies, names) = (house.refusal.clone(), house.lies.clone(), house.names.clone());
        let (deaf, slow, rings) = (house.deaf.clone(), house.slow.clone(), house.rings.clone());
        let last_words = house.last_words.clone();
        let daemon = Self { server, path, refusal, lies, deaf, slow, rings, last_words, names, house, _folder: folder };
        daemon.listen();
        daemon
    }

    /// Comes back, with all values.
    pub fn listen(&self) {
        let listener = Listener::bind(&self.path, BTreeSet::from([own_uid()])).unwrap();
        self.house.spawn(self.house.clone().accept_all(watch(listener)));
    }

    /// Goes away, and its socket with it. Values and leases stay.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.house.tasks.lock().unwrap());
        tasks.iter().for_each(AbortHandle::abort);
        while tasks.iter().any(|task| !task.is_finished()) {
            yield_now().await;
        }
    }

    /// Bytes of slots that the last client leases; `None` where it has detached.
    pub fn leased_bytes(&self) -> Option<u64> {
        self.house.leases.bytes_of(SessionId(self.house.last_session.load(Ordering::Relaxed)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.house.tasks.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

/// A segment that counts how often its bell is rung.
#[derive(Clone)]
struct Belled {
    segment: OwnSegment,
    rings: Arc<AtomicU64>,
}

impl Segment for Belled {
    fn control(&self) -> &Control {
        self.segment.control()
    }

    fn words(&self) -> &[AtomicU32] {
        self.segment.words()
    }

    fn ring(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.segment.ring();
    }
}

fn watch<T: OneDescriptor>(inner: T) -> Watched<T> {
    Watched::new(inner).unwrap()
}

impl House {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task).abort_handle();
        self.tasks.lock().unwrap().push(task);
    }

    async fn accept_all(self, listener: Watched<Listener>) {
        loop {
            let pending = listener.take(|listener| listener.accept().unwrap()).await.unwrap();
            self.spawn(self.clone().attach(pending));
        }
    }

    async fn attach(self, pending: Pending) {
        let pending = watch(pending);
        let Ok(hello) = pending.take(|pending| pending.hello().transpose()).await.unwrap() else { return };
        let pending = pending.into_inner();
        if let Some(refusal) = self.refusal.lock().unwrap().take() {
            return pending.refuse(refusal);
        }
        self.names.lock().unwrap().push(hello.name);
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let Sizes { pool_bytes, quota_bytes, staging_bytes_max, ring_words, requests_inflight_max } = self.sizes;
        let welcome = Welcome {
            session: session.0,
            epoch: 1,
            ring_words: ring_words as u32,
            inline_max: INLINE_BYTES_DEFAULT,
            staging_bytes: hello.staging_bytes.min(staging_bytes_max),
            pool_bytes: 0,
            quota_bytes,
        };
        let Offered { own, peer, staging, link, .. } = pending.offer(&Offer { welcome, pool: &self.pool_fd }).unwrap();
        let link = WatchedLink::new(link).unwrap();
        if std::mem::take(&mut *self.lies.lock().unwrap()) {
            Sender::new(own, peer, INLINE_BYTES_DEFAULT).unwrap().send(&Frame::Inline(b"no answer")).unwrap();
            link.get().wake().unwrap();
            return std::future::pending().await;
        }
        let limits = ServerLimits { requests_inflight_max, ..ServerLimits::default() };
        let parts = ServerParts {
            own: Belled { segment: own, rings: self.rings.clone() },
            peer,
            staging,
            session,
            leases: self.leases.clone(),
            memory: Arc::new(self.pool.clone()),
            pool_bytes: pool_bytes as u64,
        };
        let session = ServerSession::new(parts, &limits).unwrap();
        serve(session, link, &self).await;
    }
}

/// Serves one session until it ends, or the mood ends it.
async fn serve(mut session: ServerSession<Belled, PeerSegment, StagingMapping>, link: WatchedLink, house: &House) {
    let (mut open, mut closed) = (Vec::new(), false);
    loop {
        match session.next_event().unwrap() {
            ServerEvent::Request { id, request, body } => {
                let to = house.pool.reserve_all(&request.payload_lens()).unwrap();
                let body = session.copy_body(&body, to).unwrap();
                let response = match house.shared.judge(&mut open, request, body) {
                    Verdict::Ignore => continue,
                    Verdict::HangUp => {
                        let why = house.last_words.lock().unwrap().take();
                        return why.map_or((), |why| link.get().end(why).unwrap());
                    }
                    Verdict::Answer(response) | Verdict::HalfAnswer(response) => response,
                };
                if house.slow.load(Ordering::Relaxed) {
                    // Far less than its client dozes.
                    #[expect(clippy::disallowed_methods, reason = "a timer takes longer")]
                    std::thread::sleep(Duration::from_micros(200));
                }
                if matches!(response.outcome, Outcome::Ok(Answer::Opened(_))) {
                    session.set_authenticated();
                }
                session.answer(id, response);
            }
            ServerEvent::More => yield_now().await,
            // What its client had released before is in the ring.
            ServerEvent::Idle if closed => return,
            ServerEvent::Idle => {
                if session.must_wake() {
                    // Where the client is gone, that is heard next.
                    let _ = link.get().wake();
                }
                let may_sleep = session.may_sleep();
                let heard = if house.deaf.load(Ordering::Relaxed) {
                    yield_now().await;
                    Heard::Nothing
                } else if may_sleep {
                    link.hear().await.unwrap()
                } else {
                    Heard::Nothing
                };
                session.awake();
                match heard {
                    Heard::Detached => {
                        session.detach();
                        return;
                    }
                    Heard::Closed => closed = true,
                    _ => {}
                }
            }
        }
    }
}
