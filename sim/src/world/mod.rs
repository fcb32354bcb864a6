//! The simulated world of one life of one node.

mod clock;
mod disk;
mod pump;

pub use clock::{SimClock, WallClock, elapsed, perfect_wall_ms};
pub use disk::{Losses, SNAPSHOTS_MAX, SimDisk, Volume};
pub use pump::Pump;

use crate::faults::FaultKind;
use crate::random::Stream;
use crate::run::Run;
use bettong_core::observe::{Forgetting, Point, Reason, State};
use bettong_core::world::{Clock, World};
use madsim::runtime::NodeHandle;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

/// The world as one life of one node sees it. Dies with the life; disk and wall clock outlive it.
#[derive(Clone)]
pub struct SimWorld {
    inner: Arc<Inner>,
}

struct Inner {
    run: Run,
    node: String,
    handle: NodeHandle,
    clock: SimClock,
    disk: SimDisk,
    random: Mutex<Stream>,
    pump: Pump,
    /// What is done in this world is the harness's own: it is not struck, and reaches nothing that counts.
    aside: bool,
}

impl SimWorld {
    /// The world of the `life`-th life of `node`, whose tasks run on `handle`. Call it on that node.
    pub fn new(run: &Run, node: &str, life: u64, handle: NodeHandle, wall: WallClock, disk: SimDisk) -> Self {
        let mut random = Stream::new(run.seed(), &format!("world/{node}/{life}"));
        let pump = Pump::start(&handle, random.draw());
        let inner = Inner {
            run: run.clone(),
            node: node.to_owned(),
            handle,
            clock: SimClock::start(wall),
            disk,
            random: Mutex::new(random),
            pump,
            aside: false,
        };
        Self { inner: Arc::new(inner) }
    }

    /// A world for the harness's own looks at `disk`, beside this one: nothing strikes in it and nothing in it counts.
    pub fn aside(&self, disk: SimDisk, what: &str) -> Self {
        let Inner { run, node, handle, clock, pump, .. } = &*self.inner;
        let random = Mutex::new(Stream::new(run.seed(), &format!("aside/{node}/{what}")));
        let (handle, clock, pump) = (handle.clone(), clock.clone(), pump.clone());
        let inner = Inner { run: run.clone(), node: node.clone(), handle, clock, disk, random, pump, aside: true };
        Self { inner: Arc::new(inner) }
    }

    /// The same, for a process of the harness's own on `handle`. Call it on that node.
    pub fn aside_on(run: &Run, name: &str, life: u64, handle: NodeHandle, wall: WallClock, disk: SimDisk) -> Self {
        let mut random = Stream::new(run.seed(), &format!("aside/{name}/{life}"));
        let pump = Pump::start(&handle, random.draw());
        let (clock, random) = (SimClock::start(wall), Mutex::new(random));
        let inner = Inner { run: run.clone(), node: name.to_owned(), handle, clock, disk, random, pump, aside: true };
        Self { inner: Arc::new(inner) }
    }

    /// Runs `future` as the node's tasks run: each turn is a step, at which the node may die.
    pub async fn step_by_step<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if !self.inner.aside && self.inner.run.step(&self.inner.node) {
                return Poll::Pending;
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Runs `future` where a turn of it may come late.
    async fn giving_way<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut late: Option<Pin<Box<madsim::time::Sleep>>> = None;
        std::future::poll_fn(|cx| {
            if late.is_none()
                && !self.inner.aside
                && let Some(strike) = self.inner.run.fault_event(&self.inner.node, FaultKind::BackgroundSlow)
            {
                self.inner.run.fault_changed(&strike.key);
                late = Some(Box::pin(madsim::time::sleep(strike.delay)));
            }
            if let Some(sleep) = &mut late {
                ready!(sleep.as_mut().poll(cx));
                late = None;
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    pub fn run(&self) -> &Run {
        &self.inner.run
    }

    pub fn node(&self) -> &str {
        &self.inner.node
    }
}

impl World for SimWorld {
    type Clock = SimClock;
    type Disk = SimDisk;

    fn clock(&self) -> &SimClock {
        &self.inner.clock
    }

    fn disk(&self) -> &SimDisk {
        &self.inner.disk
    }

    fn random_u64(&self) -> u64 {
        self.inner.random.lock().draw()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // A detached task: madsim ends it with the node.
        let world = self.clone();
        drop(self.inner.handle.spawn(async move { world.step_by_step(future).await }));
    }

    fn spawn_behind(&self, future: impl Future<Output = ()> + Send + 'static) {
        let world = self.clone();
        self.spawn(async move { world.giving_way(future).await });
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        self.inner.pump.enter(future)
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        self.inner.pump.leave(self.step_by_step(future))
    }

    async fn at(&self, point: Point) {
        if self.inner.aside {
            return;
        }
        if point == Point::BeforePeerRefresh {
            self.inner.run.refresh_began(&self.inner.node);
        }
        if self.inner.run.point_reached(&self.inner.node, point) {
            // The node is killed: this task is dropped at its next turn.
            std::future::pending::<()>().await;
        }
        if matches!(point, Point::BeforeDiskRead | Point::BeforeDiskOpen)
            && let Some(strike) = self.inner.run.fault_event(&self.inner.node, FaultKind::CacheSlow)
        {
            self.inner.run.fault_changed(&strike.key);
            madsim::time::sleep(strike.delay).await;
        }
    }

    fn reached(&self, state: State) {
        if self.inner.aside {
            return;
        }
        match state {
            State::PeersRefreshed => self.inner.run.refresh_ended(&self.inner.node),
            State::StartedWithoutDisk => self.inner.run.goes_without_disk(&self.inner.node),
            _ => {}
        }
        self.inner.run.state_reached(state.as_str());
    }

    fn forgets(&self, what: &Forgetting) {
        let now = self.inner.clock.mono();
        let ago = match what.why {
            Reason::Evicted { chosen } => now.since(chosen),
            Reason::Expired => std::time::Duration::ZERO,
        };
        self.inner.run.forgets(&self.inner.node, what, elapsed().saturating_sub(ago));
    }

    fn violated(&self, what: &'static str) {
        self.inner.run.fail("assertion", format!("{} says: {what}", self.inner.node));
    }
}
