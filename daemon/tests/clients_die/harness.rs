//! The daemon, the clients that verify, and what is left at the end.

use super::raw::{ATTACHED, HOLDS, SCRIBBLES};
use super::rig;
use super::value::{Dice, KEYS, is_value, key, value};
use bettong::demo::child::Daemon;
use bettong_client::blocking::{self, Namespace};
use bettong_client::{ErrorKind, Got, Level, Options, ReadLimits};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients that die at a time.
const VICTIMS: usize = 4;
/// Clients that verify all the time.
const VERIFIERS: u64 = 2;
/// One in so many of those that die scribbles first.
const SCRIBBLERS: u64 = 8;
/// Scribblers that live as long as all the others together: what they hold stays as it is while others write.
const SHUT_OUT: usize = 3;
/// Among so many that are killed are some of every kind.
const KILLS_OF_ALL_KINDS: u64 = 300;
/// What is let go of with a process is free by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the arguments ask for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    kills: u64,
    seed: u64,
}

impl Asked {
    pub fn of(words: &[&str]) -> Self {
        let number = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse().ok()
        };
        Self { kills: number("--kills").unwrap_or(1000), seed: number("--seed").unwrap_or(1) }
    }
}

/// What a daemon's process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    mappings: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let count = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().count();
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        assert!(!maps.contains("/dev/shm"), "{maps}");
        let mappings = maps.lines().filter(|line| line.contains("memfd:bettong")).count();
        Self { descriptors: count("fd"), threads: count("task"), mappings }
    }
}

/// What is in /dev/shm that bettong could have named. The simulator keeps its folders there.
fn shared_files() -> Vec<String> {
    let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<_> =
        names.filter(|name| name.contains("bettong") && !name.starts_with("bettong-sim-")).collect();
    names.sort();
    names
}

pub fn run(asked: Asked) {
    let began = Instant::now();
    let before = shared_files();
    let dir = tempfile::tempdir().unwrap();
    // So little memory that values make room for each other, and so small a share that some are told to wait.
    let setup = rig::setup(dir.path(), &["memory_bytes=64MiB", "payload_bytes_max=16MiB", "shm_lease_bytes=24MiB"]);
    let daemon = Daemon::start(&setup).unwrap();
    let socket = setup.data_dir.join("bettong.sock");
    let url = format!("shm://{}", socket.display());
    // What a first session makes stays, such as a thread's own memory.
    drop(open(&url, 0));
    let idle = settle(&daemon, None);
    let stop = Arc::new(AtomicBool::new(false));
    let verified = Arc::new(AtomicU64::new(0));
    let verifiers: Vec<_> = (0..VERIFIERS).map(|n| verifier(&url, asked.seed ^ n, &stop, &verified)).collect();
    let Killed { attached, holding, scribbling } = kill_clients(asked, &socket);
    stop.store(true, Ordering::Relaxed);
    verifiers.into_iter().for_each(|verifier| verifier.join().unwrap());
    settle(&daemon, Some(&idle));
    let reattached = restarts(daemon, &setup, &url);
    assert_eq!(shared_files(), before, "something is left in /dev/shm");
    let (kills, verified) = (asked.kills, verified.load(Ordering::Relaxed));
    assert!(verified > 0, "nobody verified anything");
    // Of a few, each may be killed before it has begun.
    assert!(
        kills < KILLS_OF_ALL_KINDS || (attached > 0 && holding > 0 && scribbling > 0),
        "no kill hit a client at work"
    );
    println!(
        "clients die: {kills} killed, {attached} of them attached, {holding} holding a lease, {scribbling} scribbling; \
         {verified} values verified beside them, {reattached} re-attached after a kill of the daemon, nothing left; seed \
         {}, {:.1} s",
        asked.seed,
        began.elapsed().as_secs_f64(),
    );
}

fn open(url: &str, seed: u64) -> (blocking::Client, Namespace) {
    let client = blocking::Client::connect(url, Options { seed, ..Options::default() }).unwrap();
    let namespace = client.open_namespace("default", None).unwrap();
    (client, namespace)
}

