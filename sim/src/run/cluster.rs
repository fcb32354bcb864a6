//! The nodes of a run: their lives, deaths and everything that outlives them.

use super::{Command, Options, Run, cache};
use crate::faults::{FaultKind, Strike};
use crate::object_store::{Cause, Conditions, Object, Service, SimObjectStore};
use crate::random::Stream;
use crate::world::{SNAPSHOTS_MAX, SimDisk, SimWorld, Volume, WallClock};
use futures::future::{BoxFuture, Either, select};
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use madsim::task::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often faults by time are asked whether they strike.
const TICK: Duration = Duration::from_millis(20);

/// What a node's process gets when it starts.
#[derive(Clone)]
pub struct Life {
    pub node: String,
    /// Counts the lives of this node, from 1.
    pub number: u64,
    pub world: SimWorld,
    pub store: SimObjectStore,
    /// Objects in the node's own files, where `store` does not obey conditions on writes.
    pub files: Option<SimObjectStore>,
    pub cache_dir: PathBuf,
}

/// What a node's process does.
pub type Program = Arc<dyn Fn(Life) -> BoxFuture<'static, ()> + Send + Sync>;

struct Slot {
    id: NodeId,
    ip: IpAddr,
    program: Program,
    disk: SimDisk,
    wall: WallClock,
    lives: u64,
    up: bool,
    /// Killed for good.
    gone: bool,
    files: Option<Files>,
    random: Stream,
    cache_dir: PathBuf,
    /// The fault because of which the next life finds no index: it goes once the dead life's requests have landed.
    index_lost: Option<Strike>,
    /// The device files as they were when this life began.
    cache_before: cache::Files,
}

/// Objects in a node's own files, and what they were at its deaths.
struct Files {
    service: Arc<Service>,
    snapshots: Vec<BTreeMap<String, Object>>,
}

impl Files {
    fn remember(&mut self) {
        if self.snapshots.len() == SNAPSHOTS_MAX {
            self.snapshots.remove(0);
        }
        self.snapshots.push(self.service.bucket().lock().snapshot());
    }

    /// Goes back to the state that `SimDisk::roll_back` chooses.
    fn roll_back(&self, choice: u64) {
        let older = self.snapshots.len().saturating_sub(1) as u64;
        let chosen = choice.checked_rem(older).and_then(|at| self.snapshots.get(at as usize));
        if let Some(snapshot) = chosen {
            self.service.bucket().lock().restore(snapshot.clone());
        }
    }
}

pub struct Cluster {
    run: Run,
    options: Options,
    scratch: PathBuf,
    service: Arc<Service>,
    volume: Volume,
    slots: Mutex<BTreeMap<String, Slot>>,
}

