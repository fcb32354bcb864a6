//! What another peer gets, and that it harms nobody.

use super::*;
use bettong_wire::response::Answer;

#[tokio::test]
async fn nobody_comes_in_without_the_right_token() {
    let mut harness = connect(1000, TestClock::Still, limits());
    assert_eq!(harness.client.call(Request::Ping, vec![]).await, Response::ok(Answer::Pong));
    let (request, payloads) = put("k", 100);
    assert_eq!(error_of(&harness.client.call(request, payloads).await).kind, ErrorKind::Denied);
    assert_eq!(harness.service.memory.bytes_in_use(), 0);
    let denied = harness.client.call(open("acme", "guess"), vec![]).await;
    assert_eq!(error_of(&denied).kind, ErrorKind::Denied);
    assert_eq!(harness.client.end().await.message, "the token is not known");
    drop(harness.client);
    assert_eq!(harness.door.await.unwrap(), Closed::Refused("the token is not known".into()));
}

#[tokio::test]
async fn a_connection_belongs_to_one_tenant() {
    let mut harness = opened(1000).await;
    let other = harness.client.call(open("root", "secret"), vec![]).await;
    assert_eq!(error_of(&other).kind, ErrorKind::Denied);
    let same = harness.client.call(open("acme", "secret"), vec![]).await;
    assert!(matches!(same.outcome, Outcome::Ok(Answer::Opened(_))));
}

#[tokio::test]
async fn another_protocol_version_is_refused_with_both_numbers() {
    let mut harness = connect(1000, TestClock::Still, limits());
    let request = match open("acme", "secret") {
        Request::Open(open) => Request::open(Open { protocol_version: 9, ..*open }),
        other => other,
    };
    let error = error_of(&harness.client.call(request, vec![]).await);
    assert_eq!(error.message, "protocol version 9 is asked for, this daemon speaks 1");
}

#[tokio::test]
async fn a_panic_takes_down_one_request_only() {
    let mut harness = opened(1000).await;
    let slow = harness.client.send(get("slow/a"), vec![]).await;
    let panicked = harness.client.call(get("panic/now"), vec![]).await;
    assert_eq!(error_of(&panicked).kind, ErrorKind::Internal);
    harness.service.release.notify_one();
    assert!(matches!(harness.client.answer(slow).await.outcome, Outcome::Miss(_)));
}

#[tokio::test]
async fn a_peer_that_dies_in_the_midst_of_a_put_leaves_nothing() {
    let mut harness = opened(100_000).await;
    let (request, payloads) = put("k", 60_000);
    harness.client.wire.send(&request, payloads).unwrap();
    let bytes: Vec<u8> = harness.client.wire.slices().iter().flat_map(|slice| slice.to_vec()).collect();
    harness.client.stream.write_all(&bytes[..40_000]).await.unwrap();
    drop(harness.client);
    assert_eq!(harness.door.await.unwrap(), Closed::CutShort);
    assert_eq!(harness.service.memory.bytes_in_use(), 0);
    assert!(harness.service.values.lock().is_empty());
}

#[tokio::test]
async fn a_put_that_finds_no_room_is_refused_and_the_connection_goes_on() {
    let mut harness = opened(100_000).await;
    let (request, payloads) = put("large", 2 << 20);
    let error = error_of(&harness.client.call(request, payloads).await);
    assert_eq!((error.kind, error.limit), (ErrorKind::TooLarge, 1 << 20));
    let (request, payloads) = put("a", 700_000);
    harness.client.call(request, payloads).await;
    let (request, payloads) = put("b", 700_000);
    assert_eq!(error_of(&harness.client.call(request, payloads).await).kind, ErrorKind::Busy);
    let (request, payloads) = put("c", 7);
    assert!(matches!(harness.client.call(request, payloads).await.outcome, Outcome::Ok(Answer::Stored(_))));
}

#[tokio::test]
async fn bytes_of_another_protocol_end_the_connection_with_a_reason() {
    let mut harness = connect(1000, TestClock::Still, limits());
    harness.client.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(harness.client.end().await.message.contains("wrong magic"));
    drop(harness.client);
    assert!(matches!(harness.door.await.unwrap(), Closed::Refused(reason) if reason.contains("wrong magic")));
}

