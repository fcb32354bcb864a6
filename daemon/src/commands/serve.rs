//! `bettong serve`: the daemon, from its checks to its drained end.

use crate::cli::ConfigArgs;
use crate::config::Config;
use crate::config::check::listen_address;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::objects::{self, StoreUrl};
use crate::process::background::Background;
use crate::process::data_dir::DataDir;
use crate::process::memory::{self, PayloadMemory};
use crate::process::priority::put_thread_behind;
use crate::process::reactors::{Listeners, Place, Reactors, Stop};
use crate::process::shm::{self, Parts, ShmThreads};
use crate::process::signals::Signals;
use crate::process::tokens::Tokens;
use crate::process::{descriptors, logs, ready, storage};
use crate::render::{self, units};
use bettong_core::door::Deadlines;
use bettong_core::door::tcp::{Closed, TcpDoor, TcpLimits};
use bettong_core::journal::Backlog;
use bettong_core::real::{RealClock, RealWorld};
use bettong_core::seldom::Seldom;
use bettong_core::service::handler::StoreService;
use bettong_core::{Clock, Fate, Store, World};
use bettong_wire::ServiceError;
use bettong_wire::tcp::ServerLimits;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Time between two messages about connections that ended for a reason.
const ENDS_SAID_AGAIN: Duration = Duration::from_secs(10);
/// When a client that finds no room is asked to come again.
const FULL_RETRY_MS: u32 = 1000;

/// Serves until a signal, or until a newer life of this node exists.
pub fn run(args: &ConfigArgs) -> Outcome {
    let loaded = super::config::loaded(args)?;
    let config = &loaded.config;
    let located = |failure| loaded.located(failure);
    logs::start(&config.log.0).map_err(located)?;
    // Before anything is made: what is wrong with a URL can be seen without.
    StoreUrl::parse(&config.store_or_default()).map_err(located)?;
    let connections_max = descriptors::connections(config).map_err(located)?;
    let address = listen_address(config).map_err(located)?;
    let tokens = Tokens::read(&config.token_file.0).map_err(located)?;
    let data_dir = DataDir::hold(Path::new(&config.data_dir.0))?;
    let attaching = shm::listen(config, data_dir.path(), &tokens).map_err(located)?;
    let listeners = Listeners::bind(address, usize::try_from(config.reactors.0).unwrap_or(1))?;
    let memory = memory::reserve(config)?;
    let doors = Doors { listeners, attaching, connections_max, tokens, memory };
    let threads = usize::try_from(config.storage_threads.0).unwrap_or(1);
    let mut storage = tokio::runtime::Builder::new_multi_thread();
    let storage = storage.worker_threads(threads).on_thread_start(put_thread_behind).enable_all().build();
    let background = Background::start()?;
    storage.or_exit(Exit::Failed, "storage runtime")?.block_on(serve(config, &background, &data_dir, doors))
}

/// What is there before the store is open.
struct Doors {
    listeners: Listeners,
    attaching: Option<shm::Listener>,
    connections_max: u32,
    tokens: Tokens,
    memory: PayloadMemory,
}

async fn serve(config: &Config, background: &Background, data_dir: &DataDir, doors: Doors) -> Outcome {
    let Doors { listeners, attaching, connections_max, tokens, memory } = doors;
    let mut signals = Signals::listen()?;
    let opening = async {
        let objects = objects::open(config).await?;
        storage::open(config, data_dir, background.handle(), objects, memory.pool.clone()).await
    };
    let (store, world) = tokio::select! {
        biased;
        signal = signals.next() => return Err(Failure::new(Exit::Interrupted, format!("{signal} before the store was open"))),
        opened = opening => opened?,
    };
    // Not for a start that comes to nothing.
    memory.prefault(config)?;
    let sessions = shm::sessions(config, &memory.pool);
    let service = {
        let sessions = sessions.clone();
        let socket = attaching.as_ref().map(|listener| listener.path().to_owned());
        let facts = move || json!({ "socket": socket, "sessions": sessions.facts() });
        Arc::new(StoreService::new(store.clone()).with_facts("shared_memory", Arc::new(facts)))
    };
    let door = Arc::new(door(config, service.clone(), &world, tokens.clone()));
    let address = listeners.address;
    let (ends, full) = (Arc::new(Ends::new(*world.clock())), connections_full(connections_max));
    let serve = move |stream, origin, stop, place| {
        let full = (place == Place::None).then(|| full.clone());
        drive(door.clone(), ends.clone(), stream, origin, stop, full)
    };
    let reactors = Reactors::start(listeners, connections_max, serve)?;
    let start = |listener| {
        let clock = *world.clock();
        ShmThreads::start(Parts { config, listener, memory, store: &store, service, sessions, clock, tokens })
    };
    let attached = attaching.map(start).transpose()?;
    let node_id = data_dir.node_id(&config.node_id.0)?;
    render::line(&ready::line(address, &node_id, &config.store_or_default()))?;
    tracing::info!(%address, node_id, store = config.store_or_default(), "ready");

    let mut fate = store.fate();
    let end = tokio::select! {
        biased;
        Ok(fate) = fate.wait_for(Option::is_some) => fate.clone(),
        signal = signals.next() => {
            tracing::info!(signal, "draining");
            None
        }
    };
    let Some(fate) = end else { return drain(config, &mut signals, reactors, attached, &store).await };
    if let Fate::Broken(_) = fate {
        // Every call is answered with an error now, also those that are under way.
        let _ = tokio::time::timeout(config.drain_ms.duration(), served(&reactors, attached.as_ref())).await;
    }
    // Where a newer life owns the names, every door closes at once.
    reactors.join();
    attached.into_iter().for_each(ShmThreads::join);
    Err(Failure::new(exit_of_fate(&fate), format!("node {node_id} has to end: {fate}")))
}

