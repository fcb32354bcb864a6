//! One session, driven by polling: answers, requests, wake-ups, in this order, until nothing moves.

use super::sessions::Pulse;
use super::spin::Spin;
use super::{Ended, Heard, Line, ShmDoor};
use crate::door::Authenticate;
use crate::door::desk::Desk;
use crate::service::Service;
use crate::world::Clock;
use bettong_shm::ring::Segment;
use bettong_shm::session::staging::Staging;
use bettong_shm::session::{ServerEvent, ServerSession, look};
use bettong_wire::response::Answer;
use bettong_wire::{BlockHash, Payload, Request, Response};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// Rounds of one poll: others wait, too.
const ROUNDS_MAX: usize = 32;

/// Bytes that one poll copies, or looks at, before others have their turn; the request that goes over it is done.
const WORK_MAX: u64 = 1 << 20;

/// Events that a client which has closed its socket may have left: as many as its ring holds.
const LAST_EVENTS_MAX: usize = 1 << 14;

pub(super) struct Session<'a, S, C, A, Own, Peer, Area, L> {
    door: &'a ShmDoor<S, C, A>,
    rings: ServerSession<Own, Peer, Area>,
    line: L,
    desk: Desk<S>,
    stopping: bool,
    refused: Option<String>,
    asleep: bool,
    /// Bytes that this poll has copied or looked at for requests.
    work: u64,
    spin: Spin,
    pulse: Arc<Pulse>,
}

