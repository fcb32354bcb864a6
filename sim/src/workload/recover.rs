//! O10: recovery is idempotent. Before a life begins, copies of what the last one left are recovered aside: twice, with a
//! death in between, and once more after a recovery that was cut short. Journal and store must come to the same each time.

use super::Shared;
use crate::object_store::{Service, SimObjectStore};
use crate::random::Stream;
use crate::run::{Life, Run};
use crate::trace::digest;
use crate::world::{SimDisk, SimWorld, WallClock};
use bettong_core::journal::{Journal, Pending};
use bettong_core::life::Life as StoreLife;
use bettong_core::service::handler::StoreService;
use bettong_core::store::OpenError;
use bettong_core::world::World;
use bettong_core::{Deadline, Peer, Rights, Service as _, Store, StoreConfig, StoreParts};
use bettong_wire::request::{List, ListKind, NsHandle, Open, Request};
use bettong_wire::response::{Answer, ListName, Outcome};
use futures::future::{Either, select};
use madsim::runtime::Handle;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// Lives whose journal is looked at, of all; the store costs more.
const JOURNALS: f64 = 0.5;
const STORES: f64 = 0.15;
/// Turns after which a recovery is cut short, at most.
const JOURNAL_TURNS_MAX: u64 = 30;
const STORE_TURNS_MAX: u64 = 150;
/// No recovery of a copy, which nothing strikes, takes longer.
const WITHIN: Duration = Duration::from_secs(120);
const PAGE: u32 = 100;

/// What a recovery comes to, line by line; or why there is none.
type Came = Result<Vec<String>, String>;

/// What is recovered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Journal,
    /// The whole store, from its disk and from its bucket as it was.
    Store,
}

/// A copy of what a node left, and whatever recovers it.
struct Remains {
    shared: Arc<Shared>,
    run: Run,
    name: String,
    node_id: String,
    disk: SimDisk,
    wall: WallClock,
    /// The bucket as it was, where the store is recovered.
    bucket: Option<Arc<Service>>,
    lives: u64,
}

/// Recovers copies aside, and lets the life go on.
pub fn check(life: &Life, node_id: &str, shared: &Arc<Shared>) {
    let run = life.world.run();
    let mut random = Stream::new(run.seed(), &format!("recover/{}/{}", life.node, life.number));
    let (journal, store) = (random.chance(JOURNALS), random.chance(STORES));
    if life.number == 1 || run.faults_stopped() {
        return;
    }
    let make = |name: &str| {
        let name = format!("{name}-of-{}-{}", life.node, life.number);
        Handle::current().create_node().name(name).build()
    };
    let remains = |name: &str, what: What| Remains {
        shared: shared.clone(),
        run: run.clone(),
        name: format!("{name}-of-{}-{}", life.node, life.number),
        node_id: node_id.to_owned(),
        disk: life.world.disk().image(),
        wall: life.world.clock().wall(),
        bucket: (what == What::Store).then(|| {
            let fork = life.store.service().fork(make(&format!("bucket-of-{name}")));
            // Hints of other nodes come when they come: they are no part of a recovery.
            fork.bucket().lock().forget(|path| is_foreign_index(path, node_id));
            Arc::new(fork)
        }),
        lives: 0,
    };
    let home = make("recoveries");
    if journal {
        let (whole, cut) = (remains("journal", What::Journal), remains("cut-journal", What::Journal));
        drop(home.spawn(compare(What::Journal, whole, cut, random.draw())));
    }
    if store && run.plan().conditional_writes {
        let (whole, cut) = (remains("store", What::Store), remains("cut-store", What::Store));
        drop(home.spawn(compare(What::Store, whole, cut, random.draw())));
    }
}

fn is_foreign_index(path: &str, node_id: &str) -> bool {
    let below = path.split_once("/node/").and_then(|(_, rest)| rest.split_once('/'));
    below.is_some_and(|(node, rest)| node != node_id && rest.starts_with("index/"))
}

