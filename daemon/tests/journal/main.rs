//! The journal of a real daemon on real files: its commands, its drain, and what a start does with one that is bad.

mod bad_input;
mod commands;
mod draining;
#[path = "../rig/mod.rs"]
mod rig;

use bettong::demo::child::{Daemon, Setup};
use bettong::remote::Remote;
use bettong_wire::request::Level;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

/// Longest that anything here may need.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data directory with its objects, whose daemon is not running.
struct Place {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let setup = rig::setup(dir.path(), &["journal_segment_bytes=64KiB", "drain_ms=8s", "object_attempts_max=1"]);
        Self { dir, setup }
    }

    /// One whose journal holds `puts` puts that are in no object store: nothing could be uploaded, and SIGKILL came.
    async fn with_backlog(puts: u64) -> Self {
        let place = Self::new();
        let daemon = place.start();
        place.take_objects_away();
        put(&daemon, 0..puts).await;
        wait_for(&daemon, |journal| journal["waiting"] == 0 && journal["backlog_puts"] == puts).await;
        // Idle: the mark behind the last put is written.
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.kill().unwrap();
        place.bring_objects_back();
        place
    }

    fn start(&self) -> Daemon {
        Daemon::start(&self.setup).unwrap()
    }

    fn data_dir(&self) -> String {
        self.setup.data_dir.display().to_string()
    }

    fn journal(&self) -> PathBuf {
        self.setup.data_dir.join("node/journal")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        segments.sort();
        segments
    }

    /// The name and the bytes of every file of the journal.
    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = std::fs::read_dir(self.journal()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// From now on nothing can be uploaded.
    fn take_objects_away(&self) {
        std::fs::rename(self.dir.path().join("objects"), self.dir.path().join("away")).unwrap();
        std::fs::write(self.dir.path().join("objects"), "in the way").unwrap();
    }

    fn bring_objects_back(&self) {
        std::fs::remove_file(self.dir.path().join("objects")).unwrap();
        std::fs::rename(self.dir.path().join("away"), self.dir.path().join("objects")).unwrap();
    }

    /// The command line of a daemon that is to be refused.
    fn serve(&self, more: &[&str]) -> (i32, String) {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir"];
        let (data_dir, store) = (self.data_dir(), self.setup.store.clone());
        arguments.extend([data_dir.as_str(), "--store", &store, "--set", "log=error"]);
        arguments.extend(self.setup.values.iter().flat_map(|pair| ["--set", pair.as_str()]));
        arguments.extend(more);
        rig::refused(Path::new(rig::PROGRAM), &arguments)
    }

    /// `bettong journal WHAT` on this directory.
    fn journal_command(&self, what: &str, more: &[&str]) -> Output {
        run(&[&["journal", what, "--data-dir", &self.data_dir()], more].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    rig::run(Path::new(rig::PROGRAM), arguments)
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn open(daemon: &Daemon) -> Remote {
    Remote::open(&daemon.access("n"), None).await.unwrap()
}

/// Two of these do not fit a segment.
fn value(number: u64) -> Bytes {
    Bytes::from(bettong::trace::payload::block(number, 40_000))
}

async fn put(daemon: &Daemon, numbers: std::ops::Range<u64>) {
    let remote = open(daemon).await;
    for number in numbers {
        remote.put_plain(&number.to_string(), value(number), Level::Journal, 0).await.unwrap();
    }
}

/// Every value of these is there, byte for byte.
async fn verify(daemon: &Daemon, numbers: std::ops::Range<u64>) {
    let remote = open(daemon).await;
    for number in numbers {
        assert_eq!(remote.get_plain(&number.to_string()).await.unwrap().as_ref(), value(number), "{number}");
    }
}

async fn wait_for(daemon: &Daemon, is: impl Fn(&Value) -> bool) {
    let (remote, began) = (open(daemon).await, Instant::now());
    loop {
        let stats = remote.stats().await.unwrap();
        if is(&stats["journal"]) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{}", stats["journal"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
