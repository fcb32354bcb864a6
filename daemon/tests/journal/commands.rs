//! `bettong journal check | dump | salvage`.

use super::*;
use bettong::exit::Exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread")]
async fn check_and_dump_change_nothing_and_agree() {
    let place = Place::with_backlog(5).await;
    let before = place.bytes();
    let checked = place.journal_command("check", &["--json"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let checked = document(&checked);
    assert_eq!((&checked["backlog_puts"], &checked["backlog_bytes"]), (&5.into(), &200_000.into()), "{checked}");
    assert!(checked["segments"].as_u64().unwrap() >= 3, "{checked}");
    let dumped = place.journal_command("dump", &["--json"]);
    let lines = String::from_utf8(dumped.stdout).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len() as u64, checked["records"].as_u64().unwrap());
    let puts: Vec<&Value> = records.iter().filter(|record| record["kind"] == "put").collect();
    assert!(puts.len() == 5 && puts.iter().all(|put| put["body_verifies"] == true), "{lines}");
    let text = place.journal_command("dump", &[]);
    assert_eq!(String::from_utf8(text.stdout).unwrap().lines().count(), records.len());
    assert_eq!(place.bytes(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_work_beside_a_daemon_that_writes() {
    let place = Place::new();
    let daemon = place.start();
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (remote, done) = (open(&daemon).await, done.clone());
        writers.spawn(async move {
            let mut turn = 0_u64;
            while !done.load(Ordering::Relaxed) {
                turn += 1;
                remote.put_plain(&format!("{writer}/{turn}"), value(turn), Level::Journal, 0).await.unwrap();
            }
        });
    }
    for _ in 0..10 {
        for what in ["check", "dump"] {
            let arguments = ["journal", what, "--data-dir", &place.data_dir(), "--json"].map(str::to_owned);
            let output =
                tokio::task::spawn_blocking(move || run(&arguments.each_ref().map(String::as_str))).await.unwrap();
            assert!(output.status.success(), "{what}: {}", said(&output));
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let (code, said) = rig::refused(Path::new(rig::PROGRAM), &["journal", "salvage", "--data-dir", &place.data_dir()]);
    assert_eq!(code, Exit::DataDir as i32, "{said}");
    assert!(said.contains("holds it"), "{said}");
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_keeps_what_verifies_says_what_is_lost_and_the_daemon_serves_the_rest() {
    let place = Place::with_backlog(6).await;
    let segment = place.segments()[0].clone();
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the body of the first put.
    bytes[20_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    // Whoever starts a daemon again and again loses nothing by it.
    for _ in 0..3 {
        let (code, said) = place.serve(&[]);
        assert_eq!(code, Exit::Stored as i32, "{said}");
        assert!(said.contains("bettong journal salvage"), "{said}");
    }
    let salvaged = place.journal_command("salvage", &["--json"]);
    assert_eq!(salvaged.status.code(), Some(Exit::CheckFailed as i32), "{}", said(&salvaged));
    let salvaged = document(&salvaged);
    assert_eq!((&salvaged["puts"], salvaged["lost_puts"].as_array().unwrap().len()), (&5.into(), 1), "{salvaged}");
    let again = place.journal_command("salvage", &[]);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("nothing was changed"));
    assert!(place.journal_command("check", &[]).status.success());
    let daemon = place.start();
    verify(&daemon, 1..6).await;
    assert_eq!(open(&daemon).await.get_plain("0").await.unwrap_err().exit, Exit::Miss);
    assert!(run(&["flush", "--connect", &daemon.connect, "--timeout", "20s"]).status.success());
    daemon.stop().unwrap();
    let daemon = place.start();
    verify(&daemon, 1..6).await;
    daemon.stop().unwrap();
}

#[test]
fn a_directory_that_no_daemon_used_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        for what in ["check", "dump", "salvage"] {
            let arguments = ["journal", what, "--data-dir", path.to_str().unwrap()];
            let (code, said) = rig::refused(Path::new(rig::PROGRAM), &arguments);
            assert_eq!(code, Exit::DataDir as i32, "{said}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
