//! Both ends of a connection, fed by hand.

mod flow;
mod frames;
mod hostile;
mod stream;

use super::*;
use crate::memory::{BlockMemory, HeapMemory, Payload};
use crate::request::Request;
use crate::response::{Answer, Opened, Outcome, Response, SessionLimits};
use crate::{NamespaceId, samples};
use bytes::BufMut;

/// Frames small enough that a value of some hundred KiB takes several.
pub(super) const SMALL_FRAME: u32 = crate::limits::FRAME_BYTES_MIN;

pub(super) fn memory() -> HeapMemory {
    HeapMemory::new(1 << 30, 1 << 30)
}

/// What a server heard.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum Heard {
    Request(u64, Request, Vec<Payload>),
    Closing(String),
}

/// What each value has that a server is asked for, in `feed_server`.
pub(super) const WEIGHT: u64 = 1 << 20;

/// Feeds `bytes` in pieces of the given sizes (in turn) and collects what the server hears. Requests are not answered.
pub(super) fn feed_server(server: &mut ServerConnection, bytes: &[u8], sizes: &[usize]) -> Vec<Heard> {
    let (mut heard, mut rest, mut sizes) = (Vec::new(), bytes, sizes.iter().cycle());
    loop {
        match server.next_event() {
            ServerEvent::Request { id, request, body } => heard.push(Heard::Request(id, request, body)),
            ServerEvent::Weigh { id, request } => {
                let values = match &request {
                    Request::GetMany(body) => body.targets.len(),
                    Request::GetBlocks(body) => body.keys.len(),
                    _ => 1,
                };
                server.weighed(id, request, values as u64 * WEIGHT);
            }
            ServerEvent::ReserveArchive { len } => server.fill_archive(memory().reserve(len.into()).unwrap()),
            ServerEvent::Reserve { lens, .. } => {
                server.fill(lens.iter().map(|len| memory().reserve(*len).unwrap()).collect())
            }
            ServerEvent::Closing { reason } => {
                heard.push(Heard::Closing(reason));
                return heard;
            }
            ServerEvent::NeedBytes if rest.is_empty() => return heard,
            ServerEvent::NeedBytes => {
                let mut into = server.read_into();
                let n = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len().min(into.remaining_mut()));
                into.put_slice(&rest[..n]);
                server.advance_read(n);
                rest = &rest[n..];
            }
        }
    }
}

/// The same for a client.
pub(super) fn feed_client(client: &mut ClientConnection, bytes: &[u8], sizes: &[usize]) -> Vec<(u64, Response)> {
    let (mut heard, mut rest, mut sizes) = (Vec::new(), bytes, sizes.iter().cycle());
    loop {
        match client.next_event() {
            ClientEvent::Response { id, response } => heard.push((id, response)),
            ClientEvent::Reserve { lens, .. } => {
                client.fill(lens.iter().map(|len| memory().reserve(*len).unwrap()).collect())
            }
            ClientEvent::Closed { error } => {
                heard.push((0, Response::error(error)));
                return heard;
            }
            ClientEvent::NeedBytes if rest.is_empty() => return heard,
            ClientEvent::NeedBytes => {
                let mut into = client.read_into();
                let n = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len().min(into.remaining_mut()));
                into.put_slice(&rest[..n]);
                client.advance_read(n);
                rest = &rest[n..];
            }
        }
    }
}

pub(super) fn server_bytes(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.has_unsent() {
        let piece: Vec<u8> = server.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        server.advance_written(piece.len());
        bytes.extend(piece);
    }
    bytes
}

pub(super) fn client_bytes(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.has_unsent() {
        let piece: Vec<u8> = client.slices().iter().flat_map(|slice| slice.to_vec()).collect();
        client.advance_written(piece.len());
        bytes.extend(piece);
    }
    bytes
}

pub(super) fn open_request(payload_crc: bool) -> Request {
    let (_, request) = samples::requests().into_iter().find(|(name, _)| *name == "open").unwrap();
    match request {
        Request::Open(open) => Request::open(crate::request::Open { payload_crc, ..*open }),
        other => other,
    }
}

pub(super) fn opened() -> Response {
    Response::ok(Answer::Opened(Opened {
        ns: crate::request::NsHandle(0),
        namespace_id: NamespaceId([0; 32]),
        protocol_version: 1,
        parts: vec![0],
        payload_crc: false,
        limits: SessionLimits {
            frame_bytes_max: SMALL_FRAME,
            payload_bytes_max: 1 << 20,
            batch_items_max: 1024,
            requests_inflight_max: 8,
        },
    }))
}

/// A client and a server that have shaken hands.
pub(super) fn pair(limits: ServerLimits, payload_crc: bool) -> (ClientConnection, ServerConnection) {
    let (mut client, mut server) = (ClientConnection::new(), ServerConnection::new(limits));
    let id = client.send(&open_request(payload_crc), vec![]).unwrap();
    let heard = feed_server(&mut server, &client_bytes(&mut client), &[usize::MAX]);
    assert!(matches!(heard.as_slice(), [Heard::Request(got, Request::Open(_), _)] if *got == id));
    server.set_authenticated();
    server.answer(id, opened());
    let heard = feed_client(&mut client, &server_bytes(&mut server), &[usize::MAX]);
    match heard.as_slice() {
        [(got, Response { outcome: Outcome::Ok(Answer::Opened(opened)), .. })] => {
            assert_eq!((*got, opened.payload_crc), (id, payload_crc));
        }
        other => panic!("OPEN was answered {other:?}"),
    }
    (client, server)
}

pub(super) fn small_limits() -> ServerLimits {
    ServerLimits { frame_bytes_max: SMALL_FRAME, requests_inflight_max: 64, unsent_bytes_max: 64 << 20 }
}