impl Cluster {
    pub fn new(run: &Run, scratch: PathBuf, options: Options) -> Self {
        let node = Handle::current().create_node().name("object-store").build();
        let mut random = Stream::new(run.seed(), "cluster");
        let slowest = random.within(2..30);
        let latency = Duration::from_millis(1)..Duration::from_millis(slowest);
        let conditions = match (run.plan().conditional_writes, random.chance(0.5)) {
            (true, _) => Conditions::Kept,
            (false, true) => Conditions::Ignored,
            (false, false) => Conditions::Refused,
        };
        let service = Arc::new(Service::new(run, node, latency, conditions));
        Self { run: run.clone(), options, scratch, service, volume: Volume::default(), slots: Mutex::default() }
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    pub fn options(&self) -> Options {
        self.options
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Adds a node that runs `program`, and starts it.
    pub fn add(&self, name: &str, program: Program) {
        let ip = IpAddr::from([10, 0, 1, self.slots.lock().len() as u8 + 1]);
        let handle = Handle::current().create_node().name(name).ip(ip).build();
        let mut random = Stream::new(self.run.seed(), &format!("node/{name}"));
        let wall = WallClock::new(random.within(0..20_000) as i64 - 10_000, random.within(0..200) as i64 - 100);
        let files = (!self.run.plan().conditional_writes).then(|| {
            let kernel = Handle::current().create_node().name(format!("files-of-{name}")).build();
            Files { service: Arc::new(Service::files(&self.run, kernel, name)), snapshots: Vec::new() }
        });
        let slot = Slot {
            id: handle.id(),
            ip,
            program,
            disk: SimDisk::new(&self.run, name, &self.volume),
            wall,
            lives: 0,
            up: false,
            gone: false,
            files,
            random,
            cache_dir: self.scratch.join(name),
            index_lost: None,
            cache_before: cache::Files::new(),
        };
        self.slots.lock().insert(name.to_owned(), slot);
        self.start(name);
    }

    /// Starts the node's next life, unless it is up or gone for good.
    pub fn start(&self, name: &str) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(name).filter(|slot| !slot.up && !slot.gone) else { return };
        let sim = Handle::current();
        if slot.lives > 0 {
            sim.restart(slot.id);
        }
        let Some(handle) = sim.get_node(slot.id) else { return };
        slot.lives += 1;
        slot.up = true;
        self.run.life_begins(name);
        if let Some(strike) = slot.index_lost.take().filter(|_| self.lose_index(name)) {
            self.run.fault_changed(&strike.key);
        }
        slot.cache_before = cache::read_files(&slot.cache_dir);
        self.run.trace(name, format_args!("life {} begins", slot.lives));
        let (program, node) = (slot.program.clone(), name.to_owned());
        let (run, number, wall, disk) = (self.run.clone(), slot.lives, slot.wall.clone(), slot.disk.clone());
        let (store, cache_dir) = (SimObjectStore::new(self.service.clone(), name), slot.cache_dir.clone());
        let files = slot.files.as_ref().map(|files| SimObjectStore::new(files.service.clone(), name));
        let on = handle.clone();
        drop(handle.spawn(async move {
            let world = SimWorld::new(&run, &node, number, on, wall, disk);
            let stepping = world.clone();
            stepping.step_by_step(program(Life { node, number, world, store, files, cache_dir })).await;
        }));
    }

    /// Kills the node; it stays down until `start`.
    pub fn kill(&self, name: &str) {
        if let Some(slot) = self.slots.lock().get(name).filter(|slot| slot.up) {
            Handle::current().kill(slot.id);
        }
        self.bury(name);
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.slots.lock().get(name).is_some_and(|slot| slot.up)
    }

    /// The nodes that never return.
    pub fn gone(&self) -> BTreeSet<String> {
        self.slots.lock().iter().filter(|(_, slot)| slot.gone).map(|(name, _)| name.clone()).collect()
    }

    /// Whether the node never returns.
    pub fn is_gone(&self, name: &str) -> bool {
        self.slots.lock().get(name).is_some_and(|slot| slot.gone)
    }

    /// Leaves a dead node dead, unless no other is left that may serve. Says whether it did.
    fn give_up(&self, name: &str) -> bool {
        let mut slots = self.slots.lock();
        let others = slots.iter().any(|(other, slot)| other != name && !slot.gone && !self.is_retired(other));
        let Some(slot) = slots.get_mut(name).filter(|_| others) else { return false };
        slot.gone = true;
        self.run.is_back(name);
        self.run.trace(name, format_args!("never returns"));
        self.run.state_reached("sim node never returns");
        true
    }

    /// Whether the bucket says that the node was retired, or is to be.
    fn is_retired(&self, name: &str) -> bool {
        let claim = format!("/node/{name}/retired");
        self.service.bucket().lock().objects().keys().any(|path| path.ends_with(&claim))
    }

    pub fn names(&self) -> Vec<String> {
        self.slots.lock().keys().cloned().collect()
    }

    pub fn handle_of(&self, name: &str) -> Option<NodeHandle> {
        let id = self.slots.lock().get(name)?.id;
        Handle::current().get_node(id)
    }

    /// Where the node is on the simulated network.
    pub fn address(&self, name: &str) -> String {
        self.slots.lock().get(name).map(|slot| slot.ip.to_string()).unwrap_or_default()
    }

    /// Ends every cut of the network.
    pub fn mend(&self) {
        self.slots.lock().values().for_each(|slot| NetSim::current().unclog_node(slot.id));
    }

    /// Decides what the dead node leaves behind.
    fn bury(&self, name: &str) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(name).filter(|slot| slot.up) else { return };
        slot.up = false;
        self.run.goes_down(name);
        self.run.count(|counters| counters.kills += 1);
        self.run.trace(name, format_args!("life {} ends", slot.lives));
        let losses = slot.disk.crash(&mut slot.random);
        for (key, did) in [
            ("death of the process alone", losses.process_only),
            ("power lost: torn write", losses.torn),
            ("power lost: unsynced data", losses.data),
            ("power lost: directory entries", losses.names),
            ("power lost: writes reordered", losses.reordered),
        ] {
            self.run.happens(key, did);
        }
        slot.files.iter_mut().for_each(Files::remember);
        for kind in FaultKind::ALL.iter().filter(|kind| kind.strikes_the_dead()) {
            let Some(strike) = self.run.fault_event(name, *kind) else { continue };
            let changed = match kind {
                FaultKind::DiskRollback => {
                    slot.files.iter().for_each(|files| files.roll_back(strike.choice));
                    let changed = slot.disk.roll_back(strike.choice);
                    if changed {
                        self.run.roll_back(name);
                    }
                    changed
                }
                FaultKind::DiskRollbackFile | FaultKind::DiskRollbackPages => {
                    let changed = match kind {
                        FaultKind::DiskRollbackFile => slot.disk.roll_back_file(strike.choice),
                        _ => slot.disk.roll_back_pages("journal/", strike.choice),
                    };
                    if changed {
                        self.run.roll_back(name);
                    }
                    changed
                }
                FaultKind::CacheRollback => {
                    cache::roll_back_pages(&slot.cache_dir, &slot.cache_before, &mut slot.random)
                }
                FaultKind::CacheRot => cache::rot(&slot.cache_dir, strike.choice),
                FaultKind::CacheEntryDamage => cache::damage_entries(&slot.cache_dir, strike.choice),
                _ => {
                    slot.index_lost = Some(strike);
                    continue;
                }
            };
            if changed {
                self.run.fault_changed(&strike.key);
            }
        }
    }

