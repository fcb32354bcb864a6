//! A disk that is really full, below everything that a daemon writes: objects, index, cache, identity and log.
//! `.ci/run full_disk` mounts a small file system and names it in FULL_DISK_SUITE_DIR.

mod rig;

use bettong::demo::child::{Daemon, Setup};
use bettong::exit::Exit;
use bettong::remote::Remote;
use bettong::replay;
use bettong_wire::request::{BlockPut, Level};
use bettong_wire::{BlockHash, BlockKey, Part};
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest that a daemon may need to work again once there is room.
const PATIENCE: Duration = Duration::from_secs(300);
const BLOCK: usize = 1 << 20;

/// The small file system, for one test at a time.
struct Disk {
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Disk {
    fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let small: PathBuf = std::env::var_os("FULL_DISK_SUITE_DIR").expect("FULL_DISK_SUITE_DIR is not set").into();
        let bytes = rustix::fs::statvfs(&small).unwrap();
        assert!(bytes.f_blocks * bytes.f_frsize <= 256 << 20, "{} is not small", small.display());
        let dir = small.join("test");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        // Room that is there to be given back, whatever the daemon does with the rest.
        std::fs::write(dir.join("ballast"), vec![0; 8 << 20]).unwrap();
        Self { dir, _alone: alone }
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let mut piece = 1 << 20;
        while piece > 0 {
            if ballast.write_all(&vec![0; piece]).is_err() {
                piece /= 2;
            }
        }
    }

