//! The shared-memory door of this process: its socket, who attaches, and the threads that serve them.
//!
//! Its threads are not pinned, unlike the reactors: a client spins on a core of its own, and the system sees where.

mod entry;
mod greet;
mod line;

use crate::config::Config;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::process::memory::PayloadMemory;
use crate::process::reactors::Stop;
use crate::process::tokens::Tokens;
use bettong_core::Store;
use bettong_core::door::Deadlines;
use bettong_core::door::shm::{Sessions, ShmDoor, ShmLimits};
use bettong_core::real::{RealClock, RealWorld};
use bettong_core::service::handler::StoreService;
use bettong_shm::pool::{Leases, SlotPool};
pub use bettong_shm::real::attach::Listener;
use bettong_shm::real::attach::{AttachError, own_uid};
use greet::{Greeter, Welcomed};
use line::{Process, SocketLine};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// The file of the socket in the data directory, where none is named.
const SOCKET_FILE: &str = "bettong.sock";
/// The word for no such door.
pub const NONE: &str = "none";

type Door = ShmDoor<StoreService<RealWorld>, RealClock, Tokens>;

/// Listens where the configuration says; `None` where there is to be no such door. The default path gives way where it
/// cannot be; one that was asked for does not.
pub fn listen(config: &Config, data_dir: &Path, tokens: &Tokens) -> Outcome<Option<Listener>> {
    let asked = config.shm_socket.0.as_str();
    if asked == NONE {
        return Ok(None);
    }
    let is_asked = !asked.is_empty();
    let path = if is_asked { PathBuf::from(asked) } else { data_dir.join(SOCKET_FILE) };
    let why_not = if tokens.tenants() > 1 {
        // Whoever attaches can read all of the pool.
        let text = "serves one tenant a daemon, and token_file names more";
        Failure::new(Exit::Usage, format!("shm_socket {}: shared memory {text}", path.display()))
    } else {
        match Listener::bind(&path, BTreeSet::from([own_uid()])) {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => Failure::new(exit_of(&error), format!("shm_socket: {error}")),
        }
    };
    if is_asked {
        return Err(why_not);
    }
    tracing::warn!("no shared-memory door: {}", why_not.message);
    Ok(None)
}

fn exit_of(error: &AttachError) -> Exit {
    match error {
        AttachError::PathTooLong { .. } => Exit::Usage,
        _ => Exit::Listen,
    }
}

/// The book of sessions over a pool.
pub fn sessions(config: &Config, pool: &SlotPool) -> Sessions {
    let lease_bytes = match config.shm_lease_bytes.0 {
        0 => config.memory_bytes.0 / 4,
        bytes => bytes,
    };
    Sessions::new(Arc::new(Leases::new(pool.clone(), lease_bytes)))
}

/// What the door stands on.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub listener: Listener,
    pub memory: PayloadMemory,
    pub store: &'a Store<RealWorld>,
    pub service: Arc<StoreService<RealWorld>>,
    pub sessions: Sessions,
    pub clock: RealClock,
    pub tokens: Tokens,
}

/// The door's threads.
#[derive(Debug)]
pub struct ShmThreads {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<Stop>,
    serving: Arc<Semaphore>,
    sessions_max: u32,
    sessions: Sessions,
}

impl ShmThreads {
    /// Accepts and serves.
    pub fn start(parts: Parts<'_>) -> Outcome<Self> {
        let Parts { config, listener, memory, store, service, sessions, clock, tokens } = parts;
        let limits = ShmLimits {
            deadlines: Deadlines {
                default: config.deadline_default_ms.duration(),
                max: config.deadline_max_ms.duration(),
            },
            spin: Duration::from_micros(config.shm_spin_us.0.into()),
        };
        let door = Arc::new(ShmDoor::new(service, clock, tokens, sessions.clone(), limits));
        let sessions_max = config.shm_sessions_max.0;
        let leases = sessions.leases().clone();
        let greeter = Arc::new(Greeter::new(config, memory.segment, leases, store.memory(), store.life()));
        let serving = Arc::new(Semaphore::new(usize::try_from(sessions_max).unwrap_or(Semaphore::MAX_PERMITS)));
        let (stop, stopped) = watch::channel(Stop::No);
        let mut threads = Vec::new();
        let mut queues = Vec::new();
        for index in 0..config.reactors.0.max(1) {
            let (queue, welcomed) = mpsc::unbounded_channel();
            queues.push(queue);
            let (door, stopped, serving) = (door.clone(), stopped.clone(), serving.clone());
            let sessions = sessions.clone();
            threads.push(thread(&format!("shm-{index}"), serve(door, sessions, welcomed, stopped, serving))?);
        }
        threads.push(thread("shm-accept", greet::accept(listener, greeter, queues, stopped))?);
        Ok(Self { threads, stop, serving, sessions_max, sessions })
    }

    /// Asks every thread to go on with its end.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_replace(stop);
    }

    /// Completes when no session is served any more. Clients may still be reading.
    pub async fn finished(&self) {
        let _ = self.serving.acquire_many(self.sessions_max).await;
    }

    /// Drops what is left and waits for the threads.
    pub fn join(self) {
        self.stop(Stop::Connections);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the shared-memory door panicked");
            }
        }
        tracing::debug!(sessions = self.sessions.len(), "the shared-memory door is closed");
    }
}

fn thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> Outcome<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.or_exit(Exit::Failed, name)?;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work));
    thread.or_exit(Exit::Failed, name)
}

/// One thread: serves the sessions that it is given.
async fn serve(
    door: Arc<Door>,
    sessions: Sessions,
    mut welcomed: mpsc::UnboundedReceiver<Welcomed>,
    mut stopped: watch::Receiver<Stop>,
    serving: Arc<Semaphore>,
) {
    let mut served = JoinSet::new();
    loop {
        let next = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop >= Stop::Connections) => break,
            Some(ended) = served.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a session's task panicked; its leases stay until the daemon ends");
                }
                continue;
            }
            next = welcomed.recv() => next,
        };
        let Some(Welcomed { client, rings, link, pidfd, unserved, place }) = next else {
            // Nobody attaches any more.
            let _ = stopped.wait_for(|stop| *stop >= Stop::Connections).await;
            break;
        };
        let watched = Process::new(pidfd).and_then(|process| Ok((SocketLine::new(link, process.clone())?, process)));
        let (line, process) = match watched {
            Ok(watched) => watched,
            Err(error) => {
                tracing::warn!(%error, pid = client.pid, "a client's socket cannot be listened to; it is not served");
                continue;
            }
        };
        // There is one for each place.
        let Ok(permit) = serving.clone().try_acquire_owned() else { continue };
        let (door, sessions, mut stopping) = (door.clone(), sessions.clone(), stopped.clone());
        let session = unserved.serve();
        served.spawn(async move {
            let stop = async move {
                let _ = stopping.wait_for(|stop| *stop >= Stop::Accepting).await;
            };
            let (name, pid) = (client.name.clone(), client.pid);
            let ended = |end: &_| {
                line::log(&name, pid, end);
                drop(permit);
            };
            let serving = door.serve(client, rings, line, stop, ended);
            entry::served(serving, session, process, &sessions).await;
            drop(place);
        });
    }
    served.shutdown().await;
}
