//! What is measured, in which order.

use super::futex::Futex;
use super::iceoryx::Iceoryx;
use super::ours::Client;
use super::processes::{Running, until};
use super::redis::Redis;
use super::report::{Quantiles, REPETITIONS, Report, quantiles};
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Both sides spin: the client for as long as it takes.
const SPIN: Duration = Duration::from_secs(1);
/// Values of each size, so that they do not all stay in a core's cache.
const KEYS: usize = 16;
const SIZES: [(usize, &str); 4] = [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (4 << 20, "4 MiB")];

struct Daemon {
    process: Running,
    socket: PathBuf,
    dir: PathBuf,
}

impl Daemon {
    fn start(program: &Path) -> Self {
        let dir = std::env::temp_dir().join(format!("bettong-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let socket = dir.join("bettong.sock");
        let mut command = Command::new(program);
        command.arg("serve").args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
        command.arg("--shm-socket").arg(&socket).args(["--set", "memory_bytes=1GiB", "--set", "disk_bytes=0"]);
        let process = Running::start(command.stdout(Stdio::null())).expect("bettong starts");
        until(|| {
            std::os::unix::net::UnixStream::connect(&socket)
                .err()
                .map(|error| error.raw_os_error() != Some(2))?
                .then_some(())
        });
        std::thread::sleep(Duration::from_millis(500));
        Self { process, socket, dir }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn key(size: usize, number: usize) -> String {
    format!("{size}-{}", number % KEYS)
}

/// Reads every cache line once.
fn pass(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(64).fold(0, |sum, byte| sum + u64::from(*byte))
}

/// Repetitions of ours and of its peer, in turn.
fn pairs(mut ours: impl FnMut() -> Quantiles, mut peer: impl FnMut() -> Quantiles) -> [Vec<Quantiles>; 2] {
    let both = (0..REPETITIONS).map(|_| (ours(), peer()));
    let (ours, peer) = both.unzip();
    [ours, peer]
}

pub fn measure(program: &Path) -> Report {
    let daemon = Daemon::start(program);
    let mut report = Report::default();
    let mut client = Client::open(&daemon.socket, SPIN);
    pings(&mut report, &mut client);
    gets(&mut report, &mut client, &daemon.dir);
    puts(&mut report, &mut client);
    batches(&mut report, &mut client);
    drop(client);
    sleepers(&mut report, &daemon);
    crowd(&mut report, &daemon);
    report
}

fn pings(report: &mut Report, client: &mut Client) {
    let iceoryx = Iceoryx::start();
    iceoryx.polls(false);
    quantiles(10_000, |_| client.ping());
    let [ours, peer] = pairs(
        || {
            iceoryx.polls(false);
            quantiles(50_000, |_| client.ping())
        },
        || {
            iceoryx.polls(true);
            quantiles(50_000, |_| iceoryx.ping())
        },
    );
    report.latency("PING, both spin", ours.clone(), "p50 at most 1.0 us");
    report.latency("  iceoryx2 request-response, both poll", peer.clone(), "");
    report.ratio("  ours to iceoryx2", &ours, &peer, "at most 0.6");
}

fn gets(report: &mut Report, client: &mut Client, dir: &Path) {
    let mut redis = Redis::start(dir);
    for (size, name) in SIZES {
        for number in 0..KEYS {
            let staged = client.staged(size);
            client.put(&key(size, number), staged);
            if let Some(redis) = &mut redis {
                redis.set(&key(size, number), &vec![7; size]);
            }
        }
        let count = if size > 1 << 20 { 5_000 } else { 20_000 };
        let held: Vec<_> = (0..KEYS).map(|number| client.get(&key(size, number))).collect();
        let mut of_ours = Vec::new();
        let mut of_redis = Vec::new();
        let mut reads = [Vec::new(), Vec::new()];
        for _ in 0..REPETITIONS {
            of_ours.push(quantiles(count, |number| drop(client.get(&key(size, number)))));
            if let Some(redis) = &mut redis {
                of_redis.push(quantiles(count / 10, |number| redis.get(&key(size, number), size)));
            }
            let reading = count / 5;
            reads[0].push(quantiles(reading, |number| _ = black_box(pass(client.get(&key(size, number)).as_ref()))));
            reads[1].push(quantiles(reading, |number| _ = black_box(pass(held[number % KEYS].as_ref()))));
        }
        report.latency(format!("GET {name}, in place"), of_ours.clone(), "p50 at most 2.5 us");
        if redis.is_some() {
            report.latency(format!("  redis over a unix socket, {name}"), of_redis.clone(), "");
            let goal = if size == 1 << 20 { "at least 100" } else { "" };
            report.ratio(format!("  redis to ours, {name}"), &of_redis, &of_ours, goal);
        }
        let [ours, plain] = reads;
        report.latency(format!("GET {name}, every cache line read"), ours.clone(), "");
        report.latency(format!("  a plain pass over the same memory, {name}"), plain.clone(), "");
        report.ratio(
            format!("  to the plain pass, {name}"),
            &ours,
            &plain,
            if size >= 1 << 20 { "at most 1.15" } else { "" },
        );
    }
}

fn puts(report: &mut Report, client: &mut Client) {
    const LEN: usize = 1 << 20;
    let count = 300;
    let from = vec![7u8; LEN];
    let mut ours = Vec::new();
    let mut copies = Vec::new();
    for round in 0..REPETITIONS {
        let mut each = Vec::new();
        for number in 0..count {
            let staged = client.staged(LEN);
            let began = Instant::now();
            client.put(&format!("put-{}", (round * count + number) % 128), staged);
            each.push(began.elapsed());
        }
        ours.push(of(each));
        // A destination that no cache has: one of many.
        let mut places = vec![vec![1u8; LEN]; 128];
        copies.push(quantiles(count, |number| {
            places[number % 128].copy_from_slice(black_box(&from));
            black_box(&places[number % 128]);
        }));
    }
    report.latency("PUT 1 MiB at level memory, staged in place", ours.clone(), "");
    report.latency("  one memcpy of 1 MiB, cold destination", copies.clone(), "");
    report.ratio("  to the memcpy", &ours, &copies, "at most 1.4");
}

fn of(mut each: Vec<Duration>) -> Quantiles {
    each.sort_unstable();
    let at = |share: usize| each[(each.len() - 1) * share / 100].as_secs_f64() * 1e6;
    Quantiles { p50: at(50), p99: at(99) }
}

fn batches(report: &mut Report, client: &mut Client) {
    const BLOCKS: usize = 64;
    const LEN: usize = 64 << 10;
    let from = vec![7u8; LEN];
    let (mut puts, mut copies, mut gets, mut passes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut next = 0;
    for _ in 0..REPETITIONS {
        let mut each = Vec::new();
        let first = next;
        for _ in 0..50 {
            let staged = (0..BLOCKS).map(|_| client.staged(LEN)).collect();
            let began = Instant::now();
            client.put_blocks(next, staged);
            each.push(began.elapsed());
            next += BLOCKS as u64;
        }
        puts.push(of(each));
        let mut places = vec![vec![1u8; LEN]; BLOCKS * 32];
        copies.push(quantiles(50, |round| {
            for place in places.iter_mut().skip(round % 32 * BLOCKS).take(BLOCKS) {
                place.copy_from_slice(black_box(&from));
            }
        }));
        gets.push(quantiles(200, |round| {
            drop(client.get_blocks(first + (round % 50 * BLOCKS) as u64, BLOCKS as u64));
        }));
        let read = |client: &mut Client, round: usize| {
            let hits = client.get_blocks(first + (round % 50 * BLOCKS) as u64, BLOCKS as u64);
            black_box(hits.iter().map(|hit| pass(hit.as_ref())).sum::<u64>());
        };
        passes.push(quantiles(200, |round| read(client, round)));
    }
    report.latency("PUT 64 blocks of 64 KiB, staged in place", puts.clone(), "");
    report.latency("  64 memcpys of 64 KiB, cold destination", copies.clone(), "");
    report.ratio("  to the memcpys", &puts, &copies, "under 1.2");
    report.latency("GET 64 blocks of 64 KiB, in place: no copy", gets, "");
    report.latency("  the same, every cache line read", passes, "");
}

/// What sleeping costs, and what it saves.
fn sleepers(report: &mut Report, daemon: &Daemon) {
    let futex = Futex::start();
    let mut client = Client::open(&daemon.socket, Duration::ZERO);
    // Longer than the daemon looks for the next request by itself.
    let pause = Duration::from_micros(500);
    let [ours, peer] = pairs(
        || {
            let each = (0..1000).map(|_| {
                std::thread::sleep(pause);
                let began = Instant::now();
                client.ping();
                began.elapsed()
            });
            of(each.collect())
        },
        || {
            let each = (0..1000).map(|_| {
                std::thread::sleep(pause);
                let began = Instant::now();
                futex.ping();
                began.elapsed()
            });
            of(each.collect())
        },
    );
    report.latency("PING of a daemon that sleeps, by a client that sleeps", ours.clone(), "");
    report.latency("  a bare futex there and back", peer.clone(), "");
    report.ratio("  to the futex", &ours, &peer, "at most 1.5");
    drop(client);
    let idle: Vec<_> = (0..8).map(|_| Client::open(&daemon.socket, Duration::ZERO)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let (before, began) = (daemon.process.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let share = (daemon.process.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    drop(idle);
    report.number("CPU of a daemon with 8 idle clients, of a core", "%", &[share], "under 1");
}

/// What every client of a crowd gets.
const LOADED: &str = "loaded";

/// Eight clients, each a process, against one.
fn crowd(report: &mut Report, daemon: &Daemon) {
    let mut client = Client::open(&daemon.socket, Duration::ZERO);
    let staged = client.staged(1 << 20);
    client.put(LOADED, staged);
    drop(client);
    let gets = |clients: usize| {
        let socket = daemon.socket.to_string_lossy().into_owned();
        let program = std::env::current_exe().expect("this program has a path");
        let start = |_| {
            let mut command = Command::new(&program);
            command.args(["client", &socket, LOADED, "1"]).stdout(Stdio::piped());
            Running::start(&mut command).expect("a client")
        };
        let running: Vec<_> = (0..clients).map(start).collect();
        let count = |mut running: Running| {
            let mut text = String::new();
            let _ = running.0.stdout.take().map(|mut out| out.read_to_string(&mut text));
            text.trim().parse::<f64>().unwrap_or(0.0)
        };
        running.into_iter().map(count).sum::<f64>() / 1000.0
    };
    let mut ratios = Vec::new();
    let (mut ones, mut eights) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let (one, eight) = (gets(1), gets(8));
        ones.push(one);
        eights.push(eight);
        ratios.push(eight / one);
    }
    report.number("GET 1 MiB, one client, thousands a second", "", &ones, "");
    report.number("GET 1 MiB, 8 clients at once, thousands a second", "", &eights, "");
    report.number("  8 to one", "x", &ratios, "at least 0.9");
}
