//! Puts at level `object` and cold gets through the embedded library over a local file store, each beside the plain
//! work that cannot be avoided: writing and syncing the same bytes, or reading them, plus one BLAKE3 pass.
//!
//! `cargo bench -p bettong-core --bench objects [DIRECTORY]`: ten interleaved runs, medians, spread and ratio.

use bettong_core::keys::{Key, NsNum};
use bettong_core::real::{Folder, RealWorld};
use bettong_core::store::{PutSpec, ReadOutcome};
use bettong_core::{Deadline, Store, StoreConfig, StoreParts};
use bettong_wire::request::{Level, Target, Tier};
use bettong_wire::{BlockHash, BlockKey, Part, Payload};
use futures::{StreamExt, stream};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCK_BYTES: usize = 1 << 20;
const BLOCKS_A_RUN: u64 = 64;
const CONCURRENCY: usize = 16;
const RUNS: usize = 10;
/// Small blocks that fall into nearly all of the 256 folders that objects are spread over.
const FOLDERS_MADE_BY: u64 = 1500;

fn main() {
    let root = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let root = match root {
        Some(root) => tempfile::tempdir_in(root),
        None => tempfile::tempdir_in("."),
    };
    let root = root.expect("a directory to write to");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(puts(root.path()));
    runtime.block_on(gets(root.path()));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn block(n: u64) -> Payload {
    let mut bytes = vec![0; BLOCK_BYTES];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn target(n: u64) -> Target {
    Target::Block(BlockKey { hash: BlockHash(*blake3::hash(&n.to_le_bytes()).as_bytes()), part: Part(0) })
}

async fn open(root: &Path) -> (Store<RealWorld>, NsNum) {
    let objects = root.join("objects");
    #[expect(clippy::disallowed_methods, reason = "a benchmark makes its own folders")]
    std::fs::create_dir_all(&objects).expect("a directory");
    let config = StoreConfig::new("bench");
    let world = RealWorld::new(root.join("data"), tokio::runtime::Handle::current()).expect("a world");
    let parts = StoreParts {
        objects: Arc::new(Folder::open(objects).expect("a file store")),
        local_index: None,
        memory: config.memory_on_the_heap().unwrap(),
        disk: None,
        conditional_update: false,
        ordered_listing: false,
    };
    let store = Store::open(world, config, parts).await.expect("an open store");
    let id = store.open_namespace("t", "n", None).await.expect("a namespace");
    let ns = store.number_for_writes("t", id).expect("a number");
    (store, ns)
}

async fn puts(root: &Path) {
    let (store, ns) = open(&root.join("puts")).await;
    let plain_dir = root.join("plain");
    #[expect(clippy::disallowed_methods, reason = "a benchmark makes its own folders")]
    std::fs::create_dir_all(&plain_dir).expect("a directory");
    // A store in use has made its folders long ago.
    let small: Vec<(u64, Payload)> = (0..FOLDERS_MADE_BY).map(|n| (1 << 48 | n, vec![0; 16].into())).collect();
    put_all(&store, ns, &small).await;
    let (mut ours, mut plain, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS as u64 {
        let blocks: Vec<(u64, Payload)> =
            (0..BLOCKS_A_RUN).map(|n| run * BLOCKS_A_RUN + n).map(|n| (n, block(n))).collect();
        // Whoever goes second finds the bytes where the first has left them: each goes first in turn.
        for ours_now in [run % 2 == 0, run % 2 == 1] {
            let began = now();
            if ours_now {
                put_all(&store, ns, &blocks).await;
                ours.push(began.elapsed());
            } else {
                write_plainly(&plain_dir, &blocks);
                plain.push(began.elapsed());
            }
        }
        let (n, payload) = (1 << 32 | run, block(1 << 32 | run));
        let began = now();
        put(&store, ns, n, payload).await;
        single.push(began.elapsed());
    }
    report("put at level `object`, 64 blocks of 1 MiB, 16 at once", "write + sync + BLAKE3", &mut ours, &mut plain);
    println!("  a single put: {:?}", median(&mut single));
    assert!(store.close(Duration::from_secs(30)).await);
}

async fn put_all(store: &Store<RealWorld>, ns: NsNum, blocks: &[(u64, Payload)]) {
    stream::iter(blocks.to_vec())
        .map(|(n, payload)| put(store, ns, n, payload))
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
}

async fn put(store: &Store<RealWorld>, ns: NsNum, n: u64, payload: Payload) {
    let spec = PutSpec { ns, target: target(n), level: Level::Object, expires_at_ms: 0, parent: None, sequence: 0 };
    store.put(spec, payload).await.expect("an acknowledged put");
}

/// The same bytes, hashed, written to a file each, file and directory synced, by as many threads.
#[expect(clippy::disallowed_methods, reason = "the peer of the comparison works with plain files")]
fn write_plainly(dir: &Path, blocks: &[(u64, Payload)]) {
    std::thread::scope(|scope| {
        for worker in 0..CONCURRENCY {
            scope.spawn(move || {
                for (n, payload) in blocks.iter().skip(worker).step_by(CONCURRENCY) {
                    let hash = blake3::hash(payload.as_ref());
                    let mut file = File::create(dir.join(format!("{n}-{hash}"))).expect("a file");
                    file.write_all(payload.as_ref()).expect("written");
                    file.sync_all().expect("synced");
                    File::open(dir).expect("the directory").sync_all().expect("synced");
                }
            });
        }
    });
}

async fn gets(root: &Path) {
    let home = root.join("gets");
    let (store, ns) = open(&home).await;
    for n in 0..BLOCKS_A_RUN {
        put(&store, ns, n, block(n)).await;
    }
    assert!(store.close(Duration::from_secs(30)).await);
    let mut files = Vec::new();
    block_files(&home.join("objects/ns"), &mut files);
    assert_eq!(files.len() as u64, BLOCKS_A_RUN);
    let (mut begun, mut used, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (store, ns) = open(&home).await;
        begun.push(get_all(&store, ns, &files).await);
        // The values give way to themselves, as they would to others in a memory that is full.
        store.clear(ns, Tier::Memory).await.expect("an empty memory");
        used.push(get_all(&store, ns, &files).await);
        assert!(store.close(Duration::from_secs(30)).await);
        drop_page_cache(&files);
        let began = now();
        files.iter().for_each(|file| read_plainly(file));
        plain.push(began.elapsed());
    }
    report("cold get, 64 blocks of 1 MiB, one at a time", "read + BLAKE3", &mut used, &mut plain);
    report(
        "the same in a process that has just begun: all of its memory is new",
        "read + BLAKE3",
        &mut begun,
        &mut plain,
    );
}

/// How long it takes to get all blocks from their objects.
async fn get_all(store: &Store<RealWorld>, ns: NsNum, files: &[PathBuf]) -> Duration {
    drop_page_cache(files);
    let began = now();
    for n in 0..BLOCKS_A_RUN {
        let deadline = Deadline(store.mono().plus(Duration::from_secs(30)));
        match store.get(&Key::of(ns, &target(n)), deadline).await {
            ReadOutcome::Hit { payload, tier, .. } => assert_eq!((payload.len(), tier), (BLOCK_BYTES, Tier::Object)),
            ReadOutcome::Miss(reason) => panic!("{reason:?}"),
        }
    }
    began.elapsed()
}

fn block_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            block_files(&path, found);
        } else if path.components().any(|part| part.as_os_str() == "block") {
            found.push(path);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the peer of the comparison works with plain files")]
fn read_plainly(path: &Path) {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES + 4096);
    File::open(path).expect("a file").read_to_end(&mut bytes).expect("read");
    std::hint::black_box(blake3::hash(&bytes));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark of cold reads drops what is cached")]
fn drop_page_cache(files: &[PathBuf]) {
    for path in files {
        let file = File::open(path).expect("a file");
        file.sync_all().expect("synced");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("dropped");
    }
}

fn median(durations: &mut [Duration]) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

fn report(what: &str, peer: &str, ours: &mut [Duration], plain: &mut [Duration]) {
    let (our_median, plain_median) = (median(ours), median(plain));
    println!("{what}");
    for (name, runs) in [("bettong", &*ours), (peer, &*plain)] {
        let (fastest, slowest) = (runs[0], runs[runs.len() - 1]);
        println!("  {name:24} median {:?}  fastest {fastest:?}  slowest {slowest:?}", runs[runs.len() / 2]);
    }
    println!("  ratio of medians: {:.2}", our_median.as_secs_f64() / plain_median.as_secs_f64());
}
