//! What only shared memory has: values that are read in place, a staging area, and a daemon that turns clients away.

use super::server::Mood;
use super::server::shm::{Daemon, Sizes};
use super::{limits, options};
use bettong_client::*;
use bettong_shm::real::attach::{Refusal, RefusalKind};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn key(n: u8) -> BlockKey {
    BlockKey { hash: BlockHash([n; 32]), part: Part(0) }
}

async fn opened(daemon: &Daemon, options: Options) -> (Client, Namespace) {
    let client = Client::connect(&daemon.server.url, options).await.unwrap();
    let namespace = client.open_namespace("chat", None).await.unwrap();
    (client, namespace)
}

async fn put(namespace: &Namespace, name: &str, bytes: Vec<u8>) {
    namespace.put_plain(name, bytes, Level::Memory, None).await.unwrap();
}

async fn get(namespace: &Namespace, name: &str) -> Payload {
    namespace.get_plain(name, limits()).await.unwrap().hit().unwrap().bytes
}

/// Waits until it is so.
async fn becomes(mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, so).await.expect("it never becomes so");
}

#[tokio::test]
async fn a_value_stays_as_it_is_while_it_is_read() {
    let daemon = Daemon::start();
    let (_client, namespace) = opened(&daemon, options()).await;
    let mut held = Vec::new();
    for byte in 0..20 {
        put(&namespace, "k", vec![byte; 10_000]).await;
        held.push(get(&namespace, "k").await.slice(10, 5000).unwrap());
    }
    for (byte, value) in (0..).zip(&held) {
        assert_eq!(value.as_ref(), [byte; 5000]);
    }
}

#[tokio::test]
async fn the_daemon_hears_of_what_is_not_read_any_more_without_another_call() {
    let daemon = Daemon::start();
    let (_client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "k", vec![7; 10_000]).await;
    for spent in [Duration::ZERO, Duration::from_millis(20)] {
        let (one, other) = (get(&namespace, "k").await, get(&namespace, "k").await);
        assert!(daemon.leased_bytes().unwrap() >= 10_000);
        sleep(spent).await;
        drop(one);
        sleep(spent).await;
        assert!(daemon.leased_bytes().unwrap() >= 10_000, "the other one is read");
        drop(other);
        becomes(|| daemon.leased_bytes() == Some(0)).await;
    }
}

#[tokio::test]
async fn what_is_not_read_any_more_makes_room_for_more() {
    let daemon = Daemon::start_with(Sizes { quota_bytes: MIB as u64, ..Sizes::default() });
    let (_client, namespace) = opened(&daemon, Options { attempts_max: 1000, ..options() }).await;
    put(&namespace, "k", vec![1; 600 * KIB]).await;
    put(&namespace, "l", vec![2; 600 * KIB]).await;
    for _ in 0..100 {
        // Each has the quota for itself, so that what went before must have been released.
        assert_eq!(get(&namespace, "k").await.as_ref(), vec![1; 600 * KIB]);
        assert_eq!(get(&namespace, "l").await.as_ref(), vec![2; 600 * KIB]);
    }
    let held = get(&namespace, "k").await;
    let next = tokio::spawn(async move { get(&namespace, "l").await });
    sleep(Duration::from_millis(5)).await;
    assert!(!next.is_finished(), "its quota is used");
    drop(held);
    assert_eq!(next.await.unwrap().as_ref(), vec![2; 600 * KIB]);
}

