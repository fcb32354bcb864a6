//! What does not fit: rings, quotas, staging and memory.

use super::*;
use crate::session::client::RequestError;
use bettong_wire::{ErrorKind, ServiceError};

fn error_of(response: Response) -> ServiceError {
    match response.outcome {
        Outcome::Error(error) => error,
        outcome => panic!("{outcome:?}"),
    }
}

/// Asks for so many values and has them answered.
fn ask(pair: &mut Pair, payloads: Vec<Payload>) -> Response {
    let id = pair.client.request(&get_many(payloads.len()), &[]).unwrap();
    let (asked, ..) = pair.request();
    assert_eq!(asked, id);
    pair.server.answer(id, hits(payloads));
    pair.client.recv().unwrap().unwrap().1
}

#[test]
fn over_the_quota_an_answer_is_busy_until_something_is_released() {
    let mut pair = opened(&Plan { quota_bytes: 3 * 4096, ..Plan::default() });
    let values: Vec<_> = (0..4).map(|byte| pair.put(4096, byte)).collect();
    let first = ask(&mut pair, values[..2].to_vec());
    assert_eq!(first.payloads.len(), 2);
    let busy = error_of(ask(&mut pair, values[2..].to_vec()));
    assert_eq!((busy.kind, pair.leases.bytes_of(SESSION)), (ErrorKind::Busy, Some(2 * 4096)), "{busy}");
    drop(first);
    assert_eq!(ask(&mut pair, values[2..].to_vec()).payloads.len(), 2);
    let never = error_of(ask(&mut pair, values.clone()));
    assert_eq!((never.kind, never.limit), (ErrorKind::TooLarge, 3 * 4096), "{never}");
    drop(values);
    pair.is_idle();
    assert_eq!(pair.pool.usage().slots, 0);
}

#[test]
fn without_memory_for_a_copy_an_answer_is_busy() {
    let mut pair = opened(&Plan { quota_bytes: 1 << 20, ..Plan::default() });
    let all: Vec<_> = std::iter::from_fn(|| pair.pool.adopt(vec![1; 16_384].into()).ok()).collect();
    let answer = ask(&mut pair, vec![vec![2; 3000].into()]);
    let busy = error_of(answer);
    assert_eq!(busy.kind, ErrorKind::Busy, "{busy}");
    // An error with a long text needs memory, too: it keeps its kind.
    let id = pair.client.request(&put_one(0), &[&[]]).unwrap();
    pair.server.next_event().unwrap();
    let text = "ü".repeat(500);
    pair.server.answer(id, Response::error(ServiceError::new(ErrorKind::Internal, text.clone())));
    let error = error_of(pair.client.recv().unwrap().unwrap().1);
    assert!(error.kind == ErrorKind::Internal && text.starts_with(&error.message), "{error}");
    assert!(error.message.len() > 50, "{error}");
    // What was done is not called busy.
    let id = pair.client.request(&together::put_blocks(&[0; 8]), &[&[][..]; 8]).unwrap();
    // Its message is long: it is read alone.
    let served = (0..3).any(|_| matches!(pair.server.next_event(), Ok(ServerEvent::Request { .. })));
    assert!(served);
    let stored = Stored { put_id: PutId { life: 1, counter: 1 }, already: false };
    pair.server.answer(id, Response::ok(Answer::StoredBatch(vec![stored; 8])));
    let error = error_of(pair.client.recv().unwrap().unwrap().1);
    assert!(error.kind == ErrorKind::Retry && error.message.starts_with("done, but"), "{error}");
    drop(all);
    let answer = ask(&mut pair, vec![vec![2; 3000].into()]);
    assert_eq!(answer.payloads[0].as_ref(), [2; 3000]);
    drop(answer);
    pair.is_idle();
}

#[test]
fn answers_wait_for_room_and_no_more_than_the_limit() {
    let limits = ServerLimits { inline_max: INLINE_MAX, requests_inflight_max: 8, queued_bytes_max: 1000 };
    let mut pair = opened(&Plan { limits, ..Plan::default() });
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let id = pair.client.request(&get_many(1), &[]).unwrap();
            pair.request();
            id
        })
        .collect();
    let limit = RequestError::Inflight { limit: 8 };
    assert_eq!(pair.client.request(&get_many(1), &[]), Err(limit));
    for id in &asked {
        pair.server.answer(*id, hits(vec![vec![*id as u8; 100].into()]));
    }
    assert!((1..2000).contains(&pair.server.queued_bytes()));
    assert!(pair.server.unanswered() > 3, "a request is under way until its answer is written");
    let mut kinds = Vec::new();
    for id in asked {
        let (answered, response) = pair.client.recv().unwrap().unwrap();
        assert_eq!(answered, id, "in the order in which they were given");
        kinds.push(matches!(response.outcome, Outcome::Error(_)));
        pair.server.next_event().unwrap();
    }
    assert!(kinds.starts_with(&[false; 4]) && kinds.ends_with(&[true]), "{kinds:?}");
    pair.is_idle();
}

