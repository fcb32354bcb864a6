//! Limits and fairness: unanswered requests, unread answers, large beside small.

use super::*;
use crate::error::ErrorKind;
use crate::request::{Get, GetBlocks, GetMany, NsHandle, ReadLimits, Target, Tier};
use crate::response::{Hit, Outcome};
use crate::tcp::*;

fn get(key: &str) -> Request {
    let target = Target::Plain(key.into());
    Request::Get(Get { ns: NsHandle(0), target, range: None, limits: ReadLimits::default() })
}

fn hit(len: usize) -> Response {
    let hit = Hit { total_len: len as u64, put_id: Default::default(), tier: Tier::Memory, expires_at_ms: 0 };
    Response::with_payloads(Answer::Hit(hit), vec![samples::payload(len)])
}

fn errors(heard: &[(u64, Response)]) -> Vec<(u64, ErrorKind)> {
    heard
        .iter()
        .filter_map(|(id, response)| match &response.outcome {
            Outcome::Error(error) => Some((*id, error.kind)),
            _ => None,
        })
        .collect()
}

#[test]
fn one_request_too_many_is_busy_and_a_ping_still_passes() {
    let limits = ServerLimits { requests_inflight_max: 2, ..small_limits() };
    let (_, mut server) = pair(limits, false);
    // A client of its own: the negotiated one would not send a third.
    let mut client = ClientConnection::new();
    for _ in 0..3 {
        client.send(&Request::Stats, vec![]).unwrap();
    }
    client.send(&Request::Ping, vec![]).unwrap();
    let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    assert!(matches!(
        heard.as_slice(),
        [Heard::Request(1, ..), Heard::Request(2, ..), Heard::Request(4, Request::Ping, _)]
    ));
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(errors(&heard), [(3, ErrorKind::Busy)]);
}

#[test]
fn a_client_keeps_to_the_limit_that_it_was_told() {
    let limits = ServerLimits { requests_inflight_max: 2, ..small_limits() };
    let (mut client, _) = pair(limits, false);
    assert!(client.has_room());
    client.send(&Request::Stats, vec![]).unwrap();
    client.send(&Request::Stats, vec![]).unwrap();
    assert!(!client.has_room());
}

#[test]
fn a_peer_that_does_not_read_pins_a_bounded_amount() {
    let limits = ServerLimits { unsent_bytes_max: 4 << 20, ..small_limits() };
    let (mut client, mut server) = pair(limits, false);
    let ids: Vec<u64> = (0..10).map(|_| client.send(&get("k"), vec![]).unwrap()).collect();
    let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    assert_eq!(heard.len(), 4, "four reads of a MiB are admitted, six wait");
    // Three have grown since they were weighed.
    server.answer(ids[0], hit(1 << 20));
    for id in &ids[1..4] {
        server.answer(*id, hit(3 << 20));
        assert!(server.unsent_bytes() <= (4 << 20) + 1000, "{} bytes are pinned", server.unsent_bytes());
    }
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(errors(&heard), [(ids[1], ErrorKind::Busy), (ids[2], ErrorKind::Busy), (ids[3], ErrorKind::Busy)]);
    assert_eq!(feed_server(&mut server, b"", &[1]).len(), 4);
}

#[test]
fn a_batch_is_refused_before_it_is_read_where_its_answer_passes_the_limit() {
    let limits = ServerLimits { unsent_bytes_max: 4 << 20, ..small_limits() };
    let (mut client, mut server) = pair(limits, false);
    let ask = |values: usize| {
        let targets = vec![Target::Plain("k".into()); values];
        Request::GetMany(GetMany { ns: NsHandle(0), targets, limits: ReadLimits::default() })
    };
    let (refused, read) = (client.send(&ask(5), vec![]).unwrap(), client.send(&ask(3), vec![]).unwrap());
    let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    assert!(matches!(heard.as_slice(), [Heard::Request(id, ..)] if *id == read), "{heard:?}");
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    let [(got, Response { outcome: Outcome::Error(error), .. })] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((*got, error.kind, error.limit), (refused, ErrorKind::TooLarge, 4 << 20));
    assert!(error.message.contains("5 values of 5242880 bytes"), "{error}");
}

#[test]
fn one_value_larger_than_the_credit_passes_alone() {
    let limits = ServerLimits { unsent_bytes_max: WEIGHT / 2, ..small_limits() };
    let (mut client, mut server) = pair(limits, false);
    let ping = client.send(&Request::Ping, vec![]).unwrap();
    let large = client.send(&get("k"), vec![]).unwrap();
    let next = client.send(&get("k"), vec![]).unwrap();
    let bytes = client_bytes(&mut client);
    assert_eq!(feed_server(&mut server, &bytes, &[usize::MAX]).len(), 2, "a ping and one read");
    server.answer(ping, Response::ok(Answer::Pong));
    server.answer(large, hit(WEIGHT as usize));
    assert_eq!(feed_server(&mut server, b"", &[1]), vec![], "the other one waits");
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(heard, [(ping, Response::ok(Answer::Pong)), (large, hit(WEIGHT as usize))]);
    assert!(matches!(feed_server(&mut server, b"", &[1]).as_slice(), [Heard::Request(id, ..)] if *id == next));
}

