//! The S3 path against a real S3 server, whose address is in `S3_SUITE_ENDPOINT` (`.ci/run s3` starts one): the object
//! store's conformance, and real daemons that put, get, list, delete, restart from the bucket alone and share it.
//!
//! Needs the feature `s3-suite`, so that plain `cargo test` needs no server.

use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong::objects;
use bettong::remote::Remote;
use bettong::replay::identity;
use bettong::trace::payload;
use bettong_core::conformance::object_store::{Capabilities, object_store};
use bettong_wire::request::{BlockPut, Level, ListKind, Tier};
use bettong_wire::{BlockHash, BlockKey, MissReason, Part};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

const BUCKET: &str = "bettong-suite";
const BLOCK_BYTES: usize = 70_000;

/// Configuration values that reach the server.
fn values() -> Vec<String> {
    let endpoint = std::env::var("S3_SUITE_ENDPOINT").expect("S3_SUITE_ENDPOINT names the S3 server; see `.ci/run s3`");
    vec![
        format!("s3_endpoint={endpoint}"),
        "s3_region=us-east-1".to_owned(),
        "s3_access_key_id=testing".to_owned(),
        "s3_secret_access_key=testing".to_owned(),
        "s3_path_style=true".to_owned(),
        "peer_refresh_ms=300ms".to_owned(),
        "disk_bytes=0".to_owned(),
        "memory_bytes=512MiB".to_owned(),
    ]
}

/// One prefix of the bucket and a place for data directories. Every test has its own.
struct Rig {
    dir: TempDir,
    prefix: String,
}

impl Rig {
    fn new(name: &str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), prefix: format!("{name}-{}", std::process::id()) }
    }

    fn setup(&self, node: &str, data_dir: &str) -> Setup {
        let mut values = values();
        values.push(format!("node_id={node}"));
        Setup {
            program: env!("CARGO_BIN_EXE_bettong").into(),
            data_dir: self.dir.path().join(data_dir),
            store: format!("s3://{BUCKET}/{}", self.prefix),
            values,
        }
    }

    /// The bucket itself, under this rig's prefix.
    async fn bucket(&self) -> objects::OpenedStore {
        let mut flags: Vec<(String, String, String)> = values()
            .iter()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned(), "test".to_owned()))
            .collect();
        flags.push(("store".to_owned(), format!("s3://{BUCKET}/{}", self.prefix), "test".to_owned()));
        let sources = bettong::config::load::Sources { flags, ..Default::default() };
        let machine = bettong::config::machine::Machine::read();
        objects::open(&bettong::config::load::load(&sources, &machine).unwrap().config).await.unwrap()
    }
}

async fn open(daemon: &Daemon) -> Remote {
    Remote::open(&daemon.access("suite"), Some(identity("bf16"))).await.unwrap()
}

fn chain(len: u64) -> Vec<(u64, BlockHash)> {
    (0..len)
        .scan(BlockHash([7; 32]), |parent, id| {
            *parent = parent.child(&id.to_le_bytes());
            Some((id, *parent))
        })
        .collect()
}

async fn put_chain(remote: &Remote, chain: &[(u64, BlockHash)]) {
    let blocks = chain.iter().enumerate().map(|(index, (id, hash))| {
        let put = BlockPut {
            key: BlockKey { hash: *hash, part: Part(0) },
            parent: index.checked_sub(1).map(|before| chain[before].1),
            sequence: u32::try_from(index).unwrap(),
            len: BLOCK_BYTES as u64,
        };
        (put, Bytes::from(payload::block(*id, BLOCK_BYTES)))
    });
    let stored = remote.put_blocks(blocks.collect(), Level::Object).await.unwrap();
    assert!(stored.iter().all(|stored| !stored.already));
}

async fn block(remote: &Remote, hash: BlockHash) -> Result<Bytes, MissReason> {
    let got = remote.get_block(BlockKey { hash, part: Part(0) }).await.unwrap();
    got.map(bettong_wire::Payload::into_bytes)
}

async fn assert_chain(remote: &Remote, chain: &[(u64, BlockHash)]) {
    let hashes: Vec<BlockHash> = chain.iter().map(|(_, hash)| *hash).collect();
    assert_eq!(remote.lookup(&hashes).await.unwrap(), chain.len());
    for (id, hash) in chain {
        assert!(payload::is_block(*id, BLOCK_BYTES, &block(remote, *hash).await.unwrap()), "block {id}");
    }
}

#[tokio::test]
async fn the_bucket_keeps_the_promises_of_the_seam() {
    let store = Rig::new("conformance").bucket().await;
    let can = Capabilities { create: true, update: true, attributes: true };
    object_store(store.objects.as_ref(), store.prefix.as_ref(), can).await.unwrap();
}

