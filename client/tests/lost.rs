//! What becomes of calls and namespaces when a connection is lost, or the task behind it, and when a connection is not
//! given up. The clock is stopped and goes on where everybody waits.
#![cfg(not(madsim))]

mod peer;

use bettong_client::*;
use bettong_wire::request::NsHandle;
use bettong_wire::response::Answer;
use bettong_wire::{Request, Response};
use peer::{Peer, Peers, URL, dialer, empty_handed, opened};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout, timeout_at};

const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options { call_timeout: CALL_TIMEOUT, ..Options::default() }
}

fn limits() -> ReadLimits {
    ReadLimits::default()
}

/// A client, its first connection, and those to come.
async fn connected() -> (Client, Peer, Peers) {
    let (dialer, mut peers) = dialer();
    let client = Client::connect_by(dialer, URL, options()).await.unwrap();
    let peer = peers.next().await.unwrap();
    (client, peer, peers)
}

/// Opens `name` under `handle`.
async fn open(client: &Client, peer: &mut Peer, name: &str, handle: u32) -> Namespace {
    let (namespace, ()) = tokio::join!(client.open_namespace(name, None), peer.open(name, handle));
    namespace.unwrap()
}

async fn next_peer(peers: &mut Peers) -> Peer {
    timeout(PATIENCE, peers.next()).await.expect("the client connects again").unwrap()
}

/// What is asked next, CANCEL aside.
async fn asked(peer: &mut Peer) -> (u64, Request) {
    loop {
        match timeout(PATIENCE, peer.asked()).await.expect("something is asked").expect("the connection is kept") {
            (_, Request::Cancel { .. }) => {}
            asked => return asked,
        }
    }
}

/// Polls once, whatever comes of it.
fn nudge<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets time pass while no task runs.
fn pass(time: Duration) {
    assert!(nudge(pin!(tokio::time::advance(time))).is_pending(), "others come next");
}

#[test]
fn a_call_under_way_when_the_task_behind_the_client_ends_has_an_unknown_outcome() {
    let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (carrying, calling): (Runtime, Runtime) = (runtime(), runtime());
    let (mut peer, namespace) = carrying.block_on(async {
        let (client, mut peer, _) = connected().await;
        let namespace = open(&client, &mut peer, "chat", 0).await;
        (peer, namespace)
    });
    let reads = namespace.clone();
    let sent = calling.spawn(async move { namespace.delete(Target::Plain("k".into())).await });
    calling.block_on(tokio::task::yield_now());
    assert!(matches!(carrying.block_on(asked(&mut peer)), (_, Request::Delete(_))));
    // The task does not run any more, and has not taken this one.
    let unread = {
        let reads = reads.clone();
        calling.spawn(async move { reads.get_plain("k", limits()).await.map(|_| 0) })
    };
    calling.block_on(tokio::task::yield_now());
    drop(carrying);
    for call in [sent, unread] {
        let error = calling.block_on(call).expect("no panic").unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Retry, "the client's connection task has ended"),
            "it may have acted"
        );
    }
    let error = calling.block_on(reads.delete(Target::Plain("k".into()))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "nobody was there to send it: {error}");
}