async fn compare(what: What, mut whole: Remains, mut cut: Remains, choice: u64) {
    let mut random = Stream::new(choice, "compare");
    let (run, name) = (whole.run.clone(), whole.name.clone());
    let Some(first) = whole.recover(what, u64::MAX).await else {
        return run.fail("O10", format!("{name}: a recovery does not end"));
    };
    // What was recovered once stays, whatever the machine does. A refusal has made nothing durable.
    if first.is_ok() {
        whole.disk.crash(&mut random);
    }
    let again = whole.recover(what, u64::MAX).await;
    let turns_max = if what == What::Journal { JOURNAL_TURNS_MAX } else { STORE_TURNS_MAX };
    let was_cut = cut.recover(what, random.within(1..turns_max)).await.is_none();
    let after_a_cut = cut.recover(what, u64::MAX).await;
    let kind = if what == What::Journal { "journal" } else { "store" };
    run.state_reached(&format!("sim O10 {kind} recovered twice"));
    if was_cut {
        run.state_reached(&format!("sim O10 {kind} recovered after a cut"));
    }
    for (how, came) in [("again", again), ("after a recovery that was cut short", after_a_cut)] {
        if came.as_ref() != Some(&first) {
            let came = came.unwrap_or_else(|| Err("it does not end".to_owned()));
            let differs = difference(&first, &came);
            return run.fail("O10", format!("{name}: recovered {how} it comes to something else: {differs}"));
        }
    }
    let lines = first.as_ref().map_or(0, Vec::len);
    run.trace(&name, format_args!("{lines} recovered twice: {}", digest(format!("{first:?}").as_bytes())));
}

fn difference(first: &Came, second: &Came) -> String {
    let (Ok(one), Ok(two)) = (first, second) else { return format!("{first:?}, then {second:?}") };
    let gone = one.iter().find(|line| !two.contains(line));
    let new = two.iter().find(|line| !one.contains(line));
    format!("{} lines, then {}; gone {gone:?}, new {new:?}", one.len(), two.len())
}

impl Remains {
    /// One life of a process that recovers the remains and dies; `None` where it died after so many turns, before that.
    async fn recover(&mut self, what: What, turns: u64) -> Option<Came> {
        self.lives += 1;
        let name = format!("{}-life-{}", self.name, self.lives);
        let node = Handle::current().create_node().name(&name).build();
        let (answer, answered) = oneshot::channel();
        let (run, handle, disk) = (self.run.clone(), node.clone(), self.disk.clone());
        let (shared, node_id, wall) = (self.shared.clone(), self.node_id.clone(), self.wall.clone());
        let (bucket, lives) = (self.bucket.clone(), self.lives);
        drop(node.spawn(async move {
            let world = SimWorld::aside_on(&run, &name, lives, handle, wall, disk);
            let recovered = async {
                match (what, bucket) {
                    (What::Store, Some(bucket)) => store(world, &shared, &node_id, bucket).await,
                    _ => journal(world, &shared, &node_id, lives).await,
                }
            };
            let _ = answer.send(after_turns(recovered, turns).await);
        }));
        let came = match select(pin!(answered), pin!(madsim::time::sleep(WITHIN))).await {
            Either::Left((came, _)) => came.ok().flatten(),
            Either::Right(_) => None,
        };
        Handle::current().kill(node.id());
        came
    }
}

