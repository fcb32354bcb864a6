//! The daemon's end of a session.

mod incoming;
mod outgoing;
mod unanswered;

use super::places::Places;
use super::staging::Staging;
use super::{FRAMES_PER_CALL, INLINE_BYTES_MIN, SessionError, StartError};
use crate::frame::INLINE_BYTES_DEFAULT;
use crate::pool::{Leases, SessionId};
use crate::ring::{Receiver, Segment, Sender};
use bettong_wire::limits::FRAME_BYTES_MAX;
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{BlockMemory, ErrorKind, Payload, Request, Response, ServiceError, WriteBuf};
use incoming::{Incoming, Read};
use outgoing::{Lender, Outgoing};
use std::ops::Range;
use std::sync::Arc;
use unanswered::Unanswered;

/// What one session may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerLimits {
    /// Longest message, and longest payload, that travels in its frame, in bytes.
    pub inline_max: u16,
    /// Requests that may be unanswered at once; of PING and CANCEL, as many again. One more breaks the protocol.
    pub requests_inflight_max: u32,
    /// Bytes of frames that may wait for room in the ring; an answer that would be over it becomes BUSY.
    pub queued_bytes_max: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { inline_max: INLINE_BYTES_DEFAULT, requests_inflight_max: 128, queued_bytes_max: 4 << 20 }
    }
}

/// What a session stands on.
pub struct ServerParts<Own, Peer, Area> {
    /// The segment that the daemon writes.
    pub own: Own,
    /// The segment that the client writes.
    pub peer: Peer,
    pub staging: Area,
    pub session: SessionId,
    pub leases: Arc<Leases>,
    /// Where answers are copied to that are not in the pool: the pool.
    pub memory: Arc<dyn BlockMemory>,
    /// Of the pool that the client maps.
    pub pool_bytes: u64,
}

/// What the client wants.
#[derive(Debug)]
pub enum ServerEvent {
    /// Nothing more is there.
    Idle,
    /// More may be there, and others wait, too: call again.
    More,
    /// A request is complete: answer it, in any order. `body` are its payloads in the staging area, where they stay until it
    /// is answered; their client may change them until then.
    Request { id: u64, request: Request, body: Vec<Range<u64>> },
}

/// Reads requests and releases, leases and writes answers.
pub struct ServerSession<Own, Peer, Area> {
    receiver: Receiver<Own, Peer>,
    outgoing: Outgoing<Own, Peer>,
    lender: Lender,
    incoming: Incoming,
    unanswered: Unanswered,
    staging: Area,
    authenticated: bool,
    draining: bool,
    has_read: bool,
    ended: Option<SessionError>,
}

impl<Own: Segment + Clone, Peer: Segment + Clone, Area: Staging> ServerSession<Own, Peer, Area> {
    /// A fresh session, which has its leases from now on.
    pub fn new(parts: ServerParts<Own, Peer, Area>, limits: &ServerLimits) -> Result<Self, StartError> {
        let ServerParts { own, peer, staging, session, leases, memory, pool_bytes } = parts;
        let inline_max = limits.inline_max;
        if inline_max < INLINE_BYTES_MIN {
            return Err(StartError::Inline { got: inline_max, least: INLINE_BYTES_MIN });
        }
        let sender = Sender::new(own.clone(), peer.clone(), inline_max)?;
        let receiver = Receiver::new(own, peer, inline_max)?;
        let places = Places::of(pool_bytes)?;
        if !leases.attach(session) {
            return Err(StartError::Attached(session));
        }
        Ok(Self {
            receiver,
            outgoing: Outgoing::new(sender, limits.queued_bytes_max),
            lender: Lender { session, leases, memory, places, inline_max },
            incoming: Incoming::default(),
            unanswered: Unanswered::new(limits.requests_inflight_max),
            staging,
            authenticated: false,
            draining: false,
            has_read: false,
            ended: None,
        })
    }

    /// The client has shown who it is; before, only PING and OPEN pass, and long messages do not.
    pub fn set_authenticated(&mut self) {
        self.incoming.allow_long_messages();
        self.authenticated = true;
    }

