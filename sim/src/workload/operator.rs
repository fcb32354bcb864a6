//! An operator: scrubs, prefetches and retires nodes while clients work and faults strike.

use super::Shared;
use super::client::Client;
use crate::model::Daemon;
use crate::world::elapsed;
use bettong_wire::request::Task;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The name under which it comes: the only one that has the admin right.
pub const NAME: &str = "operator";
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
                task(&mut client, &daemon, Task::Prefetch, "").await;
            }
            5..10 if upkeep.scrubs => {
                task(&mut client, &daemon, Task::Scrub, "").await;
            }
            _ => {}
        }
    }
}

/// Runs a task slice by slice; says whether it came to its end.
async fn task(client: &mut Client, daemon: &Daemon, task: Task, argument: &str) -> bool {
    let dry_run = argument.is_empty() && client.random.chance(0.2);
    let mut cursor = Vec::new();
    for _ in 0..SLICES_MAX {
        match client.maintain(daemon, task, dry_run, cursor, argument).await {
            Some(next) if next.is_empty() => return true,
            Some(next) => cursor = next,
            None => return false,
        }
    }
    false
}

/// Retires a node that never returns, or now and then one that is there: never the last, and none that has retired this
/// one.
async fn retire_one(shared: &Arc<Shared>, client: &mut Client, by: &Daemon) {
    let retired = shared.retired();
    if retired.contains(&by.node_id) {
        return;
    }
    let mut others: Vec<String> = shared.daemons.lock().iter().map(|daemon| daemon.node_id.clone()).collect();
    others.sort();
    others.dedup();
    let standing = |node_id: &String| !shared.cluster.is_gone(node_id) && !retired.contains(node_id);
    let others_stand = others.iter().filter(|node_id| standing(node_id)).count();
    let living = client.random.chance(RETIRES_THE_LIVING) && others_stand > 2;
    others.retain(|node_id| *node_id != by.node_id && (living || !standing(node_id)));
    let Some(of) = client.random.pick(&others).cloned() else { return };
    retire(shared, client, by, &of).await;
}

async fn retire(shared: &Arc<Shared>, client: &mut Client, by: &Daemon, of: &str) -> bool {
    if shared.cluster.run().plan().conditional_writes {
        let mut retirements = shared.retirements.lock();
        let known = retirements.iter().any(|known| known.of == of && known.by == by.node_id);
        if !known {
            let (of, by) = (of.to_owned(), by.node_id.clone());
            retirements.push(Retirement { of, by, asked: elapsed(), done: None });
        }
    }
    let done = task(client, by, Task::Retire, of).await;
    if done {
        let mut retirements = shared.retirements.lock();
        for known in retirements.iter_mut().filter(|known| known.of == of && known.by == by.node_id) {
            known.done.get_or_insert(elapsed());
        }
    }
    done
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
        // The last heir of all.
        let mut last = by;
        for _ in 0..claims.len() {
            last = claims.get(last).unwrap_or(last);
        }
        let heir = daemons.iter().find(|daemon| daemon.node_id == *last);
        let ended = match (heir, daemons.first()) {
            (Some(heir), _) => retire(shared, &mut client, heir, of).await,
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
            cursor = client.maintain(daemon, Task::Scrub, false, cursor, "").await?;
            if cursor.is_empty() {
                break;
            }
        }
    }
    Some(began)
}