#[test]
fn a_peer_that_leaves_long_answers_unread_is_no_longer_read_from() {
    let limits = ServerLimits { unsent_bytes_max: 4 << 20, frame_bytes_max: 4 << 20, ..small_limits() };
    let (mut client, mut server) = pair(limits, false);
    let name = crate::response::ListName::Plain("k".repeat(1000));
    let entry = crate::response::ListEntry { name, len: 0, put_id: Default::default(), expires_at_ms: 0 };
    let page = crate::response::ListPage { entries: vec![entry; 1000], cursor: vec![] };
    let (_, list) = samples::requests().into_iter().find(|(name, _)| *name == "list").unwrap();
    let mut pages = 0;
    while server.wants_bytes() {
        let id = client.send(&list, vec![]).unwrap();
        feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
        server.answer(id, Response::ok(Answer::Page(page.clone())));
        pages += 1;
        assert!(pages <= 5, "{} bytes are unread", server.unsent_bytes());
    }
    assert!(!server.wants_bytes());
    server_bytes(&mut server);
    assert!(server.wants_bytes());
}

#[test]
fn a_peer_that_floods_and_does_not_read_is_no_longer_read_from() {
    let (_, mut server) = pair(small_limits(), false);
    let mut client = ClientConnection::new();
    let mut fed = 0;
    while server.wants_bytes() {
        client.send(&Request::Ping, vec![]).unwrap();
        for heard in feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]) {
            if let Heard::Request(id, ..) = heard {
                server.answer(id, Response::ok(Answer::Pong));
            }
        }
        fed += 1;
        assert!(fed < 1000, "it is read from for ever");
    }
    server_bytes(&mut server);
    assert!(server.wants_bytes());
}

#[test]
fn a_small_answer_does_not_wait_for_a_large_one() {
    let (mut client, mut server) = pair(small_limits(), true);
    let large = client.send(&get("large"), vec![]).unwrap();
    let small = client.send(&get("small"), vec![]).unwrap();
    feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    server.answer(large, hit(1 << 20));
    server.answer(small, hit(10));
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(heard, [(small, hit(10)), (large, hit(1 << 20))]);
}

#[test]
fn a_batch_answer_streams_over_several_frames() {
    let (mut client, mut server) = pair(small_limits(), true);
    let key = crate::BlockKey { hash: crate::BlockHash([1; 32]), part: crate::Part(0) };
    let limits = ReadLimits::default();
    let ask = GetBlocks { ns: NsHandle(0), keys: vec![key; 5], leading: true, limits };
    let id = client.send(&Request::GetBlocks(ask), vec![]).unwrap();
    feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    let hits = [100_000_usize, 0, 70_000, 1].map(hit);
    let items = hits.iter().map(|hit| match &hit.outcome {
        Outcome::Ok(Answer::Hit(hit)) => crate::response::ItemOutcome::Hit(hit.clone()),
        other => panic!("{other:?}"),
    });
    let payloads = hits.iter().flat_map(|hit| hit.payloads.clone()).collect();
    let response = Response::with_payloads(Answer::Items(items.collect()), payloads);
    server.answer(id, response.clone());
    let bytes = server_bytes(&mut server);
    let frames = bytes.windows(4).filter(|window| *window == FRAME_MAGIC).count();
    assert_eq!(frames, 3, "170,001 bytes in frames of 64 KiB");
    assert_eq!(feed_client(&mut client, &bytes, &[5000, 1, 70_000]), [(id, response)]);
}

#[test]
fn a_request_is_withdrawn_while_it_waits_and_while_its_payload_comes_in() {
    let limits = ServerLimits { unsent_bytes_max: 1 << 20, ..small_limits() };
    let (mut client, mut server) = pair(limits, false);
    let running = client.send(&get("a"), vec![]).unwrap();
    let waiting = client.send(&get("b"), vec![]).unwrap();
    let (_, put) = samples::requests().into_iter().find(|(name, _)| *name == "put block").unwrap();
    let put = match put {
        Request::Put(put) => Request::Put(crate::request::Put { len: 100_000, ..put }),
        other => other,
    };
    let bytes = client_bytes(&mut client);
    let coming = client.send(&put, samples::payloads_of(&put)).unwrap();
    let put_bytes = client_bytes(&mut client);
    let (now, later) = put_bytes.split_at(40_000);
    let heard = feed_server(&mut server, &[&bytes, now].concat(), &[usize::MAX]);
    assert!(matches!(heard.as_slice(), [Heard::Request(id, ..)] if *id == running));
    assert!(server.withdraw(waiting) && server.withdraw(coming) && !server.withdraw(running));
    assert_eq!(feed_server(&mut server, later, &[usize::MAX]), vec![]);
    assert!(server.is_between_requests());
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(errors(&heard), [(waiting, ErrorKind::Retry), (coming, ErrorKind::Retry)]);
    server.answer(running, hit(1));
    assert_eq!(feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]), [(running, hit(1))]);
}

#[test]
fn an_abandoned_request_is_cancelled_and_its_late_answer_thrown_away() {
    let (mut client, mut server) = pair(small_limits(), false);
    let id = client.send(&get("a"), vec![]).unwrap();
    client.abandon(id);
    client.abandon(id);
    let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    let [Heard::Request(got, ..), Heard::Request(cancel, Request::Cancel { request_id }, _)] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!((*got, *request_id), (id, id));
    server.answer(*cancel, Response::ok(Answer::Cancelled));
    server.answer(id, hit(200_000));
    assert_eq!(feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]), []);
    assert_eq!(client.unanswered(), 0);
}

#[test]
fn a_draining_daemon_answers_what_is_under_way_and_turns_the_rest_away() {
    let (mut client, mut server) = pair(small_limits(), false);
    let first = client.send(&Request::Stats, vec![]).unwrap();
    feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    server.drain();
    let second = client.send(&Request::Stats, vec![]).unwrap();
    assert_eq!(feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]), []);
    server.answer(first, Response::with_payloads(Answer::Stats, vec![samples::payload(3)]));
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    assert_eq!(errors(&heard), [(second, ErrorKind::Unavailable)]);
    assert_eq!((heard.len(), server.unanswered()), (2, 0));
}