/// `None` where `future` takes more turns.
async fn after_turns<F: Future>(future: F, turns: u64) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = turns;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What waits to be uploaded, in order.
async fn journal(world: SimWorld, shared: &Shared, node_id: &str, lives: u64) -> Came {
    let config = shared.setup.store_config(node_id).journal(StoreLife { ordinal: u64::MAX - 1, life: lives });
    let (_, journal) = Journal::open(world, config, &mut |_, _| {}).await.map_err(|error| error.to_string())?;
    let line = |(sequence, pending): &(u64, Pending)| match pending {
        Pending::Put(put) => format!("{sequence}: {:?} {:?}", put.record.key(), put.record.header.put_id),
        Pending::Head(head) => format!("{sequence}: head {} {}", head.name, head.generation),
    };
    let pending = journal.state(|state| state.next_pending(0, usize::MAX));
    let mut lines: Vec<String> = pending.iter().map(line).collect();
    for (_, pending) in &pending {
        let Pending::Put(put) = pending else { continue };
        let body = journal.read_body(put).await.map_err(|error| error.to_string())?;
        lines.push(digest(&body));
    }
    Ok(lines)
}

/// What the store lists of everything that does not expire.
async fn store(world: SimWorld, shared: &Shared, node_id: &str, bucket: Arc<Service>) -> Came {
    // What a store forgets for want of room, or because its time is over, is no matter of recovery.
    let config = StoreConfig {
        object_bytes_max: 0,
        namespace_bytes_max: 0,
        expiry_patience: Duration::MAX,
        ..shared.setup.store_config(node_id)
    };
    let memory = config.memory_on_the_heap().expect("memory for four payloads");
    let parts = StoreParts {
        objects: Arc::new(SimObjectStore::new(bucket, node_id)),
        local_index: None,
        memory,
        disk: None,
        conditional_update: true,
        ordered_listing: true,
    };
    let store = match Box::pin(Store::open(world, config, parts)).await {
        Ok(store) => store,
        // Other errors name the life, which is another one each time.
        Err(error @ OpenError::Journal(_)) => return Err(error.to_string()),
        Err(error) => return Err(format!("it does not open: {}", digest(format!("{error:?}").as_bytes()).len())),
    };
    let service = StoreService::new(store);
    let mut lines = Vec::new();
    for number in 0..shared.setup.namespaces {
        let (tenant, name) = shared.setup.namespace(number);
        let peer = Peer::new(tenant.clone(), Rights::default(), "sim:recovery");
        let open = Request::open(Open {
            protocol_version: 1,
            tenant,
            token: String::new(),
            namespace: name,
            identity: Some(shared.setup.identity()),
            payload_crc: false,
        });
        let deadline = || Deadline(service.now().plus(WITHIN));
        let opened = service.call(&peer, open, Vec::new(), deadline()).await;
        let Outcome::Ok(Answer::Opened(opened)) = opened.outcome else {
            return Err(format!("namespace {number} does not open"));
        };
        for kind in [ListKind::Plain, ListKind::Blocks, ListKind::Sidecars] {
            list(&service, &peer, opened.ns, kind, deadline(), &mut lines).await?;
        }
    }
    // Blocks are listed in an order of the process's own.
    lines.sort();
    Ok(lines)
}

async fn list(
    service: &StoreService<SimWorld>,
    peer: &Peer,
    ns: NsHandle,
    kind: ListKind,
    deadline: Deadline,
    lines: &mut Vec<String>,
) -> Result<(), String> {
    let mut cursor = Vec::new();
    loop {
        let request = Request::List(List { ns, kind, prefix: String::new(), cursor, limit: PAGE });
        let response = service.call(peer, request, Vec::new(), deadline).await;
        let Outcome::Ok(Answer::Page(page)) = response.outcome else { return Err("a listing fails".to_owned()) };
        for entry in page.entries.iter().filter(|entry| entry.expires_at_ms == 0) {
            let name = match &entry.name {
                ListName::Plain(key) => key.clone(),
                ListName::Block(key) => format!("{key:?}"),
                ListName::Sidecar(key) => key.to_hex(),
            };
            lines.push(format!("{ns:?} {name} {} {}", entry.put_id, entry.len));
        }
        if page.cursor.is_empty() {
            return Ok(());
        }
        cursor = page.cursor;
    }
}
