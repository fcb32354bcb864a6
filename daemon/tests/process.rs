//! The real binary as a process: what it refuses, with which exit code and in one line; tokens; drains; the demo.

mod rig;

use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong::remote::{Access, Remote};
use bettong::trace::generated::{Shape, generate};
use bettong::trace::ideal;
use bettong_wire::request::{Level, ListKind};
use bytes::Bytes;
use parking_lot::Mutex;
use rig::setup;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

fn bettong(arguments: &[&str]) -> Output {
    rig::run(Path::new(rig::PROGRAM), arguments)
}

fn refused(arguments: &[&str]) -> (i32, String) {
    rig::refused(Path::new(rig::PROGRAM), arguments)
}

#[test]
fn what_cannot_start_says_why_in_one_line_and_leaves_nothing_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("file"), "in the way").unwrap();
    std::fs::write(path("wrong.toml"), "drain_ms = 1\nlisten = \"127.0.0.1:0\"\nnonsense = 1\n").unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    std::fs::write(path("far.toml"), "drain_ms = 1\nmemory_bytes = \"9999TiB\"\n").unwrap();
    let (data, in_the_way, wrong, far) = (path("data"), path("file"), path("wrong.toml"), path("far.toml"));
    let through_file = format!("file://{in_the_way}/objects");
    for (change, exit, word) in [
        (vec!["--config", wrong.as_str()], Exit::Usage, "wrong.toml:3: unknown field"),
        (vec!["--set", "disk_bytes=much"], Exit::Usage, "`much` is no size"),
        (vec!["--set", "memory_bytes=9999TiB"], Exit::Usage, "9999TiB"),
        (vec!["--set", "log=a=b=c"], Exit::Usage, "log is no filter"),
        (vec!["--set", "storage_threads=4000000000"], Exit::Usage, "from 1 to 1024"),
        (vec!["--config", far.as_str()], Exit::Usage, "far.toml:2)"),
        (vec!["--config", "/dev/zero"], Exit::Usage, "over the limit of 1048576 bytes"),
        (vec!["--listen", "0.0.0.0:0"], Exit::Usage, "--insecure"),
        (vec!["--listen", "127.0.0.1:99999"], Exit::Usage, "127.0.0.1:99999"),
        (vec!["--data-dir", "/proc/bettong"], Exit::DataDir, "/proc/bettong: cannot be made"),
        (vec!["--listen", busy.as_str()], Exit::Listen, busy.as_str()),
        (vec!["--node-id", "a/b"], Exit::Usage, "node_id `a/b`"),
        (vec!["--data-dir", in_the_way.as_str()], Exit::DataDir, in_the_way.as_str()),
        (vec!["--store", "ftp://x"], Exit::ObjectStore, "`ftp://x`"),
        (vec!["--store", "s3://bucket/a b"], Exit::ObjectStore, "`s3://bucket/a b`"),
        (vec!["--store", through_file.as_str()], Exit::ObjectStore, "the folder cannot be made"),
        (vec!["--store", "s3://bucket/x"], Exit::ObjectStore, "credentials are empty"),
    ] {
        let mut arguments = vec!["serve"];
        for default in [["--listen", "127.0.0.1:0"], ["--data-dir", data.as_str()]] {
            if !change.contains(&default[0]) {
                arguments.extend(default);
            }
        }
        arguments.extend(&change);
        let (code, said) = refused(&arguments);
        assert_eq!(code, exit as i32, "{change:?}: {said}");
        assert!(said.contains(word), "{change:?}: {said}");
    }
}

