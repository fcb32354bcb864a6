//! The client against a small server: one that keeps its promises, and one that does not. Over real sockets and through
//! shared memory, and, with `--cfg madsim`, over the simulator's sockets.

mod server;
#[cfg(all(target_os = "linux", not(madsim)))]
mod shared;

use bettong_client::*;
use bettong_wire::request::{Maintain, PartAsk, Task};
use bettong_wire::response::{Answer, Chain, Hit};
use bettong_wire::{PutId, Request, Response, SidecarKey};
#[cfg(all(target_os = "linux", not(madsim)))]
use server::shm::Daemon;
use server::{Mood, Server};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn options() -> Options {
    Options { payload_crc: Some(true), backoff: Duration::from_millis(1), ..Options::default() }
}

async fn opened(server: &Server) -> (Client, Namespace) {
    let client = Client::connect(&server.url, options()).await.unwrap();
    let namespace = client.open_namespace("chat", None).await.unwrap();
    (client, namespace)
}

fn limits() -> ReadLimits {
    ReadLimits::default()
}

async fn values_of_any_size_come_back_whole(server: &Server) {
    let (client, namespace) = opened(server).await;
    client.ping().await.unwrap();
    for len in [0, 1, 4096, 1 << 20, 5_000_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let stored = namespace.put_plain("k", bytes.clone(), Level::Memory, None).await.unwrap();
        assert!(!stored.already);
        let value = namespace.get_plain("k", limits()).await.unwrap().hit().unwrap();
        assert!(value.bytes.as_ref() == bytes, "{len} bytes");
        assert_eq!(value.total_len, len as u64);
    }
    let range = namespace.get_range(Target::Plain("k".into()), 10, 5, limits()).await.unwrap().hit().unwrap();
    assert_eq!(range.bytes.as_ref(), [10, 11, 12, 13, 14]);
    assert_eq!(namespace.get_plain("other", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
}

#[tokio::test]
async fn a_batch_whose_answer_is_too_large_is_asked_for_in_parts() {
    let server = Server::start().await;
    let (_client, namespace) = opened(&server).await;
    let key = |n: u8| BlockKey { hash: BlockHash([n; 32]), part: Part(0) };
    for n in 0..10 {
        let bytes = vec![n; 400 << 10];
        namespace.put_block(key(n), Place::default(), bytes, Level::Memory, None).await.unwrap();
    }
    // Four MiB through a daemon that answers one at a time; the third of the values is not there.
    let asked: Vec<u8> = vec![0, 1, 77, 2, 3, 4, 5, 6, 7, 8, 9];
    let targets = asked.iter().map(|n| Target::Block(key(*n))).collect();
    let values = namespace.get_many(targets, limits()).await.unwrap();
    assert_eq!(values.len(), asked.len());
    for (n, got) in asked.iter().zip(values) {
        assert_eq!(got.hit().map(|value| value.bytes.as_ref().first().copied()), (*n != 77).then_some(Some(*n)), "{n}");
    }
    assert!(server.reads.load(Ordering::Relaxed) > 3);
    for (asked, leading) in [(asked, 2), ((0..10).collect(), 10)] {
        let keys = asked.iter().map(|n| key(*n)).collect();
        let values = namespace.get_blocks(keys, true, limits()).await.unwrap().hit().unwrap();
        let firsts: Vec<u8> = values.iter().filter_map(|value| value.bytes.as_ref().first().copied()).collect();
        assert_eq!(firsts, asked[..leading]);
    }
    let too_many = vec![key(0); 1025];
    assert_eq!(namespace.get_blocks(too_many, true, limits()).await.unwrap_err().kind, ErrorKind::TooLarge);
}

/// An answer about a chain that brings so many values.
fn chain(blocks: u32, end: u32, values: usize) -> Response {
    let hit = Hit { total_len: 1, put_id: PutId { life: 1, counter: 1 }, tier: Tier::Memory, expires_at_ms: 0 };
    let answer = Chain { blocks, end, hits: vec![hit; values], sidecar: None };
    Response::with_payloads(Answer::Chain(answer), vec![vec![1].into(); values])
}

async fn a_chain_that_becomes_shorter_is_asked_for_anew_or_begun_again(server: &Server) {
    let (_client, namespace) = opened(server).await;
    let hashes: Vec<_> = (0..6).map(|n| BlockHash([n; 32])).collect();
    let part = |part, last_n| PartAsk { part: Part(part), last_n };
    let sidecar = Some(SidecarKey::derive(&hashes[5], b"tail"));
    let windows = ChainAsk { hashes, parts: vec![part(0, 0), part(1, 2)], sidecar, ..ChainAsk::default() };
    let names = |part: &ChainPart| part.values.iter().map(|(key, _)| (key.hash.0[0], key.part.0)).collect::<Vec<_>>();

    // Nothing has been brought yet: of the blocks that are left, others are the last two.
    server.answer_next([chain(4, 0, 0), chain(4, 4, 6)]);
    let mut restore = namespace.restore_chain(windows.clone());
    let got = restore.next_part().await.unwrap().unwrap();
    assert_eq!((got.blocks, got.first, got.end, &got.sidecar), (4, 0, 4, &None));
    assert_eq!(names(&got), [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1)]);
    assert_eq!(restore.next_part().await.unwrap(), None);
    let asked = server.take_asked().into_iter().map(|request| match request {
        Request::RestoreChain(restore) => (restore.hashes.len(), restore.sidecar.is_some()),
        other => panic!("{other:?}"),
    });
    assert_eq!(asked.collect::<Vec<_>>(), [(6, true), (4, false)]);

    // What has been brought may lack what is needed now, and so may what never comes to be less.
    for answers in [vec![chain(6, 2, 2), chain(4, 2, 0)], vec![chain(6, 0, 0)]] {
        let parts = answers.len() - 1;
        server.answer_next(answers);
        let mut restore = namespace.restore_chain(windows.clone());
        for _ in 0..parts {
            assert_eq!(names(&restore.next_part().await.unwrap().unwrap()), [(0, 0), (1, 0)]);
        }
        let error = restore.next_part().await.unwrap_err();
        assert!(error.kind == ErrorKind::Retry && error.message.contains("begin again"), "{error}");
        assert_eq!(restore.next_part().await.unwrap(), None);
        server.take_asked();
    }

    // Where every block is asked for whole, those that are left are those that were asked for.
    server.answer_next([chain(6, 2, 2), chain(4, 4, 2)]);
    let mut restore = namespace.restore_chain(ChainAsk { parts: vec![part(0, 0)], ..windows });
    assert_eq!(restore.next_part().await.unwrap().unwrap().blocks, 6);
    let got = restore.next_part().await.unwrap().unwrap();
    assert_eq!((got.blocks, names(&got)), (4, vec![(2, 0), (3, 0)]));
    assert_eq!(restore.next_part().await.unwrap(), None);
}

async fn many_calls_share_a_connection(server: &Server) {
    let (_client, namespace) = opened(server).await;
    let calls = (0..500).map(|i| {
        let namespace = namespace.clone();
        tokio::spawn(async move {
            let key = format!("k{i}");
            namespace.put_plain(&key, vec![i as u8; 3000], Level::Memory, None).await.unwrap();
            namespace.get_plain(&key, ReadLimits::default()).await.unwrap().hit().unwrap()
        })
    });
    for (i, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap().bytes.as_ref(), vec![i as u8; 3000]);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

async fn a_lost_connection_is_made_again_and_reads_are_repeated(server: &Server) {
    let (_client, namespace) = opened(server).await;
    namespace.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap();
    for lost in 1..=5 {
        server.set(Mood::DropNext);
        let value = namespace.get_plain("k", limits()).await.unwrap().hit().unwrap();
        assert_eq!(value.bytes.as_ref(), b"v");
        assert_eq!(server.connections.load(Ordering::Relaxed), lost + 1, "one new connection for each lost one");
    }
    let key = BlockKey { hash: BlockHash([1; 32]), part: Part(0) };
    server.set(Mood::DropNext);
    namespace.put_block(key, Place::default(), vec![1; 100], Level::Memory, None).await.unwrap();
    assert_eq!(namespace.get_block(key, limits()).await.unwrap().hit().unwrap().bytes.len(), 100);
}

async fn what_must_not_happen_twice_is_not_repeated(server: &Server) {
    let (_client, namespace) = opened(server).await;
    server.set(Mood::DropNext);
    let error = namespace.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    server.set(Mood::DropNext);
    assert_eq!(namespace.delete(Target::Plain("k".into())).await.unwrap_err().kind, ErrorKind::Retry);
    server.set(Mood::DropNext);
    let publish = namespace.publish_head("h", 0, None, vec![]).await;
    assert_eq!(publish.unwrap_err().kind, ErrorKind::Retry);
    assert_eq!(server.puts.load(Ordering::Relaxed), 0);
    namespace.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap();
}

async fn a_busy_daemon_is_asked_again_where_that_changes_nothing(server: &Server) {
    let (_client, namespace) = opened(server).await;
    server.set(Mood::BusyNext);
    assert_eq!(namespace.get_plain("k", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
    server.set(Mood::BusyNext);
    let error = namespace.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after_ms), (ErrorKind::Busy, 1));
}

async fn a_put_of_which_one_attempt_may_have_acted_is_not_called_refused(server: &Server) {
    let (_client, namespace) = opened(server).await;
    let key = BlockKey { hash: BlockHash([1; 32]), part: Part(0) };
    let place = Place { parent: None, sequence: 0 };
    let kinds = [ErrorKind::Unavailable, ErrorKind::TooLarge];
    for mood in kinds.iter().flat_map(|kind| [Mood::DropThenRefuse(*kind), Mood::DoubtThenRefuse(*kind)]) {
        server.set(mood);
        let error = namespace.put_block(key, place, b"v".to_vec(), Level::Memory, None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{error}");
        assert!(error.message.contains("outcome is unknown") && error.message.contains("not now"), "{error}");
    }
    server.set(Mood::DropThenRefuse(ErrorKind::Unavailable));
    let error = namespace.get_plain("k", limits()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "a read changes nothing: {error}");
}

async fn upkeep_of_which_one_attempt_may_have_acted_is_not_called_refused(server: &Server) {
    let (_client, namespace) = opened(server).await;
    let slice = |dry_run| Maintain {
        task: Task::Retire,
        dry_run,
        cursor: Vec::new(),
        argument: "a-dead-node".into(),
        bound_ms: 1000,
    };
    let kinds = [ErrorKind::Unavailable, ErrorKind::TooLarge, ErrorKind::Invalid, ErrorKind::Denied];
    for mood in kinds.iter().flat_map(|kind| [Mood::DropThenRefuse(*kind), Mood::DoubtThenRefuse(*kind)]) {
        server.set(mood);
        let error = namespace.maintain(slice(false)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{mood:?}: {error}");
        assert!(error.message.contains("outcome is unknown") && error.message.contains("not now"), "{error}");
    }
    server.set(Mood::DropThenRefuse(ErrorKind::Denied));
    let error = namespace.maintain(slice(true)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "a dry run changes nothing: {error}");
}

async fn a_daemon_that_falls_silent_never_hangs_a_call(server: &Server) {
    let (client, namespace) = opened(server).await;
    server.set(Mood::Silent);
    #[cfg(not(madsim))]
    tokio::time::pause();
    let error = namespace.get_plain("k", limits()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Retry, "no answer within 35s"));
    assert_eq!(client.open_namespace("more", None).await.err().unwrap().kind, ErrorKind::Retry);
    #[cfg(not(madsim))]
    tokio::time::resume();
    server.set(Mood::Well);
    let miss = namespace.get_plain("k", limits()).await.unwrap();
    assert_eq!(miss, Got::Miss(MissReason::Absent));
    assert!(server.connections.load(Ordering::Relaxed) > 2, "a connection without a word is given up");
}

async fn one_namespace_that_cannot_be_opened_again_for_now_holds_up_no_other(server: &Server) {
    for refusal in [Error::busy("too many", 1), Error::new(ErrorKind::Retry, "the bucket does not answer")] {
        let client = Client::connect(&server.url, options()).await.unwrap();
        // The first that is asked for again, and one after it.
        let slow = client.open_namespace("slow", None).await.unwrap();
        let well = client.open_namespace("well", None).await.unwrap();
        well.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap();
        let (connections, refused) =
            (server.connections.load(Ordering::Relaxed), server.refused_opens.load(Ordering::Relaxed));
        server.refuse_opens("slow", refusal);
        server.set(Mood::DropNext);
        let held = tokio::spawn(async move { slow.get_plain("k", ReadLimits::default()).await });
        while server.refused_opens.load(Ordering::Relaxed) < refused + 3 {
            well.get_plain("k", limits()).await.unwrap().hit().unwrap();
            tokio::task::yield_now().await;
        }
        assert!(!held.is_finished());
        server.refuse_no_opens();
        held.await.unwrap().unwrap().hit().unwrap();
        assert_eq!(server.connections.load(Ordering::Relaxed), connections + 1, "the connection is kept");
    }
}

async fn a_call_into_a_namespace_that_stays_closed_ends_in_time_and_says_why(server: &Server) {
    let options = Options { call_timeout: Duration::from_millis(200), ..options() };
    let client = Client::connect(&server.url, options).await.unwrap();
    let full = client.open_namespace("full", None).await.unwrap();
    let well = client.open_namespace("well", None).await.unwrap();
    server.refuse_opens("full", Error::busy("this node holds 7 namespaces, which is the limit", 60_000));
    server.set(Mood::DropNext);
    well.get_plain("k", limits()).await.unwrap();
    for error in [
        full.get_plain("k", limits()).await.unwrap_err(),
        full.put_plain("k", b"v".to_vec(), Level::Memory, None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::Retry);
        assert_eq!(
            error.message,
            "no answer within 200ms: namespace `full` cannot be opened again: this node holds 7 namespaces, which is the limit"
        );
    }
    assert_eq!(server.puts.load(Ordering::Relaxed), 0);
    assert!(server.refused_opens.load(Ordering::Relaxed) <= 4, "no earlier than the daemon says, within the limit");
    well.get_plain("k", limits()).await.unwrap();
    full.close().await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

async fn an_open_that_is_never_answered_costs_the_connection(server: &Server) {
    let client = Client::connect(&server.url, options()).await.unwrap();
    server.set(Mood::Silent);
    #[cfg(not(madsim))]
    tokio::time::pause();
    assert_eq!(client.open_namespace("chat", None).await.err().unwrap().kind, ErrorKind::Retry);
    #[cfg(not(madsim))]
    tokio::time::resume();
    server.set(Mood::Well);
    client.open_namespace("chat", None).await.unwrap();
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn half_an_answer_and_then_silence_cost_the_connection_too() {
    let server = Server::start().await;
    let options = Options { call_timeout: Duration::from_millis(200), ..options() };
    let client = Client::connect(&server.url, options).await.unwrap();
    server.set(Mood::HalfAnswerNext);
    // Something came while that was waited for, and nothing else has room on the connection before it is answered.
    client.open_namespace("chat", None).await.err().unwrap();
    let mut opened = false;
    for _ in 0..20 {
        opened = opened || client.open_namespace("chat", None).await.is_ok();
    }
    assert!(opened);
    assert!(server.connections.load(Ordering::Relaxed) > 1);
}

async fn a_caller_that_never_waits_long_is_not_stuck_with_a_silent_connection(server: &Server) {
    let options = Options { call_timeout: Duration::from_millis(200), ..options() };
    let client = Client::connect(&server.url, options).await.unwrap();
    let namespace = client.open_namespace("chat", None).await.unwrap();
    server.set(Mood::Silent);
    for _ in 0..10 {
        let patience = Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, namespace.get_plain("k", limits())).await.is_err());
    }
    server.set(Mood::Well);
    while namespace.get_plain("k", limits()).await.is_err() {}
    assert!(server.connections.load(Ordering::Relaxed) > 1);
}

async fn a_namespace_that_nobody_waited_for_is_not_opened_again(server: &Server) {
    let (client, namespace) = opened(server).await;
    server.refuse_opens("unwanted", Error::busy("too many", 1));
    server.set(Mood::Silent);
    assert!(tokio::time::timeout(Duration::from_millis(20), client.open_namespace("unwanted", None)).await.is_err());
    server.set(Mood::DropNext);
    assert_eq!(namespace.get_plain("k", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
    assert_eq!(server.refused_opens.load(Ordering::Relaxed), 0);
}

#[cfg(not(madsim))]
#[tokio::test]
async fn a_daemon_that_is_not_there_is_an_error_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::connect(&url, options()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.starts_with(&format!("cannot connect to {url}")), "{error}");
}

async fn refusals_come_through_as_they_are(server: &Server) {
    let (client, namespace) = opened(server).await;
    let identity = ModelIdentity {
        model: "m".into(),
        kv_dtype: "fp8_e4m3".into(),
        layout: "NHD".into(),
        block_tokens: 16,
        parts: vec![0],
        ..ModelIdentity::default()
    };
    let error = client.open_namespace("chat", Some(identity)).await.err().unwrap();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::IdentityMismatch, "kv_dtype differs"));
    let error = namespace.put_plain(&"k".repeat(1025), vec![], Level::Memory, None).await.unwrap_err();
    assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, 1024));

    let wrong = Options { token: "wrong".into(), ..options() };
    let client = Client::connect(&server.url, wrong).await.unwrap();
    let error = client.open_namespace("chat", None).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Denied);
}

