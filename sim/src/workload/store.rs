//! Runs of the store: nodes, clients that work while faults strike, and the reckoning after them.

use super::client::Client;
use super::{Setup, Shared, finish, hostile, node, operator, shm};
use crate::faults::FaultKind;
use crate::model::{Daemon, Model};
use crate::plan::Workload;
use crate::random::Stream;
use crate::run::{Cluster, Life};
use crate::world::elapsed;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A run whose plan kills nobody is given one death, somewhere in this time.
const DEATH: std::ops::Range<Duration> = Duration::from_millis(300)..Duration::from_secs(4);
/// Clients that are not done by then are let go: a plan may leave no node standing for long.
const WORK_TIME_MAX: Duration = Duration::from_secs(900);
/// Faults that leave the clients no daemon to work with end after this long, so that a run still does its work.
const FAULTS_TIME_MAX: Duration = Duration::from_secs(450);

pub async fn run(cluster: Arc<Cluster>) {
    let (seed, plan) = (cluster.run().seed(), cluster.run().plan().clone());
    let setup = Setup::draw(seed, &plan);
    cluster.run().trace("setup", format_args!("{setup:?}"));
    let shared = Arc::new(Shared {
        cluster: cluster.clone(),
        doors: Default::default(),
        hosts: Default::default(),
        model: Mutex::new(Model::of(setup.namespace_ids())),
        daemons: Mutex::default(),
        contested: Mutex::default(),
        owner: Mutex::default(),
        damages: Mutex::default(),
        salvages: Mutex::default(),
        retirements: Mutex::default(),
        settled: AtomicBool::new(false),
        setup,
    });
    for number in 0..shared.setup.nodes {
        let name = format!("store-{number}");
        start(&shared, &name, &name);
    }
    let mut random = Stream::new(seed, "harness");
    let kills = plan.faults.iter().any(|fault| fault.kind == FaultKind::KillNode);
    let death = random.duration(&DEATH);
    if plan.workload == Workload::TwoDaemons {
        // The one that starts last has the say, so it is the twin that dies and comes back.
        let (shared, twin) = (shared.clone(), random.duration(&DEATH) / 4);
        drop(madsim::task::spawn(async move {
            madsim::time::sleep(twin).await;
            // A daemon that still tries to open would begin a newer life than the twin's.
            while shared.doors.of("store-0").is_none() {
                madsim::time::sleep(Duration::from_millis(100)).await;
            }
            start(&shared, "twin-0", "store-0");
            one_death(shared, "twin-0", death).await;
        }));
    } else if !kills {
        drop(madsim::task::spawn(one_death(shared.clone(), "store-0", death)));
    }
    if cluster.options().planted_nondeterminism {
        plant(&cluster);
    }
    let comes = plan.faults.iter().any(|fault| fault.kind == FaultKind::HostileClient);
    let hostile = comes.then(|| {
        let home = madsim::runtime::Handle::current().create_node().name("hostile").ip(hostile::IP).build();
        home.spawn(hostile::run(shared.clone()))
    });
    let hostile = hostile.or_else(|| {
        let comes = plan.faults.iter().any(|fault| fault.kind == FaultKind::ShmHostile);
        let home = || madsim::runtime::Handle::current().create_node().name("hostile").build();
        comes.then(|| home().spawn(shm::hostile(shared.clone())))
    });
    if shared.setup.upkeep.is_some() {
        let home = madsim::runtime::Handle::current().create_node().name(operator::NAME).build();
        drop(home.spawn(operator::run(shared.clone())));
    }
    work(&shared, &mut random).await;
    if cluster.run().counters().kills == 0 {
        // The clients were done before anybody died.
        let newest = if plan.workload == Workload::TwoDaemons { "twin-0" } else { "store-0" };
        one_death(shared.clone(), newest, Duration::ZERO).await;
    }
    finish::run(shared).await;
    if let Some(hostile) = hostile.filter(|_| cluster.run().failure().is_none()) {
        // It stops with the faults; the last connections are still to be answered or closed.
        let _ = hostile.await;
    }
}

/// Starts a daemon under a node id; later ones of the same id inherit from earlier ones.
fn start(shared: &Arc<Shared>, name: &str, node_id: &str) {
    let mut daemons = shared.daemons.lock();
    let order = daemons.iter().filter(|daemon| daemon.node_id == node_id).count() as u32;
    daemons.push(Daemon { name: name.to_owned(), node_id: node_id.to_owned(), order, since: elapsed() });
    drop(daemons);
    let (node_id, inner) = (node_id.to_owned(), Arc::downgrade(shared));
    shared.cluster.add(
        name,
        Arc::new(move |life: Life| {
            let (node_id, shared) = (node_id.clone(), inner.upgrade());
            Box::pin(async move {
                if let Some(shared) = shared {
                    node::run(life, node_id, shared).await;
                }
            })
        }),
    );
}

async fn one_death(shared: Arc<Shared>, name: &str, after: Duration) {
    madsim::time::sleep(after).await;
    let cluster = &shared.cluster;
    if !cluster.run().faults_stopped() {
        cluster.kill(name);
        madsim::time::sleep(Duration::from_millis(300)).await;
        cluster.start(name);
    }
}

async fn work(shared: &Arc<Shared>, random: &mut Stream) {
    let each = shared.setup.operations.div_ceil(shared.setup.clients.into());
    let plan = shared.cluster.run().plan();
    let faults = &plan.faults;
    let strikes_connections = faults.iter().any(|fault| fault.kind.strikes_connections());
    let mut clients = Vec::new();
    for number in 0..shared.setup.clients {
        let name = format!("client-{number}");
        let ip = std::net::IpAddr::from([10, 0, 2, number as u8 + 1]);
        let home = madsim::runtime::Handle::current().create_node().name(&name).ip(ip).build();
        // Where the connections are struck, there is one.
        let over_the_network = random.chance(0.5) | (number == 0 && strikes_connections);
        let shares_memory = plan.workload == Workload::SharedMemory && (number == 0 || random.chance(0.7));
        let mut client = match over_the_network {
            _ if shares_memory => Client::attached(name, shared.clone()),
            true => Client::remote(name, shared.clone()),
            false => Client::new(name, shared.clone()),
        };
        let think = shared.setup.think;
        let start = random.duration(&(Duration::ZERO..think));
        clients.push(home.spawn(async move {
            madsim::time::sleep(start).await;
            while client.operations < each && elapsed() < WORK_TIME_MAX {
                let run = client.shared.cluster.run();
                if elapsed() > FAULTS_TIME_MAX && !run.faults_stopped() {
                    run.stop_faults();
                }
                client.step().await;
                let pause = client.random.duration(&(Duration::ZERO..think * 2));
                madsim::time::sleep(pause).await;
            }
            client.end().await;
        }));
    }
    for client in clients {
        // A client that panicked has ended the run already.
        let _ = client.await;
    }
}

/// Orders a batch by what differs from process to process.
#[expect(clippy::disallowed_methods, reason = "the planted nondeterminism that check-determinism must find")]
fn plant(cluster: &Cluster) {
    let key = u64::from(std::process::id());
    let mut batch: Vec<u64> = (0..16).collect();
    batch.sort_by_key(|item| crate::random::Stream::new(key, &item.to_string()).draw());
    cluster.run().trace("planted", format_args!("a batch ordered by process id: {batch:?}"));
}
