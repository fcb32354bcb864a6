//! The daemon's end of a connection.

use super::credit::Credit;
use super::receive::{ReadInto, Received, Receiver};
use super::send::Sender;
use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::limits::{ARCHIVE_BYTES_FREE, FRAME_BYTES_MIN, MESSAGE_BYTES_MAX, OPENING_BYTES_MAX};
use crate::memory::{Payload, WriteBuf};
use crate::message::{Direction, EncodedMessage, MessageHead, Op, decode_request, encode_response};
use crate::request::{Request, RestoreChain};
use crate::response::{Answer, Outcome, Response};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

/// What one connection may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Longest frame, in bytes: `FRAME_BYTES_MIN` to `FRAME_BYTES_MAX`.
    pub frame_bytes_max: u32,
    /// Requests that may be unanswered at once; one more is answered BUSY. PING and CANCEL are not counted.
    pub requests_inflight_max: u32,
    /// Payload bytes of answers that may wait to be read by the peer.
    pub unsent_bytes_max: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: crate::limits::FRAME_BYTES_MAX,
            requests_inflight_max: 128,
            unsent_bytes_max: 256 << 20,
        }
    }
}

/// What the connection wants of whoever drives it.
#[derive(Debug)]
pub enum ServerEvent {
    /// Read more bytes into `read_into()`.
    NeedBytes,
    /// A read: call `weighed` with the payload bytes that its answer brings as things are now. It comes back as `Request`
    /// once the peer has left room for so much.
    Weigh { id: u64, request: Request },
    /// A request announces an archive so long that it counts as a payload does: call `fill_archive` with a destination of
    /// `len` bytes, or `refuse_archive`.
    ReserveArchive { len: u32 },
    /// A request announces payloads of these lengths: call `fill` with a destination for each, or `refuse`.
    Reserve { id: u64, lens: Vec<u64> },
    /// A request is complete: answer it, in any order.
    Request { id: u64, request: Request, body: Vec<Payload> },
    /// The connection is at its end: write what is queued, then close. The reason is for the log.
    Closing { reason: String },
}

/// Unread answers of so many bytes keep nobody from being read from.
const UNSENT_BYTES_FREE: u64 = 1 << 20;

struct Unanswered {
    op: Op,
    /// What it took from the credit.
    charge: u64,
    /// For OPEN: whether it asks for checksums over payloads.
    payload_crc: bool,
}

/// Reads requests, queues answers.
pub struct ServerConnection {
    limits: ServerLimits,
    receiver: Receiver,
    sender: Sender,
    credit: Credit,
    unanswered: BTreeMap<u64, Unanswered>,
    /// Requests whose payloads are still coming in.
    reading: BTreeMap<u64, Request>,
    /// Reads that wait for credit, in order, with what they take from it.
    waiting: VecDeque<(u64, Request, u64)>,
    authenticated: bool,
    draining: bool,
    /// What the first OPEN agreed upon.
    payload_crc: Option<bool>,
    closing: Option<String>,
}

impl ServerConnection {
    pub fn new(limits: ServerLimits) -> Self {
        let frame_bytes_max = limits.frame_bytes_max.max(FRAME_BYTES_MIN);
        let inflight = usize::try_from(limits.requests_inflight_max).unwrap_or(usize::MAX);
        let mut receiver = Receiver::new(Direction::Request, frame_bytes_max, inflight);
        receiver.limit_archives(OPENING_BYTES_MAX, ARCHIVE_BYTES_FREE);
        Self {
            receiver,
            sender: Sender::new(Direction::Response, frame_bytes_max),
            credit: Credit::new(limits.unsent_bytes_max),
            limits: ServerLimits { frame_bytes_max, ..limits },
            unanswered: BTreeMap::new(),
            reading: BTreeMap::new(),
            waiting: VecDeque::new(),
            authenticated: false,
            draining: false,
            payload_crc: None,
            closing: None,
        }
    }

    /// The peer has shown who it is; before, only PING and OPEN pass.
    pub fn set_authenticated(&mut self) {
        self.receiver.limit_archives(MESSAGE_BYTES_MAX, ARCHIVE_BYTES_FREE);
        self.authenticated = true;
    }

    /// From now on new requests are turned away; those under way are still answered.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Says goodbye with a reason: nothing more is read, what is queued is still written.
    pub fn close(&mut self, error: &ServiceError) {
        if self.closing.is_none() {
            self.queue(encode_response(None, 0, Response::error(error.clone())));
            self.closing = Some(error.message.clone());
        }
    }

    /// Whether bytes may be read: not after the end, and not while the peer leaves so many answers, or so much of them,
    /// unread.
    pub fn wants_bytes(&self) -> bool {
        let queued_max = usize::try_from(self.limits.requests_inflight_max).unwrap_or(usize::MAX).saturating_mul(2);
        let leaves_room = self.sender.queued_messages() <= queued_max.max(16)
            && self.sender.unsent_bytes() <= self.credit.limit().max(UNSENT_BYTES_FREE);
        self.closing.is_none() && leaves_room
    }