    /// Ends the trouble.
    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    /// Gives `bytes` of it back.
    fn give_back(&self, bytes: u64) {
        let ballast = File::options().write(true).open(self.ballast()).unwrap();
        let len = ballast.metadata().unwrap().len();
        ballast.set_len(len.saturating_sub(bytes)).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn setup(disk: &Disk) -> Setup {
    // What is on its way when the index fails learns its fate when its deadline passes.
    rig::setup(&disk.dir, &["log=info", "deadline_default_ms=3s"])
}

async fn open(daemon: &Daemon) -> Remote {
    Remote::open(&daemon.access("n"), Some(replay::identity("bf16"))).await.unwrap()
}

fn key(number: u64) -> BlockKey {
    BlockKey { hash: BlockHash(*blake3::hash(&number.to_le_bytes()).as_bytes()), part: Part(0) }
}

fn value(number: u64, len: usize) -> Bytes {
    Bytes::from(bettong::trace::payload::block(number, len))
}

/// Puts one block; a failure must say that the disk is full.
async fn put(remote: &Remote, number: u64, len: usize, level: Level) -> bool {
    let put = BlockPut { key: key(number), parent: None, sequence: 0, len: len as u64 };
    match remote.put_blocks(vec![(put, value(number, len))], level).await {
        Ok(_) => true,
        Err(failure) => {
            assert!(matches!(failure.exit, Exit::Retry | Exit::Unavailable), "{failure}");
            assert!(failure.message.contains("No space left on device"), "{failure}");
            false
        }
    }
}

/// Every acknowledged block, from wherever it is.
async fn read_all(remote: &Remote, acknowledged: &[(u64, usize)]) {
    for (number, len) in acknowledged {
        let got = remote.get_block(key(*number)).await.unwrap().unwrap();
        assert_eq!(got.as_ref(), value(*number, *len), "block {number}");
    }
}

async fn works_again(remote: &Remote, number: u64, level: Level) {
    let began = Instant::now();
    while !put(remote, number, 1000, level).await {
        assert!(began.elapsed() < PATIENCE, "puts still fail");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_ends_when_there_is_room() {
    fill_and_make_room(Level::Object).await;
}

/// The journal, and what is uploaded from it, are on the same disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_on_a_full_disk_loses_nothing_either() {
    fill_and_make_room(Level::Journal).await;
}

async fn fill_and_make_room(level: Level) {
    let disk = Disk::take();
    let setup = setup(&disk);
    let daemon = Daemon::start(&setup).unwrap();
    let remote = open(&daemon).await;
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if !put(&remote, number, BLOCK, level).await {
            break;
        }
        acknowledged.push((number, BLOCK));
    }
    assert!(acknowledged.len() > 10, "{} blocks fit", acknowledged.len());
    disk.fill();
    // A page at a time: what has room for an object has none for the index, and the other way round.
    for number in 1000..1006 {
        disk.give_back(4096 * (number % 4));
        if put(&remote, number, 1000, level).await {
            acknowledged.push((number, 1000));
        }
        disk.fill();
    }
    read_all(&remote, &acknowledged).await;
    remote.stats().await.unwrap();

    disk.make_room();
    works_again(&remote, 2000, level).await;
    acknowledged.push((2000, 1000));
    read_all(&remote, &acknowledged).await;

    disk.fill();
    assert!(!put(&remote, 2001, BLOCK, level).await);
    daemon.kill().unwrap();
    disk.make_room();
    let daemon = Daemon::start(&setup).unwrap();
    let remote = open(&daemon).await;
    read_all(&remote, &acknowledged).await;
    works_again(&remote, 2002, level).await;

    disk.fill();
    assert!(!put(&remote, 2003, BLOCK, level).await);
    drop(remote);
    match level {
        Level::Object => daemon.stop().unwrap(),
        // It may say that something waits for the next start.
        _ => {
            daemon.terminate().unwrap();
            let code = daemon.wait().unwrap();
            assert!([Some(0), Some(Exit::Undrained as i32)].contains(&code), "{code:?}");
        }
    }
    disk.make_room();
    let daemon = Daemon::start(&setup).unwrap();
    read_all(&open(&daemon).await, &acknowledged).await;
    daemon.stop().unwrap();
}

/// The journal alone fills its disk while nothing can be uploaded. Once the object store answers everything is uploaded and
/// the journal empties itself, without anybody making room: also where the process was killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_filled_its_own_disk_empties_itself() {
    for killed in [false, true] {
        let disk = Disk::take();
        let elsewhere = tempfile::tempdir().unwrap();
        let mut setup = setup(&disk);
        setup.store = format!("file://{}", elsewhere.path().join("objects").display());
        setup.values.extend(["disk_bytes=0".to_owned(), "journal_segment_bytes=1MiB".to_owned()]);
        let daemon = Daemon::start(&setup).unwrap();
        let remote = open(&daemon).await;
        std::fs::rename(elsewhere.path().join("objects"), elsewhere.path().join("away")).unwrap();
        std::fs::write(elsewhere.path().join("objects"), "in the way").unwrap();
        let (mut acknowledged, mut number) = (Vec::new(), 0);
        for len in [200_000, 20_000, 2_000] {
            while put(&remote, number, len, Level::Journal).await {
                acknowledged.push((number, len));
                number += 1;
            }
            number += 1;
        }
        assert!(acknowledged.len() > 100, "{} blocks fit", acknowledged.len());
        disk.fill();
        let running = match killed {
            true => daemon.kill().map(|()| None).unwrap(),
            false => Some((daemon, remote)),
        };
        std::fs::remove_file(elsewhere.path().join("objects")).unwrap();
        std::fs::rename(elsewhere.path().join("away"), elsewhere.path().join("objects")).unwrap();
        let (daemon, remote) = match running {
            Some(running) => running,
            None => {
                let daemon = Daemon::start(&setup).unwrap();
                let remote = open(&daemon).await;
                (daemon, remote)
            }
        };
        let began = Instant::now();
        while remote.stats().await.unwrap()["journal"]["backlog_puts"] != 0 {
            assert!(began.elapsed() < PATIENCE, "{}", remote.stats().await.unwrap()["journal"]);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        works_again(&remote, 5000, Level::Journal).await;
        acknowledged.push((5000, 1000));
        read_all(&remote, &acknowledged).await;
        daemon.stop().unwrap();
    }
}

/// A salvage that has no room fails as a whole, and is run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_on_a_full_disk_changes_nothing_for_the_worse() {
    let disk = Disk::take();
    let setup = setup(&disk);
    let daemon = Daemon::start(&setup).unwrap();
    let remote = open(&daemon).await;
    // Nothing can be uploaded.
    std::fs::rename(disk.dir.join("objects"), disk.dir.join("away")).unwrap();
    std::fs::write(disk.dir.join("objects"), "in the way").unwrap();
    for number in 0..4 {
        assert!(put(&remote, number, BLOCK, Level::Journal).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    daemon.kill().unwrap();
    std::fs::remove_file(disk.dir.join("objects")).unwrap();
    std::fs::rename(disk.dir.join("away"), disk.dir.join("objects")).unwrap();
    let segment = setup.data_dir.join("node/journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[BLOCK / 2] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    disk.fill();
    let data_dir = setup.data_dir.display().to_string();
    let salvage = ["journal", "salvage", "--data-dir", &data_dir];
    for _ in 0..2 {
        let (code, said) = rig::refused(Path::new(rig::PROGRAM), &salvage);
        assert_eq!(code, Exit::DataDir as i32, "{said}");
        assert!(said.contains("No space left on device"), "{said}");
    }
    disk.make_room();
    let salvaged = rig::run(Path::new(rig::PROGRAM), &salvage);
    assert_eq!(salvaged.status.code(), Some(Exit::CheckFailed as i32), "the first block is lost");
    let daemon = Daemon::start(&setup).unwrap();
    let kept: Vec<(u64, usize)> = (1..4).map(|number| (number, BLOCK)).collect();
    read_all(&open(&daemon).await, &kept).await;
    daemon.stop().unwrap();
}

#[test]
fn a_start_on_a_full_disk_says_so_in_one_line() {
    let disk = Disk::take();
    let setup = setup(&disk);
    Daemon::start(&setup).unwrap().stop().unwrap();
    disk.fill();
    let mut started = vec![("used", setup.data_dir.clone(), setup.store.clone())];
    started.push(("fresh", disk.dir.join("fresh"), format!("file://{}", disk.dir.join("more").display())));
    // The identity has room elsewhere, the objects have none.
    let elsewhere = tempfile::tempdir().unwrap();
    started.push(("fresh objects", elsewhere.path().join("data"), format!("file://{}", disk.dir.join("o").display())));
    for (what, data_dir, store) in started {
        let data_dir = data_dir.display().to_string();
        let arguments = ["serve", "--data-dir", &data_dir, "--store", &store, "--listen", "127.0.0.1:0"];
        let small = ["--set", "memory_bytes=512MiB", "--set", "disk_bytes=64MiB"];
        let (code, said) = rig::refused(Path::new(rig::PROGRAM), &[&arguments[..], &small].concat());
        assert!([Exit::DataDir as i32, Exit::ObjectStore as i32].contains(&code), "{what}: {code} {said}");
        assert!(said.contains("No space left on device"), "{what}: {said}");
    }
    disk.make_room();
    Daemon::start(&setup).unwrap().stop().unwrap();
}

/// The objects have room elsewhere: however far a start comes, it is the data directory that has none.
#[test]
fn a_journal_without_room_at_a_start_is_the_data_directorys_trouble() {
    let disk = Disk::take();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = format!("file://{}", elsewhere.path().join("objects").display());
    let data_dir = disk.dir.join("data").display().to_string();
    let arguments = ["serve", "--data-dir", &data_dir, "--store", &store, "--listen", "127.0.0.1:0"];
    let small = ["--set", "memory_bytes=512MiB", "--set", "disk_bytes=0"];
    // Nothing has room at first, and a page more each time: in the end the record of lives has, and the journal has not.
    for pages in 0..16 {
        disk.fill();
        disk.give_back(4096 * pages);
        let (code, said) = rig::refused(Path::new(rig::PROGRAM), &[&arguments[..], &small].concat());
        assert_eq!(code, Exit::DataDir as i32, "{pages} pages: {said}");
        assert!(said.contains("No space left on device"), "{pages} pages: {said}");
        if said.contains("the journal") {
            return;
        }
    }
    panic!("no start came as far as the journal");
}

/// Where standard error is a file on the full disk, the exit code must speak alone.
#[test]
fn an_exit_code_needs_no_room_for_words() {
    let disk = Disk::take();
    let log = File::create(disk.dir.join("log")).unwrap();
    disk.fill();
    let mut command = std::process::Command::new(rig::PROGRAM);
    let status = command.args(["serve", "--set", "disk_bytes=much"]).stderr(log).status().unwrap();
    assert_eq!(status.code(), Some(Exit::Usage as i32));
}
