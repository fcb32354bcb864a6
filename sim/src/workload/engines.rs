//! SlateDB and foyer alone: put, make durable, kill, reopen, scan. Tells whether the world itself is deterministic, and
//! whether what was durable is there again.

use crate::run::{Cluster, Life};
use crate::trace::digest;
use bettong_core::index::db::{Floor, IndexHome};
use bettong_core::world::{Clock, World};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, PsyncIoEngineConfig,
    RecoverMode,
};
use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NODE: &str = "store-0";
const LIVES: u64 = 3;
const PUTS: u64 = 20;
const DEVICE_BYTES: usize = 1 << 20;
const REGION_BYTES: usize = 64 << 10;

/// What was acknowledged as durable, by key.
type Ledger = Arc<Mutex<BTreeMap<String, String>>>;

pub async fn run(cluster: Arc<Cluster>) {
    let ledger = Ledger::default();
    let shared = ledger.clone();
    let lives = LIVES;
    cluster.add(NODE, Arc::new(move |life| Box::pin(node(life, shared.clone()))));
    let mut random = crate::random::Stream::new(cluster.run().seed(), "engines");
    for _ in 1..lives {
        madsim::time::sleep(Duration::from_millis(random.within(200..2_000))).await;
        cluster.kill(NODE);
        madsim::time::sleep(Duration::from_millis(random.within(1..500))).await;
        cluster.start(NODE);
    }
    // The last life has all the time it wants to find everything again.
    for _ in 0..600 {
        madsim::time::sleep(Duration::from_millis(100)).await;
        if cluster.run().reached().contains_key("engines finished") {
            cluster.run().trace("engines", format_args!("{} durable", ledger.lock().len()));
            return;
        }
    }
    cluster.run().stuck("the engines did not finish within 60 virtual seconds".to_owned());
}

async fn node(life: Life, ledger: Ledger) {
    let run = life.world.run().clone();
    if let Err(what) = work(&life, &ledger).await {
        run.fail("engines", what);
    } else if life.number == LIVES {
        run.state_reached("engines finished");
    }
}

async fn cache(life: &Life) -> foyer::Result<HybridCache<u64, Vec<u8>>> {
    let device = FsDeviceBuilder::new(&life.cache_dir).with_capacity(DEVICE_BYTES).build()?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(REGION_BYTES)
        .with_buffer_pool_size(REGION_BYTES * 2)
        .with_flushers(1);
    HybridCacheBuilder::new()
        .memory(1024)
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
}

async fn work(life: &Life, ledger: &Ledger) -> Result<(), String> {
    let (world, run) = (&life.world, life.world.run());
    let text = |error: slatedb::Error| error.to_string();
    let home = IndexHome {
        world: world.clone(),
        store: Arc::new(life.store.clone()),
        floor: Arc::new(Floor::default()),
        conditional_update: true,
    };
    let db = home.open(Path::from("engines/index")).await.map_err(text)?;
    let cache = cache(life).await.map_err(|error| error.to_string())?;

    let expected = ledger.lock().clone();
    let mut rows = world.enter(Box::pin(db.scan::<std::ops::RangeFull>(..))).await.map_err(text)?;
    let mut found = BTreeMap::new();
    while let Some(row) = world.enter(rows.next()).await.map_err(text)? {
        found.insert(String::from_utf8_lossy(&row.key).into_owned(), digest(&row.value));
    }
    run.trace(&life.node, format_args!("life {} finds {} rows", life.number, found.len()));
    for (key, value) in &expected {
        if found.get(key) != Some(value) {
            return Err(format!("{key} was durable as {value} and is {:?}", found.get(key)));
        }
    }
    for count in 0..PUTS {
        let key = format!("life-{}-{count:03}", life.number);
        let value: Vec<u8> = (0..=world.random_u64() % 4096).map(|i| (i % 251) as u8).collect();
        let handle = world.enter(Box::pin(db.put(key.as_bytes(), &value))).await.map_err(text)?;
        let (flushed, durable) = futures::join!(world.enter(Box::pin(db.flush())), world.enter(handle.await_durable()));
        flushed.and(durable).map_err(text)?;
        ledger.lock().insert(key.clone(), digest(&value));
        cache.insert(count, value.clone());
        let cached = cache.get(&(count / 2)).await.map_err(|error| error.to_string())?;
        let cached = cached.map(|entry| digest(entry.value()));
        run.trace(&life.node, format_args!("put {key} {} cached {cached:?}", digest(&value)));
        world.clock().sleep(Duration::from_millis(world.random_u64() % 60)).await;
    }
    world.enter(Box::pin(db.close())).await.map_err(text)
}
