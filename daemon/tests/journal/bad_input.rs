//! A journal directory that is not as this node left it. Where acknowledged data could be at risk the start is refused,
//! with file and offset, and nothing is changed; only a torn tail is passed over.

use super::*;
use bettong::exit::Exit;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;

/// Does something to the journal of a place with six puts; then the start is refused, `words` are said, and once the
/// harm is undone everything is there.
async fn refused(exit: Exit, words: &[&str], harm: impl FnOnce(&Place)) {
    let place = Place::with_backlog(6).await;
    let whole = place.bytes();
    harm(&place);
    let harmed = place.bytes();
    let (code, said) = place.serve(&[]);
    assert_eq!(code, exit as i32, "{said}");
    for word in words.iter().copied().chain([place.data_dir().as_str()]) {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    let checked = place.journal_command("check", &[]);
    assert_eq!(checked.status.code(), Some(Exit::Stored as i32), "{}", super::said(&checked));
    let table = String::from_utf8(checked.stdout).unwrap();
    assert!(table.contains("PROBLEM: ") && table.contains(words[0]), "{table}");
    assert_eq!(place.bytes(), harmed, "a refused start and a check change nothing");

    harmed.keys().for_each(|file| std::fs::remove_file(file).unwrap());
    whole.iter().for_each(|(file, bytes)| std::fs::write(file, bytes).unwrap());
    let daemon = place.start();
    verify(&daemon, 0..6).await;
    daemon.stop().unwrap();
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_file() {
    let words = ["journal/notes.txt: not a file of the journal: move it away"];
    refused(Exit::Stored, &words, |place| std::fs::write(place.journal().join("notes.txt"), "mine").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment() {
    let words = ["journal/00000000000000000002.seg: the segment is missing", "bettong journal check"];
    refused(Exit::Stored, &words, |place| std::fs::remove_file(&place.segments()[1]).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_last_segment() {
    let lose = |place: &Place| std::fs::remove_file(place.segments().last().unwrap()).unwrap();
    refused(Exit::Stored, &["journal/00000000000000000006.seg: the segment is missing"], lose).await;
    let empty = |place: &Place| change(place.segments().last().unwrap(), Vec::clear);
    refused(Exit::Stored, &["journal/00000000000000000006.seg: offset 0", "it is no torn tail"], empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version() {
    let words = ["journal/00000000000000000001.seg: offset 0: format version 3, this release reads 2", "newer release"];
    // With another layout: nothing else would be a newer version, but a rotten byte.
    let newer = |bytes: &mut Vec<u8>| (bytes[4], bytes[70]) = (3, !bytes[70]);
    refused(Exit::Stored, &words, |place| change(&place.segments()[0], newer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_what_was_synced() {
    let words = ["journal/00000000000000000001.seg: offset ", "synced through", "bettong journal check"];
    refused(Exit::Stored, &words, |place| change(&place.segments()[0], |bytes| bytes[30_000] ^= 8)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_cut() {
    let words = ["journal/00000000000000000002.seg: offset ", "cut short", "bettong journal salvage"];
    refused(Exit::Stored, &words, |place| change(&place.segments()[1], |bytes| bytes.truncate(30_000))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_that_was_begun() {
    let words = ["journal/salvage: a salvage has begun and not ended", "bettong journal salvage"];
    refused(Exit::Stored, &words, |place| std::fs::write(place.journal().join("salvage"), "{}").unwrap()).await;
}

/// Only the very end, of which nothing was acknowledged, is passed over; the file stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_passed_over_and_not_cut_off() {
    let place = Place::with_backlog(6).await;
    let last = place.segments().pop().unwrap();
    change(&last, |bytes| bytes.extend([0x44, 0x4c, 0x49, 0x54, 2, 0, 1, 0, 9, 9, 9]));
    let torn = std::fs::read(&last).unwrap();
    let checked = document(&place.journal_command("check", &["--json"]));
    assert_eq!(checked["torn_tail"]["offset"], torn.len() - 11, "{checked}");
    let daemon = place.start();
    verify(&daemon, 0..6).await;
    daemon.kill().unwrap();
    if last.exists() {
        assert_eq!(std::fs::read(&last).unwrap(), torn);
    }
    let daemon = place.start();
    verify(&daemon, 0..6).await;
    daemon.stop().unwrap();
}

/// A journal that may not be read is no empty journal.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_permissions() {
    let place = Place::with_backlog(2).await;
    // Root may read everything, so that nobody has to try.
    const NOBODY: u32 = 65_534;
    let is_root = rustix::process::geteuid().is_root();
    let program = place.dir.path().join("bettong");
    std::fs::copy(rig::PROGRAM, &program).unwrap();
    if is_root {
        let mut all = vec![place.dir.path().to_owned()];
        while let Some(path) = all.pop() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.is_dir() {
                all.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.args(arguments).output().unwrap()
    };
    let (data_dir, store) = (place.data_dir(), place.setup.store.clone());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data_dir, "--store", &store, "--set", "log=error"];
    let small = ["--set", "memory_bytes=512MiB", "--set", "disk_bytes=64MiB"];
    let segment = place.segments()[0].clone();
    for (path, mode, named) in
        [(segment, 0o600, "journal/00000000000000000001.seg: "), (place.journal(), 0o700, "journal: ")]
    {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        for arguments in [[&serve[..], &small].concat(), vec!["journal", "check", "--data-dir", &data_dir]] {
            let output = run(&arguments);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(Exit::DataDir as i32), "{said}");
            assert!(said.contains(named) && said.contains("Permission denied"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let daemon = place.start();
    verify(&daemon, 0..2).await;
    daemon.stop().unwrap();
}

/// What a salvage refuses as well is not sent to one.
#[tokio::test(flavor = "multi_thread")]
async fn the_hint_of_a_check_is_what_helps() {
    let place = Place::with_backlog(2).await;
    let (segments, journal) = (place.segments(), place.journal());
    let foreign = journal.join("notes.txt");
    let hint = || said(&place.journal_command("check", &[]));
    std::fs::write(&foreign, "mine").unwrap();
    let (code, refused) =
        rig::refused(Path::new(rig::PROGRAM), &["journal", "salvage", "--data-dir", &place.data_dir()]);
    assert_eq!(code, Exit::Stored as i32, "{refused}");
    assert!(
        hint().contains("1 of them are no damage, and `bettong journal salvage` refuses them as well"),
        "{}",
        hint()
    );
    std::fs::remove_file(foreign).unwrap();
    change(&segments[0], |bytes| (bytes[4], bytes[70]) = (3, !bytes[70]));
    assert!(hint().contains("refuses them as well") && !hint().contains("keeps what verifies"), "{}", hint());
    change(&segments[0], |bytes| (bytes[4], bytes[70]) = (2, !bytes[70]));
    change(&segments[0], |bytes| bytes[30_000] ^= 8);
    assert!(hint().contains("keeps what verifies") && !hint().contains("refuses"), "{}", hint());
}

/// A directory or a link among the segments is named, and refused: its place may be one of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regular_file() {
    let place = Place::with_backlog(2).await;
    let (elsewhere, segment) = (place.dir.path().join("elsewhere"), place.segments()[0].clone());
    let folder = place.journal().join("old");
    std::fs::create_dir(&folder).unwrap();
    let refused = |name: &str| {
        let (code, refused) = place.serve(&[]);
        assert_eq!(code, Exit::Stored as i32, "{refused}");
        let named = format!("journal/{name}: not a regular file");
        assert!(refused.contains(&named), "{refused}");
        let checked = place.journal_command("check", &[]);
        assert!(String::from_utf8_lossy(&checked.stdout).contains(&named) && !checked.status.success());
    };
    refused("old");
    std::fs::remove_dir(folder).unwrap();
    std::fs::rename(&segment, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &segment).unwrap();
    refused("00000000000000000001.seg");
    std::fs::remove_file(&segment).unwrap();
    std::fs::rename(elsewhere, segment).unwrap();

    // Accesses are no data that a start could put at risk: it says so, and goes on.
    let signal = place.setup.data_dir.join("node/signal");
    std::fs::create_dir_all(signal.join("00000000000000000009.seg")).unwrap();
    let daemon = place.start();
    verify(&daemon, 0..2).await;
    let log = std::fs::read_to_string(place.setup.data_dir.join("daemon.log")).unwrap();
    let line = log.lines().find(|line| line.contains("not a regular file")).unwrap();
    assert!(line.contains("signal/00000000000000000009.seg"), "{line}");
    daemon.stop().unwrap();
}
