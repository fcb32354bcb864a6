//! Hostile clients of the shared-memory door.
//!
//! Each strike is one session with one attack. The honest clients' oracles say whether anybody else noticed; here only the
//! session itself is judged: what cannot be believed ends it, with a reason, and its leases stay until its process is gone.

use super::ShmState;
use super::attack::{ATTACKS, Due};
use super::raw::{Next, Raw};
use crate::faults::{FaultKind, Strike};
use crate::model::Daemon;
use crate::random::Stream;
use crate::workload::Shared;
use bettong_core::door::shm::Ended;
use std::sync::Arc;
use std::time::Duration;

/// How often it is asked whether somebody hostile comes.
const TICK: Duration = Duration::from_millis(20);
/// By then the daemon has made of an attack what it will.
const SHUT_OUT_WITHIN: Duration = Duration::from_secs(5);
/// An attack that need not be answered is watched for so long.
const WATCHED: Duration = Duration::from_secs(1);
/// The leases of who is gone are back by then.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Attacks while faults strike; ends when every session has.
pub async fn run(shared: Arc<Shared>) {
    let run = shared.cluster.run().clone();
    let mut attacks = Vec::new();
    while !run.faults_stopped() {
        madsim::time::sleep(TICK).await;
        let daemons = shared.daemons.lock().clone();
        for daemon in daemons.into_iter().filter(|daemon| shared.hosts.of(&daemon.name).is_some()) {
            if let Some(strike) = run.fault_event(&daemon.name, FaultKind::ShmHostile) {
                attacks.push(madsim::task::spawn(strike_once(shared.clone(), daemon, strike)));
            }
        }
    }
    for attack in attacks {
        // One that panicked has ended the run already.
        let _ = attack.await;
    }
}

async fn strike_once(shared: Arc<Shared>, daemon: Daemon, strike: Strike) {
    let run = shared.cluster.run();
    let mut random = Stream::new(strike.choice, "shm-hostile");
    let Some((name, attack)) = random.pick(&ATTACKS).copied() else { return };
    let Some(host) = shared.hosts.of(&daemon.name) else { return };
    let meddling = Stream::new(random.draw(), "meddling");
    let Some(mut raw) = host.attach("mallory", 666, Some(meddling)).await.and_then(Raw::new) else { return };
    run.state_reached(&format!("shm hostile: {name}"));
    let due = attack.strike(&mut raw, &shared, &mut random).await;
    let patience = if due == Some(Due::Anything) { WATCHED } else { SHUT_OUT_WITHIN };
    let heard = if due.is_some() { react(&mut raw, patience).await } else { Next::Nothing };
    let ended = host.ended(raw.id);
    // What holds nothing has no account once its session has ended.
    let held = host.leases.bytes_of(raw.id).is_some_and(|bytes| bytes > 0);
    run.trace("hostile", format_args!("@{} {name} {due:?} -> {heard:?} {ended:?}", daemon.name));
    let broken = matches!(ended, Some(Ended::Broken(_)));
    if broken {
        run.state_reached(ShmState::Broken.as_str());
    }
    if heard == (Next::Answer { ok: false }) {
        run.state_reached(ShmState::RefusedHostile.as_str());
    }
    if broken || heard == (Next::Answer { ok: false }) {
        run.fault_changed(&strike.key);
    }
    // Its line closed, and no door has ended it: the daemon dies in this moment.
    let dies = heard == Next::Over && ended.is_none();
    if host.is_up() && !dies && shared.never_pauses() {
        let wrong = match due {
            Some(Due::Over) => !broken,
            Some(Due::Refusal) => !broken && heard != (Next::Answer { ok: false }),
            _ => false,
        };
        if wrong {
            run.fail("O3", format!("S7: {name} to {} is borne: {heard:?}, {ended:?}", daemon.name));
        }
    }
    if broken {
        let told = raw.is_told_why(SHUT_OUT_WITHIN).await;
        if !told && host.is_up() && shared.never_pauses() {
            run.fail("O3", format!("{} does not say why it shut a client out ({name})", daemon.name));
        }
    }
    leave(&shared, raw, held, broken, &mut random).await;
}

/// Waits for an error or the end, and takes good answers on the way.
async fn react(raw: &mut Raw, patience: Duration) -> Next {
    loop {
        match raw.next(patience).await {
            Next::Answer { ok: true } => {}
            other => return other,
        }
    }
}

/// The hostile client's leases stay until its process is gone, and then they are back.
async fn leave(shared: &Shared, raw: Raw, held: bool, broken: bool, random: &mut Stream) {
    let run = shared.cluster.run();
    let (host, id) = (raw.host.clone(), raw.id);
    let judged = || host.is_up() && shared.never_pauses();
    madsim::time::sleep(random.duration(&(Duration::ZERO..Duration::from_secs(3)))).await;
    match host.leases.bytes_of(id) {
        None if held && judged() => {
            run.fail("O6", format!("S5: leases of session {} of {} end before its client does", id.0, host.daemon));
        }
        Some(bytes) if bytes > 0 && broken => run.state_reached(ShmState::BrokenWithLeases.as_str()),
        Some(bytes) if bytes > host.limits.quota_bytes => {
            run.fail("O7", format!("{bytes} bytes of slots are leased to session {} of {}", id.0, host.daemon));
        }
        _ => {}
    }
    if random.chance(0.2) {
        raw.detach()
    } else {
        raw.gone(Duration::ZERO)
    }
    madsim::time::sleep(BACK_WITHIN).await;
    if host.leases.bytes_of(id).is_some() && judged() {
        run.fail("O6", format!("S4: leases of session {} of {} stay, and its client is gone", id.0, host.daemon));
    }
}
