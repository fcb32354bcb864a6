//! An operator: scrubs, prefetches and retires nodes while clients work and faults strike.

use super::Shared;
use super::client::Client;
use crate::model::Daemon;
use crate::world::elapsed;
use bettong_wire::ErrorKind;
use bettong_wire::request::Task;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The name under which it comes. It and its second have the admin right, nobody else.
pub const NAME: &str = "operator";
/// Another one, who asks a node to retire the one that is asked to retire it.
pub const SECOND: &str = "operator-2";
/// Of the retirements of nodes that are there, so many are asked for both ways at once.
const DUELS: f64 = 0.3;
/// What it does between two tasks.
const PAUSE: Range<Duration> = Duration::from_millis(300)..Duration::from_secs(4);
/// Slices of one task at most; it is left then, as by an operator who loses patience.
const SLICES_MAX: u32 = 200;
/// Of the retirements, so many are of nodes that are there.
const RETIRES_THE_LIVING: f64 = 0.3;
/// O8: once faults are over, a retirement is finished within this time.
const RETIRED_WITHIN: Duration = Duration::from_secs(60);

/// A node that was, or was to be, retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retirement {
    pub of: String,
    pub by: String,
    /// When it was first asked for: from then on it may have happened.
    pub asked: Duration,
    /// When it was first heard to be finished.
    pub done: Option<Duration>,
}

/// Works until faults stop.
pub async fn run(shared: Arc<Shared>) {
    let run = shared.cluster.run().clone();
    let mut client = Client::new(NAME.to_owned(), shared.clone());
    let upkeep = shared.setup.upkeep;
    while !run.faults_stopped() {
        let pause = client.random.duration(&PAUSE);
        madsim::time::sleep(pause).await;
        let daemons: Vec<Daemon> =
            shared.daemons.lock().iter().filter(|daemon| shared.doors.of(&daemon.name).is_some()).cloned().collect();
        let Some(daemon) = client.random.pick(&daemons).cloned() else { continue };
        match client.random.below(10) {
            0..2 if upkeep.retires => retire_one(&shared, &mut client, &daemon).await,
            2..5 if upkeep.prefetches => {
                let _ = task(&mut client, &daemon, Task::Prefetch, "").await;
            }
            5..10 if upkeep.scrubs => {
                let _ = task(&mut client, &daemon, Task::Scrub, "").await;
            }
            _ => {}
        }
    }
}

/// Runs a task slice by slice to its end; where that is not reached, says why, as far as that is known.
async fn task(client: &mut Client, daemon: &Daemon, task: Task, argument: &str) -> Result<(), Option<ErrorKind>> {
    let dry_run = argument.is_empty() && client.random.chance(0.2);
    let mut cursor = Vec::new();
    for _ in 0..SLICES_MAX {
        cursor = client.maintain(daemon, task, dry_run, cursor, argument).await?;
        if cursor.is_empty() {
            return Ok(());
        }
    }
    Err(None)
}

/// Retires a node that never returns, or now and then one that is there, also one that is about to retire this one; never
/// the last.
async fn retire_one(shared: &Arc<Shared>, client: &mut Client, by: &Daemon) {
    let retired = shared.retired();
    let mut others: Vec<String> = shared.daemons.lock().iter().map(|daemon| daemon.node_id.clone()).collect();
    others.sort();
    others.dedup();
    let standing = |node_id: &String| !shared.cluster.is_gone(node_id) && !retired.contains(node_id);
    let others_stand = others.iter().filter(|node_id| standing(node_id)).count();
    let living = client.random.chance(RETIRES_THE_LIVING) && others_stand > 2;
    let asked = shared.retirements.lock().clone();
    let in_turn = |of: &String| asked.iter().any(|known| known.of == by.node_id && known.by == *of);
    let may_turn = others_stand > 0;
    others.retain(|of| *of != by.node_id && (living || !standing(of)) && (!in_turn(of) || may_turn));
    // Whoever asks second is refused.
    let of = match others.iter().find(|of| in_turn(of)) {
        Some(of) => Some(of),
        None if retired.contains(&by.node_id) => None,
        None => client.random.pick(&others),
    };
    let Some(of) = of.cloned() else { return };
    let other = shared.daemons.lock().iter().find(|daemon| daemon.node_id == of).cloned();
    let Some(other) = other.filter(|_| living && client.random.chance(DUELS)) else {
        retire(shared, client, by, &of).await;
        return;
    };
    let mut second = Client::new(SECOND.to_owned(), shared.clone());
    let theirs = retire(shared, &mut second, &other, &by.node_id);
    futures::future::join(retire(shared, client, by, &of), theirs).await;
}

async fn retire(shared: &Arc<Shared>, client: &mut Client, by: &Daemon, of: &str) -> bool {
    let is_it = |known: &Retirement| known.of == of && known.by == by.node_id;
    let mut is_new = false;
    if shared.cluster.run().plan().conditional_writes {
        let mut retirements = shared.retirements.lock();
        is_new = !retirements.iter().any(is_it);
        if is_new {
            let (of, by) = (of.to_owned(), by.node_id.clone());
            retirements.push(Retirement { of, by, asked: elapsed(), done: None });
        }
    }
    let done = task(client, by, Task::Retire, of).await;
    let mut retirements = shared.retirements.lock();
    match done {
        Ok(()) => {
            for known in retirements.iter_mut().filter(|known| is_it(known)) {
                known.done.get_or_insert(elapsed());
            }
        }
        // Refused at its first request, nothing of it ever happens.
        Err(Some(ErrorKind::Denied)) if is_new => retirements.retain(|known| !is_it(known)),
        Err(_) => {}
    }
    done.is_ok()
}

/// After the faults: whatever retirement is in the bucket is brought to its end, by the node that began it or by one that
/// retires that one.
pub async fn finish(shared: &Arc<Shared>, daemons: &[Daemon]) {
    let run = shared.cluster.run().clone();
    let began = elapsed();
    let mut client = Client::new(NAME.to_owned(), shared.clone());
    loop {
        let claims = shared.claims();
        let unfinished = claims.iter().find(|(of, by)| !shared.is_retired_by(of, by));
        let Some((of, by)) = unfinished else { return };
        if elapsed().saturating_sub(began) > RETIRED_WITHIN {
            return run.stuck(format!("O8: {of} is not retired {} s after the last fault", RETIRED_WITHIN.as_secs()));
        }
        // The last heir of all, and the node that it retires itself: the others come with that one.
        let (mut below, mut last) = (of, by);
        while let Some(next) = claims.get(last) {
            (below, last) = (last, next);
        }
        let heir = daemons.iter().find(|daemon| daemon.node_id == *last);
        let ended = match (heir, daemons.first()) {
            (Some(heir), _) => retire(shared, &mut client, heir, below).await,
            (None, Some(other)) => retire(shared, &mut client, other, last).await,
            (None, None) => return,
        };
        if ended && heir.is_some() {
            shared.settle_claim(of, by);
        } else {
            madsim::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// A whole scrub of each daemon: nothing that a scrub removes may be left after it. Answers when the first began; `None`
/// where one did not come to its end.
pub async fn scrub_all(shared: &Arc<Shared>, daemons: &[Daemon]) -> Option<Duration> {
    let mut client = Client::new(NAME.to_owned(), shared.clone());
    let began = elapsed();
    for daemon in daemons {
        let mut cursor = Vec::new();
        loop {
            cursor = client.maintain(daemon, Task::Scrub, false, cursor, "").await.ok()?;
            if cursor.is_empty() {
                break;
            }
        }
    }
    Some(began)
}
