//! What a store node runs: open the store, serve calls until it dies or is fenced.

use super::door::Call;
use super::ledger::Audited;
use super::{Shared, journal, recover};
use crate::faults::FaultKind;
use crate::host::{Host, Parts, Start};
use crate::network::{End, Link};
use crate::object_store::SimObjectStore;
use crate::plan::Workload;
use crate::run::Life;
use crate::world::SimWorld;
use bettong_core::door::tcp::{Closed, TcpDoor, TcpLimits};
use bettong_core::service::handler::StoreService;
use bettong_core::store::OpenError;
use bettong_core::world::World;
use bettong_core::{Deadline, Peer, Rights, Service, Store, StoreParts};
use bettong_wire::tcp::ServerLimits;
use bettong_wire::{ErrorKind, Payload, Response, ServiceError, WriteBuf};
use futures::future::{Either, select};
use object_store::ObjectStore;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Pause before a daemon whose store did not open is started again, as a supervisor would.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Longest values that a peer may leave unread: few, so that batches are asked for in parts.
const UNSENT_VALUES: u64 = 2;

/// Runs the daemon `life.node` under `node_id`.
pub async fn run(life: Life, node_id: String, shared: Arc<Shared>) {
    let run = life.world.run().clone();
    journal::strike(&life, &shared).await;
    recover::check(&life, &node_id, &shared);
    let (store, memory) = loop {
        match open(&life, &node_id, &shared).await {
            Ok(opened) => break opened,
            Err(OpenError::Fenced(_)) => {
                run.trace(&life.node, format_args!("fenced while it opened"));
                run.is_back(&life.node);
                return;
            }
            Err(error @ OpenError::Retired { .. }) => {
                run.trace(&life.node, format_args!("refused: {error}"));
                run.is_back(&life.node);
                if !shared.retired().contains(&node_id) {
                    run.fail("retire", format!("{node_id} is refused as retired, and nobody asked for that"));
                }
                return;
            }
            Err(OpenError::Config(what)) => return run.fail("setup", what),
            Err(error @ (OpenError::OtherOwner { .. } | OpenError::Contended { .. })) => {
                run.trace(&life.node, format_args!("refused: {error}"));
                run.state_reached("sim second node refused");
                // Two that keep step would refuse each other for ever.
                let apart = Duration::from_millis(life.world.random_u64() % 500);
                madsim::time::sleep(REOPEN_PAUSE + apart).await;
            }
            Err(error) => {
                run.trace(&life.node, format_args!("did not open: {error}"));
                run.state_reached("sim store did not open");
                let repaired = match &error {
                    OpenError::Journal(error) => journal::repair(&life, &node_id, error, &shared).await,
                    _ => false,
                };
                if !repaired {
                    madsim::time::sleep(REOPEN_PAUSE).await;
                }
            }
        }
    };
    run.trace(&life.node, format_args!("life {} is ready", life.number));
    run.is_back(&life.node);
    journal::opened(&life, &shared).await;
    if !run.plan().conditional_writes {
        let owner = shared.owner.lock().get_or_insert_with(|| node_id.clone()).clone();
        if owner != node_id {
            run.fail("owner", format!("{node_id} is ready on a prefix of {owner}, where one node is allowed"));
        }
    }
    let mut fate = store.fate();
    let mut calls = shared.doors.open(&life.node, life.number);
    let lent = store.memory();
    let service = Audited::new(StoreService::new(store), shared.clone(), &life);
    if run.plan().workload == Workload::SharedMemory {
        let (world, limits) = (life.world.clone(), shared.setup.shm.clone());
        let (service, fate) = (Arc::new(service.clone()), fate.clone());
        let start = Start { world, life: life.number, service, memory: lent, fate, limits };
        shared.hosts.open(Host::open(memory, start));
    }
    let unsent_bytes_max = shared.setup.len_max * UNSENT_VALUES;
    life.world.spawn(listen(life.clone(), service.clone(), unsent_bytes_max));
    let mut peers: BTreeMap<(String, String), Arc<Peer>> = BTreeMap::new();
    loop {
        let call = match select(pin!(calls.recv()), pin!(fate.changed())).await {
            Either::Left((Some(call), _)) => call,
            Either::Left((None, _)) => return,
            Either::Right(_) => break,
        };
        let key = (call.client.clone(), call.tenant.clone());
        let peer = peers.entry(key).or_insert_with(|| {
            Arc::new({
                let admin = [super::operator::NAME, super::operator::SECOND].contains(&call.client.as_str());
                let rights = Rights { admin };
                Peer::new(call.tenant.clone(), rights, format!("sim:{}", call.client))
            })
        });
        life.world.spawn(answer(service.clone(), peer.clone(), call));
    }
    let why = match &*fate.borrow() {
        Some(fate) => fate.to_string(),
        None => "ended".to_owned(),
    };
    run.trace(&life.node, format_args!("closes its door: {why}"));
    shared.doors.close(&life.node);
    shared.hosts.close(&life.node);
}