    /// From now on new requests are turned away; those under way are still answered.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// What the client wants next. Writes what had to wait for room, and looks at a bounded number of frames, at most one of
    /// which names a long message. After an error the session is over: what it leases stays so until the client is known to be
    /// gone.
    pub fn next_event(&mut self) -> Result<ServerEvent, SessionError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let event = self.event();
        if let Err(error) = &event {
            self.ended = Some(error.clone());
        }
        event
    }

    fn event(&mut self) -> Result<ServerEvent, SessionError> {
        self.flush()?;
        for _ in 0..FRAMES_PER_CALL {
            let Some(frame) = self.receiver.recv()? else { return Ok(ServerEvent::Idle) };
            self.has_read = true;
            let is_long = self.incoming.is_long(&frame);
            match self.incoming.take(frame, &self.staging, |id| self.unanswered.has(id)) {
                Err(error) => return Err(error),
                Ok(Read::Part) => {}
                Ok(Read::Release(slot)) => self.lender.leases.release(self.lender.session, slot)?,
                Ok(Read::Request { id, request, body }) => {
                    self.unanswered.begin(id, &request)?;
                    match self.admit(&request) {
                        Ok(()) => return Ok(ServerEvent::Request { id, request, body }),
                        Err(error) => self.answer_on(id, Response::error(error))?,
                    }
                }
            }
            if is_long {
                break;
            }
        }
        Ok(ServerEvent::More)
    }

    fn admit(&self, request: &Request) -> Result<(), ServiceError> {
        if !self.authenticated && !matches!(request, Request::Ping | Request::Open(_)) {
            let text = format!("{} before a namespace is open: send OPEN first", request.op().as_str());
            return Err(ServiceError::new(ErrorKind::Denied, text));
        }
        if self.draining && !matches!(request, Request::Ping | Request::Cancel { .. }) {
            return Err(ServiceError::new(ErrorKind::Unavailable, "the daemon is shutting down"));
        }
        Ok(())
    }

    /// Copies the payloads of a request out of the staging area, each to the destination in its place. Only the copies can be
    /// believed to stay as they are.
    pub fn copy_body(&self, body: &[Range<u64>], to: Vec<Box<dyn WriteBuf>>) -> Result<Vec<Payload>, ServiceError> {
        let copy = |(range, mut buf): (&Range<u64>, Box<dyn WriteBuf>)| {
            let invalid = |text| ServiceError::new(ErrorKind::Invalid, text);
            self.staging.read(range.clone(), buf.unfilled()).map_err(|error| invalid(error.to_string()))?;
            buf.seal().ok_or_else(|| invalid("a destination that is longer than its payload".to_owned()))
        };
        body.iter().zip(to).map(copy).collect()
    }

    /// The staging area, for who copies with a pace of its own.
    pub fn staging(&self) -> &Area {
        &self.staging
    }

    /// Answers request `id`: leases what the answer refers to, then writes it as far as there is room. Does nothing where `id`
    /// is not unanswered, or the session is over.
    pub fn answer(&mut self, id: u64, response: Response) {
        if self.ended.is_none() {
            self.ended = self.answer_on(id, response).err();
        }
    }

    fn answer_on(&mut self, id: u64, mut response: Response) -> Result<(), SessionError> {
        let Some(op) = self.unanswered.answer(id) else { return Ok(()) };
        if let Outcome::Ok(Answer::Opened(opened)) = &mut response.outcome {
            // Nothing that goes through memory is summed, and there are no frames but the ring's.
            opened.payload_crc = false;
            opened.limits.frame_bytes_max = FRAME_BYTES_MAX;
            opened.limits.requests_inflight_max = self.unanswered.limit();
        }
        self.outgoing.queue(id, &self.lender, op, response);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), SessionError> {
        // A request is under way until its answer is written: who reads none of them is sent no more.
        self.outgoing.flush(|id| self.unanswered.end(id))
    }

    pub fn id(&self) -> SessionId {
        self.lender.session
    }

    /// Requests that are not answered, or whose answers are not written.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Bytes of answers that wait for room.
    pub fn queued_bytes(&self) -> u64 {
        self.outgoing.queued_bytes()
    }

    /// Whether the client has written something, or had before. Costs a load.
    pub fn has_news(&self) -> bool {
        self.receiver.has_news()
    }

    /// Whether the client sleeps and must be woken for what was written or read since this was last asked. To be asked
    /// before every sleep, and after every answer that is not followed by another at once.
    pub fn must_wake(&mut self) -> bool {
        let (wrote, read) = (self.outgoing.take_wrote(), std::mem::take(&mut self.has_read));
        // Who wakes for what was written wakes for what was read before it, too.
        if wrote { self.outgoing.sender().must_wake() } else { read && self.receiver.must_wake() }
    }

    /// Says that this side is about to sleep; whether it may. Whoever may not, or has slept, says `awake`.
    pub fn may_sleep(&self) -> bool {
        let nothing_came = self.receiver.may_sleep();
        nothing_came && (self.outgoing.queued_bytes() == 0 || self.outgoing.sender().may_sleep_until_read())
    }

    /// Nobody need wake this side any more.
    pub fn awake(&self) {
        self.receiver.awake();
    }

    /// The client is gone: its leases end. Answers how many bytes of slots they were.
    pub fn detach(self) -> u64 {
        self.lender.leases.detach(self.lender.session)
    }
}