    pub fn read_into(&mut self) -> ReadInto<'_> {
        self.receiver.read_into()
    }

    /// `n` bytes were put into `read_into()`.
    pub fn advance_read(&mut self, n: usize) {
        self.receiver.advance(n);
    }

    /// Whether the peer may stop sending here without cutting a request short.
    pub fn is_between_requests(&self) -> bool {
        self.receiver.is_between_messages()
    }

    /// Bytes of requests that the peer has announced, for which room is held, and that have not come.
    pub fn owed_bytes(&self) -> u64 {
        self.receiver.owed_bytes()
    }

    pub fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.sender.slices()
    }

    /// `n` bytes of `slices()` were written.
    pub fn advance_written(&mut self, n: usize) {
        self.sender.advance(n);
    }

    pub fn has_unsent(&self) -> bool {
        !self.sender.is_empty()
    }

    pub fn unsent_bytes(&self) -> u64 {
        self.sender.unsent_bytes()
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// What the connection wants next.
    pub fn next_event(&mut self) -> ServerEvent {
        loop {
            if let Some(reason) = &self.closing {
                return ServerEvent::Closing { reason: reason.clone() };
            }
            if let Some((id, request)) = self.admit_waiting() {
                return ServerEvent::Request { id, request, body: Vec::new() };
            }
            match self.receiver.poll() {
                Err(error) => self.close(&error.into()),
                Ok(Received::NeedBytes) => return ServerEvent::NeedBytes,
                Ok(Received::Refused { head, error }) => self.reject(&head, error),
                Ok(Received::LongArchive { len }) => return ServerEvent::ReserveArchive { len },
                Ok(Received::Message { head, archive }) => {
                    if let Some(event) = self.begin(&head, &archive) {
                        return event;
                    }
                }
                Ok(Received::Body { id, payloads, intact }) => {
                    let Some(request) = self.reading.remove(&id) else { continue };
                    match intact {
                        Ok(()) => return ServerEvent::Request { id, request, body: payloads },
                        Err(error) => {
                            let error = ServiceError::new(ErrorKind::Retry, error.to_string());
                            self.answer(id, Response::error(error));
                        }
                    }
                }
            }
        }
    }

    fn admit_waiting(&mut self) -> Option<(u64, Request)> {
        let (id, _, charge) = self.waiting.front()?;
        if !self.credit.admit(*charge, self.sender.unsent_bytes()) {
            return None;
        }
        if let Some(unanswered) = self.unanswered.get_mut(id) {
            unanswered.charge = *charge;
        }
        self.waiting.pop_front().map(|(id, request, _)| (id, request))
    }

    /// The answer to read `id` brings `bytes` of payload. Values are asked for one by one where they are more than the
    /// peer may leave unread: only one is ever let through whatever its length.
    pub fn weighed(&mut self, id: u64, request: Request, bytes: u64) {
        let (values, limit) = (values_asked(&request), self.credit.limit());
        if values > 1 && bytes > limit {
            let text =
                format!("{values} values of {bytes} bytes are asked for at once, the limit is {limit}: ask for fewer");
            return self.answer(id, Response::error(ServiceError::too_large(text, limit)));
        }
        self.waiting.push_back((id, request, bytes));
    }

    /// A request's head and archive are there.
    fn begin(&mut self, head: &MessageHead, archive: &Bytes) -> Option<ServerEvent> {
        let id = head.request_id;
        if id == 0 || self.unanswered.contains_key(&id) {
            let must = "not 0, and the id of no request that is under way";
            self.close(&DecodeError::Invalid { what: "the id of a request", got: id, must }.into());
            return None;
        }
        let checked = self.check(head, archive);
        let (request, lens) = match checked {
            Ok(checked) => checked,
            Err(error) => {
                self.receiver.discard();
                self.reject(head, error);
                return None;
            }
        };
        let payload_crc = matches!(&request, Request::Open(open) if open.payload_crc);
        self.unanswered.insert(id, Unanswered { op: request.op(), charge: 0, payload_crc });
        if !lens.is_empty() {
            self.reading.insert(id, request);
            return Some(ServerEvent::Reserve { id, lens });
        }
        // The body that follows is empty, and nobody waits for it.
        self.receiver.discard();
        if values_asked(&request) > 0 {
            return Some(ServerEvent::Weigh { id, request: self.within_credit(request) });
        }
        Some(ServerEvent::Request { id, request, body: Vec::new() })
    }

    /// Of a chain no more is brought at once than the peer may leave unread.
    fn within_credit(&self, request: Request) -> Request {
        match request {
            Request::RestoreChain(restore) => {
                let bytes_max = match restore.bytes_max {
                    0 => self.credit.limit(),
                    asked => asked.min(self.credit.limit()),
                };
                Request::RestoreChain(RestoreChain { bytes_max, ..restore })
            }
            request => request,
        }
    }

    fn check(&mut self, head: &MessageHead, archive: &[u8]) -> Result<(Request, Vec<u64>), ServiceError> {
        let request = decode_request(head, archive)?;
        let lens = request.payload_lens();
        self.receiver.expect(&lens)?;
        if !self.authenticated && !matches!(request, Request::Ping | Request::Open(_)) {
            let text = format!("{} before a namespace is open: send OPEN first", request.op().as_str());
            return Err(ServiceError::new(ErrorKind::Denied, text));
        }
        let free = matches!(request, Request::Ping | Request::Cancel { .. });
        if self.draining && !free {
            return Err(ServiceError::new(ErrorKind::Unavailable, "the daemon is shutting down"));
        }
        let (inflight, limit) = (self.unanswered.len(), self.limits.requests_inflight_max);
        if inflight as u64 >= u64::from(limit) && !free {
            let text = format!("{inflight} requests of this connection are unanswered, the limit is {limit}");
            return Err(ServiceError { limit: u64::from(limit), ..ServiceError::busy(text, 10) });
        }
        Ok((request, lens))
    }

    /// Answers a request that never came to be one.
    fn reject(&mut self, head: &MessageHead, error: ServiceError) {
        self.queue(encode_response(Op::from_code(head.op), head.request_id, Response::error(error)));
    }

    /// The destinations of the payloads that `Reserve` asked for, in order.
    pub fn fill(&mut self, buffers: Vec<Box<dyn WriteBuf>>) {
        self.receiver.fill(buffers);
    }

    /// The destination of the archive that `ReserveArchive` asked for.
    pub fn fill_archive(&mut self, buf: Box<dyn WriteBuf>) {
        self.receiver.read_archive(buf);
    }

    /// There is no room for it: it is skipped with its payloads, and its request is answered with `error`.
    pub fn refuse_archive(&mut self, error: ServiceError) {
        self.receiver.skip_archive(error);
    }

    /// There is no room for the payloads of `id`: they are skipped and the request is answered with `error`.
    pub fn refuse(&mut self, id: u64, error: ServiceError) {
        self.receiver.discard();
        self.reading.remove(&id);
        self.answer(id, Response::error(error));
    }

    /// Takes back a request that is not with the service yet. Answers whether there was one; it is then answered
    /// `retry`.
    pub fn withdraw(&mut self, id: u64) -> bool {
        let waiting = self.waiting.iter().position(|(waiting, ..)| *waiting == id);
        let found = match waiting {
            Some(at) => self.waiting.remove(at).is_some(),
            None => self.reading.remove(&id).is_some(),
        };
        if found {
            self.receiver.abandon(id);
            self.answer(id, Response::error(ServiceError::new(ErrorKind::Retry, "cancelled by the caller")));
        }
        found
    }

    /// Queues the answer to request `id`. Does nothing where `id` is not, or no longer, unanswered.
    pub fn answer(&mut self, id: u64, response: Response) {
        let Some(Unanswered { op, charge, payload_crc }) = self.unanswered.remove(&id) else { return };
        self.credit.settle(charge);
        let mut response = self.bounded(response, charge);
        if let Outcome::Ok(Answer::Opened(opened)) = &mut response.outcome {
            opened.payload_crc = *self.payload_crc.get_or_insert(payload_crc);
            opened.limits.frame_bytes_max = self.limits.frame_bytes_max;
            opened.limits.requests_inflight_max = self.limits.requests_inflight_max;
            if opened.payload_crc {
                self.sender.set_payload_crc();
                self.receiver.require_payload_crc();
            }
        }
        let message = encode_response(Some(op), id, response);
        if let Err(error) = self.sender.push(message) {
            self.queue(encode_response(Some(op), id, Response::error(error)));
        }
    }

    /// Lets an answer pass where the peer has left room for it.
    fn bounded(&self, response: Response, charge: u64) -> Response {
        let len = response.payloads.iter().map(|payload| payload.len() as u64).sum();
        let unsent = self.sender.unsent_bytes();
        if self.credit.allows(len, charge, unsent) {
            return response;
        }
        let limit = self.credit.limit();
        let text = format!(
            "{unsent} bytes of answers wait to be read by this client, {len} more are over the limit of {limit}"
        );
        Response::error(ServiceError { limit, ..ServiceError::busy(text, 50) })
    }

    /// Queues a message without payloads. Its head is far shorter than any frame limit.
    fn queue(&mut self, message: EncodedMessage) {
        let _ = self.sender.push(message);
    }
}

/// Values whose bytes the answer brings, where all are there.
fn values_asked(request: &Request) -> usize {
    match request {
        Request::Get(_) | Request::GetSidecar(_) => 1,
        Request::GetMany(body) => body.targets.len(),
        Request::GetBlocks(body) => body.keys.len(),
        Request::RestoreChain(body) => body.hashes.len() + usize::from(body.sidecar.is_some()),
        _ => 0,
    }
}
