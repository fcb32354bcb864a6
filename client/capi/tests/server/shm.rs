//! The daemon behind a socket by which memory is shared.

use super::{House, Server, is_opened};
use bettong_shm::frame::INLINE_BYTES_DEFAULT;
use bettong_shm::pool::{Leases, SessionId, SlotPool};
use bettong_shm::real::attach::{Heard, Listener, Offer, Offered, Pending, Welcome, own_uid};
use bettong_shm::real::{Memfd, OneDescriptor, OwnSegment, PeerSegment, StagingMapping, Watched, WatchedLink};
use bettong_shm::session::{RING_WORDS_DEFAULT, ServerEvent, ServerLimits, ServerParts, ServerSession};
use bettong_wire::BlockMemory;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::yield_now;

const POOL_BYTES: usize = 64 << 20;
const STAGING_BYTES_MAX: u64 = 8 << 20;

#[derive(Clone)]
struct Door {
    house: House,
    pool: SlotPool,
    pool_fd: Arc<Memfd>,
    leases: Arc<Leases>,
    last_session: Arc<AtomicU64>,
}

fn watch<T: OneDescriptor>(inner: T) -> Watched<T> {
    Watched::new(inner).unwrap()
}

/// Must be called where a runtime is current.
pub fn start(house: House) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bettong.sock");
    let (pool_fd, memory) = Memfd::own(POOL_BYTES).unwrap();
    let pool = SlotPool::new(Arc::new(memory)).unwrap();
    let leases = Arc::new(Leases::new(pool.clone(), POOL_BYTES as u64));
    let (leave, hung_up) = (house.leave.clone(), house.hung_up.clone());
    let door = Door { house, pool, pool_fd: Arc::new(pool_fd), leases, last_session: Arc::default() };
    let listener = watch(Listener::bind(&path, BTreeSet::from([own_uid()])).unwrap());
    tokio::spawn(async move {
        loop {
            let pending = listener.take(|listener| listener.accept().unwrap()).await.unwrap();
            tokio::spawn(door.clone().attach(pending));
        }
    });
    Server { url: format!("shm://{}", path.display()), leave, hung_up, _door: Box::new(folder) }
}

impl Door {
    async fn attach(self, pending: Pending) {
        let pending = watch(pending);
        let Ok(hello) = pending.take(|pending| pending.hello().transpose()).await.unwrap() else { return };
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let welcome = Welcome {
            session: session.0,
            epoch: 1,
            ring_words: RING_WORDS_DEFAULT as u32,
            inline_max: INLINE_BYTES_DEFAULT,
            staging_bytes: hello.staging_bytes.min(STAGING_BYTES_MAX),
            pool_bytes: 0,
            quota_bytes: POOL_BYTES as u64,
        };
        let offer = Offer { welcome, pool: &self.pool_fd };
        let Offered { own, peer, staging, link, .. } = pending.into_inner().offer(&offer).unwrap();
        let parts = ServerParts {
            own,
            peer,
            staging,
            session,
            leases: self.leases.clone(),
            memory: Arc::new(self.pool.clone()),
            pool_bytes: POOL_BYTES as u64,
        };
        let served = ServerSession::new(parts, &ServerLimits::default()).unwrap();
        self.serve(session, served, WatchedLink::new(link).unwrap()).await;
    }

    /// Serves one session until it ends.
    async fn serve(
        &self,
        id: SessionId,
        mut session: ServerSession<OwnSegment, PeerSegment, StagingMapping>,
        link: WatchedLink,
    ) {
        let mut closed = false;
        loop {
            match session.next_event().unwrap() {
                ServerEvent::Request { id: request_id, request, body } => {
                    let leased = self.leases.bytes_of(id).unwrap_or(0);
                    self.house.leased_bytes.store(leased, Ordering::Relaxed);
                    let to = self.pool.reserve_all(&request.payload_lens()).unwrap();
                    let body = session.copy_body(&body, to).unwrap();
                    let response = self.house.answer(request, body);
                    if is_opened(&response) {
                        session.set_authenticated();
                    }
                    session.answer(request_id, response);
                }
                ServerEvent::More => yield_now().await,
                // What its client had released before is in the ring.
                ServerEvent::Idle if closed => return,
                ServerEvent::Idle => {
                    if session.must_wake() {
                        // Where the client is gone, that is heard next.
                        let _ = link.get().wake();
                    }
                    let heard = if session.may_sleep() { link.hear().await.unwrap() } else { Heard::Nothing };
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
}