#[test]
fn a_request_is_sent_whole_or_not_at_all() {
    let mut pair = opened(&Plan::default());
    let full = (0..20).find_map(|_| pair.client.request(&get_many(0), &[]).err()).unwrap();
    assert_eq!(full, RequestError::Inflight { limit: 6 });
    let mut pair = opened(&Plan { to_daemon_words: 128, ..Plan::default() });
    let mut sent = 0;
    let full = loop {
        match pair.client.request(&put_one(3000), &[&[1; 3000]]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, RequestError::Full { .. }), "{full}");
    assert_eq!(pair.client.staging().free_bytes(), STAGING_BYTES as u64 - sent * 3008);
    for _ in 0..sent {
        let (id, ..) = pair.request();
        pair.server.answer(id, stored());
    }
    assert!(matches!(pair.server.next_event(), Ok(ServerEvent::Idle)), "part of a request is there");
    while pair.client.recv().unwrap().is_some() {}
    pair.client.request(&put_one(3000), &[&[1; 3000]]).unwrap();

    let long = STAGING_BYTES as u64 + 1;
    let error = pair.client.request(&put_one(long), &[&vec![1; long as usize]]).unwrap_err();
    assert!(matches!(error, RequestError::NoStaging(no) if no.is_for_ever() && no.len == long), "{error}");
}

#[test]
fn what_an_unanswered_request_names_is_nobodys_after_its_session() {
    let Pair { mut client, mut server, pool, .. } = opened(&Plan::default());
    let area = client.staging().clone();
    let before = area.reserve(64).unwrap();
    client.request(&put_one(1000), &[&[7; 1000]]).unwrap();
    let Ok(ServerEvent::Request { body, .. }) = server.next_event() else { panic!("it was sent") };
    // The daemon goes on with it when the client has long given it up.
    drop(client);
    assert!(area.stage(&[8; 1000]).is_err());
    drop(before);
    assert!(area.stage(&[8]).is_err());
    let copied = server.copy_body(&body, pool.reserve_all(&[1000]).unwrap()).unwrap();
    assert_eq!(copied[0].as_ref(), [7; 1000]);
}

#[test]
fn before_a_namespace_is_open_little_passes() {
    let mut pair = pair(&Plan::default());
    let id = pair.client.request(&put_one(100), &[&[1; 100]]).unwrap();
    assert!(matches!(pair.server.next_event(), Ok(ServerEvent::Idle)));
    let (answered, response) = pair.client.recv().unwrap().unwrap();
    assert_eq!((answered, error_of(response).kind), (id, ErrorKind::Denied));
    let limit = RequestError::Inflight { limit: 1 };
    pair.client.request(&open(), &[]).unwrap();
    assert_eq!(pair.client.request(&open(), &[]), Err(limit));
    pair.client.request(&Request::Ping, &[]).unwrap();
    pair.request();
    pair.request();
}

#[test]
fn who_drains_turns_away() {
    let mut pair = opened(&Plan::default());
    pair.server.drain();
    pair.client.request(&get_many(0), &[]).unwrap();
    assert!(matches!(pair.server.next_event(), Ok(ServerEvent::Idle)));
    assert_eq!(error_of(pair.client.recv().unwrap().unwrap().1).kind, ErrorKind::Unavailable);
}

#[test]
fn the_default_ring_takes_the_longest_request() {
    let segment = || Arc::new(HeapSegment::new(RING_WORDS_DEFAULT));
    let sender = crate::ring::Sender::new(segment(), segment(), crate::frame::INLINE_BYTES_DEFAULT).unwrap();
    let payload = crate::MmapRef { map: MAP_STAGING, generation: 0, offset: 0, len: 1 };
    let message = [0; crate::frame::INLINE_BYTES_DEFAULT as usize];
    let mut frames = vec![crate::Frame::Inline(&message)];
    frames.resize(1 + bettong_wire::limits::BATCH_ITEMS_MAX, crate::Frame::Mmap(payload));
    assert_eq!(sender.check_length(&frames), Ok(()));
}
