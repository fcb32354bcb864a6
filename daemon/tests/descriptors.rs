//! A daemon that may open few files, and more clients than that.

mod rig;

use bettong::bench::process_cpu;
use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong::remote::Remote;
use bettong_wire::request::Level;
use bytes::Bytes;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest that anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under a limit of open files, hard and soft.
fn limited(dir: &Path, limit: u32) -> PathBuf {
    let script = dir.join("limited");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -n {limit}\nexec '{}' \"$@\"\n", rig::PROGRAM)).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn setup(dir: &Path) -> Setup {
    rig::setup(dir, &["reactors=2", "object_inflight_max=16", "shm_socket=none", "log=warn"])
}

fn crowd(daemon: &Daemon, size: usize) -> Vec<TcpStream> {
    let address = daemon.connect.strip_prefix("tcp://").unwrap();
    (0..size).map(|_| TcpStream::connect(address).unwrap()).collect()
}

fn log_lines(setup: &Setup, with: &str) -> usize {
    let log = std::fs::read_to_string(setup.data_dir.join("daemon.log")).unwrap();
    log.lines().filter(|line| line.contains(with)).count()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// CPU time that the daemon uses in one second of waiting.
async fn cpu_of_a_second(daemon: &Daemon) -> Duration {
    let before = process_cpu::cpu_time(daemon.id()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    process_cpu::cpu_time(daemon.id()).unwrap() - before
}

async fn comes_in(daemon: &Daemon) -> bool {
    let Ok(remote) = Remote::open(&daemon.access("n"), None).await else { return false };
    remote.put_plain("new", Bytes::from_static(b"comer"), Level::Object, 0).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_leaves_the_store_its_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { program: limited(dir.path(), 160), ..setup(dir.path()) };
    let daemon = Daemon::start(&setup).unwrap();
    assert_eq!(log_lines(&setup, "connections_max is 1024, and there is room for"), 1);
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    let crowd = crowd(&daemon, 300);
    until("a crowd fills the daemon", async || log_lines(&setup, "no room for one more connection") > 0).await;
    for turn in 0..50_u8 {
        let (key, value) = (format!("{turn}"), Bytes::from(vec![turn; 100_000]));
        remote.put_plain(&key, value.clone(), Level::Object, 0).await.unwrap();
        assert_eq!(remote.get_plain(&key).await.unwrap().as_ref(), value);
    }
    assert_eq!(log_lines(&setup, "no room for one more connection"), 1);
    assert_eq!(log_lines(&setup, "cannot be accepted"), 0);
    drop(crowd);
    until("a new client comes in after the crowd", async || comes_in(&daemon).await).await;
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_out_of_descriptors_neither_spins_nor_ends() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(dir.path());
    let daemon = Daemon::start(&setup).unwrap();
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    remote.put_plain("k", Bytes::from_static(b"v"), Level::Memory, 0).await.unwrap();

    let pid = Pid::from_raw(daemon.id().try_into().unwrap());
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count() as u64;
    let own = getrlimit(Resource::Nofile);
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(open + 4), maximum: own.maximum }).unwrap();
    let crowd = crowd(&daemon, 40);
    until("accept fails", async || log_lines(&setup, "cannot be accepted") > 0).await;
    let spent = cpu_of_a_second(&daemon).await;
    assert!(spent < Duration::from_millis(500), "{spent:?} of CPU in a second of waiting");
    for _ in 0..100 {
        assert_eq!(remote.get_plain("k").await.unwrap().as_ref(), b"v");
    }
    assert_eq!(log_lines(&setup, "cannot be accepted"), 1);
    drop(crowd);
    prlimit(pid, Resource::Nofile, before).unwrap();
    until("a new client comes in after the crowd", async || comes_in(&daemon).await).await;
    daemon.stop().unwrap();
}

#[test]
fn a_limit_below_what_the_store_needs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let (code, said) =
        rig::refused(&limited(dir.path(), 60), &["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"]);
    assert_eq!(code, Exit::Usage as i32, "{said}");
    assert!(said.contains("may open 60 files") && said.contains("ulimit -n"), "{said}");
    assert!(!dir.path().join("data").exists());
}