impl<'a, S, C, A, Own, Peer, Area, L> Session<'a, S, C, A, Own, Peer, Area, L>
where
    S: Service,
    C: Clock,
    A: Authenticate,
    Own: Segment + Clone,
    Peer: Segment + Clone,
    Area: Staging,
    L: Line,
{
    pub fn new(
        door: &'a ShmDoor<S, C, A>,
        origin: String,
        rings: ServerSession<Own, Peer, Area>,
        line: L,
        pulse: Arc<Pulse>,
    ) -> Self {
        Self {
            desk: Desk::new(door.service.clone(), origin, door.limits.deadlines),
            rings,
            line,
            stopping: false,
            refused: None,
            asleep: false,
            work: 0,
            spin: Spin::new(door.limits.spin),
            pulse,
            door,
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>, stop: Pin<&mut impl Future<Output = ()>>) -> Poll<Ended> {
        if std::mem::take(&mut self.asleep) {
            self.rings.awake();
        }
        if !self.stopping && stop.poll(cx).is_ready() {
            self.stopping = true;
            self.rings.drain();
        }
        let mut moves = true;
        self.work = 0;
        for _ in 0..ROUNDS_MAX {
            match self.round(cx) {
                Err(ended) => return Poll::Ready(ended),
                Ok(moved) => moves = moved || self.look(),
            }
            if !moves || self.work > WORK_MAX {
                break;
            }
        }
        self.pulse.unanswered.store(self.rings.unanswered() as u64, Ordering::Relaxed);
        self.pulse.queued_bytes.store(self.rings.queued_bytes(), Ordering::Relaxed);
        if moves || self.spin.is_on() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.rest(cx)
    }

    /// Whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut moved = false;
        while let Some((id, response)) = self.desk.poll_answer(cx) {
            self.rings.answer(id, response);
            moved = true;
        }
        match self.rings.next_event() {
            Err(error) => return Err(error.into()),
            Ok(ServerEvent::Idle) => {}
            Ok(ServerEvent::More) => moved = true,
            Ok(ServerEvent::Request { id, request, body }) => {
                self.spin.found(|| self.door.clock.mono());
                self.work = self.work.saturating_add(work(&request));
                self.pulse.requests.fetch_add(1, Ordering::Relaxed);
                self.dispatch(cx, id, request, &body);
                moved = true;
            }
        }
        if self.rings.must_wake() {
            self.line.wake();
        }
        if self.rings.queued_bytes() == 0 {
            if let Some(reason) = self.refused.take() {
                return Err(Ended::Refused(reason));
            }
            if self.stopping && self.rings.unanswered() == 0 {
                return Err(Ended::Stopped);
            }
        }
        Ok(moved)
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, id: u64, request: Request, body: &[Range<u64>]) {
        let answer = match request {
            Request::Ping => Some(Response::ok(Answer::Pong)),
            Request::Cancel { request_id } => {
                self.desk.cancel(request_id);
                Some(Response::ok(Answer::Cancelled))
            }
            Request::Open(open) => match self.desk.let_in(&open, &self.door.authenticate) {
                Ok(()) => {
                    self.rings.set_authenticated();
                    self.desk.call(cx, id, Request::Open(open), Vec::new())
                }
                Err(error) => {
                    if self.desk.peer().is_none() {
                        self.refused = Some(error.message.clone());
                    }
                    Some(Response::error(error))
                }
            },
            request => match self.body(&request, body) {
                Ok(body) => self.desk.call(cx, id, request, body),
                Err(response) => Some(response),
            },
        };
        if let Some(answer) = answer {
            self.rings.answer(id, answer);
        }
    }

    /// The payloads of a request, copied out of what its client may still write.
    fn body(&self, request: &Request, ranges: &[Range<u64>]) -> Result<Vec<Payload>, Response> {
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        let reserved = self.desk.known_peer().and_then(|peer| self.door.service.reserve(peer, &request.payload_lens()));
        reserved.and_then(|buffers| self.rings.copy_body(ranges, buffers)).map_err(Response::error)
    }

    /// Looks for the next request where it is likely to come soon. Whether there is one.
    fn look(&mut self) -> bool {
        let client_waits = self.rings.unanswered() > 0;
        self.spin.again(client_waits, || self.door.clock.mono()) && look(|| self.rings.has_news())
    }

    /// Sleeps.
    fn rest(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        while let Poll::Ready(heard) = self.line.poll_heard(cx) {
            match heard {
                Heard::Woken => {}
                Heard::Detached => return Poll::Ready(Ended::Detached),
                Heard::Gone => return Poll::Ready(Ended::Gone),
                Heard::Nonsense(why) => return Poll::Ready(Ended::Refused(why)),
                Heard::Closed => {
                    self.take_releases();
                    return Poll::Ready(Ended::Closed);
                }
            }
        }
        self.asleep = true;
        if !self.rings.may_sleep() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// What a client releases last, it writes and closes its socket. Requests among it are for nobody.
    fn take_releases(&mut self) {
        for _ in 0..LAST_EVENTS_MAX {
            if matches!(self.rings.next_event(), Ok(ServerEvent::Idle) | Err(_)) {
                return;
            }
        }
    }

    /// Tells the client why, and ends its leases once nothing of them can be read any more. What was under way for it has no
    /// asker any more, and ends: it may hold what others wait for.
    pub async fn keep_leases(self, end: &Ended) {
        let Self { door, rings, mut line, desk, .. } = self;
        drop(desk);
        let holds_nothing = door.sessions.leases().bytes_of(rings.id()).is_none_or(|bytes| bytes == 0);
        if holds_nothing {
            line.say_why(end);
        } else if !matches!(end, Ended::Detached | Ended::Gone) {
            line.say_why(end);
            let is_over = |heard: &Heard| matches!(heard, Heard::Detached | Heard::Gone);
            std::future::poll_fn(|cx| {
                loop {
                    match line.poll_heard(cx) {
                        Poll::Ready(heard) if is_over(&heard) => return Poll::Ready(()),
                        Poll::Ready(_) => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
        }
        rings.detach();
    }
}

/// What a request makes its session copy, or look at, at once, in bytes.
fn work(request: &Request) -> u64 {
    let bytes = request.payload_lens().into_iter().fold(0_u64, u64::saturating_add);
    let hashes = match request {
        Request::LookupBlockPrefix(lookup) => lookup.hashes.len() * lookup.parts.len().max(1),
        Request::RestoreChain(restore) => restore.hashes.len() * restore.parts.len().max(1),
        Request::PublishHead(publish) => publish.chain.len(),
        _ => 0,
    };
    bytes.saturating_add(hashes as u64 * size_of::<BlockHash>() as u64)
}