async fn a_closed_namespace_stays_closed(server: &Server) {
    let (client, namespace) = opened(server).await;
    let clone = namespace.clone();
    namespace.close().await.unwrap();
    assert_eq!(clone.get_plain("k", limits()).await.unwrap_err().kind, ErrorKind::Invalid);
    let again = client.open_namespace("chat", None).await.unwrap();
    assert_eq!(again.get_plain("k", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
}

#[cfg(not(madsim))]
fn blocking_calls(server: &Server) {
    let client = blocking::Client::connect(&server.url, options()).unwrap();
    let namespace = client.open_namespace("chat", None).unwrap();
    namespace.put_plain("k", vec![7; 100_000], Level::Memory, None).unwrap();
    server.set(Mood::DropNext);
    assert_eq!(namespace.get_plain("k", limits()).unwrap().hit().unwrap().bytes.as_ref(), vec![7; 100_000]);
    namespace.close().unwrap();
}

#[cfg(not(madsim))]
#[test]
fn the_blocking_client_does_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    blocking_calls(&runtime.block_on(Server::start()));
    #[cfg(target_os = "linux")]
    blocking_calls(&runtime.block_on(async { Daemon::start() }).server);
}

/// Tests of what every door has in common, each with a server of its own.
macro_rules! at_each_door {
    ($($test:ident),* $(,)?) => {
        mod tcp {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(&super::Server::start().await).await;
                }
            )*
        }

        #[cfg(all(target_os = "linux", not(madsim)))]
        mod shm {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(&super::Daemon::start().server).await;
                }
            )*
        }
    };
}

at_each_door! {
    a_chain_that_becomes_shorter_is_asked_for_anew_or_begun_again,
    values_of_any_size_come_back_whole,
    many_calls_share_a_connection,
    a_lost_connection_is_made_again_and_reads_are_repeated,
    what_must_not_happen_twice_is_not_repeated,
    a_busy_daemon_is_asked_again_where_that_changes_nothing,
    a_put_of_which_one_attempt_may_have_acted_is_not_called_refused,
    upkeep_of_which_one_attempt_may_have_acted_is_not_called_refused,
    a_daemon_that_falls_silent_never_hangs_a_call,
    one_namespace_that_cannot_be_opened_again_for_now_holds_up_no_other,
    a_call_into_a_namespace_that_stays_closed_ends_in_time_and_says_why,
    an_open_that_is_never_answered_costs_the_connection,
    a_caller_that_never_waits_long_is_not_stuck_with_a_silent_connection,
    a_namespace_that_nobody_waited_for_is_not_opened_again,
    refusals_come_through_as_they_are,
    a_closed_namespace_stays_closed,
}