/// The TCP door: accepts connections, and drives each with the door's own state machine.
async fn listen(life: Life, service: Audited<SimWorld>, unsent_bytes_max: u64) {
    let run = life.world.run().clone();
    let listener = match TcpListener::bind(("0.0.0.0", super::remote::PORT)).await {
        Ok(listener) => listener,
        Err(error) => return run.fail("network", format!("{} cannot listen: {error}", life.node)),
    };
    let anybody = |_: &str, _: &str, _: &str| Ok(Rights::default());
    let clock = life.world.clock().clone();
    let connection = ServerLimits { unsent_bytes_max, ..ServerLimits::default() };
    let limits = TcpLimits { connection, ..TcpLimits::default() };
    let door = Arc::new(TcpDoor::new(Arc::new(service), clock, anybody, limits));
    while let Ok((stream, from)) = listener.accept().await {
        let (door, run, node) = (door.clone(), run.clone(), life.node.clone());
        // What becomes of somebody hostile is judged; it is not the network that does it.
        let hostile = from.ip() == super::hostile::IP;
        let link = if hostile { Link::spared(stream, &run) } else { Link::new(stream, End::Door, &run, &node) };
        life.world.spawn(async move {
            let (reader, writer) = tokio::io::split(link);
            let closed = door.serve(format!("tcp:{from}"), reader, writer, std::future::pending()).await;
            run.trace(&node, format_args!("a connection ends: {closed}"));
            if let (Closed::Refused(why), false) = (closed, hostile) {
                // Whatever the network does to bytes, none of them changes and none is left out.
                run.fail("O3", format!("{node} does not understand the client library: {why}"));
            }
        });
    }
}

async fn answer<W: World>(service: Audited<W>, peer: Arc<Peer>, call: Call) {
    let deadline = Deadline(service.now().plus(call.deadline));
    let response = match receive(&service, &peer, &call.body) {
        Ok(body) => service.call(&peer, call.request, body, deadline).await,
        Err(error) => Response::error(error),
    };
    // A client that is gone hears nothing.
    let _ = call.reply.send(response);
}

/// Reads the body into reserved memory, as every door does.
fn receive<S: Service>(service: &S, peer: &Peer, body: &[Payload]) -> Result<Vec<Payload>, ServiceError> {
    let lens: Vec<u64> = body.iter().map(|payload| payload.len() as u64).collect();
    let receive = |(payload, mut buf): (&Payload, Box<dyn WriteBuf>)| {
        buf.unfilled().put_slice(payload.as_ref());
        buf.seal().ok_or_else(|| ServiceError::new(ErrorKind::Internal, "a filled buffer does not seal"))
    };
    body.iter().zip(service.reserve(peer, &lens)?).map(receive).collect()
}

/// Opens the store, over a pool of its own.
async fn open(life: &Life, node_id: &str, shared: &Shared) -> Result<(Store<SimWorld>, Parts), OpenError> {
    let run = life.world.run();
    let setup = shared.setup_of(&life.node);
    if run.redrawn(&life.node) > 0 {
        run.state_reached("sim opened with another configuration");
    }
    let config = setup.store_config(node_id);
    let memory = Parts::new(config.memory_bytes).expect("memory for four payloads");
    let disorder = run.fault_event(&life.node, FaultKind::ObjectUnorderedList);
    let objects = life.store.clone();
    let objects = disorder.iter().fold(objects, SimObjectStore::unordered);
    let parts = StoreParts {
        objects: Arc::new(objects),
        local_index: life.files.clone().map(|files| Arc::new(files) as Arc<dyn ObjectStore>),
        memory: memory.pool.clone(),
        disk: setup.disk_config(&life.cache_dir),
        conditional_update: true,
        ordered_listing: disorder.is_none(),
    };
    let store = Box::pin(Store::open(life.world.clone(), config, parts)).await?;
    Ok((store, memory))
}
