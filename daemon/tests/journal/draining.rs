//! What level `journal` acknowledged outlives the process, and reaches the object store: in the background, by `flush`,
//! by a drain, or after the next start.

use super::*;
use bettong::exit::Exit;

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_uploaded_outlives_sigkill_and_goes_on_after_the_restart() {
    let place = Place::with_backlog(6).await;
    let daemon = place.start();
    verify(&daemon, 0..6).await;
    let flushed = run(&["flush", "--connect", &daemon.connect, "--timeout", "20s", "--json"]);
    assert!(flushed.status.success(), "{}", said(&flushed));
    let flushed = document(&flushed);
    assert_eq!((&flushed["finished"], &flushed["left_puts"]), (&true.into(), &0.into()), "{flushed}");
    // The journal is not needed any more, nor is this node.
    daemon.kill().unwrap();
    std::fs::remove_dir_all(&place.setup.data_dir).unwrap();
    std::fs::create_dir(&place.setup.data_dir).unwrap();
    let listed = run(&["node", "ls", "--store", &place.setup.store, "--json"]);
    let node = document(&listed)[0]["node"].as_str().unwrap().to_owned();
    std::fs::write(place.setup.data_dir.join("node-id"), node).unwrap();
    let daemon = place.start();
    verify(&daemon, 0..6).await;
    daemon.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_and_a_drain_say_what_is_left() {
    let place = Place::new();
    let mut daemon = place.start();
    place.take_objects_away();
    put(&daemon, 0..3).await;
    let began = Instant::now();
    let flushed = run(&["flush", "--connect", &daemon.connect, "--timeout", "300ms"]);
    assert_eq!(flushed.status.code(), Some(Exit::Undrained as i32));
    assert!(said(&flushed).contains("not flushed within 300ms: 3 puts (117.2 KiB) are left"), "{}", said(&flushed));
    assert!(began.elapsed() < PATIENCE);
    daemon.terminate().unwrap();
    assert_eq!(daemon.wait().unwrap(), Some(Exit::Undrained as i32));
    let log = std::fs::read_to_string(place.setup.data_dir.join("daemon.log")).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.contains("not drained within 8s: 3 puts (117.2 KiB) wait in the journal"), "{log}");
    place.bring_objects_back();
    daemon = place.start();
    verify(&daemon, 0..3).await;
    daemon.stop().unwrap();
    let checked = document(&place.journal_command("check", &["--json"]));
    assert_eq!((&checked["backlog_puts"], &checked["problems"]), (&0.into(), &Value::Array(Vec::new())), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_uploads_what_came_last() {
    let place = Place::new();
    let daemon = place.start();
    put(&daemon, 0..20).await;
    daemon.stop().unwrap();
    assert_eq!(document(&place.journal_command("check", &["--json"]))["backlog_puts"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_its_level_is_refused_and_a_journal_that_holds_something_is_not_forgotten() {
    let place = Place::with_backlog(2).await;
    let (code, said) = place.serve(&["--set", "journal_bytes=0"]);
    assert_eq!(code, Exit::Usage as i32, "{said}");
    assert!(said.contains("holds 2 puts") && said.contains("not in the object store"), "{said}");
    let daemon = place.start();
    assert!(run(&["flush", "--connect", &daemon.connect]).status.success());
    daemon.stop().unwrap();

    let mut without = place.setup.clone();
    without.values.push("journal_bytes=0".to_owned());
    let daemon = Daemon::start(&without).unwrap();
    verify(&daemon, 0..2).await;
    let failure = open(&daemon).await.put_plain("k", value(1), Level::Journal, 0).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable, "{failure}");
    assert!(failure.message.contains("it has no journal"), "{failure}");
    let flushed = run(&["flush", "--connect", &daemon.connect]);
    assert!(String::from_utf8_lossy(&flushed.stdout).contains("no journal") && flushed.status.success());
    daemon.stop().unwrap();

    // With a journal again nothing looks rolled back.
    let daemon = place.start();
    verify(&daemon, 0..2).await;
    assert_eq!(open(&daemon).await.stats().await.unwrap()["recovery"]["directory_rolled_back"], false);
    daemon.stop().unwrap();
}
