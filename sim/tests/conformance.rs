//! The simulated forms of the seams keep the promises that the real ones keep. Run with `cargo sim-test`.
#![cfg(madsim)]
#![forbid(unsafe_code)]

use bettong_core::conformance::{self, object_store::Capabilities};
use bettong_core::world::World;
use bettong_sim::plan::{Plan, Workload};
use bettong_sim::run::{Cluster, Life, Options, Run};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;

/// Runs `test` as the process of a node; its verdict must be good for every seed.
#[expect(clippy::disallowed_methods, reason = "each seed runs on a thread of its own")]
fn on_a_node<F>(test: impl Fn(Life) -> F + Clone + Send + Sync + 'static)
where
    F: Future<Output = conformance::Verdict> + Send + 'static,
{
    for seed in 0..8 {
        let (test, scratch) = (test.clone(), tempfile::tempdir().unwrap());
        let path = scratch.path().to_owned();
        std::thread::spawn(move || {
            let executor = madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
            executor.block_on(async move {
                let (run, _inbox) = Run::new(seed, Plan::calm(Workload::Engines), false);
                let cluster = Cluster::new(&run, path, Options::default());
                let (sender, verdict) = tokio::sync::oneshot::channel();
                let sender = Arc::new(Mutex::new(Some(sender)));
                let program = move |life| -> futures::future::BoxFuture<'static, ()> {
                    let (test, sender) = (test.clone(), sender.clone());
                    Box::pin(async move {
                        let verdict = test(life).await;
                        let sender = sender.lock().take();
                        sender.map(|sender| sender.send(verdict));
                    })
                };
                cluster.add("store-0", Arc::new(program));
                verdict.await.unwrap().unwrap();
            });
        })
        .join()
        .unwrap();
    }
}

#[test]
fn the_simulated_clock_conforms() {
    on_a_node(|life| async move { conformance::clock::clock(life.world.clock()).await });
}

#[test]
fn the_simulated_world_conforms() {
    on_a_node(|life| async move { conformance::world::world(&life.world).await });
}

#[test]
fn the_simulated_disk_conforms() {
    on_a_node(|life| async move { conformance::disk::disk(life.world.disk()).await });
}

#[test]
fn the_simulated_disk_keeps_what_was_synced_through_a_crash() {
    on_a_node(|life| async move {
        let mut random = bettong_sim::random::Stream::new(life.world.random_u64(), "crash");
        conformance::disk::write_durable(life.world.disk()).await?;
        life.world.disk().crash(&mut random);
        conformance::disk::verify_durable(life.world.disk()).await
    });
}

#[test]
fn the_simulated_object_store_conforms() {
    let can = Capabilities { create: true, update: true, attributes: true };
    on_a_node(move |life| async move { conformance::object_store::object_store(&life.store, "suite", can).await });
}
