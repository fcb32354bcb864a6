//! The shared-memory door of the real binary: commands through it, who may come in, and what bad input gets.
#![cfg(target_os = "linux")]

mod chain;
#[path = "../rig/mod.rs"]
mod rig;

use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong_client::blocking::Client;
use bettong_client::{ErrorKind, Got, Level, Options, ReadLimits};
use bettong_shm::real::attach::{Attached, Heard, Hello, RefusalKind, attach};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn program() -> &'static Path {
    Path::new(rig::PROGRAM)
}

fn socket(setup: &Setup) -> PathBuf {
    setup.data_dir.join("bettong.sock")
}

fn url(setup: &Setup) -> String {
    format!("shm://{}", socket(setup).display())
}

/// Runs a command of a client and answers what it printed.
fn said(arguments: &[&str]) -> String {
    let output = rig::run(program(), arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn commands_work_over_shared_memory_as_they_do_over_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let setup = rig::setup(dir.path(), &[]);
    let daemon = Daemon::start(&setup).unwrap();
    let url = url(&setup);
    let file = dir.path().join("value");
    // Longer than an extent of the pool.
    std::fs::write(&file, vec![b'v'; 20 << 20]).unwrap();
    said(&["--connect", &url, "put", "greeting", file.to_str().unwrap(), "--level", "object"]);
    for connect in [url.as_str(), daemon.connect.as_str()] {
        assert_eq!(said(&["--connect", connect, "get", "greeting"]).len(), 20 << 20);
        assert!(said(&["--connect", connect, "ls"]).contains("greeting"));
    }
    assert!(said(&["--connect", &daemon.connect, "sessions"]).contains("nobody is attached"));
    let client = Client::connect(&url, Options { name: "engine".to_owned(), ..Options::default() }).unwrap();
    let namespace = client.open_namespace("default", None).unwrap();
    let Ok(Got::Hit(held)) = namespace.get_plain("greeting", ReadLimits::default()) else { panic!("it was put") };
    let sessions: serde_json::Value =
        serde_json::from_str(&said(&["--connect", &daemon.connect, "sessions", "--json"])).unwrap();
    let session = &sessions["sessions"][0];
    assert_eq!((session["name"].as_str(), session["pid"].as_u64()), (Some("engine"), Some(std::process::id().into())));
    assert!(session["leased_bytes"].as_u64() >= Some(20 << 20), "{sessions}");
    assert!(said(&["--connect", &daemon.connect, "sessions"]).contains("engine"));
    drop(held);
    let bench = ["--connect", &daemon.connect, "bench", "--transport", "shm", "--op", "get", "--level", "memory"];
    let bench = [&bench[..], &["--duration", "100ms", "--runs", "1", "--concurrency", "2", "--json"]].concat();
    assert!(said(&bench).contains("bettong"));
    drop((namespace, client));
    daemon.stop().unwrap();
    assert!(!socket(&setup).exists(), "a socket is left");
}

#[test]
fn a_value_that_the_daemon_takes_can_be_put_whatever_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let setup = rig::setup(dir.path(), &["shm_staging_bytes=1MiB", "payload_bytes_max=8MiB"]);
    let daemon = Daemon::start(&setup).unwrap();
    let client = Client::connect(&url(&setup), Options { staging_bytes: 1, ..Options::default() }).unwrap();
    let namespace = client.open_namespace("default", None).unwrap();
    namespace.put_plain("long", vec![7; 8 << 20], Level::Memory, None).unwrap();
    let Ok(Got::Hit(got)) = namespace.get_plain("long", ReadLimits::default()) else { panic!("it was put") };
    assert!(got.bytes.as_ref() == vec![7; 8 << 20]);
    drop((got, namespace, client));
    daemon.stop().unwrap();
}