/// The caller of an OPEN that was lost asks again on a connection that opens its namespace by itself.
#[tokio::test(start_paused = true)]
async fn a_handle_that_a_repeated_open_gave_a_second_time_is_closed() {
    for caller_is_answered_first in [false, true] {
        let (client, mut peer, mut peers) = connected().await;
        // Where one is open, the next OPENs need not wait for one another.
        let _first = open(&client, &mut peer, "first", 0).await;
        let opening = tokio::spawn(async move { client.open_namespace("twice", None).await });
        peer.asked_to_open("twice").await;
        drop(peer);
        let mut peer = next_peer(&mut peers).await;
        peer.open("first", 0).await;
        let again = peer.asked_to_open("twice").await;
        let asked_for = timeout(PATIENCE, peer.asked_to_open("twice")).await.expect("its caller asks again");
        let mut answers = [(again, 1), (asked_for, 2)];
        if caller_is_answered_first {
            answers.reverse();
        }
        for (id, handle) in answers {
            peer.answer(id, opened(handle)).await;
        }
        let namespace = opening.await.unwrap().unwrap();
        let closed = match asked(&mut peer).await {
            (_, Request::Close { ns }) => ns,
            other => panic!("one of two handles is to be closed, but this was asked: {other:?}"),
        };
        assert_eq!(closed, NsHandle(1), "the caller's is used");
        let read = tokio::spawn(async move { namespace.get_plain("k", limits()).await });
        match asked(&mut peer).await {
            (id, Request::Get(get)) => {
                assert_eq!(get.ns, NsHandle(2));
                peer.answer(id, Response::miss(MissReason::Absent)).await;
            }
            other => panic!("a GET is due, but this was asked: {other:?}"),
        }
        assert_eq!(read.await.unwrap().unwrap(), Got::Miss(MissReason::Absent));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_come_counts_before_the_wait_for_it_is_over() {
    let (client, mut peer, mut peers) = connected().await;
    let namespace = open(&client, &mut peer, "chat", 0).await;
    drop(peer);
    let mut peer = next_peer(&mut peers).await;
    let again = peer.asked_to_open("chat").await;
    peer.answer(again, opened(0)).await;
    pass(CALL_TIMEOUT);
    still_carries(&mut peer, namespace).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_come_counts_before_another_caller_leaves() {
    let (client, mut peer, _peers) = connected().await;
    let namespace = open(&client, &mut peer, "chat", 0).await;
    let mut leaving = Box::pin(namespace.get_plain("leaving", limits()));
    let staying = namespace.delete(Target::Plain("staying".into()));
    let mut staying = pin!(staying);
    assert!(nudge(leaving.as_mut()).is_pending() && nudge(staying.as_mut()).is_pending());
    let (_, (staying_id, _)) = (asked(&mut peer).await, asked(&mut peer).await);
    peer.answer(staying_id, Response::ok(Answer::Removed { count: 1 })).await;
    pass(CALL_TIMEOUT);
    drop(leaving);
    assert_eq!(staying.await.unwrap(), 1);
    still_carries(&mut peer, namespace.clone()).await;
}

/// The connection is the one that the client uses.
async fn still_carries(peer: &mut Peer, namespace: Namespace) {
    let read = tokio::spawn(async move { namespace.get_plain("k", limits()).await });
    let (id, request) = asked(peer).await;
    assert!(matches!(request, Request::Get(_)), "{request:?}");
    peer.answer(id, empty_handed(&request)).await;
    assert_eq!(read.await.unwrap().unwrap(), Got::Miss(MissReason::Absent));
}

/// How long `reluctant` takes for an OPEN.
const SLOW: Duration = CALL_TIMEOUT.saturating_mul(10);

/// Answers at once, but OPENs of namespaces whose name begins with `slow`.
async fn reluctant(mut peer: Peer) {
    let mut late: VecDeque<(Instant, u64)> = VecDeque::new();
    loop {
        let asked = match late.front() {
            None => peer.asked().await,
            Some((at, id)) => match timeout_at(*at, peer.asked()).await {
                Ok(asked) => asked,
                Err(_) => {
                    peer.answer(*id, opened(0)).await;
                    late.pop_front();
                    continue;
                }
            },
        };
        match asked {
            None => return,
            Some((id, Request::Open(open))) if open.namespace.starts_with("slow") => {
                late.push_back((Instant::now() + SLOW, id));
            }
            Some((id, request)) => peer.answer(id, empty_handed(&request)).await,
        }
    }
}

/// From now on every connection is served so. Counts them.
fn serve_reluctantly(mut peers: Peers) -> Arc<AtomicUsize> {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        while let Some(peer) = peers.next().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(reluctant(peer));
        }
    });
    served
}

#[tokio::test(start_paused = true)]
async fn opens_that_take_longer_than_a_call_may_hold_up_no_other_namespace() {
    let (client, mut peer, peers) = connected().await;
    // The first that are asked for again, and one after them.
    let slow = [open(&client, &mut peer, "slow", 0).await, open(&client, &mut peer, "slower", 0).await];
    let well = open(&client, &mut peer, "well", 0).await;
    drop(peer);
    let served = serve_reluctantly(peers);
    let lost = Instant::now();
    while well.get_plain("k", limits()).await.is_err() {
        assert!(lost.elapsed() <= CALL_TIMEOUT * 3, "each slow one costs one connection at most");
    }
    let connections = served.load(Ordering::Relaxed);
    while lost.elapsed() < SLOW * 2 {
        // A daemon that is not asked for anything else does not look silent for that.
        sleep(CALL_TIMEOUT * 3 / 2).await;
        well.get_plain("k", limits()).await.unwrap();
    }
    for namespace in slow {
        assert_eq!(namespace.get_plain("k", limits()).await.unwrap(), Got::Miss(MissReason::Absent));
    }
    assert_eq!(served.load(Ordering::Relaxed), connections, "the connection is kept");
}

#[tokio::test(start_paused = true)]
async fn an_open_that_was_lost_comes_before_those_asked_for_later() {
    let (client, mut peer, mut peers) = connected().await;
    let _well = open(&client, &mut peer, "well", 0).await;
    drop(peer);
    let mut peer = next_peer(&mut peers).await;
    peer.asked_to_open("well").await;
    drop(peer);
    tokio::task::yield_now().await;
    let opening = tokio::spawn(async move { client.open_namespace("slow", None).await });
    let mut peer = next_peer(&mut peers).await;
    peer.open("well", 0).await;
    peer.open("slow", 1).await;
    opening.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_that_the_daemon_forgot_costs_the_connection_in_the_end() {
    let (client, mut peer, mut peers) = connected().await;
    let _well = open(&client, &mut peer, "well", 0).await;
    let _forgotten = open(&client, &mut peer, "forgotten", 1).await;
    drop(peer);
    let mut peer = next_peer(&mut peers).await;
    peer.open("well", 0).await;
    peer.asked_to_open("forgotten").await;
    let asked = Instant::now();
    while let Some((id, request)) = peer.asked().await {
        assert!(asked.elapsed() < PATIENCE * 2, "it is given up");
        peer.answer(id, empty_handed(&request)).await;
    }
    let mut peer = next_peer(&mut peers).await;
    peer.open("well", 0).await;
    peer.open("forgotten", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_open_that_takes_longer_than_a_call_may_holds_up_no_new_namespace() {
    let (client, mut peer, peers) = connected().await;
    let _slow = open(&client, &mut peer, "slow", 0).await;
    drop(peer);
    let served = serve_reluctantly(peers);
    while served.load(Ordering::Relaxed) == 0 {
        sleep(CALL_TIMEOUT / 10).await;
    }
    for _ in 0..3 {
        client.open_namespace("new", None).await.expect("it comes before the slow one the next time");
    }
}
