//! The simulated world of one life of one node.

mod clock;
mod disk;
mod pump;

pub use clock::{SimClock, WallClock, elapsed, perfect_wall_ms};
pub use disk::{SNAPSHOTS_MAX, SimDisk, Volume};
pub use pump::Pump;

use crate::random::Stream;
use crate::run::Run;
use bettong_core::observe::{Point, State};
use bettong_core::world::World;
use madsim::runtime::NodeHandle;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;

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
        };
        Self { inner: Arc::new(inner) }
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
        drop(self.inner.handle.spawn(future));
    }

    fn enter<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        self.inner.pump.enter(future)
    }

    fn leave<F: Future + Send>(&self, future: F) -> impl Future<Output = F::Output> + Send {
        self.inner.pump.leave(future)
    }

    async fn at(&self, point: Point) {
        if point == Point::BeforePeerRefresh {
            self.inner.run.refresh_began(&self.inner.node);
        }
        if self.inner.run.point_reached(&self.inner.node, point) {
            // The node is killed: this task is dropped at its next turn.
            std::future::pending::<()>().await;
        }
    }

    fn reached(&self, state: State) {
        if state == State::PeersRefreshed {
            self.inner.run.refresh_ended(&self.inner.node);
        }
        self.inner.run.state_reached(state.as_str());
    }

    fn violated(&self, what: &'static str) {
        self.inner.run.fail("assertion", format!("{} says: {what}", self.inner.node));
    }
}
