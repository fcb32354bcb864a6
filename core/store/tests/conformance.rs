//! The real forms of the seams keep the promises that the simulated ones keep.
#![forbid(unsafe_code)]

use bettong_core::conformance::memory_disk::{Loss, MemoryDisk};
use bettong_core::conformance::{self, object_store::Capabilities};
use bettong_core::real::{FileDisk, RealClock, RealWorld};
use bettong_core::tiers::memory::MemoryTier;
use bettong_core::world::{Disk, World};
use bettong_shm::pool::SlotPool;
use bettong_wire::memory::HeapMemory;
use object_store::memory::InMemory;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_real_clock_conforms() {
    runtime().block_on(conformance::clock::clock(&RealClock::start())).unwrap();
}

#[test]
fn the_file_disk_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(dir.path().join("data")).unwrap();
    runtime().block_on(async {
        conformance::disk::disk(&disk).await.unwrap();
        conformance::disk::write_durable(&disk).await.unwrap();
        let reopened = FileDisk::open(dir.path().join("data")).unwrap();
        conformance::disk::verify_durable(&reopened).await.unwrap();
    });
    let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["data"]);
}

#[test]
fn the_disk_in_memory_conforms() {
    runtime().block_on(async {
        conformance::disk::disk(&MemoryDisk::default()).await.unwrap();
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(1), Loss::Some(99)] {
            let disk = MemoryDisk::default();
            conformance::disk::write_durable(&disk).await.unwrap();
            disk.crash(loss);
            conformance::disk::verify_durable(&disk).await.unwrap();
        }
    });
}

#[test]
fn heap_memory_conforms() {
    conformance::block_memory::block_memory(&HeapMemory::new(40_000, 8_192), 8_192, 8_192).unwrap();
    let pool = || SlotPool::on_the_heap(1 << 20).unwrap();
    for len in [0, 1, 8_192, 300_000] {
        conformance::block_memory::block_memory(&pool(), len, 1 << 20).unwrap();
        conformance::block_memory::block_memory(&MemoryTier::new(pool()), len, 1 << 20).unwrap();
    }
}

#[test]
fn the_in_memory_object_store_conforms() {
    let can = Capabilities { create: true, update: true, attributes: true };
    runtime().block_on(conformance::object_store::object_store(&InMemory::new(), "suite", can)).unwrap();
}

#[test]
fn the_real_world_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let world = RealWorld::new(dir.path().join("world"), runtime.handle().clone()).unwrap();
    runtime.block_on(conformance::world::world(&world)).unwrap();
}

#[test]
fn the_real_world_counts_violations_and_draws_fresh_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let world = |name: &str| RealWorld::new(dir.path().join(name), runtime.handle().clone()).unwrap();
    let (one, two) = (world("one"), world("two"));
    assert_ne!(one.random_u64(), one.random_u64());
    assert_ne!(one.random_u64(), two.random_u64());
    assert_eq!(one.violations(), 0);
    one.violated("nothing in particular");
    assert_eq!(one.clone().violations(), 1);
}

#[tokio::test]
async fn a_file_disk_names_whole_paths_and_what_it_did_not_make() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(dir.path().join("data")).unwrap();
    disk.create("a/file").await.unwrap();
    let error = disk.read_at("a/missing", 0, 1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: no such file", dir.path().join("data/a/missing").display()));
    assert_eq!(disk.others("a").await.unwrap(), Vec::<String>::new());
    #[expect(clippy::disallowed_methods, reason = "a test makes its own folders")]
    std::fs::create_dir(dir.path().join("data/a/folder")).unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("data/a/link")).unwrap();
    assert_eq!(disk.list("a").await.unwrap(), ["file"]);
    assert_eq!(disk.others("a").await.unwrap(), ["folder", "link"]);
    assert_eq!(disk.others("nowhere").await.unwrap(), Vec::<String>::new());
}
