//! The client's end of a connection.

use super::receive::{ReadInto, Received, Receiver};
use super::send::Sender;
use crate::error::{DecodeError, ErrorKind, ServiceError};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use crate::memory::{Payload, WriteBuf};
use crate::message::{Direction, Expectation, MessageHead, ResponseHead, decode_response, encode_request};
use crate::request::Request;
use crate::response::{Answer, Outcome, Response};
use std::collections::BTreeMap;
use std::io::IoSlice;

/// Requests that may be unanswered before OPEN has said how many.
const INFLIGHT_AT_START: u32 = 1;
/// Answers in several frames that the daemon may interleave.
const UNFINISHED_MAX: usize = 65_536;

/// What the connection wants of whoever drives it.
#[derive(Debug)]
pub enum ClientEvent {
    /// Read more bytes into `read_into()`.
    NeedBytes,
    /// An answer announces payloads of these lengths: call `fill` with a destination for each, or `refuse`.
    Reserve { id: u64, lens: Vec<u64> },
    /// Request `id` is answered.
    Response { id: u64, response: Response },
    /// The connection is at its end; whatever is unanswered stays so.
    Closed { error: ServiceError },
}

/// What is known of a request that waits for its answer.
struct Expected {
    answer: Expectation,
    /// Nobody waits for it any more.
    abandoned: bool,
}

/// Sends requests, reads answers.
pub struct ClientConnection {
    receiver: Receiver,
    sender: Sender,
    expected: BTreeMap<u64, Expected>,
    reading: BTreeMap<u64, Response>,
    last_id: u64,
    inflight_max: u32,
    closed: Option<ServiceError>,
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientConnection {
    pub fn new() -> Self {
        Self {
            receiver: Receiver::new(Direction::Response, FRAME_BYTES_MAX, UNFINISHED_MAX),
            sender: Sender::new(Direction::Request, FRAME_BYTES_MIN),
            expected: BTreeMap::new(),
            reading: BTreeMap::new(),
            last_id: 0,
            inflight_max: INFLIGHT_AT_START,
            closed: None,
        }
    }

    /// Whether another request may be sent now; else wait for an answer.
    pub fn has_room(&self) -> bool {
        (self.expected.len() as u64) < u64::from(self.inflight_max) && self.closed.is_none()
    }

    /// Requests that wait for their answers.
    pub fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Queues a request. Answers the id under which its answer will come.
    pub fn send(&mut self, request: &Request, payloads: Vec<Payload>) -> Result<u64, ServiceError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let id = self.last_id.saturating_add(1);
        self.sender.push(encode_request(id, request, payloads)?)?;
        self.last_id = id;
        self.expected.insert(id, Expected { answer: Expectation::of(request), abandoned: false });
        Ok(id)
    }

    /// Nobody waits for the answer to `id` any more: the daemon is told, and what it still answers is thrown away.
    pub fn abandon(&mut self, id: u64) {
        let Some(expected) = self.expected.get_mut(&id) else { return };
        if std::mem::replace(&mut expected.abandoned, true) {
            return;
        }
        self.receiver.abandon(id);
        if self.reading.remove(&id).is_some() {
            // Its answer is already on the way; nothing is left to cancel, or to wait for.
            self.expected.remove(&id);
            return;
        }
        if let Ok(cancel) = self.send(&Request::Cancel { request_id: id }, Vec::new())
            && let Some(expected) = self.expected.get_mut(&cancel)
        {
            expected.abandoned = true;
        }
    }

    pub fn read_into(&mut self) -> ReadInto<'_> {
        self.receiver.read_into()
    }

    /// `n` bytes were put into `read_into()`.
    pub fn advance_read(&mut self, n: usize) {
        self.receiver.advance(n);
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

    /// What the connection wants next.
    pub fn next_event(&mut self) -> ClientEvent {
        loop {
            if let Some(error) = &self.closed {
                return ClientEvent::Closed { error: error.clone() };
            }
            match self.receiver.poll() {
                Err(error) => self.fail(error),
                Ok(Received::NeedBytes) => return ClientEvent::NeedBytes,
                Ok(Received::Refused { error, .. }) => self.fail(error),
                // Room is asked for only where archives are limited, and here they are not.
                Ok(Received::LongArchive { len }) => {
                    self.receiver.skip_archive(ServiceError::too_large(format!("an archive of {len} bytes"), 0));
                }
                Ok(Received::Message { head, archive }) => match self.begin(&head, &archive) {
                    Ok(Some(event)) => return event,
                    Ok(None) => {}
                    Err(error) => self.fail(error),
                },
                Ok(Received::Body { id, payloads, intact }) => {
                    let Some(response) = self.reading.remove(&id) else { continue };
                    let response = match intact {
                        Ok(()) => Response { payloads, ..response },
                        Err(error) => Response::error(ServiceError::new(ErrorKind::Retry, error.to_string())),
                    };
                    if let Some(event) = self.complete(id, response) {
                        return event;
                    }
                }
            }
        }
    }

    /// What the daemon sent makes no sense: nothing more from this connection is believed.
    fn fail(&mut self, error: impl std::fmt::Display) {
        self.closed.get_or_insert(ServiceError::new(ErrorKind::Retry, format!("the connection is broken: {error}")));
    }

    fn begin(&mut self, head: &MessageHead, archive: &[u8]) -> Result<Option<ClientEvent>, DecodeError> {
        let id = head.request_id;
        let answer = decode_response(head, archive)?;
        if let (0, Outcome::Error(error)) = (id, &answer.outcome) {
            self.closed = Some(error.clone());
            return Ok(None);
        }
        let Some(expected) = self.expected.get(&id) else {
            let must = "the answer to a request that is under way";
            return Err(DecodeError::Invalid { what: "an answer", got: id, must });
        };
        expected.answer.check(&answer)?;
        let ResponseHead { outcome, payload_lens, .. } = answer;
        self.receiver.expect(&payload_lens)?;
        if payload_lens.is_empty() || expected.abandoned {
            self.receiver.discard();
            return Ok(self.complete(id, Response { outcome, payloads: Vec::new() }));
        }
        self.reading.insert(id, Response { outcome, payloads: Vec::new() });
        Ok(Some(ClientEvent::Reserve { id, lens: payload_lens }))
    }

    fn complete(&mut self, id: u64, response: Response) -> Option<ClientEvent> {
        let expected = self.expected.remove(&id)?;
        if let Outcome::Ok(Answer::Opened(opened)) = &response.outcome {
            self.sender.set_frame_bytes_max(opened.limits.frame_bytes_max.min(FRAME_BYTES_MAX));
            self.inflight_max = opened.limits.requests_inflight_max.max(1);
            if opened.payload_crc {
                self.sender.set_payload_crc();
                self.receiver.require_payload_crc();
            }
        }
        (!expected.abandoned).then_some(ClientEvent::Response { id, response })
    }

    /// The destinations of the payloads that `Reserve` asked for, in order.
    pub fn fill(&mut self, buffers: Vec<Box<dyn WriteBuf>>) {
        self.receiver.fill(buffers);
    }

    /// There is no room for the payloads of `id`: they are skipped, and the request counts as answered with `error`.
    pub fn refuse(&mut self, id: u64, error: ServiceError) -> ClientEvent {
        self.receiver.discard();
        self.reading.remove(&id);
        self.expected.remove(&id);
        ClientEvent::Response { id, response: Response::error(error) }
    }
}