#[test]
fn client_commands_say_what_is_wrong() {
    for (arguments, exit) in [
        (vec!["get", "k", "--connect", "tcp://127.0.0.1:9"], Exit::Unavailable),
        (vec!["get", "k", "--connect", "127.0.0.1:9"], Exit::Usage),
        (vec!["put", "k", "/no/such/file"], Exit::Usage),
        (vec!["replay", "--trace", "/no/such/trace"], Exit::Usage),
        (vec!["replay", "--speed", "0"], Exit::Usage),
        (vec!["replay", "--block-bytes", "0"], Exit::Usage),
        (vec!["demo", "--block-bytes", "0"], Exit::Usage),
        (vec!["replay", "--trace", "/dev/zero"], Exit::Usage),
        (vec!["put", "k", "/dev/null", "--ttl", "0"], Exit::Usage),
        (vec!["frobnicate"], Exit::Usage),
        (vec!["put"], Exit::Usage),
        (vec!["bench", "--op", "fly"], Exit::Usage),
        (vec!["bench", "--duration", "0"], Exit::Usage),
        (vec!["bench", "--op", "get-batch", "--batch", "1025"], Exit::Usage),
        (vec!["bench", "--compare", "memcached://x"], Exit::Usage),
        (vec!["bench", "--compare", "redis://x", "--beside", "uploads"], Exit::Usage),
        (vec!["demo", "--level", "memory"], Exit::Usage),
        (vec!["replay", "--policy-report", "--price"], Exit::Usage),
        (vec!["flush", "--connect", "tcp://127.0.0.1:9"], Exit::Unavailable),
        (vec!["node", "ls", "--store", "file:///no/such/store"], Exit::ObjectStore),
    ] {
        let (code, said) = refused(&arguments);
        assert_eq!(code, exit as i32, "{arguments:?}: {said}");
    }
}

/// A server that answers every request with 403 until the test ends.
fn refusing_s3() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    url
}

#[test]
fn an_s3_that_cannot_be_reached_or_refuses_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let served = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--store", "s3://bucket/prefix"];
    let keys = ["s3_access_key_id=mine", "s3_secret_access_key=theirs", "s3_path_style=true"];
    for (endpoint, word) in
        [("http://127.0.0.1:9".to_owned(), "cannot be reached"), (refusing_s3(), "permission denied")]
    {
        let endpoint = format!("s3_endpoint={endpoint}");
        let values = keys.into_iter().chain([endpoint.as_str()]).flat_map(|value| ["--set", value]);
        let (code, said) = refused(&served.into_iter().chain(values).collect::<Vec<_>>());
        assert_eq!(code, Exit::ObjectStore as i32, "{said}");
        assert!(said.contains(word) && said.contains("s3://bucket/prefix"), "{said}");
    }
}

#[test]
fn a_start_that_waits_for_a_silent_s3_ends_at_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("s3_endpoint=http://{}", silent.local_addr().unwrap());
    let values = ["s3_access_key_id=mine", "s3_secret_access_key=theirs", "s3_path_style=true", &endpoint];
    let mut child = Command::new(rig::PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--store", "s3://bucket/prefix", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(values.into_iter().flat_map(|value| ["--set", value]))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its first request is here, and is never answered.
    let _asked = silent.accept().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(Exit::Interrupted as i32), "{said}");
    assert!(said.contains("SIGTERM before the store was open"), "{said}");
}

#[test]
fn a_replay_where_other_blocks_are_says_which_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[])).unwrap();
    let replay = |namespace: &str, block_bytes: &str| {
        let arguments = ["replay", "--limit", "3", "--level", "memory", "--connect", &daemon.connect];
        let more = ["--namespace", namespace, "--block-bytes", block_bytes];
        bettong(&arguments.into_iter().chain(more).collect::<Vec<_>>())
    };
    assert!(replay("n", "4KiB").status.success());
    let other_size = replay("n", "8KiB");
    let said = String::from_utf8(other_size.stderr).unwrap();
    assert_eq!(other_size.status.code(), Some(Exit::CheckFailed as i32), "{said}");
    assert!(said.contains("has 4096 bytes and --block-bytes is 8192"), "{said}");

    let identity = dir.path().join("model.json");
    let model = r#"{"model": "llama", "kv_dtype": "bf16", "layout": "NHD", "block_tokens": 16, "parts": [0]}"#;
    std::fs::write(&identity, model).unwrap();
    let (hash, file) = ("0".repeat(64), identity.display().to_string());
    let lookup = ["lookup", &hash, "--identity", &file, "--namespace", "taken", "--connect", &daemon.connect];
    assert!(bettong(&lookup).status.success());
    let other_model = replay("taken", "4KiB");
    let said = String::from_utf8(other_model.stderr).unwrap();
    assert_eq!(other_model.status.code(), Some(Exit::Refused as i32), "{said}");
    assert!(said.contains("namespace `taken` holds") && said.contains("--namespace NAME opens another"), "{said}");
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_is_refused_and_the_daemon_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[])).unwrap();
    let long = "k".repeat(1025);
    for (key, exit, word) in [("", Exit::Usage, "at least 1"), (&long, Exit::Refused, "1024")] {
        let (code, said) = refused(&["get", key, "--connect", &daemon.connect]);
        assert_eq!(code, exit as i32, "{said}");
        assert!(said.contains(word), "{said}");
    }
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    remote.put_plain(&long[1..], Bytes::from_static(b"v"), Level::Object, 0).await.unwrap();
    daemon.stop().unwrap();
}