    /// Removes the objects of the node's index from wherever they are.
    fn lose_index(&self, name: &str) -> bool {
        let mut bucket = self.service.bucket().lock();
        let below = format!("node/{name}/index/");
        let lost: Vec<_> = bucket.objects().keys().filter(|path| path.contains(&below)).cloned().collect();
        let origin = self.service.origin("simulator", Cause::Injected);
        lost.iter().for_each(|path| bucket.delete(path, &origin));
        if !lost.is_empty() {
            self.run.lose_index(name);
        }
        !lost.is_empty()
    }

    /// Buries and restarts nodes, and strikes with the faults that go by time. Runs as long as the run does.
    pub async fn supervise(self: Arc<Self>, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let next = match select(pin!(inbox.recv()), pin!(madsim::time::sleep(TICK))).await {
                Either::Left((command, _)) => command,
                Either::Right(_) => None,
            };
            match next {
                Some(Command::Killed { node, life, restart_after }) => {
                    // Somebody else may have buried and started it meanwhile.
                    if self.slots.lock().get(&node).is_some_and(|slot| slot.lives != life) {
                        continue;
                    }
                    self.bury(&node);
                    let restart_after = match restart_after {
                        None if self.give_up(&node) => continue,
                        after => after.unwrap_or_default(),
                    };
                    let cluster = self.clone();
                    drop(madsim::task::spawn(async move {
                        madsim::time::sleep(restart_after).await;
                        cluster.start(&node);
                    }));
                }
                Some(Command::Paused { node, lasts }) => {
                    let cluster = self.clone();
                    drop(madsim::task::spawn(async move {
                        madsim::time::sleep(lasts).await;
                        if cluster.is_up(&node) {
                            Handle::current().resume(node.as_str());
                        }
                    }));
                }
                None => self.tick(),
            }
        }
    }

    /// Nothing passes between the node and its clients for a while; neither side is told.
    fn cut(&self, name: &str, strike: &Strike) {
        let Some(id) = self.slots.lock().get(name).map(|slot| slot.id) else { return };
        NetSim::current().clog_node(id);
        self.run.fault_changed(&strike.key);
        let lasts = strike.delay;
        drop(madsim::task::spawn(async move {
            madsim::time::sleep(lasts).await;
            NetSim::current().unclog_node(id);
        }));
    }

    fn tick(&self) {
        for name in self.names() {
            if !self.is_up(&name) {
                continue;
            }
            if let Some(strike) = self.run.fault_event(&name, FaultKind::ClockJump) {
                let reach_ms = i64::try_from(strike.delay.as_millis()).unwrap_or(i64::MAX);
                let by_ms = if strike.choice.is_multiple_of(2) { reach_ms } else { -reach_ms };
                if let Some(slot) = self.slots.lock().get(&name) {
                    slot.wall.jump(by_ms);
                }
                self.run.fault_changed(&strike.key);
            }
            if let Some(strike) = self.run.fault_event(&name, FaultKind::NetCut) {
                self.cut(&name, &strike);
            }
            if let Some(strike) = self.run.fault_event(&name, FaultKind::PauseNode) {
                self.run.fault_changed(&strike.key);
                self.run.pause(&name, strike.delay);
            }
            if let Some(strike) = self.run.fault_event(&name, FaultKind::KillNode) {
                self.run.fault_changed(&strike.key);
                self.run.kill(&name, &strike);
            }
        }
    }
}
