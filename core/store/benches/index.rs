//! The index: look-ups of prefixes in a million blocks, and the start from a durable index of 100,000 blocks.
//!
//! `cargo bench -p bettong-core --bench index`

use bettong_core::index::{Entry, IndexMap, NodeNum};
use bettong_core::keys::{Key, NsNum};
use bettong_core::real::RealWorld;
use bettong_core::{Store, StoreConfig, StoreParts};
use bettong_wire::envelope::Kind;
use bettong_wire::request::{Level, Target};
use bettong_wire::{BlockHash, BlockKey, Part, PutId};
use divan::Bencher;
use divan::counter::ItemsCount;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Duration;

const BLOCKS: u64 = 1_000_000;
const CHAIN: usize = 250;
const BOOTSTRAP_BLOCKS: u64 = 100_000;

fn main() {
    divan::main();
}

fn hash(n: u64) -> BlockHash {
    BlockHash(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn entry(n: u64) -> Entry {
    Entry {
        put_id: PutId { life: 1, counter: n },
        level: Level::Object,
        raw_len: 1 << 20,
        stored_len: 1 << 20,
        sequence: (n % CHAIN as u64) as u32,
        parent_tag: n as u32,
        expires_at_ms: 0,
        node: NodeNum::SELF,
        quarantined: false,
        in_pack: None,
    }
}

fn million() -> IndexMap {
    let map = IndexMap::new(7);
    for n in 0..BLOCKS {
        map.set(&Key { ns: NsNum(0), kind: Kind::Block, part: Part(0), hash: hash(n).0 }, &entry(n), 0);
    }
    map
}

/// Chains all over the map, each wholly present, in an order that no cache follows.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn longest_prefix(bencher: Bencher) {
    let map = million();
    let chains: Vec<Vec<BlockHash>> = (0..BLOCKS / CHAIN as u64)
        .map(|chain| {
            let at = chain.wrapping_mul(2_654_435_761) % (BLOCKS / CHAIN as u64);
            (0..CHAIN as u64).map(|n| hash(at * CHAIN as u64 + n)).collect()
        })
        .collect();
    bencher.counter(ItemsCount::new(BLOCKS)).bench(|| {
        let found: usize = chains.iter().map(|chain| map.presence(0).prefix(NsNum(0), Part(0), chain)).sum();
        assert_eq!(found as u64, BLOCKS);
    });
}

/// The peer of `longest_prefix`: as many reads of as much memory, each at a place that the one before it names. What one
/// of them takes is the machine's, and differs by ten times between a quiet host and a busy one.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn dependent_reads(bencher: Bencher) {
    let places = 1 << 24;
    let next: Vec<u64> = (0..places).map(|at: u64| at.wrapping_mul(2_654_435_761) % places).collect();
    bencher
        .counter(ItemsCount::new(BLOCKS))
        .bench(|| (0..BLOCKS).fold(1, |at, n| next.get(at as usize).copied().unwrap_or(0) ^ (n & 1)));
}

/// From closed to ready, over an object store in memory, so that what is measured is the index and not a disk.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn bootstrap_100k(bencher: Bencher) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let root = tempfile::tempdir().expect("a directory");
    let objects = Arc::new(InMemory::new());
    let open = || async {
        let config = StoreConfig { payload_bytes_max: 1 << 20, ..StoreConfig::new("bench") };
        let world = RealWorld::new(root.path().to_owned(), tokio::runtime::Handle::current()).expect("a world");
        let parts = StoreParts {
            objects: objects.clone(),
            local_index: None,
            memory: config.memory_on_the_heap().unwrap(),
            disk: None,
            conditional_update: true,
            ordered_listing: true,
        };
        Store::open(world, config, parts).await.expect("an open store")
    };
    runtime.block_on(async {
        let store = open().await;
        let id = store.open_namespace("t", "n", None).await.expect("a namespace");
        let ns = store.number_for_writes("t", id).expect("a number");
        for batch in 0..BOOTSTRAP_BLOCKS / 1000 {
            let puts = (0..1000).map(|n| {
                let n = batch * 1000 + n;
                let target = Target::Block(BlockKey { hash: hash(n), part: Part(0) });
                let spec = bettong_core::store::PutSpec {
                    ns,
                    target,
                    level: Level::Object,
                    expires_at_ms: 0,
                    parent: None,
                    sequence: n as u32,
                };
                (spec, vec![0; 16].into())
            });
            store.put_batch(puts.collect()).await.expect("a batch");
        }
        assert!(store.close(Duration::from_secs(60)).await);
    });
    bencher.counter(ItemsCount::new(BOOTSTRAP_BLOCKS)).bench(|| {
        runtime.block_on(async {
            let store = open().await;
            assert_eq!(store.stats()["index"]["values"], BOOTSTRAP_BLOCKS);
            store
        })
    });
}