#[test]
fn what_is_no_text_is_refused_where_it_is_ours() {
    let no_text = OsStr::from_bytes(b"\xff\xfe");
    let run = |argument: &str, variable: &str, more: Option<&OsStr>| {
        Command::new(rig::PROGRAM).arg(argument).args(more).env(variable, no_text).output().unwrap()
    };
    assert!(run("config", "OTHER", None).status.success());
    for output in [run("config", "BETTONG_LOG", None), run("get", "OTHER", Some(no_text))] {
        assert_eq!(output.status.code(), Some(Exit::Usage as i32));
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
    }
}

#[tokio::test]
async fn a_held_directory_is_refused_and_its_holder_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[])).unwrap();
    let data = dir.path().join("data").display().to_string();
    let (code, said) = refused(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    assert_eq!(code, Exit::DataDir as i32, "{said}");
    assert!(said.contains("holds it"), "{said}");
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    remote.put_plain("k", Bytes::from_static(b"v"), Level::Object, 0).await.unwrap();
    drop(remote);
    daemon.stop().unwrap();
}

#[tokio::test]
async fn an_acknowledged_put_outlives_sigkill_and_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(dir.path(), &[]);
    let daemon = Daemon::start(&setup).unwrap();
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    remote.put_plain("killed", Bytes::from(vec![1; 100_000]), Level::Object, 0).await.unwrap();
    daemon.kill().unwrap();

    let daemon = Daemon::start(&setup).unwrap();
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    assert_eq!(remote.get_plain("killed").await.unwrap().as_ref(), vec![1; 100_000]);
    remote.put_plain("drained", Bytes::from(vec![2; 100_000]), Level::Object, 0).await.unwrap();
    // The connection is open and idle: it must not hold the drain up.
    daemon.stop().unwrap();

    let daemon = Daemon::start(&setup).unwrap();
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    for (key, byte) in [("killed", 1), ("drained", 2)] {
        assert_eq!(remote.get_plain(key).await.unwrap().as_ref(), vec![byte; 100_000]);
    }
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_drain_under_load_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let setup = setup(dir.path(), &[]);
    let daemon = Daemon::start(&setup).unwrap();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
        let acknowledged = acknowledged.clone();
        writers.spawn(async move {
            for n in 0.. {
                let key = format!("{writer}/{n}");
                match remote.put_plain(&key, Bytes::from(key.repeat(500)), Level::Object, 0).await {
                    Ok(_) => acknowledged.lock().push(key),
                    Err(_) => return,
                }
            }
        });
    }
    while acknowledged.lock().len() < 40 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap().unwrap();
    // A writer may be waiting to connect again to a daemon that does not come back at this address.
    writers.abort_all();
    while writers.join_next().await.is_some() {}

    let daemon = Daemon::start(&setup).unwrap();
    let remote = Remote::open(&daemon.access("n"), None).await.unwrap();
    let acknowledged = acknowledged.lock().clone();
    for key in acknowledged {
        assert_eq!(remote.get_plain(&key).await.unwrap().as_ref(), key.repeat(500).as_bytes());
    }
    daemon.stop().unwrap();
}

#[tokio::test]
async fn an_older_life_of_a_node_ends_with_the_code_that_forbids_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let older = setup(dir.path(), &["node_id=a", "peer_refresh_ms=200ms"]);
    let newer = Setup { data_dir: dir.path().join("clone"), ..older.clone() };
    let older = Daemon::start(&older).unwrap();
    let newer = Daemon::start(&newer).unwrap();
    assert_eq!(older.wait().unwrap(), Some(Exit::Fenced as i32));
    let remote = Remote::open(&newer.access("n"), None).await.unwrap();
    remote.put_plain("k", Bytes::from_static(b"v"), Level::Object, 0).await.unwrap();
    newer.stop().unwrap();
}

