//! A real tokio runtime inside the simulation, for SlateDB, which knows no other.
//!
//! A task of the node owns a seeded current-thread runtime and runs it until its queues are empty whenever it is kicked.
//! `enter` polls a call into SlateDB inside the runtime's context and kicks; `leave` wraps the wakers of what SlateDB
//! calls in this world (object store, clock), so that their wake-ups kick as well. The node's death drops the task, hence
//! the runtime, hence SlateDB in the middle of whatever it did.
//!
//! What it does not verify: SlateDB under a runtime of several threads.

use futures::future::{Either, select};
use madsim::runtime::NodeHandle;
use real_tokio::runtime::{Builder, Handle, RngSeed, Runtime};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the runtime is run when nobody kicks: covers a wake-up that no wrapper saw.
const SAFETY_TICK: Duration = Duration::from_millis(50);

/// Turns of the runtime for one kick; beyond them the pump yields to the rest of the simulation.
const TURNS_MAX: u32 = 10_000;

/// Reaches the runtime of one node life.
#[derive(Clone)]
pub struct Pump {
    handle: Handle,
    kick: Arc<Notify>,
}

impl Pump {
    /// Starts the task that owns the runtime, on `node`.
    pub fn start(node: &NodeHandle, seed: u64) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .expect("a current-thread runtime without an I/O driver needs nothing from the system");
        let handle = runtime.handle().clone();
        let kick = Arc::new(Notify::new());
        drop(node.spawn(run(runtime, kick.clone())));
        Self { handle, kick }
    }

    /// Polls `future` inside the runtime's context, then lets the runtime work.
    pub async fn enter<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let polled = {
                let _context = self.handle.enter();
                future.as_mut().poll(cx)
            };
            self.kick.notify_one();
            polled
        })
        .await
    }

    /// Polls `future` with wakers that also kick the runtime.
    pub async fn leave<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let waker = Waker::from(Arc::new(KickingWaker { inner: cx.waker().clone(), kick: self.kick.clone() }));
            future.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }
}

struct KickingWaker {
    inner: Waker,
    kick: Arc<Notify>,
}

impl Wake for KickingWaker {
    fn wake(self: Arc<Self>) {
        self.inner.wake_by_ref();
        self.kick.notify_one();
    }
}

async fn run(runtime: Runtime, kick: Arc<Notify>) {
    loop {
        runtime.block_on(until_idle(runtime.metrics()));
        match select(pin!(kick.notified()), pin!(madsim::time::sleep(SAFETY_TICK))).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

/// Completes when the runtime has nothing left to run.
async fn until_idle(metrics: real_tokio::runtime::RuntimeMetrics) {
    for _ in 0..TURNS_MAX {
        real_tokio::task::yield_now().await;
        if metrics.global_queue_depth() == 0 && metrics.worker_local_queue_depth(0) == 0 {
            return;
        }
    }
}