/// Waits until nobody is attached any more, no slot is held but by the memory tier, and the process has what it had
/// `before`; answers what that is.
fn settle(daemon: &Daemon, before: Option<&Footprint>) -> Footprint {
    let until = Instant::now() + PATIENCE;
    let (_client, namespace) = open(&daemon.connect, 9);
    loop {
        let stats: serde_json::Value = serde_json::from_slice(namespace.stats().unwrap().as_ref()).unwrap();
        let number = |path: &str| stats.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
        let sessions = stats.pointer("/shared_memory/sessions").and_then(serde_json::Value::as_array).unwrap().len();
        let now = Footprint::of(daemon.id());
        let is_quiet = sessions == 0 && number("/memory/slot_bytes") == number("/memory/tier_bytes");
        if is_quiet && before.is_none_or(|before| *before == now) {
            return now;
        }
        assert!(Instant::now() < until, "dead clients leave something: {now:?} was {before:?}, {stats:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A client in a process of its own, which does not outlive this.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(role: &str, socket: &Path, seed: u64) -> Client {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.arg(role).arg(socket).arg(seed.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    Client(command.spawn().unwrap())
}

/// How far those had come that were killed.
#[derive(Debug, Default)]
struct Killed {
    attached: u64,
    holding: u64,
    scribbling: u64,
}

impl Killed {
    /// Kills one, which says how far it has come.
    fn kill(&mut self, Client(victim): &mut Client) {
        if let Some(status) = victim.try_wait().unwrap() {
            panic!("a client ended by itself: {status}");
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut said = String::new();
        victim.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let has_said = |words: &str| u64::from(said.lines().any(|line| line == words));
        self.attached += has_said(ATTACHED);
        self.holding += has_said(HOLDS);
        self.scribbling += has_said(SCRIBBLES);
    }
}

/// Kills so many clients at random moments of their lives.
fn kill_clients(asked: Asked, socket: &Path) -> Killed {
    let mut dice = Dice(asked.seed);
    let mut killed = Killed::default();
    let shut_out: Vec<Client> = (0..SHUT_OUT).map(|_| spawn("scribbler", socket, dice.next())).collect();
    let mut victims: Vec<Client> = Vec::new();
    for _ in 0..asked.kills {
        while victims.len() < VICTIMS {
            let is_scribbler = dice.below(SCRIBBLERS) == 0;
            victims.push(spawn(if is_scribbler { "scribbler" } else { "victim" }, socket, dice.next()));
        }
        // From before it is attached to long after.
        std::thread::sleep(Duration::from_micros(1 << dice.below(16)));
        killed.kill(&mut victims.swap_remove(dice.below(victims.len() as u64) as usize));
    }
    victims.into_iter().chain(shut_out).for_each(|mut victim| killed.kill(&mut victim));
    killed
}

/// Puts and gets, and verifies what it holds for as long as it holds it.
fn verifier(url: &str, seed: u64, stop: &Arc<AtomicBool>, verified: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (url, stop, verified) = (url.to_owned(), stop.clone(), verified.clone());
    std::thread::spawn(move || {
        let (_client, namespace) = open(&url, seed);
        let mut dice = Dice(seed);
        let mut held: Vec<(u64, bettong_client::Payload)> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = dice.below(KEYS);
            if dice.below(3) == 0 {
                let len = 1 << (4 + dice.below(19));
                let put = namespace.put_plain(&key(number), value(number, dice.next(), len), Level::Memory, None);
                // There may be no room beside what others hold.
                assert!(put.as_ref().err().is_none_or(|error| error.kind == ErrorKind::Busy), "{put:?}");
            } else if let Ok(Got::Hit(got)) = namespace.get_plain(&key(number), ReadLimits::default()) {
                held.push((number, got.bytes));
            }
            if held.len() > 8 {
                held.swap_remove(dice.below(held.len() as u64) as usize);
            }
            for (number, payload) in &held {
                assert!(is_value(*number, payload.as_ref()), "wrong bytes of {number}");
                verified.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

/// Kills the daemon under a client that reads, and starts it again: what it holds stays readable, and it goes on.
fn restarts(daemon: Daemon, setup: &bettong::demo::child::Setup, url: &str) -> u64 {
    let (_client, namespace) = open(url, 3);
    let mut daemon = daemon;
    let mut reattached = 0;
    for round in 0..3 {
        let bytes = value(1, round, 100_000);
        namespace.put_plain(&key(1), bytes.clone(), Level::Object, None).unwrap();
        let Ok(Got::Hit(held)) = namespace.get_plain(&key(1), ReadLimits::default()) else { panic!("it was put") };
        daemon.kill().unwrap();
        assert_eq!(held.bytes.as_ref(), bytes);
        daemon = Daemon::start(setup).unwrap();
        let got = namespace.get_plain(&key(1), ReadLimits::default()).unwrap();
        assert!(matches!(&got, Got::Hit(got) if got.bytes.as_ref() == bytes), "{got:?}");
        assert_eq!(held.bytes.as_ref(), bytes);
        reattached += 1;
    }
    reattached
}
