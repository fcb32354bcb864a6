//! The journals on a real disk: puts for each sync, the time of an acknowledgement beside a bare append and sync of the
//! same batch, recovery beside reading and hashing the same files, and signals.
//!
//! `cargo bench -p bettong-core --bench journal [-- DIRECTORY]`; the files go to DIRECTORY, or to the system's temporary
//! one. Prints medians with the spread of their middle half.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time, real files and real threads")]

use bettong_core::journal::signal::{SignalConfig, SignalEvent, SignalJournal};
use bettong_core::journal::{Journal, JournalConfig, Write};
use bettong_core::life::Life;
use bettong_core::real::RealWorld;
use bettong_core::seal::{SealMeta, Sealed, seal};
use bettong_core::world::{Disk, Mono, World};
use bettong_wire::envelope::{Algorithm, Kind};
use bettong_wire::{NamespaceId, Part, Payload, PutId};
use bytes::Bytes;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BLOCK_BYTES: usize = 64 << 10;
const PUTS: u64 = 3840;
const NEVER: Mono = Mono(u64::MAX);
const ROUNDS: usize = 3;

fn main() {
    let here = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).map(PathBuf::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for writers in [16, 64] {
            for _ in 0..ROUNDS {
                group_commit(here.as_deref(), writers).await;
            }
        }
        for _ in 0..ROUNDS {
            signals(here.as_deref()).await;
        }
    });
}

fn directory(here: Option<&Path>) -> tempfile::TempDir {
    here.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory")
}

fn world(dir: &tempfile::TempDir) -> RealWorld {
    RealWorld::new(dir.path().to_owned(), tokio::runtime::Handle::current()).expect("a world")
}

fn config() -> JournalConfig {
    JournalConfig::new(Life { ordinal: 1, life: 1 })
}