#[tokio::test]
async fn values_outlive_the_daemon_and_namespaces_are_opened_again() {
    let daemon = Daemon::start();
    let (client, namespace) = opened(&daemon, options()).await;
    let other = client.open_namespace("other", None).await.unwrap();
    put(&namespace, "k", vec![3; 10_000]).await;
    let held = get(&namespace, "k").await;
    daemon.server.set(Mood::Silent);
    let delete = namespace.delete(Target::Plain("k".into()));
    let (error, ()) = tokio::join!(delete, async {
        becomes(|| daemon.server.ignored.load(Ordering::Relaxed) > 0).await;
        daemon.stop().await;
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains("outcome is unknown") && error.message.contains("closed"), "{error}");
    assert_eq!(held.as_ref(), [3; 10_000]);

    // Calls wait for a daemon that comes back, and say why where none does.
    let patient = namespace.get_plain("k", limits());
    let (got, ()) = tokio::join!(patient, async {
        sleep(Duration::from_millis(20)).await;
        daemon.server.set(Mood::Well);
        daemon.listen();
    });
    let again = got.unwrap().hit().unwrap().bytes;
    assert_eq!(other.get_plain("none", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
    assert_eq!(daemon.server.connections.load(Ordering::Relaxed), 2);
    drop(client);
    daemon.stop().await;
    assert_eq!((held.as_ref(), again.as_ref()), ([3; 10_000].as_slice(), [3; 10_000].as_slice()));
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_named_by_who_waited_for_it() {
    let daemon = Daemon::start();
    let options = Options { call_timeout: Duration::from_millis(100), ..options() };
    let (_client, namespace) = opened(&daemon, options).await;
    daemon.stop().await;
    let error = namespace.get_plain("k", limits()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains(&daemon.server.url) && error.message.contains("no such socket"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_lies_is_left() {
    let daemon = Daemon::start();
    *daemon.lies.lock().unwrap() = true;
    let options = Options { call_timeout: PATIENCE, ..options() };
    let client = Client::connect(&daemon.server.url, options).await.unwrap();
    client.ping().await.unwrap();
    assert_eq!(daemon.server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_is_shut_out_hears_why() {
    let daemon = Daemon::start();
    let (_client, namespace) = opened(&daemon, options()).await;
    let text = "the client broke the protocol: a packet of a session: 3 is unknown".to_owned();
    *daemon.last_words.lock().unwrap() = Some(Refusal { kind: RefusalKind::Invalid, limit: 0, text: text.clone() });
    daemon.server.set(Mood::DropNext);
    let error = namespace.delete(Target::Plain("k".into())).await.unwrap_err();
    assert!(error.kind == ErrorKind::Retry && error.message.contains(&text), "{error}");
}

#[tokio::test]
async fn who_is_turned_away_hears_why() {
    let daemon = Daemon::start();
    for (kind, means) in [
        (RefusalKind::User, ErrorKind::Denied),
        (RefusalKind::Version, ErrorKind::Invalid),
        (RefusalKind::Invalid, ErrorKind::Invalid),
        (RefusalKind::Busy, ErrorKind::Busy),
        (RefusalKind::Unavailable, ErrorKind::Unavailable),
    ] {
        let refusal = Refusal { kind, limit: 77, text: "77 clients are attached".into() };
        *daemon.refusal.lock().unwrap() = Some(refusal);
        let error = Client::connect(&daemon.server.url, options()).await.err().unwrap();
        assert_eq!((error.kind, error.limit), (means, 77), "{error}");
        let text = format!("cannot connect to {}: the daemon refuses: 77 clients are attached", daemon.server.url);
        assert_eq!(error.message, text);
    }
    let named = Options { name: "an engine".into(), ..options() };
    Client::connect(&daemon.server.url, named).await.unwrap();
    assert_eq!(*daemon.names.lock().unwrap(), ["an engine"]);
    let error = Client::connect(&daemon.server.url, Options { name: "x".repeat(65), ..options() }).await.err().unwrap();
    assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, 64));
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_an_error_at_once() {
    let daemon = Daemon::start();
    let stale = daemon.path.with_file_name("stale");
    std::fs::hard_link(&daemon.path, &stale).unwrap();
    daemon.stop().await;
    for (url, why) in
        [(daemon.server.url.clone(), "no such socket"), (format!("shm://{}", stale.display()), "nobody listens")]
    {
        let error = Client::connect(&url, options()).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains(&url) && error.message.contains(why), "{error}");
    }
    let long = format!("shm:///{}", "x".repeat(107));
    let error = Client::connect(&long, options()).await.err().unwrap();
    assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, 107));
    assert!(error.message.contains("108 bytes"), "{error}");
    let error = Client::connect_by(Tcp, &daemon.server.url, options()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_not_waited_for() {
    let daemon = Daemon::start();
    daemon.stop().await;
    let users = std::collections::BTreeSet::from([bettong_shm::real::attach::own_uid()]);
    let _silent = bettong_shm::real::attach::Listener::bind(&daemon.path, users).unwrap();
    let options = Options { connect_timeout: Duration::from_millis(20), ..options() };
    let error = Client::connect(&daemon.server.url, options).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_put_waits_for_room_and_holds_up_nothing_else() {
    let daemon = Daemon::start_with(Sizes { staging_bytes_max: MIB as u64, ..Sizes::default() });
    let (_client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "k", vec![1; 10]).await;
    let in_the_way = namespace.reserve_put(900 * KIB).unwrap();
    let puts = (0..3u8).map(|n| {
        let namespace = namespace.clone();
        tokio::spawn(async move { put(&namespace, &format!("k{n}"), vec![n; 600 * KIB]).await })
    });
    let puts: Vec<_> = puts.collect();
    for _ in 0..10 {
        yield_now().await;
        assert_eq!(get(&namespace, "k").await.as_ref(), [1; 10]);
    }
    assert_eq!(daemon.server.puts.load(Ordering::Relaxed), 1);
    assert_eq!(namespace.reserve_put(900 * KIB).unwrap_err().kind, ErrorKind::Busy);
    // What has its place already passes them.
    let stored = namespace.put_block_from(key(9), Place::default(), in_the_way, Level::Memory, None).await;
    stored.unwrap();
    for put in puts {
        put.await.unwrap();
    }
    for n in 0..3u8 {
        assert_eq!(get(&namespace, &format!("k{n}")).await.as_ref(), vec![n; 600 * KIB]);
    }
    // Room that is given back unused is room, too.
    let unused = namespace.reserve_put(900 * KIB).unwrap();
    let waiting = tokio::spawn(async move { put(&namespace, "k", vec![2; 600 * KIB]).await });
    sleep(Duration::from_millis(2)).await;
    assert!(!waiting.is_finished());
    drop(unused);
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_never_has_room_is_too_large() {
    let daemon = Daemon::start_with(Sizes { staging_bytes_max: MIB as u64 + 60, ..Sizes::default() });
    let (_client, namespace) = opened(&daemon, options()).await;
    let too_large = |error: Error| {
        assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, MIB as u64), "{error}");
        assert!(error.message.contains(&MIB.to_string()), "{error}");
    };
    for len in [MIB + 1, MIB + 60, MIB + 61, 2 * MIB] {
        too_large(namespace.put_plain("k", vec![1; len], Level::Memory, None).await.unwrap_err());
        too_large(namespace.reserve_put(len).unwrap_err());
    }
    // Lengths that fit, but not beside each other.
    for len in [MIB / 2 + 1, MIB / 2 - 31] {
        let block = |n| BlockToPut { key: key(n), place: Place::default(), bytes: vec![n; len].into() };
        let blocks = vec![block(1), block(2), BlockToPut { bytes: vec![1; 60].into(), ..block(3) }];
        too_large(namespace.put_blocks(blocks, Level::Memory).await.unwrap_err());
    }
    put(&namespace, "k", vec![1; MIB]).await;
    assert_eq!(get(&namespace, "k").await.len(), MIB);
    assert_eq!(daemon.server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_ring_that_is_full_is_waited_for() {
    let daemon = Daemon::start_with(Sizes { ring_words: 256, ..Sizes::default() });
    let (_client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "k", vec![5; 1000]).await;
    let calls = (0..300u32).map(|i| {
        let namespace = namespace.clone();
        tokio::spawn(async move {
            let targets = vec![Target::Plain("k".into()); 1 + i as usize % 10];
            let asked = targets.len();
            let values = namespace.get_many(targets, limits()).await.unwrap();
            assert_eq!(values.len(), asked);
            for value in values {
                assert_eq!(value.hit().unwrap().bytes.as_ref(), [5; 1000]);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        timeout(PATIENCE, call).await.expect("it hangs").unwrap();
    }
    let blocks = (0..40).map(|n| BlockToPut { key: key(n), place: Place::default(), bytes: vec![n; 1000].into() });
    let error = namespace.put_blocks(blocks.collect(), Level::Memory).await.unwrap_err();
    assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, 256), "{error}");
    becomes(|| daemon.leased_bytes() == Some(0)).await;
}

#[tokio::test]
async fn releases_wait_for_room_in_the_ring() {
    let daemon = Daemon::start_with(Sizes { ring_words: 256, ..Sizes::default() });
    let (_client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "k", vec![5; 1000]).await;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(get(&namespace, "k").await);
    }
    // More than go into the ring at once, and no answer comes that would wake who waits.
    drop(held);
    becomes(|| daemon.leased_bytes() == Some(0)).await;
}

#[tokio::test]
async fn a_batch_of_many_frames_comes_whole() {
    let daemon = Daemon::start();
    for spin in [Duration::ZERO, Options::default().spin] {
        let (_client, namespace) = opened(&daemon, Options { spin, ..options() }).await;
        put(&namespace, "k", vec![5; 1000]).await;
        let targets = vec![Target::Plain("k".into()); 1000];
        let values = timeout(PATIENCE, namespace.get_many(targets, limits())).await.expect("it hangs").unwrap();
        assert!(values.into_iter().all(|value| value.hit().unwrap().bytes.as_ref() == [5; 1000]));
    }
}

#[tokio::test]
async fn a_namespace_is_closed_when_there_is_room_for_it() {
    let daemon = Daemon::start_with(Sizes { requests_inflight_max: 1, ..Sizes::default() });
    let (client, namespace) = opened(&daemon, options()).await;
    let other = client.open_namespace("other", None).await.unwrap();
    let under_way = tokio::spawn(async move { namespace.get_plain("k", limits()).await });
    yield_now().await;
    drop(other);
    under_way.await.unwrap().unwrap();
    // Both are dropped by now.
    becomes(|| daemon.server.closes.load(Ordering::Relaxed) == 2).await;
}

#[tokio::test]
async fn a_value_can_be_made_where_the_daemon_reads_it() {
    let daemon = Daemon::start();
    let (client, namespace) = opened(&daemon, options()).await;
    let fill = |mut buffer: PutBuffer, byte| {
        buffer.bytes_mut().fill(byte);
        buffer
    };
    let put = async |namespace: &Namespace, n, buffer| {
        namespace.put_block_from(key(n), Place::default(), buffer, Level::Memory, None).await
    };
    let get = async |n| namespace.get_block(key(n), limits()).await.unwrap().hit().unwrap().bytes;
    for len in [0, 1, 10_000] {
        let buffer = fill(namespace.reserve_put(len).unwrap(), 1);
        assert_eq!((buffer.len(), buffer.is_empty()), (len, len == 0));
        put(&namespace, 1, buffer).await.unwrap();
        assert_eq!(get(1).await.as_ref(), vec![1; len]);
    }
    // What was sent is gone, so nothing is repeated.
    for (mood, kind) in [(Mood::DropNext, ErrorKind::Retry), (Mood::BusyNext, ErrorKind::Busy)] {
        let older = fill(namespace.reserve_put(1000).unwrap(), 2);
        daemon.server.set(mood);
        let puts = daemon.server.puts.load(Ordering::Relaxed);
        let error = put(&namespace, 2, fill(namespace.reserve_put(1000).unwrap(), 2)).await.unwrap_err();
        assert_eq!((error.kind, daemon.server.puts.load(Ordering::Relaxed)), (kind, puts));
        // One that is of an earlier session may have to be copied.
        put(&namespace, 2, older).await.unwrap();
        assert_eq!(get(2).await.as_ref(), [2; 1000]);
    }
    // So is one of another client.
    let (other_client, other) = opened(&daemon, options()).await;
    let buffer = fill(other.reserve_put(1000).unwrap(), 3);
    drop((other_client, other));
    put(&namespace, 3, buffer).await.unwrap();
    assert_eq!(get(3).await.as_ref(), [3; 1000]);
    let tcp = super::Server::start().await;
    let (_tcp_client, over_tcp) = super::opened(&tcp).await;
    put(&over_tcp, 4, fill(namespace.reserve_put(1000).unwrap(), 4)).await.unwrap();
    assert_eq!(over_tcp.get_block(key(4), limits()).await.unwrap().hit().unwrap().bytes.as_ref(), [4; 1000]);
    put(&namespace, 5, fill(over_tcp.reserve_put(1000).unwrap(), 5)).await.unwrap();
    assert_eq!(get(5).await.as_ref(), [5; 1000]);
    drop(client);
}

#[tokio::test]
async fn a_client_that_reads_nothing_any_more_detaches() {
    let daemon = Daemon::start();
    let (client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "k", vec![1; 10_000]).await;
    get(&namespace, "k").await;
    drop((client, namespace));
    becomes(|| daemon.leased_bytes().is_none()).await;

    let (client, namespace) = opened(&daemon, options()).await;
    put(&namespace, "l", vec![2; 20_000]).await;
    let held = get(&namespace, "k").await;
    get(&namespace, "l").await;
    drop((client, namespace));
    // What is not read any more is let go of, and the rest is not.
    becomes(|| daemon.leased_bytes().is_some_and(|bytes| bytes < 20_000)).await;
    assert!(daemon.leased_bytes().unwrap() >= 10_000);
    assert_eq!(held.as_ref(), [1; 10_000]);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a client whose executor ends before the daemon's")]
async fn what_is_let_go_of_last_is_released_where_the_socket_is_full() {
    let daemon = Daemon::start();
    let (url, deaf) = (daemon.server.url.clone(), daemon.deaf.clone());
    let client = tokio::task::spawn_blocking(move || {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        executor.block_on(async {
            let client = Client::connect(&url, Options { spin: Duration::ZERO, ..options() }).await.unwrap();
            let namespace = client.open_namespace("chat", None).await.unwrap();
            put(&namespace, "k", vec![1; 10_000]).await;
            deaf.store(true, Ordering::Relaxed);
            // Each wakes the daemon once more.
            for _ in 0..2000 {
                client.ping().await.unwrap();
            }
            drop(get(&namespace, "k").await);
        });
    });
    client.await.unwrap();
    // It could not be told that this client reads nothing any more, so it was told what is not read.
    becomes(|| daemon.leased_bytes() == Some(0)).await;
}

/// Pings until it was so, from a thread of its own.
fn ping_until(client: &blocking::Client, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(client.ping().unwrap() < PATIENCE && began.elapsed() < PATIENCE, "it never becomes so");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "threads that wait for calls are what this is about")]
fn threads_that_wait_are_woken_by_the_bell_unless_another_one_calls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let daemon = runtime.block_on(async { Daemon::start() });
    daemon.slow.store(true, Ordering::Relaxed);
    let rings = || daemon.rings.load(Ordering::Relaxed);
    let no_spin = || Options { spin: Duration::ZERO, ..options() };
    runtime.block_on(async {
        let client = Client::connect(&daemon.server.url, no_spin()).await.unwrap();
        for _ in 0..200 {
            client.ping().await.unwrap();
        }
    });
    assert_eq!(rings(), 0, "a task is not a thread");
    let client = blocking::Client::connect(&daemon.server.url, no_spin()).unwrap();
    ping_until(&client, || rings() > 20);
    // One whose answer does not come keeps nobody else waiting, and what ends its session is heard.
    let namespace = client.open_namespace("chat", None).unwrap();
    daemon.server.set(Mood::Silent);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| namespace.get_plain("k", limits()));
        while daemon.server.ignored.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        daemon.server.set(Mood::Well);
        // Longer than it sleeps where it hears nothing but the bell.
        std::thread::sleep(Duration::from_millis(20));
        let before = rings();
        (0..50).for_each(|_| assert!(client.ping().unwrap() < PATIENCE));
        assert_eq!(rings(), before, "it sleeps where it keeps another thread waiting");
        runtime.block_on(daemon.stop());
        runtime.block_on(async { daemon.listen() });
        assert_eq!(waits.join().unwrap().unwrap(), Got::Miss(MissReason::Absent));
    });
}

#[tokio::test]
async fn who_does_not_spin_is_woken() {
    let daemon = Daemon::start();
    for spin in [Duration::ZERO, Duration::from_nanos(1), PATIENCE] {
        let (_client, namespace) = opened(&daemon, Options { spin, ..options() }).await;
        for byte in 0..100 {
            put(&namespace, "k", vec![byte; 1000]).await;
            assert_eq!(get(&namespace, "k").await.as_ref(), [byte; 1000]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_wake_is_lost_between_threads() {
    let daemon = Daemon::start_with(Sizes { ring_words: 256, quota_bytes: 64 << 10, ..Sizes::default() });
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let (_client, namespace) = opened(&daemon, Options { spin, attempts_max: 1000, ..options() }).await;
        let callers = (0..4u8).map(|n| {
            let namespace = namespace.clone();
            tokio::spawn(async move {
                let name = format!("k{n}");
                for round in 0..500u32 {
                    let byte = round as u8;
                    put(&namespace, &name, vec![byte; 5000]).await;
                    assert_eq!(get(&namespace, &name).await.as_ref(), [byte; 5000]);
                    if round % 50 == 0 {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            timeout(PATIENCE, caller).await.expect("it hangs").unwrap();
        }
        becomes(|| daemon.leased_bytes() == Some(0)).await;
    }
    assert_eq!(daemon.server.connections.load(Ordering::Relaxed), 2);
}
