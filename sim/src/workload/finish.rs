//! The reckoning: faults stop, everything comes back, and everything that was acknowledged must be found.

use super::Shared;
use super::client::Client;
use super::hostile::CUT_OFF_WITHIN;
use super::operator;
use super::setup::{OPERATIONS_MIN, PREFIX};
use super::shm;
use crate::faults::FaultKind;
use crate::model::{Daemon, Span, ValueKey};
use crate::object_store::{CLIENT_TIMEOUT, Effect};
use crate::oracle::settled::Evidence;
use crate::oracle::{self, settled};
use crate::plan::Workload;
use crate::world::elapsed;
use bettong_core::objects::names::Names;
use bettong_core::observe::State;
use bettong_wire::request::{ListKind, Target, Tier};
use bettong_wire::{MissReason, NamespaceId, PutId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// O8: nodes are up, and answer, this long after the faults at the latest.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Removals that failed are tried again after pauses; by then they are done.
const REMOVALS_WITHIN: Duration = Duration::from_secs(30);
/// By then every write that was on its way has landed, and was written before the scrub's grace began.
const LANDED_WITHIN: Duration = Duration::from_secs(1);
/// A read that finds a tier not answering is asked again so often once faults are over.
const READ_ATTEMPTS: u32 = 4;
/// A hostile client of the shared-memory door leaves by then, and its leases with it.
const SHM_HOSTILE_TAKES: Duration = Duration::from_secs(60);

pub async fn run(shared: Arc<Shared>) {
    let run = shared.cluster.run().clone();
    check_owners(&shared);
    let counters = run.counters();
    if counters.operations < OPERATIONS_MIN || counters.kills == 0 {
        let (operations, kills) = (counters.operations, counters.kills);
        run.stuck(format!(
            "the run is a toy: {operations} operations and {kills} kills, at least {OPERATIONS_MIN} and 1 are due"
        ));
    }
    run.stop_faults();
    let stopped = elapsed();
    shared.cluster.mend();
    for name in shared.cluster.names() {
        // A swarm is to use its disk caches: who came up without one has it back.
        let lacks_disk = run.is_without_disk(&name) || !shared.setup_of(&name).has_disk();
        if run.plan().workload == Workload::Swarm && lacks_disk {
            shared.cluster.kill(&name);
            run.restore_configuration(&name);
        }
        shared.cluster.start(&name);
        madsim::runtime::Handle::current().resume(name.as_str());
    }
    // Where one node is allowed, it must have become one.
    while !run.plan().conditional_writes && shared.owner.lock().is_none() {
        if elapsed().saturating_sub(stopped) > BACK_WITHIN {
            return run.stuck(format!("O8: no node owns the prefix {} s after the last fault", BACK_WITHIN.as_secs()));
        }
        madsim::time::sleep(Duration::from_millis(100)).await;
    }
    let mut daemons = newest(&shared);
    while let Some(missing) = daemons.iter().find(|daemon| shared.doors.of(&daemon.name).is_none()).cloned() {
        if elapsed().saturating_sub(stopped) > BACK_WITHIN {
            return run.stuck(format!(
                "O8: {} is not ready {} s after the last fault",
                missing.name,
                BACK_WITHIN.as_secs()
            ));
        }
        madsim::time::sleep(Duration::from_millis(100)).await;
        daemons = newest(&shared);
    }
    loop {
        operator::finish(&shared, &daemons).await;
        madsim::time::sleep(shared.setup.peer_refresh * 3 + settling(&shared)).await;
        // One that was there may have been retired since, by a request that was still on its way.
        let there = newest(&shared);
        if there == daemons || run.failure().is_some() {
            break;
        }
        daemons = there;
    }
    shared.settled.store(true, Ordering::Relaxed);
    run.trace("run", format_args!("settled"));

    let mut client = Client::new("auditor".to_owned(), shared.clone());
    let keys: Vec<ValueKey> = shared.model.lock().keys().cloned().collect();
    // What a node had acknowledged before it died for good is still served by the others.
    let mut owners = last_started(&shared);
    // But what tells of it may be lost, and nobody comes who could list it.
    let claims = shared.claims();
    let absent = |node: &Daemon| shared.cluster.is_gone(&node.name) || claims.contains_key(&node.node_id);
    owners.retain(|node| !absent(node) || run.index_lost(&node.node_id).is_empty());
    for daemon in &daemons {
        for key in &keys {
            audit(&mut client, daemon, key, &owners).await;
            if run.failure().is_some() {
                return;
            }
        }
    }
    if let Some(daemon) = daemons.first() {
        let whole = |daemon: &Daemon| run.index_lost(&daemon.node_id).is_empty();
        let span = Span { invoked: elapsed(), ended: None };
        client.judge(daemon, span, |seen| settled::check_batches(seen.model, &daemons, whole));
    }
    clear_memory(&mut client, &daemons).await;
    let scrubbed = match shared.setup.upkeep.scrubs {
        true => {
            madsim::time::sleep(shared.setup.scrub_grace + LANDED_WITHIN).await;
            operator::scrub_all(&shared, &daemons).await
        }
        false => None,
    };
    let mut listed = BTreeSet::new();
    for daemon in &daemons {
        list_and_read(&mut client, daemon, &mut listed).await;
        client.stats(daemon).await;
    }
    if run.plan().workload == Workload::Swarm && !read_from_disk(&mut client, &daemons).await {
        run.stuck("the run is a toy: its disk tier served nothing".to_owned());
    }
    if run.failure().is_none() {
        conserve(&shared, &client, &daemons, listed, scrubbed).await;
    }
    if run.failure().is_none() {
        shm::reckon(&shared, &mut client, &daemons).await;
    }
}

/// What is read next comes from the tiers below.
async fn clear_memory(client: &mut Client, daemons: &[Daemon]) {
    for daemon in daemons {
        for namespace in 0..client.shared.setup.namespaces {
            client.clear(daemon, namespace, Tier::Memory).await;
        }
    }
}

/// Whether a disk cache served something in this run. Where none did so far, clients may have cleared it, or too much was
/// read since for what it holds: then values are read twice in a row.
async fn read_from_disk(client: &mut Client, daemons: &[Daemon]) -> bool {
    let run = client.shared.cluster.run().clone();
    let served = || run.reached().contains_key(State::HitDisk.as_str());
    for daemon in daemons {
        for (namespace, kind) in (0..client.shared.setup.namespaces)
            .flat_map(|namespace| [ListKind::Blocks, ListKind::Plain].map(|kind| (namespace, kind)))
        {
            if served() {
                return true;
            }
            for (key, _) in client.list(daemon, namespace, kind).await.into_iter().flatten() {
                for _ in 0..2 {
                    client.clear(daemon, namespace, Tier::Memory).await;
                    client.get(daemon, namespace, key.target.clone(), None).await;
                }
            }
        }
    }
    served()
}

/// How long the last fault may still be felt: a request that nobody answers keeps its caller for as long as the client
/// of the object store waits, and half a value keeps its memory until the door cuts the connection off.
fn settling(shared: &Shared) -> Duration {
    let plan = shared.cluster.run().plan();
    let felt = |kind, lasts| if plan.faults.iter().any(|fault| fault.kind == kind) { lasts } else { Duration::ZERO };
    Duration::from_secs(5)
        + felt(FaultKind::ObjectSilence, CLIENT_TIMEOUT * 2)
        + felt(FaultKind::HostileClient, CUT_OFF_WITHIN)
        + felt(FaultKind::ShmHostile, SHM_HOSTILE_TAKES)
}

/// The daemons that must be up: of each node id the one that started last, without those that never return, those that are
/// retired, and those that are refused because the prefix is another node's.
fn newest(shared: &Shared) -> Vec<Daemon> {
    let owner = shared.owner.lock().clone();
    let allowed = |daemon: &Daemon| owner.as_ref().is_none_or(|owner| *owner == daemon.node_id);
    let mut daemons = last_started(shared);
    let retired = shared.claims();
    let there = |daemon: &Daemon| !shared.cluster.is_gone(&daemon.name) && !retired.contains_key(&daemon.node_id);
    daemons.retain(|daemon| allowed(daemon) && there(daemon));
    daemons
}

fn last_started(shared: &Shared) -> Vec<Daemon> {
    let daemons = shared.daemons.lock();
    let last =
        |daemon: &&Daemon| !daemons.iter().any(|other| other.node_id == daemon.node_id && other.order > daemon.order);
    daemons.iter().filter(last).cloned().collect()
}

/// Reads one value on one daemon; what another node surely has must be a hit as well.
async fn audit(client: &mut Client, daemon: &Daemon, key: &ValueKey, owners: &[Daemon]) {
    let invoked = elapsed();
    let mut outcome = None;
    for _ in 0..READ_ATTEMPTS {
        outcome = client.get(daemon, key.namespace, key.target.clone(), None).await;
        if outcome.is_some() {
            break;
        }
        madsim::time::sleep(Duration::from_millis(500)).await;
    }
    let span = Span { invoked, ended: Some(elapsed()) };
    match outcome {
        Some(Err(reason)) if !key.is_plain() => client.judge(daemon, span, |seen| {
            let owner = owners.iter().find(|other| seen.model.surely_present(key, other, &span).is_some());
            match owner {
                Some(owner) => {
                    let (here, why) = (&daemon.name, reason.as_str());
                    oracle::no(
                        "O15",
                        format!("{key} is acknowledged by {}, and on {here} it is a miss: {why}", owner.name),
                    )
                }
                _ => Ok(()),
            }
        }),
        // A plain key that only a retired node ever wrote is its heir's to serve.
        Some(Err(reason)) => {
            let claims = client.shared.claims();
            client.judge(daemon, span, |seen| {
                let is_heir = |owner: &Daemon| settled::descends(&claims, &owner.node_id, &daemon.node_id);
                let alone =
                    |owner: &Daemon| seen.model.possible(key).all(|attempt| attempt.daemon.node_id == owner.node_id);
                let mut owners = owners.iter().filter(|owner| is_heir(owner) && alone(owner));
                match owners.find(|owner| seen.model.surely_present(key, owner, &span).is_some()) {
                    Some(owner) => oracle::no(
                        "O2",
                        format!(
                            "{key} is acknowledged by {}, and on its heir {} it is a miss: {}",
                            owner.name,
                            daemon.name,
                            reason.as_str()
                        ),
                    ),
                    None => Ok(()),
                }
            });
        }
        None => client.shared.cluster.run().stuck(format!("O8: {} does not answer a get of {key}", daemon.name)),
        _ => {}
    }
}

/// O13: whatever a node lists, it serves.
async fn list_and_read(client: &mut Client, daemon: &Daemon, listed: &mut BTreeSet<PutId>) {
    for namespace in 0..client.shared.setup.namespaces {
        for kind in [ListKind::Plain, ListKind::Blocks, ListKind::Sidecars] {
            let Some(entries) = client.list(daemon, namespace, kind).await else { continue };
            for (key, put_id) in entries {
                listed.insert(put_id);
                let invoked = elapsed();
                let read = client.get(daemon, namespace, key.target.clone(), None).await;
                // It may expire between the listing and the read.
                if let Some(Err(reason)) = read
                    && !(matches!(key.target, Target::Plain(_)) && reason == MissReason::Expired)
                {
                    let span = Span { invoked, ended: Some(elapsed()) };
                    client.judge(daemon, span, |seen| settled::check_listed(seen, &key, reason));
                }
            }
        }
    }
}

/// Nobody wrote under another's name. Asked first: whoever does keeps the other from coming back.
fn check_owners(shared: &Shared) {
    let run = shared.cluster.run();
    let claims = shared.claims();
    let bucket = shared.cluster.service().bucket().lock();
    let verdict = settled::check_owners(&bucket, &Names::new(PREFIX), &node_ids(shared), &claims);
    drop(bucket);
    if let Err(no) = verdict {
        run.fail(no.oracle, no.what);
    }
}

/// The node id of each daemon.
fn node_ids(shared: &Shared) -> BTreeMap<String, String> {
    shared.daemons.lock().iter().map(|daemon| (daemon.name.clone(), daemon.node_id.clone())).collect()
}

/// O14: what is in the bucket is accounted for, once removals had their time.
async fn conserve(
    shared: &Shared,
    client: &Client,
    daemons: &[Daemon],
    listed: BTreeSet<PutId>,
    scrubbed: Option<Duration>,
) {
    madsim::time::sleep(REMOVALS_WITHIN).await;
    let Some(daemon) = daemons.first() else { return };
    let names = Names::new(PREFIX);
    let namespaces: Vec<NamespaceId> = shared.setup.namespace_ids();
    let (mut objects, effects): (_, Vec<Effect>) = {
        let bucket = shared.cluster.service().bucket().lock();
        (settled::value_objects(&bucket, &names, &namespaces), bucket.effects().to_vec())
    };
    let now = elapsed();
    let claims = shared.claims();
    let span = Span { invoked: now, ended: None };
    let ids = node_ids(shared);
    let node_of = |daemon: &str| ids.get(daemon).cloned().unwrap_or_else(|| daemon.to_owned());
    let writers = settled::writers(&effects, node_of);
    let left: Vec<(&str, PutId)> = objects.iter().map(|object| (object.path.as_str(), object.name.put_id)).collect();
    client.judge(daemon, span, |seen| {
        settled::check_forgotten(seen.model, shared.setup.expiry_patience)?;
        settled::check_removals(&effects, &writers, node_of)?;
        // Of what a node that was retired had, its heir removes what it has itself.
        let gone = |daemon: &Daemon| shared.cluster.is_gone(&daemon.name) && !claims.contains_key(&daemon.node_id);
        settled::check_legacy(seen.model, &left, now, gone)
    });
    // Nobody lists what a node left behind that never returns, and nobody but its heir may remove it.
    let left_behind = |writer: &String| shared.cluster.is_gone(writer) || claims.contains_key(writer);
    objects.retain(|object| !writers.get(object.path.as_str()).is_some_and(left_behind));
    // Of a pack as long as one member is listed: the rest of it may be dead.
    let named = objects.iter().filter(|object| listed.contains(&object.name.put_id));
    let named: BTreeSet<&str> = named.map(|object| object.path.as_str()).collect();
    let orphans: Vec<_> = objects.iter().filter(|object| !named.contains(object.path.as_str())).collect();
    let run = shared.cluster.run();
    // An index on the local disk that is behind the bucket is thrown away by the start.
    let local_index = !run.plan().conditional_writes;
    let index_lost = ids.iter().filter(|(_, node_id)| local_index || !run.index_lost(node_id).is_empty());
    let index_lost = index_lost.map(|(name, _)| name.clone()).collect();
    let scrubbed = scrubbed.map(|began| began.saturating_sub(shared.setup.scrub_grace));
    let evidence = Evidence { namespaces: &namespaces, index_lost, scrubbed, now };
    let mut reasons = BTreeMap::new();
    client.judge(daemon, span, |seen| {
        reasons = settled::explain(seen.model, &orphans, &evidence)?;
        Ok(())
    });
    for (why, count) in reasons {
        (0..count).for_each(|_| run.state_reached(why.as_str()));
    }
}
