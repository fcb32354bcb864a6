//! Properties of the byte stream: where it is cut does not matter, and a flipped bit does not pass.

use super::*;
use crate::message::Op;
use crate::tcp::*;
use proptest::prelude::*;

/// The requests as a client would write them, and what a server should hear.
fn written(client: &mut ClientConnection, requests: &[Request]) -> (Vec<u8>, Vec<Heard>) {
    let mut expected = Vec::new();
    for request in requests {
        let payloads = samples::payloads_of(request);
        let id = client.send(request, payloads.clone()).unwrap();
        expected.push(Heard::Request(id, request.clone(), payloads));
    }
    (client_bytes(client), expected)
}

fn sorted(mut heard: Vec<Heard>) -> Vec<Heard> {
    heard.sort_by_key(|heard| match heard {
        Heard::Request(id, ..) => *id,
        Heard::Closing(_) => u64::MAX,
    });
    heard
}

/// A put large enough for several small frames.
fn large_put(len: u64) -> Request {
    match samples::requests().into_iter().find(|(name, _)| *name == "put block").unwrap().1 {
        Request::Put(put) => Request::Put(crate::request::Put { len, ..put }),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_requests_is_heard_alike(
        requests in prop::collection::vec(samples::any_request(), 1..8),
        large in 0..200_000_u64,
        sizes in prop::collection::vec(1..40_000_usize, 1..20),
        payload_crc: bool,
    ) {
        let (mut client, mut server) = pair(small_limits(), payload_crc);
        let requests: Vec<Request> = requests.into_iter().chain([large_put(large)]).collect();
        let (bytes, expected) = written(&mut client, &requests);
        let heard = feed_server(&mut server, &bytes, &sizes);
        prop_assert_eq!(sorted(heard), expected);
        prop_assert!(server.is_between_requests());
    }

    #[test]
    fn any_split_of_answers_is_heard_alike(
        responses in prop::collection::vec(samples::any_response(), 1..8),
        large in 0..200_000_usize,
        sizes in prop::collection::vec(1..40_000_usize, 1..20),
        payload_crc: bool,
    ) {
        let (mut client, mut server) = pair(small_limits(), payload_crc);
        let put_id = Default::default();
        let hit = crate::response::Hit { total_len: large as u64, put_id, tier: crate::request::Tier::Disk, expires_at_ms: 0 };
        let large = (Op::Get, Response::with_payloads(Answer::Hit(hit), vec![samples::payload(large)]));
        let mut expected = Vec::new();
        for (op, response) in responses.into_iter().chain([large]) {
            let request = request_for(op, &response);
            let id = client.send(&request, samples::payloads_of(&request)).unwrap();
            expected.push((id, response));
        }
        let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
        prop_assert_eq!(heard.len(), expected.len());
        for (id, response) in expected.iter().rev() {
            server.answer(*id, response.clone());
        }
        let mut heard = feed_client(&mut client, &server_bytes(&mut server), &sizes);
        heard.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(heard, expected);
        prop_assert_eq!(client.unanswered(), 0);
    }

    #[test]
    fn no_flipped_bit_passes(
        requests in prop::collection::vec(samples::any_request(), 1..4),
        at: prop::sample::Index,
        bit in 0..8,
    ) {
        let (mut client, mut server) = pair(small_limits(), true);
        let (mut bytes, expected) = written(&mut client, &requests);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let heard = feed_server(&mut server, &bytes, &[usize::MAX]);
        let complained = server.has_unsent() || !server.is_between_requests();
        prop_assert!(complained, "the flip of byte {} went unnoticed", at);
        for one in heard.iter().filter(|heard| matches!(heard, Heard::Request(..))) {
            prop_assert!(expected.contains(one), "a request that nobody sent: {:?}", one);
        }
    }

    #[test]
    fn no_flipped_bit_of_an_answer_passes((op, response) in samples::any_response(), at: prop::sample::Index, bit in 0..8) {
        let (mut client, mut server) = pair(small_limits(), true);
        let request = request_for(op, &response);
        let id = client.send(&request, samples::payloads_of(&request)).unwrap();
        feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
        server.answer(id, response.clone());
        let mut bytes = server_bytes(&mut server);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        for (_, heard) in feed_client(&mut client, &bytes, &[usize::MAX]) {
            let is_error = matches!(&heard.outcome, Outcome::Error(error) if error.kind == crate::ErrorKind::Retry);
            prop_assert!(is_error, "the flip of byte {} made it {:?}", at, heard);
        }
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes: Vec<u8>, frame in 0..200_u32, id: u64, op in 0..25_u8) {
        let mut server = ServerConnection::new(small_limits());
        feed_server(&mut server, &bytes, &[usize::MAX]);
        let mut server = ServerConnection::new(small_limits());
        let head = crate::message::MessageHead {
            archive_len: frame.min(bytes.len() as u32),
            ..crate::message::MessageHead::new(Op::from_code(op), crate::message::Direction::Request, id)
        };
        let message = [head.to_bytes().as_slice(), bytes.as_slice()].concat();
        let covered = &message[..32 + head.archive_len as usize];
        let header = FrameHeader::seal(0, message.len() as u32, covered);
        feed_server(&mut server, &[header.to_bytes().as_slice(), message.as_slice()].concat(), &[7]);
    }
}

/// A request to which `response` is an answer.
fn request_for(op: Op, response: &Response) -> Request {
    let (_, request) = samples::requests().into_iter().find(|(_, request)| request.op() == op).unwrap();
    match (request, &response.outcome) {
        (Request::Get(get), Outcome::Ok(Answer::Hit(hit))) if response.payloads[0].len() as u64 != hit.total_len => {
            Request::Get(crate::request::Get { range: Some((0, hit.total_len)), ..get })
        }
        (Request::GetBlocks(get), Outcome::Ok(Answer::Items(items))) => {
            let keys = std::iter::repeat_n(get.keys[0], items.len()).collect();
            Request::GetBlocks(crate::request::GetBlocks { keys, leading: false, ..get })
        }
        (request, _) => request,
    }
}
