//! What a well-behaved peer gets.

use super::*;
use bettong_wire::response::{Answer, MissReason};

#[tokio::test]
async fn values_survive_a_pipe_that_cuts_anywhere() {
    for pipe in [1, 7, 50, 100_000] {
        let mut harness = opened(pipe).await;
        for len in [0, 1, 5_000, 200_000] {
            let (request, payloads) = put("k", len);
            let (stored, got) = if pipe >= 100_000 || len <= 5_000 {
                let stored = harness.client.call(request, payloads.clone()).await;
                (stored, harness.client.call(get("k"), vec![]).await)
            } else {
                continue;
            };
            assert!(matches!(stored.outcome, Outcome::Ok(Answer::Stored(_))), "{stored:?}");
            assert_eq!(got.payloads, payloads, "{len} bytes through a pipe of {pipe}");
        }
        let miss = harness.client.call(get("other"), vec![]).await;
        assert_eq!(miss, Response::miss(MissReason::Absent));
        drop(harness.client);
        assert_eq!(harness.door.await.unwrap(), Closed::PeerLeft);
        harness.service.values.lock().clear();
        assert_eq!(harness.service.memory.bytes_in_use(), 0);
    }
}

#[tokio::test]
async fn answers_come_as_they_are_ready_not_as_they_were_asked() {
    let mut harness = opened(1000).await;
    let slow = harness.client.send(get("slow/a"), vec![]).await;
    let quick = harness.client.call(get("b"), vec![]).await;
    assert_eq!(quick, Response::miss(MissReason::Absent));
    assert!(harness.client.answers.is_empty());
    harness.service.release.notify_one();
    assert_eq!(harness.client.answer(slow).await, Response::miss(MissReason::Absent));
}

#[tokio::test]
async fn a_cancelled_request_is_answered_retry() {
    let mut harness = opened(1000).await;
    let slow = harness.client.send(get("slow/a"), vec![]).await;
    let cancel = harness.client.call(Request::Cancel { request_id: slow }, vec![]).await;
    assert_eq!(cancel, Response::ok(Answer::Cancelled));
    assert_eq!(error_of(&harness.client.answer(slow).await).kind, ErrorKind::Retry);
    let again = harness.client.call(Request::Cancel { request_id: slow }, vec![]).await;
    assert_eq!(again, Response::ok(Answer::Cancelled));
}

#[tokio::test]
async fn a_deadline_is_the_callers_or_the_default() {
    let mut harness = opened(1000).await;
    harness.client.call(get("a"), vec![]).await;
    let (request, payloads) = put("k", 1);
    harness.client.call(request, payloads).await;
    let second = 1_000_000_000;
    assert_eq!(*harness.service.deadlines.lock(), [7 + 30 * second, 7 + 3 * second / 2, 7 + 30 * second]);
}

#[tokio::test]
async fn a_stopping_door_answers_what_it_owes_and_says_goodbye() {
    let mut harness = opened(1000).await;
    let slow = harness.client.send(get("slow/a"), vec![]).await;
    harness.client.call(get("b"), vec![]).await;
    harness.stop.take().unwrap().send(()).unwrap();
    while error_kind(&harness.client.call(get("b"), vec![]).await) != Some(ErrorKind::Unavailable) {
        tokio::task::yield_now().await;
    }
    harness.service.release.notify_one();
    assert_eq!(harness.client.answer(slow).await, Response::miss(MissReason::Absent));
    let goodbye = harness.client.end().await;
    assert_eq!((goodbye.kind, goodbye.message.as_str()), (ErrorKind::Unavailable, "the daemon is shutting down"));
    assert_eq!(harness.door.await.unwrap(), Closed::Stopped);
}

fn error_kind(response: &Response) -> Option<ErrorKind> {
    match &response.outcome {
        Outcome::Error(error) => Some(error.kind),
        _ => None,
    }
}