#[tokio::test]
async fn keys_and_blocks_are_put_got_listed_and_deleted() {
    let rig = Rig::new("operations");
    let daemon = Daemon::start(&rig.setup("a", "a")).unwrap();
    let remote = open(&daemon).await;
    for key in ["x/1", "x/2", "y"] {
        remote.put_plain(key, Bytes::from(key.repeat(1000)), Level::Object, 0).await.unwrap();
    }
    let page = remote.list(ListKind::Plain, "x/", Vec::new(), 10).await.unwrap();
    assert_eq!(page.entries.len(), 2);
    put_chain(&remote, &chain(5)).await;
    remote.clear(Tier::Memory).await.unwrap();
    assert_eq!(remote.get_plain("x/1").await.unwrap().as_ref(), "x/1".repeat(1000).as_bytes());
    assert_chain(&remote, &chain(5)).await;

    let (_, gone) = chain(5)[2];
    remote.delete_block(BlockKey { hash: gone, part: Part(0) }).await.unwrap();
    assert_eq!(remote.delete_plain("x/2").await.unwrap(), 1);
    assert_eq!(block(&remote, gone).await, Err(MissReason::Absent));
    assert_eq!(remote.get_plain("x/2").await.unwrap_err().exit, Exit::Miss);
    let hashes: Vec<BlockHash> = chain(5).iter().map(|(_, hash)| *hash).collect();
    assert_eq!(remote.lookup(&hashes).await.unwrap(), 2);
    daemon.stop().unwrap();
}

#[tokio::test]
async fn a_node_restarts_from_the_bucket_alone() {
    let rig = Rig::new("restart");
    let daemon = Daemon::start(&rig.setup("a", "first")).unwrap();
    put_chain(&open(&daemon).await, &chain(20)).await;
    daemon.kill().unwrap();

    // Another directory: everything that is known comes from the bucket.
    let daemon = Daemon::start(&rig.setup("a", "second")).unwrap();
    assert_chain(&open(&daemon).await, &chain(20)).await;
    daemon.kill().unwrap();

    // The index is gone too: the bucket is listed.
    let store = rig.bucket().await;
    let index = store.prefix.clone().join("node").join("a").join("index");
    let held: Vec<_> = store.objects.list(Some(&index)).try_collect().await.unwrap();
    assert!(!held.is_empty());
    for object in held {
        store.objects.delete(&object.location).await.unwrap();
    }
    let daemon = Daemon::start(&rig.setup("a", "third")).unwrap();
    assert_chain(&open(&daemon).await, &chain(20)).await;
    daemon.stop().unwrap();
}

#[tokio::test]
async fn two_daemons_serve_each_others_blocks() {
    let rig = Rig::new("two");
    let first = Daemon::start(&rig.setup("a", "a")).unwrap();
    put_chain(&open(&first).await, &chain(8)).await;
    let second = Daemon::start(&rig.setup("b", "b")).unwrap();
    let remote = open(&second).await;
    let hashes: Vec<BlockHash> = chain(8).iter().map(|(_, hash)| *hash).collect();
    // Ends when the second has read the first one's index, which it does every `peer_refresh`.
    while remote.lookup(&hashes).await.unwrap() < hashes.len() {
        tokio::task::yield_now().await;
    }
    assert_chain(&remote, &chain(8)).await;
    first.stop().unwrap();
    second.stop().unwrap();
}

#[tokio::test]
async fn an_older_life_of_a_node_ends_with_the_code_that_forbids_a_restart() {
    let rig = Rig::new("fenced");
    let older = Daemon::start(&rig.setup("a", "older")).unwrap();
    put_chain(&open(&older).await, &chain(3)).await;
    let newer = Daemon::start(&rig.setup("a", "newer")).unwrap();
    assert_eq!(older.wait().unwrap(), Some(Exit::Fenced as i32));
    assert_chain(&open(&newer).await, &chain(3)).await;
    newer.stop().unwrap();
}

/// Runs a daemon that must refuse to start: its exit code and what it says.
fn refused(data_dir: &Path, store: &str, change: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bettong"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--store", store, "--data-dir"]).arg(data_dir);
    for pair in values().iter().map(String::as_str).chain(change.iter().copied()) {
        command.args(["--set", pair]);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_wrong_bucket_address_or_key_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = format!("s3://{BUCKET}/x");
    for (store, change) in [
        ("s3://bettong-no-such-bucket/x", "log=off"),
        (good.as_str(), "s3_endpoint=http://127.0.0.1:9"),
        (good.as_str(), "s3_endpoint=http://s3.example.org"),
        (good.as_str(), "s3_secret_access_key="),
    ] {
        let (code, said) = refused(dir.path(), store, &["log=off", change]);
        assert_eq!((code, said.lines().count()), (Some(Exit::ObjectStore as i32), 1), "{store} {change}: {said}");
    }
}