#[test]
fn what_cannot_be_had_is_said_with_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let setup = rig::setup(dir.path(), &["shm_sessions_max=1", "payload_bytes_max=1MiB"]);
    let daemon = Daemon::start(&setup).unwrap();
    let url = url(&setup);
    let client = Client::connect(&url, Options::default()).unwrap();
    let namespace = client.open_namespace("default", None).unwrap();
    let over = namespace.put_plain("long", vec![1; (1 << 20) + 1], Level::Memory, None).unwrap_err();
    assert_eq!((over.kind, over.limit), (ErrorKind::TooLarge, 1 << 20), "{over}");
    namespace.put_plain("short", vec![1; 1 << 20], Level::Memory, None).unwrap();
    let crowd = Client::connect(&url, Options::default()).err().unwrap();
    assert_eq!((crowd.kind, crowd.limit), (ErrorKind::Busy, 1), "{crowd}");
    assert!(crowd.message.contains("shm_sessions_max"), "{crowd}");
    let long = format!("shm:///{}", "x".repeat(200));
    for (connect, exit, what) in [
        ("shm:///nowhere/bettong.sock", Exit::Unavailable, "/nowhere/bettong.sock"),
        (long.as_str(), Exit::Refused, "107"),
        ("shm://relative", Exit::Usage, "shm:///PATH"),
    ] {
        let (code, text) = rig::refused(program(), &["--connect", connect, "get", "x"]);
        assert_eq!(code, exit as i32, "{text}");
        assert!(text.contains(what), "{text}");
    }
    drop((namespace, client));
    daemon.stop().unwrap();
}

#[test]
fn a_client_that_breaks_the_protocol_hears_why_and_so_do_operators() {
    let dir = tempfile::tempdir().unwrap();
    let setup = rig::setup(dir.path(), &[]);
    let daemon = Daemon::start(&setup).unwrap();
    let hello = Hello { staging_bytes: 4096, name: "a liar".to_owned() };
    let Attached { link, .. } = attach(&socket(&setup), &hello, PATIENCE).unwrap();
    socket2::SockRef::from(&link).send(b"nonsense").unwrap();
    let until = Instant::now() + PATIENCE;
    let why = loop {
        match link.hear().unwrap() {
            Heard::Ended(why) => break why,
            Heard::Closed => panic!("it is not told why"),
            _ => assert!(Instant::now() < until, "it is not shut out"),
        }
    };
    assert!(why.kind == RefusalKind::Invalid && why.text.contains("broke the protocol of its socket"), "{why}");
    drop(link);
    daemon.stop().unwrap();
    let log = std::fs::read_to_string(setup.data_dir.join("daemon.log")).unwrap();
    let line = log.lines().find(|line| line.contains(&why.text));
    assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("a liar")), "{log}");
}

#[test]
fn a_door_that_was_asked_for_and_cannot_be_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "alice 0123456789abcdef\nbob fedcba9876543210\n").unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "somebody's").unwrap();
    let token_file = format!("token_file={}", tokens.display());
    let data_dir = dir.path().join("data");
    let long = dir.path().join("x".repeat(120));
    let path = dir.path().join("a.sock");
    for (socket, set, exit, what) in [
        (&long, "log=warn", Exit::Usage, "107"),
        (&file, "log=warn", Exit::Listen, "no socket"),
        (&path, token_file.as_str(), Exit::Usage, "one tenant a daemon"),
    ] {
        let arguments = ["serve", "--data-dir", data_dir.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let asked = ["--shm-socket", socket.to_str().unwrap(), "--set", "memory_bytes=512MiB", "--set", set];
        let (code, text) = rig::refused(program(), &[&arguments[..], &asked].concat());
        assert_eq!(code, exit as i32, "{text}");
        assert!(text.contains(what) && text.contains("shm_socket"), "{text}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's");
    // Not asked for, it gives way, and says so.
    let setup = rig::setup(dir.path(), &[&token_file]);
    let daemon = Daemon::start(&setup).unwrap();
    let log = std::fs::read_to_string(setup.data_dir.join("daemon.log")).unwrap();
    assert!(log.contains("no shared-memory door") && !socket(&setup).exists(), "{log}");
    daemon.stop().unwrap();
}