fn sealed(counter: u64) -> Sealed {
    let mut bytes = vec![0; BLOCK_BYTES];
    blake3::Hasher::new().update(&counter.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let meta = SealMeta {
        kind: Kind::Block,
        namespace: NamespaceId([1; 32]),
        hash: *blake3::hash(&counter.to_le_bytes()).as_bytes(),
        part: Part(0),
        plain_key: String::new(),
        sequence: 0,
        put_id: PutId { life: 1, counter },
        parent: None,
        created_at_ms: 0,
        expires_at_ms: 0,
    };
    seal(&meta, &Payload::from(bytes), Algorithm::None)
}

/// Median, and the middle half around it.
fn quartiles(times: &mut [Duration]) -> [Duration; 3] {
    times.sort_unstable();
    [1, 2, 3].map(|quarter| times[times.len() * quarter / 4])
}

async fn group_commit(here: Option<&Path>, writers: u64) {
    let dir = directory(here);
    let world = world(&dir);
    let (_, journal) = Journal::open(world.clone(), config(), &mut |_, _| {}).await.expect("a journal");
    let before = journal.stats();
    let began = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let journal = journal.clone();
            // Sealed before: the journal does not hash payloads.
            let puts: Vec<Sealed> = (writer..PUTS).step_by(writers as usize).map(|n| sealed(n + 1)).collect();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for put in puts {
                    let asked = Instant::now();
                    journal.append(vec![Write::Put(put)], NEVER).await.expect("acknowledged");
                    times.push(asked.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a writer"));
    }
    let took = began.elapsed();
    let stats = journal.stats();
    let (syncs, puts) = (stats.syncs - before.syncs, stats.appends - before.appends);
    journal.close(Duration::from_secs(10)).await.expect("closed");
    let [low, median, high] = quartiles(&mut times);
    let bare = bare(&world, (puts / syncs).max(1)).await;
    println!(
        "{writers} writers: {:.1} puts a sync, {:.0} puts/s; acknowledged in {median:.2?} ({low:.2?} to {high:.2?}); \
         a bare append and sync of {} puts {:.2?} ({:.2?} to {:.2?}); ratio {:.2}",
        puts as f64 / syncs as f64,
        puts as f64 / took.as_secs_f64(),
        puts / syncs,
        bare[1],
        bare[0],
        bare[2],
        median.as_secs_f64() / bare[1].as_secs_f64(),
    );
    drop(journal);
    recovery(&dir, &world).await;
}

/// Appending and syncing as many bytes as one batch has, without a journal.
async fn bare(world: &RealWorld, puts: u64) -> [Duration; 3] {
    let body = Bytes::from(vec![7; BLOCK_BYTES]);
    let buffers = vec![body; puts as usize];
    world.disk().create("bare").await.expect("a file");
    let mut times = Vec::new();
    for _ in 0..60 {
        let began = Instant::now();
        world.disk().append("bare", &buffers).await.expect("appended");
        world.disk().sync("bare").await.expect("synced");
        times.push(began.elapsed());
    }
    world.disk().remove("bare").await.expect("removed");
    quartiles(&mut times)
}

async fn recovery(dir: &tempfile::TempDir, world: &RealWorld) {
    let read_and_hash = || {
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("journal"))
            .expect("a journal")
            .map(|file| file.expect("a file").path())
            .collect();
        files.sort();
        let (mut buffer, mut bytes) = (vec![0; 8 << 20], 0);
        for file in files {
            let mut file = std::fs::OpenOptions::new().read(true).open(file).expect("a file");
            let mut hasher = blake3::Hasher::new();
            loop {
                let read = file.read(&mut buffer).expect("bytes");
                if read == 0 {
                    break;
                }
                hasher.update(&buffer[..read]);
                bytes += read;
            }
            std::hint::black_box(hasher.finalize());
        }
        bytes
    };
    let (mut plain, mut recovered) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for life in 0..5 {
        let began = Instant::now();
        bytes = read_and_hash();
        plain.push(began.elapsed());
        let config = JournalConfig { life: Life { ordinal: 2 + life, life: 2 + life }, ..config() };
        let began = Instant::now();
        let (_, journal) = Journal::open(world.clone(), config, &mut |_, _| {}).await.expect("recovered");
        recovered.push(began.elapsed());
        journal.close(Duration::from_secs(10)).await.expect("closed");
    }
    let (plain, recovered) = (quartiles(&mut plain), quartiles(&mut recovered));
    println!(
        "    recovery of {} MiB in {:.2?} ({:.2?} to {:.2?}); reading and hashing {:.2?} ({:.2?} to {:.2?}); {:.2} of its speed",
        bytes >> 20,
        recovered[1],
        recovered[0],
        recovered[2],
        plain[1],
        plain[0],
        plain[2],
        plain[1].as_secs_f64() / recovered[1].as_secs_f64(),
    );
}

async fn signals(here: Option<&Path>) {
    const EVENTS: u64 = 4_000_000;
    let dir = directory(here);
    let world = world(&dir);
    let config =
        SignalConfig { buffer_events_max: 1 << 20, append_every: Duration::from_millis(20), ..SignalConfig::default() };
    let (_, journal) = SignalJournal::open(world.clone(), config, &mut |_, _| {}).await.expect("a journal");
    let began = Instant::now();
    let recorder = journal.clone();
    // One caller at the pace that it gets: the buffers are drained beside it.
    let caller = tokio::task::spawn_blocking(move || {
        let mut own = Duration::ZERO;
        for some in 0..EVENTS / 10_000 {
            let started = Instant::now();
            for n in some * 10_000..(some + 1) * 10_000 {
                recorder.record(SignalEvent { entity: n * 31, kind: 1, weight: 1.0, timestamp_ns: n });
            }
            own += started.elapsed();
            while recorder.stats().appended + (1 << 19) < (some + 1) * 10_000 {
                std::thread::yield_now();
            }
        }
        own
    });
    let own = caller.await.expect("a caller");
    assert!(journal.close(&world, Duration::from_secs(20)).await, "closed");
    let took = began.elapsed();
    let stats = journal.stats();
    println!(
        "signals: {:.2} million a second appended, {} dropped, {:.0} ns of the caller's time each",
        stats.appended as f64 / took.as_secs_f64() / 1e6,
        stats.dropped,
        own.as_nanos() as f64 / EVENTS as f64,
    );
}
