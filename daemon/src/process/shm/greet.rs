//! Clients on their way in: each says hello, is given its segments, and goes to the thread that will serve it.

use super::entry::Unserved;
use crate::config::Config;
use crate::process::reactors::Stop;
use bettong_core::Clock;
use bettong_core::door::shm::Client;
use bettong_core::real::RealClock;
use bettong_core::seldom::Seldom;
use bettong_shm::pool::{Leases, SessionId};
use bettong_shm::real::attach::{AttachError, Link, Listener, Offer, Offered, Pending, Refusal, RefusalKind, Welcome};
use bettong_shm::real::{Memfd, OwnSegment, PeerSegment, StagingMapping, Watched};
use bettong_shm::session::{RING_WORDS_DEFAULT, ServerLimits, ServerParts, ServerSession};
use bettong_wire::BlockMemory;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// How long a client that has connected may take to say hello.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// What a staging area has besides a value as long as any: a message.
const STAGED_MESSAGE_BYTES: u64 = 2 << 20;
/// Time between two messages about clients that are not taken.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Clients that say hello at a time, besides those that are served.
const GREETED_MAX: usize = 32;

/// A client that is to be served.
pub struct Welcomed {
    pub client: Client,
    pub rings: ServerSession<OwnSegment, PeerSegment, StagingMapping>,
    pub link: Link,
    pub pidfd: OwnedFd,
    pub unserved: Unserved,
    /// Under the limit on sessions: kept until the client is gone.
    pub place: OwnedSemaphorePermit,
}

/// What clients are given.
pub struct Greeter {
    segment: Memfd,
    leases: Arc<Leases>,
    memory: Arc<dyn BlockMemory>,
    limits: ServerLimits,
    /// Any value that the daemon takes fits, whatever a client asks for.
    staging_bytes: RangeInclusive<u64>,
    epoch: u64,
    last: AtomicU64,
    places: Arc<Semaphore>,
    places_max: u32,
    troubles: Seldom,
    clock: RealClock,
}

impl Greeter {
    pub fn new(config: &Config, segment: Memfd, leases: Arc<Leases>, memory: Arc<dyn BlockMemory>, epoch: u64) -> Self {
        let places_max = config.shm_sessions_max.0;
        let least = config.payload_bytes_max.0.saturating_add(STAGED_MESSAGE_BYTES);
        Self {
            segment,
            leases,
            memory,
            limits: ServerLimits { requests_inflight_max: config.inflight_max.0, ..ServerLimits::default() },
            staging_bytes: least..=config.shm_staging_bytes.0.max(least),
            epoch,
            last: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(usize::try_from(places_max).unwrap_or(Semaphore::MAX_PERMITS))),
            places_max,
            troubles: Seldom::new(SAID_AGAIN),
            clock: RealClock::start(),
        }
    }

    async fn greet(&self, pending: Pending) -> Result<Welcomed, AttachError> {
        let pending = Watched::new(pending).map_err(unheard)?;
        let hello = pending.take(|pending| pending.hello().transpose());
        let hello = tokio::time::timeout(HELLO_TIME_MAX, hello).await;
        let hello = hello.map_err(|_| AttachError::TimedOut)?.map_err(unheard)??;
        let pending = pending.into_inner();
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let limit = self.places_max;
            let text = format!("this daemon has {limit} sessions, which is the limit (shm_sessions_max)");
            let refusal = Refusal { kind: RefusalKind::Busy, limit: limit.into(), text };
            pending.refuse(refusal.clone());
            return Err(AttachError::Refused(refusal));
        };
        let session = SessionId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let staging_bytes = hello.staging_bytes.clamp(*self.staging_bytes.start(), *self.staging_bytes.end());
        let welcome = Welcome {
            session: session.0,
            epoch: self.epoch,
            ring_words: RING_WORDS_DEFAULT as u32,
            inline_max: self.limits.inline_max,
            staging_bytes: staging_bytes.next_multiple_of(4096),
            pool_bytes: self.segment.bytes() as u64,
            quota_bytes: self.leases.quota_bytes(),
        };
        let Offered { own, peer, staging, link, process } = pending.offer(&Offer { welcome, pool: &self.segment })?;
        let parts = ServerParts {
            own,
            peer,
            staging,
            session,
            leases: self.leases.clone(),
            memory: self.memory.clone(),
            pool_bytes: welcome.pool_bytes,
        };
        let rings = ServerSession::new(parts, &self.limits)
            .map_err(|error| AttachError::System { what: "a session begins", source: std::io::Error::other(error) })?;
        let unserved = Unserved::new(self.leases.clone(), session);
        let client = Client {
            name: hello.name,
            pid: process.pid.unsigned_abs(),
            uid: process.uid,
            staging_bytes: welcome.staging_bytes,
        };
        Ok(Welcomed { client, rings, link, pidfd: process.pidfd, unserved, place })
    }

    /// Says that a client was not taken, now and then.
    fn say(&self, error: &AttachError) {
        if let Some(kept_back) = self.troubles.due(self.clock.mono()) {
            tracing::warn!(%error, kept_back, "a client of the shared-memory door is not taken");
        }
    }
}

fn unheard(source: std::io::Error) -> AttachError {
    AttachError::System { what: "a client is listened to", source }
}

/// Accepts until the daemon stops, and deals clients out in turn.
pub async fn accept(
    listener: Listener,
    greeter: Arc<Greeter>,
    queues: Vec<mpsc::UnboundedSender<Welcomed>>,
    mut stopped: watch::Receiver<Stop>,
) {
    let listener = match Watched::new(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the shared-memory door cannot accept clients"),
    };
    let mut greeted = JoinSet::new();
    let mut turns = (0..queues.len()).cycle();
    loop {
        let pending = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop >= Stop::Accepting) => break,
            Some(welcomed) = greeted.join_next() => {
                match welcomed {
                    Ok(Ok(welcomed)) => {
                        if let Some(queue) = turns.next().and_then(|turn| queues.get(turn)) {
                            let _ = queue.send(welcomed);
                        }
                    }
                    Ok(Err(error)) => greeter.say(&error),
                    Err(error) => tracing::error!(%error, "greeting a client panicked"),
                }
                continue;
            }
            pending = listener.take(|listener| listener.accept().transpose()), if greeted.len() < GREETED_MAX => pending,
        };
        match pending.unwrap_or_else(|error| Err(unheard(error))) {
            Ok(pending) => {
                let greeter = greeter.clone();
                greeted.spawn(async move { greeter.greet(pending).await });
            }
            Err(error) => {
                greeter.say(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    greeted.shutdown().await;
}