#[tokio::test]
async fn a_refused_peer_is_listened_to_until_it_has_heard_why_and_not_for_ever() {
    let mut harness = connect(1000, TestClock::Still, limits());
    // It hears nothing before it has said everything.
    harness.client.stream.write_all(&[b'x'; 1 << 20]).await.unwrap();
    assert!(harness.client.end().await.message.contains("wrong magic"));
    drop(harness.client);
    assert!(matches!(harness.door.await.unwrap(), Closed::Refused(_)));

    let tick = Arc::new(Notify::new());
    let mut harness = connect(100, TestClock::Ticking(tick.clone()), limits());
    harness.client.stream.write_all(b"GET / HTTP/1.1").await.unwrap();
    settle().await;
    assert!(!harness.door.is_finished());
    tick.notify_waiters();
    settle().await;
    assert!(harness.door.is_finished());
}

#[tokio::test]
async fn a_peer_that_moves_no_byte_is_cut_off() {
    let within = Duration::from_secs(30);
    let stalled = |moved| Closed::Stalled { owes: Owes::Request, moved, least: 64 << 10, within };
    let silent = connect(1000, TestClock::Rushing, limits());
    assert_eq!(silent.door.await.unwrap(), stalled(0));

    let mut half = connect(1000, TestClock::Rushing, limits());
    half.client.stream.write_all(b"BTNF").await.unwrap();
    assert!(matches!(half.door.await.unwrap(), Closed::Stalled { owes: Owes::Request, moved: 0 | 4, .. }));
}

/// A daemon whose stall limit passes whenever the test says so.
async fn ticking(pipe: usize) -> (Harness, Arc<Notify>) {
    let tick = Arc::new(Notify::new());
    let mut harness = connect(pipe, TestClock::Ticking(tick.clone()), limits());
    harness.client.call(open("acme", "secret"), vec![]).await;
    settle().await;
    (harness, tick)
}

/// Lets the door go as far as it can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_peer_that_trickles_a_large_request_is_cut_off_and_one_that_is_fast_enough_is_not() {
    let trickled = 70 << 10;
    let (request, payloads) = put("k", 1 << 20);
    for fast in [false, true] {
        let (mut harness, tick) = ticking(4 << 20).await;
        harness.client.wire.send(&request, payloads.clone()).unwrap();
        let mut bytes = Vec::new();
        while harness.client.wire.has_unsent() {
            let piece: Vec<u8> = harness.client.wire.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            harness.client.wire.advance_written(piece.len());
            bytes.extend(piece);
        }
        let (begin, rest) = bytes.split_at(trickled);
        harness.client.stream.write_all(begin).await.unwrap();
        settle().await;
        assert_eq!(harness.service.memory.bytes_in_use(), 1 << 20);
        let next = if fast { rest } else { &rest[..trickled] };
        harness.client.stream.write_all(next).await.unwrap();
        settle().await;
        tick.notify_waiters();
        if fast {
            harness.client.call(get("k"), vec![]).await;
            continue;
        }
        settle().await;
        assert!(harness.door.is_finished(), "it is served on");
        let Closed::Stalled { owes: Owes::Request, moved, least, .. } = harness.door.await.unwrap() else { panic!() };
        assert!(moved < 2 * trickled as u64 && least > 900 << 10, "{moved} of {least}");
        assert_eq!(harness.service.memory.bytes_in_use(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_trickles_its_answers_is_cut_off() {
    let (mut harness, tick) = ticking(1000).await;
    let (request, payloads) = put("k", 1 << 20);
    harness.client.call(request, payloads).await;
    harness.client.send(get("k"), vec![]).await;
    settle().await;
    for _ in 0..2 {
        let mut read = vec![0; 70 << 10];
        harness.client.stream.read_exact(&mut read).await.unwrap();
        settle().await;
        tick.notify_waiters();
        settle().await;
    }
    assert!(harness.door.is_finished(), "it is served on");
    let Closed::Stalled { owes: Owes::Reading, least, .. } = harness.door.await.unwrap() else { panic!() };
    assert!(least > 900 << 10, "{least}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off_and_its_answers_are_dropped() {
    let mut harness = connect(100, TestClock::Still, limits());
    harness.client.call(open("acme", "secret"), vec![]).await;
    let (request, payloads) = put("k", 10_000);
    harness.client.call(request, payloads).await;
    harness.client.send(get("k"), vec![]).await;
    tokio::task::yield_now().await;
    harness.service.values.lock().clear();
    assert_eq!(harness.service.memory.bytes_in_use(), 10_000, "the unread answer holds its payload");
    drop(harness.client);
    assert!(matches!(harness.door.await.unwrap(), Closed::Transport(_)));
    assert_eq!(harness.service.memory.bytes_in_use(), 0);
}
