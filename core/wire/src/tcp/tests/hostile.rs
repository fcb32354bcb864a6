//! What a peer may try: everything inside a sound frame gets a typed answer, a broken frame ends the connection.

use super::*;
use crate::error::{ErrorKind, ServiceError};
use crate::limits::{self, MESSAGE_BYTES_MAX};
use crate::message::{Direction, MessageHead, Op};
use crate::response::Outcome;
use crate::tcp::*;

/// A sound frame around any head, archive and payload bytes.
fn frame(head: MessageHead, archive: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = MessageHead { archive_len: archive.len() as u32, ..head };
    let message = [head.to_bytes().as_slice(), archive].concat();
    let header = FrameHeader::seal(0, (message.len() + payload.len()) as u32, &message);
    [header.to_bytes().as_slice(), &message, payload].concat()
}

fn head(op: Op, id: u64) -> MessageHead {
    MessageHead::new(Some(op), Direction::Request, id)
}

fn ping(id: u64) -> Vec<u8> {
    frame(head(Op::Ping, id), b"", b"")
}

/// What the server answers to raw bytes, after it has answered every ping. The ids of pings come last.
fn answers(server: &mut ServerConnection, bytes: &[u8]) -> (Vec<(u64, Option<ServiceError>)>, bool) {
    let heard = feed_server(server, bytes, &[1000]);
    let closing = matches!(heard.last(), Some(Heard::Closing(_)));
    for one in heard {
        if let Heard::Request(id, Request::Ping, _) = one {
            server.answer(id, Response::ok(Answer::Pong));
        }
    }
    let mut receiver = Receiver::new(Direction::Response, u32::MAX, 100);
    let (bytes, mut answers) = (server_bytes(server), Vec::new());
    let mut rest = bytes.as_slice();
    loop {
        match receiver.poll().unwrap() {
            Received::Message { head, archive } => {
                let response = crate::message::decode_response(&head, &archive).unwrap();
                let error = match response.outcome {
                    Outcome::Error(error) => Some(error),
                    _ => None,
                };
                answers.push((head.request_id, error));
            }
            Received::NeedBytes if rest.is_empty() => return (answers, closing),
            Received::NeedBytes => {
                let n = rest.len().min(4000);
                receiver.read_into().put_slice(&rest[..n]);
                receiver.advance(n);
                rest = &rest[n..];
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The bad message gets an error of this kind, and the ping behind it a pong.
fn goes_on_after(bad: Vec<u8>, kind: ErrorKind, text: &str) {
    let (_, mut server) = pair(small_limits(), false);
    let (answers, closing) = answers(&mut server, &[bad, ping(1000)].concat());
    let [(id, Some(error)), (1000, None)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((*id, error.kind), (5, kind), "{error}");
    assert!(error.message.contains(text), "{error}");
    assert!(!closing);
}

fn closes_after(bad: Vec<u8>, text: &str) {
    let (_, mut server) = pair(small_limits(), false);
    let (answers, closing) = answers(&mut server, &[bad, ping(1000)].concat());
    let [(0, Some(error))] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(error.message.contains(text), "{error}");
    assert!(closing && !server.wants_bytes());
}

#[test]
fn a_malformed_message_in_a_sound_frame_is_answered_and_the_connection_goes_on() {
    use ErrorKind::{Invalid, TooLarge};
    goes_on_after(frame(MessageHead { op: 77, ..head(Op::Ping, 5) }, b"", b""), Invalid, "unknown value 77");
    goes_on_after(frame(MessageHead { magic: [1; 16], ..head(Op::Ping, 5) }, b"", b""), Invalid, "magic");
    goes_on_after(frame(MessageHead { status: 1, ..head(Op::Ping, 5) }, b"", b""), Invalid, "status");
    goes_on_after(frame(MessageHead { flags: 4, ..head(Op::Ping, 5) }, b"", b""), Invalid, "flag");
    goes_on_after(frame(head(Op::Ping, 5), b"x", b""), Invalid, "belong to nothing");
    goes_on_after(frame(head(Op::Ping, 5), b"", b"x"), Invalid, "payload bytes");
    goes_on_after(frame(head(Op::Put, 5), b"not an archive", b"payload"), Invalid, "archive of a put");
    let oversize = vec![0; SMALL_FRAME as usize];
    goes_on_after(frame(head(Op::Put, 5), b"", &oversize), TooLarge, "over the limit of 65536");
    let archive = vec![0; MESSAGE_BYTES_MAX as usize + 1];
    goes_on_after(frame(head(Op::LookupBlockPrefix, 5), &archive, b""), TooLarge, "over the limit of 4194304");
}

#[test]
fn a_broken_frame_ends_the_connection_with_a_reason() {
    let with = |at: usize, byte: u8| {
        let mut bytes = ping(5);
        bytes[at] = byte;
        bytes
    };
    closes_after(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "wrong magic");
    closes_after(with(4, 2), "version 2");
    closes_after(with(8, 0), "checksum");
    closes_after(with(30, 9), "checksum");
    closes_after(with(12, 31), "31 are there");
    closes_after(with(47, 0x7f), "are there");
    closes_after(ping(0), "id of a request");
    closes_after(frame(MessageHead { flags: 2, ..head(Op::Put, 5) }, b"", b"x"), "continuing frame");
}

#[test]
fn one_id_names_one_request() {
    let (mut client, mut server) = pair(small_limits(), false);
    let (_, stats) = samples::requests().into_iter().find(|(name, _)| *name == "stats").unwrap();
    client.send(&stats, vec![]).unwrap();
    let bytes = client_bytes(&mut client);
    let (answers, closing) = answers(&mut server, &[bytes.clone(), bytes].concat());
    assert!(closing && matches!(answers.as_slice(), [(0, Some(error))] if error.message.contains("id of a request")));
}

#[test]
fn nothing_but_ping_and_open_passes_before_open() {
    let mut server = ServerConnection::new(small_limits());
    let mut sender = Sender::new(Direction::Request, 1 << 20);
    for (id, (_, request)) in (1..).zip(samples::requests()) {
        let message = crate::message::encode_request(id, &request, samples::payloads_of(&request)).unwrap();
        sender.push(message).unwrap();
    }
    let mut bytes = Vec::new();
    while !sender.is_empty() {
        let piece: Vec<u8> = sender.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        sender.advance(piece.len());
        bytes.extend(piece);
    }
    let heard = feed_server(&mut server, &bytes, &[100]);
    assert!(heard.iter().all(|one| matches!(one, Heard::Request(_, Request::Ping | Request::Open(_), _))), "{heard:?}");
    let (answers, _) = answers(&mut server, b"");
    assert_eq!(answers.len() + heard.len(), samples::requests().len());
    assert!(answers.iter().all(|(_, error)| error.as_ref().is_some_and(|error| error.kind == ErrorKind::Denied)));
}

#[test]
fn nobody_holds_a_long_archive_before_open() {
    let mut server = ServerConnection::new(small_limits());
    let long = vec![0; limits::OPENING_BYTES_MAX as usize + 1];
    let bytes = [frame(head(Op::Open, 5), &long, b""), ping(1000)].concat();
    // All but the last bytes of the archive: it is not kept.
    let (most, rest) = bytes.split_at(long.len());
    feed_server(&mut server, most, &[usize::MAX]);
    assert_eq!(server.owed_bytes(), 0, "room is held for it");
    let (answers, closing) = answers(&mut server, rest);
    let [(5, Some(error)), (1000, None)] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((error.kind, error.limit, closing), (ErrorKind::TooLarge, 32 << 10, false));
}

#[test]
fn room_is_asked_for_a_long_archive_and_a_refused_one_is_skipped() {
    let ask = crate::request::LookupBlockPrefix {
        ns: crate::request::NsHandle(0),
        hashes: vec![crate::BlockHash([7; 32]); 65_536],
        parts: vec![],
    };
    let limits = ServerLimits { frame_bytes_max: 4 << 20, ..small_limits() };
    for refused in [false, true] {
        let (mut client, mut server) = pair(limits.clone(), false);
        client.send(&Request::LookupBlockPrefix(ask.clone()), vec![]).unwrap();
        let ping = client.send(&Request::Ping, vec![]).unwrap();
        let bytes = client_bytes(&mut client);
        let (begin, rest) = bytes.split_at(1000);
        let mut into = server.read_into();
        into.put_slice(begin);
        server.advance_read(begin.len());
        let ServerEvent::ReserveArchive { len } = server.next_event() else { panic!("no room is asked for") };
        if refused {
            server.refuse_archive(ServiceError::busy("no room", 1));
        } else {
            server.fill_archive(memory().reserve(len.into()).unwrap());
            assert_eq!(server.owed_bytes(), u64::from(len));
        }
        let heard = feed_server(&mut server, rest, &[100_000, 1, 3]);
        match heard.as_slice() {
            [Heard::Request(_, Request::LookupBlockPrefix(heard), _), Heard::Request(..)] => assert_eq!(*heard, ask),
            [Heard::Request(id, ..)] if refused => assert_eq!(*id, ping),
            other => panic!("{other:?}"),
        }
        let answers = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
        assert_eq!(answers.len(), usize::from(refused));
    }
}

#[test]
fn a_payload_that_changed_on_the_way_is_answered_retry() {
    let (mut client, mut server) = pair(small_limits(), true);
    let (_, put) = samples::requests().into_iter().find(|(name, _)| *name == "put block").unwrap();
    let id = client.send(&put, samples::payloads_of(&put)).unwrap();
    let mut bytes = client_bytes(&mut client);
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    assert_eq!(feed_server(&mut server, &bytes, &[usize::MAX]), vec![]);
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    let [(got, Response { outcome: Outcome::Error(error), .. })] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((*got, error.kind), (id, ErrorKind::Retry));
}

#[test]
fn payloads_without_the_agreed_checksum_end_the_connection() {
    let (_, mut server) = pair(small_limits(), true);
    let mut plain = Sender::new(Direction::Request, 1 << 20);
    let (_, put) = samples::requests().into_iter().find(|(name, _)| *name == "put block").unwrap();
    plain.push(crate::message::encode_request(9, &put, samples::payloads_of(&put)).unwrap()).unwrap();
    let bytes: Vec<u8> = plain.slices().iter().flat_map(|slice| slice.to_vec()).collect();
    let heard = feed_server(&mut server, &bytes, &[usize::MAX]);
    assert!(matches!(heard.as_slice(), [Heard::Closing(reason)] if reason.contains("checksum")), "{heard:?}");
}

#[test]
fn a_client_believes_no_answer_that_it_did_not_ask_for() {
    let answer = |op, id, response| crate::message::encode_response(Some(op), id, response);
    let cases = [
        answer(Op::Ping, 99, Response::ok(Answer::Pong)),
        answer(Op::Close, 2, Response::ok(Answer::Closed)),
        answer(Op::GetBlocks, 2, Response::ok(Answer::Items(vec![]))),
    ];
    for message in cases {
        let (mut client, _) = pair(small_limits(), false);
        let (_, get) = samples::requests().into_iter().find(|(name, _)| *name == "get blocks").unwrap();
        let get = match get {
            Request::GetBlocks(get) => Request::GetBlocks(crate::request::GetBlocks { leading: false, ..get }),
            other => other,
        };
        assert_eq!(client.send(&get, vec![]).unwrap(), 2);
        let mut sender = Sender::new(Direction::Response, 1 << 20);
        sender.push(message).unwrap();
        let bytes: Vec<u8> = sender.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        let heard = feed_client(&mut client, &bytes, &[usize::MAX]);
        let [(0, Response { outcome: Outcome::Error(error), .. })] = heard.as_slice() else { panic!("{heard:?}") };
        assert_eq!(error.kind, ErrorKind::Retry);
    }
}
