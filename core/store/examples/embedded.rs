//! The store without a daemon: a put that is in the object store once it is acknowledged, and its hit.
//!
//! `cargo run -p bettong-core --example embedded`

use bettong_core::keys::Key;
use bettong_core::real::{Folder, RealWorld};
use bettong_core::store::{PutSpec, ReadOutcome};
use bettong_core::{Deadline, Store, StoreConfig, StoreParts};
use bettong_wire::request::{Level, Target};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Any other folder, or bucket, is as good; nodes that share one read each other's blocks.
    let home = tempfile::tempdir()?;
    let config = StoreConfig { memory_bytes: 1 << 30, ..StoreConfig::new("node-1") };
    let parts = StoreParts {
        objects: Arc::new(Folder::open(home.path())?),
        local_index: None,
        memory: config.memory_on_the_heap()?,
        // `Some` keeps a copy on this host's NVMe.
        disk: None,
        // What a local folder does not promise, and S3 does.
        conditional_update: false,
        ordered_listing: false,
    };
    let world = RealWorld::new(home.path().join("data"), tokio::runtime::Handle::current())?;
    let store = Store::open(world, config, parts).await?;

    let namespace = store.open_namespace("tenant", "notes", None).await?;
    let ns = store.number_for_writes("tenant", namespace)?;
    let target = Target::Plain("greeting".to_owned());
    let spec =
        PutSpec { ns, target: target.clone(), level: Level::Object, expires_at_ms: 0, parent: None, sequence: 0 };
    store.put(spec, b"hello".to_vec().into()).await?;

    let deadline = Deadline(store.mono().plus(Duration::from_secs(1)));
    match store.get(&Key::of(ns, &target), deadline).await {
        ReadOutcome::Hit { payload, tier, .. } => println!("{} bytes from {}", payload.len(), tier.as_str()),
        other => println!("no hit: {other:?}"),
    }
    store.close(Duration::from_secs(10)).await;
    Ok(())
}