#[tokio::test]
async fn with_tokens_only_their_tenants_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "alice 0123456789abcdef\nbob fedcba9876543210\n").unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[&format!("token_file={}", tokens.display())])).unwrap();
    let access =
        |tenant: &str, token: &str| Access { tenant: tenant.to_owned(), token: token.to_owned(), ..daemon.access("n") };
    let alice = Remote::open(&access("alice", "0123456789abcdef"), None).await.unwrap();
    alice.put_plain("k", Bytes::from_static(b"hers"), Level::Object, 0).await.unwrap();
    let bob = Remote::open(&access("bob", "fedcba9876543210"), None).await.unwrap();
    assert_eq!(bob.get_plain("k").await.unwrap_err().exit, Exit::Miss);
    for (tenant, token) in
        [("alice", "fedcba9876543210"), ("alice", ""), ("default", ""), ("carol", "0123456789abcdef")]
    {
        let failure = Remote::open(&access(tenant, token), None).await.err().unwrap();
        assert_eq!(failure.exit, Exit::Refused, "{failure}");
    }
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_measured_and_nothing_stays_behind() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[])).unwrap();
    for op in ["put", "get", "exists", "lookup", "put-batch", "get-batch"] {
        let arguments = ["bench", "--op", op, "--connect", &daemon.connect, "--json", "--batch", "5"];
        let output = bettong(&[&arguments[..], &["--duration", "100ms", "--runs", "1", "--concurrency", "2"]].concat());
        assert!(output.status.success(), "{op}: {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let target = &report["targets"][0];
        let (requests, items) = (&target["ops_per_second"]["median"], &target["items_per_second"]["median"]);
        assert!(requests.as_f64().unwrap() > 0.0, "{report}");
        let each = items.as_f64().map(|items| (items / requests.as_f64().unwrap()).round());
        assert_eq!(each, (op.contains("batch") || op == "lookup").then_some(5.0), "{report}");
    }
    let beside = ["bench", "--connect", &daemon.connect, "--json", "--beside", "uploads", "--duration", "300ms"];
    let output = bettong(&[&beside[..], &["--runs", "1"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["beside"]["p99_ratio"]["median"].as_f64().unwrap() > 0.0, "{report}");
    let remote = Remote::open(&daemon.access("default"), Some(bettong::replay::identity("bf16"))).await.unwrap();
    for kind in [ListKind::Plain, ListKind::Blocks] {
        assert!(remote.list(kind, "", Vec::new(), 10).await.unwrap().entries.is_empty(), "{kind:?}");
    }
    daemon.stop().unwrap();
}

#[test]
fn the_demo_holds() {
    let output = bettong(&["demo", "--block-bytes", "4KiB"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("0 wrong") && table.contains("0 acknowledged blocks lost"), "{table}");
    // What the disk held is there after SIGKILL: how soon, and how much beside an uninterrupted run, is shown.
    assert!(table.contains("first disk hit after SIGKILL  ") && !table.contains("there was none"), "{table}");
}

#[test]
fn a_crash_test_keeps_what_was_acknowledged_and_says_so() {
    let output = bettong(&["crash-test", "--rounds", "6", "--seed", "5", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["rounds"], &report["lost"], &report["wrong"]), (&6.into(), &0.into(), &0.into()), "{report}");
    // How many at which level is a matter of moments; that some were, of all.
    let at = |level| report[format!("acknowledged_at_level_{level}")].as_u64().unwrap_or(0);
    assert!(at("journal") + at("object") > 0, "{report}");
    let (exit, said) = refused(&["crash-test", "--level", "memory"]);
    assert_eq!(exit, Exit::Usage as i32, "{said}");
}

/// One request after the other and nothing evicted: exactly what a cache that keeps everything hits, and the daemon's
/// counters say so too (the command ends with 20 where they disagree).
#[tokio::test]
async fn a_replay_hits_what_is_possible_and_both_counts_agree() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&setup(dir.path(), &[])).unwrap();
    let replayed = ["replay", "--block-bytes", "4KiB", "--concurrency", "1", "--json", "--connect", &daemon.connect];
    let output = bettong(&replayed);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ideal = ideal(&generate(Shape::default()));
    assert_eq!(document["agree"], true);
    assert_eq!(document["replay"]["blocks"], ideal.blocks);
    assert_eq!(document["replay"]["hits"], ideal.hits);
    assert_eq!(document["replay"]["wrong"], 0);
    daemon.stop().unwrap();
}