fn exit_of_fate(fate: &Fate) -> Exit {
    match fate {
        Fate::Fenced(_) => Exit::Fenced,
        Fate::Broken(_) => Exit::Broken,
    }
}

/// Turns new clients away, and waits until those that are there are answered.
async fn served(reactors: &Reactors, attached: Option<&ShmThreads>) {
    reactors.stop(Stop::Accepting);
    attached.iter().for_each(|threads| threads.stop(Stop::Accepting));
    reactors.finished().await;
    if let Some(threads) = attached {
        threads.finished().await;
    }
}

fn door(
    config: &Config,
    service: Arc<StoreService<RealWorld>>,
    world: &RealWorld,
    tokens: Tokens,
) -> TcpDoor<StoreService<RealWorld>, RealClock, Tokens> {
    let limits = TcpLimits {
        connection: ServerLimits {
            frame_bytes_max: u32::try_from(config.frame_bytes_max.0).unwrap_or(u32::MAX),
            requests_inflight_max: config.inflight_max.0,
            unsent_bytes_max: config.unsent_bytes_max.0,
        },
        deadlines: Deadlines { default: config.deadline_default_ms.duration(), max: config.deadline_max_ms.duration() },
        stall: config.stall_ms.duration(),
    };
    TcpDoor::new(service, *world.clock(), tokens, limits)
}

fn connections_full(max: u32) -> ServiceError {
    let text = format!("this daemon has {max} connections, which is the limit (connections_max)");
    ServiceError { limit: max.into(), ..ServiceError::busy(text, FULL_RETRY_MS) }
}

/// Messages about connections that ended for a reason.
struct Ends {
    seldom: Seldom,
    clock: RealClock,
}

impl Ends {
    fn new(clock: RealClock) -> Self {
        Self { seldom: Seldom::new(ENDS_SAID_AGAIN), clock }
    }
}

/// Drives one connection on the reactor that accepted it; where there is no room for it, it is told why.
async fn drive(
    door: Arc<TcpDoor<StoreService<RealWorld>, RealClock, Tokens>>,
    ends: Arc<Ends>,
    mut stream: TcpStream,
    origin: SocketAddr,
    mut stop: watch::Receiver<Stop>,
    full: Option<ServiceError>,
) {
    let (reader, writer) = stream.split();
    if let Some(full) = full {
        let closed = door.turn_away(origin.to_string(), reader, writer, &full).await;
        return tracing::debug!(%origin, %closed, "connection turned away");
    }
    let stop = async move {
        let _ = stop.wait_for(|stop| *stop >= Stop::Accepting).await;
    };
    match door.serve(origin.to_string(), reader, writer, stop).await {
        closed @ (Closed::PeerLeft | Closed::Stopped) => tracing::debug!(%origin, %closed, "connection ended"),
        closed => {
            if let Some(kept_back) = ends.seldom.due(ends.clock.mono()) {
                tracing::info!(%origin, %closed, kept_back, "connection ended");
            }
        }
    }
}

/// Answers what is under way and uploads what the journal has, within the bound. A second signal ends the process at once.
async fn drain(
    config: &Config,
    signals: &mut Signals,
    reactors: Reactors,
    attached: Option<ShmThreads>,
    store: &Store<RealWorld>,
) -> Outcome {
    let bound = config.drain_ms.duration();
    let began = Instant::now();
    let left = || bound.saturating_sub(began.elapsed());
    let drained = async {
        let served = tokio::time::timeout(bound, served(&reactors, attached.as_ref())).await.is_ok();
        reactors.stop(Stop::Connections);
        attached.iter().for_each(|threads| threads.stop(Stop::Connections));
        // No put comes behind these. Some of the bound stays for the index, which has to be closed.
        let backlog = store.flush(left() * 3 / 4).await;
        (served & store.close(left()).await, backlog)
    };
    let (closed, backlog) = tokio::select! {
        biased;
        signal = signals.next() => {
            tracing::warn!(signal, "a second signal: ending at once");
            std::process::exit(Exit::Interrupted as i32);
        }
        drained = drained => drained,
    };
    reactors.join();
    attached.into_iter().for_each(ShmThreads::join);
    let undrained =
        |what: String| Err(Failure::new(Exit::Undrained, format!("not drained within {}{what}", config.drain_ms)));
    match backlog {
        Backlog { puts: 0, heads: 0, .. } if closed => Ok(()),
        Backlog { puts: 0, heads: 0, .. } => undrained(String::new()),
        Backlog { puts, bytes, .. } => undrained(format!(
            ": {} puts ({}) wait in the journal; the next start uploads them",
            units::count(puts),
            units::bytes(bytes)
        )),
    }
}
