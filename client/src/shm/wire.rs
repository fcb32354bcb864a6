//! One session with a daemon, driven by polling.

use super::guards::Guards;
use super::spin::{Next, Spin};
use super::staged::{Area, Staged, too_large};
use crate::call::Body;
use crate::callers::Callers;
use crate::session::wire::{Unsent, Wire, lost};
use bettong_shm::real::attach::{Attached, Heard};
use bettong_shm::real::{GiveWay, OwnSegment, OwnStagingMapping, PeerSegment, WatchedLink};
use bettong_shm::session::staging::Reserved;
use bettong_shm::session::{ClientSession, RequestError, Unsent as NotSent, look};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{ErrorKind, Payload, Request, Response, ServiceError};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Where no request takes them along, the daemon hears so late of values that are not read any more: long enough for one
/// to come that does, and shorter than it is asked to wait where they are in the way.
const RELEASE_DELAY: Duration = Duration::from_millis(5);
/// Longest sleep in which only an answer is heard, and nothing of the daemon's end, or of another thread that calls.
const DOZE_MAX: Duration = Duration::from_millis(1);
/// Waits for so many answers, once two threads were seen to wait at once, are no time to doze.
const CROWDED_WAITS: u32 = 64;
/// The daemon, or its process, is gone.
const CLOSED: &str = "the daemon closed it";

type Session = ClientSession<OwnSegment, PeerSegment, OwnStagingMapping>;

pub(crate) struct ShmWire {
    session: Session,
    link: WatchedLink,
    answers: VecDeque<(u64, Response)>,
    inflight_max: usize,
    /// All of the staging area.
    staging_bytes: u64,
    /// Longest payload that is not read in place.
    inline_max: usize,
    guards: Guards,
    /// Runs while the daemon does not know of something that was given back.
    release_delay: Option<Pin<Box<Sleep>>>,
    /// The daemon is to hear of it without delay.
    release_now: bool,
    spin: Spin,
    /// Of a thread that is about to doze.
    way: GiveWay,
    /// Who waits for answers, where nothing else is done by their threads.
    callers: Option<Callers>,
    /// More than one was seen to wait: for so many waits more, a thread that dozed might keep another waiting.
    crowded: u32,
    /// It is the time to doze, or else to fall asleep.
    sleepy: bool,
    /// Something is to be sent that the ring has no room for.
    ring_full: bool,
    /// The daemon was told that it has to wake this side.
    asleep: bool,
    /// Why nothing will come any more but what the daemon had answered before.
    over: Option<String>,
}

impl ShmWire {
    pub fn new(attached: Attached, spin_time_max: Duration, callers: Option<Callers>) -> Result<Self, String> {
        let Attached { own, peer, pool, staging, link, welcome } = attached;
        let staging_bytes = staging.free_bytes();
        let session = ClientSession::new(own, peer, staging, pool, welcome.inline_max);
        Ok(Self {
            session: session.map_err(|error| error.to_string())?,
            link: WatchedLink::new(link).map_err(|error| error.to_string())?,
            answers: VecDeque::new(),
            // Before OPEN has said how many.
            inflight_max: 1,
            staging_bytes,
            inline_max: welcome.inline_max.into(),
            guards: Guards::default(),
            release_delay: None,
            release_now: false,
            spin: Spin::new(spin_time_max),
            way: GiveWay::default(),
            callers,
            crowded: 0,
            sleepy: false,
            ring_full: false,
            asleep: false,
            over: None,
        })
    }

    /// What is to be put is staged here.
    pub fn area(&self) -> Area {
        let (area, given_back) = (self.session.staging().clone(), self.guards.given_back().clone());
        Area { area, bytes: self.staging_bytes, given_back }
    }

    /// Whether the thread that waits keeps nobody else waiting.
    fn is_alone(&self) -> bool {
        self.callers.as_ref().is_some_and(Callers::is_one)
    }

    /// Hears what the daemon says beside the ring, until there is nothing.
    fn hear(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        while self.over.is_none()
            && let Poll::Ready(heard) = self.link.poll_hear(cx)
        {
            match heard.map_err(|error| lost(&error.to_string()))? {
                Heard::Nothing | Heard::Woken => {}
                Heard::Ended(why) => self.over = Some(format!("the daemon ends it: {why}")),
                Heard::Closed => self.over = Some(CLOSED.to_owned()),
                Heard::Detached => return Err(lost("the daemon says what only a client may say")),
            }
        }
        Ok(())
    }

    /// Wakes the daemon if it sleeps and there is something that it waits for.
    fn wake_daemon(&mut self) -> Result<(), ServiceError> {
        if !self.session.must_wake() {
            return Ok(());
        }
        self.link.get().wake().map_err(|error| lost(&error.to_string()))
    }

    /// Tells the daemon of what is not read any more, if it is time.
    fn release(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let is_due = self.guards.given_back().is_true(cx) || self.session.pending_releases() > 0;
        if is_due || self.release_delay.is_some() {
            let delay = self.release_delay.get_or_insert_with(|| Box::pin(sleep(RELEASE_DELAY)));
            if delay.as_mut().poll(cx).is_ready() {
                self.release_delay = None;
                self.guards.given_back().listen();
                self.release_now = true;
            }
        }
        if self.release_now {
            let left = self.session.flush_releases().map_err(|error| lost(&error.to_string()))?;
            self.release_now = left > 0;
            self.ring_full |= left > 0;
        }
        Ok(())
    }

    /// Looks at the ring until there is no answer. Whether the daemon has written anything.
    fn look(&mut self) -> bool {
        let (seen, mut found) = (self.session.seen(), false);
        loop {
            let (id, mut response) = match self.session.recv() {
                Ok(Some(answer)) => answer,
                Ok(None) => return found || self.session.seen() != seen,
                Err(error) => {
                    self.over = Some(error.to_string());
                    return found;
                }
            };
            found = true;
            match &response.outcome {
                Outcome::Ok(Answer::Opened(opened)) => {
                    let max = opened.limits.requests_inflight_max.max(1);
                    self.inflight_max = usize::try_from(max).unwrap_or(usize::MAX);
                }
                // What is not read any more may be what is in the way.
                Outcome::Error(error) if error.kind == ErrorKind::Busy => self.release_now = true,
                _ => {}
            }
            for payload in &mut response.payloads {
                if payload.len() > self.inline_max {
                    *payload = self.guards.guard(std::mem::take(payload));
                }
            }
            self.answers.push_back((id, response));
        }
    }

    /// Waits for the daemon, unless something has come in this moment.
    fn fall_asleep(&mut self, cx: &mut Context<'_>) {
        let may_sleep = if self.ring_full { self.session.may_sleep_until_read() } else { self.session.may_sleep() };
        if may_sleep {
            self.asleep = true;
        } else {
            self.session.awake();
            // Whoever still finds the ring full says so again.
            self.ring_full = false;
            cx.waker().wake_by_ref();
        }
    }

    /// The body in the staging area.
    fn stage(&self, payloads: &[Payload]) -> Result<Vec<Reserved<OwnStagingMapping>>, Unsent> {
        let area = self.session.staging();
        let len = payloads.iter().map(|payload| payload.len() as u64).sum();
        if len > self.staging_bytes {
            return Err(Unsent::Never(too_large(len, self.staging_bytes)));
        }
        let reserved: Result<Vec<_>, _> = payloads.iter().map(|payload| area.reserve(payload.len() as u64)).collect();
        let mut reserved = reserved.map_err(|_| self.no_staging(len))?;
        for (reserved, payload) in reserved.iter_mut().zip(payloads) {
            reserved.write(0, payload.as_ref());
        }
        Ok(reserved)
    }

    /// Why there is no room for so many bytes, where all that was reserved for them is free again.
    fn no_staging(&self, len: u64) -> Unsent {
        if self.session.staging().free_bytes() < self.staging_bytes {
            return Unsent::BodyFull;
        }
        // Nobody has anything that could be waited for.
        Unsent::Never(too_large(len, self.staging_bytes))
    }

    /// Sends a request with a copy of its payloads.
    fn send_copy(&mut self, request: &Request, payloads: &[Payload]) -> Result<u64, Unsent> {
        let staged = self.stage(payloads)?;
        match self.session.request_staged(request, staged) {
            Ok(id) => Ok(id),
            Err(NotSent { error, body }) => {
                drop(body);
                Err(self.unsent(error))
            }
        }
    }

    /// Sends a request whose payload is staged. It is left in `body` where it is not sent.
    fn send_staged(&mut self, request: &Request, staged: Staged, body: &mut Body) -> Result<u64, Unsent> {
        let (reserved, tell) = staged.into_parts();
        let NotSent { error, body: mut unsent } = match self.session.request_staged(request, vec![reserved]) {
            Ok(id) => return Ok(id),
            Err(unsent) => unsent,
        };
        if let Some(staged) = unsent.pop().map(|reserved| Staged::of_parts(reserved, tell)) {
            if error == RequestError::Foreign {
                // It is of an earlier session, or of another client.
                *body = Body::Payloads(vec![staged.into_payload()]);
                return self.send(request, body);
            }
            *body = Body::Staged(staged);
        }
        Err(self.unsent(error))
    }

    /// Why a request was not sent, where what was staged for it only is free again.
    fn unsent(&mut self, error: RequestError) -> Unsent {
        match error {
            RequestError::Full { .. } => {
                self.ring_full = true;
                Unsent::Full
            }
            RequestError::Inflight { .. } => Unsent::Full,
            // The message is long, and stands in the staging area, too.
            RequestError::NoStaging(error) => self.no_staging(error.len),
            RequestError::TooLong(error) => Unsent::Never(ServiceError::too_large(error.to_string(), error.capacity)),
            RequestError::Invalid(error) => Unsent::Never(error),
            error @ RequestError::Foreign => Unsent::Never(ServiceError::new(ErrorKind::Internal, error.to_string())),
            // The next look at the ring says so, and the request is kept for the next connection.
            RequestError::Broken(_) => Unsent::Full,
        }
    }
}

impl Wire for ShmWire {
    fn has_room(&self) -> bool {
        self.over.is_none() && self.session.unanswered() < self.inflight_max
    }

    fn unanswered(&self) -> usize {
        self.session.unanswered()
    }

    fn send(&mut self, request: &Request, body: &mut Body) -> Result<u64, Unsent> {
        let id = match std::mem::take(body) {
            Body::Payloads(payloads) => {
                let sent = self.send_copy(request, &payloads);
                if sent.is_err() {
                    *body = Body::Payloads(payloads);
                }
                sent?
            }
            Body::Staged(staged) => self.send_staged(request, staged, body)?,
        };
        self.spin.asked();
        Ok(id)
    }

    fn abandon(&mut self, id: u64) {
        self.session.abandon(id);
        self.answers.retain(|(answered, _)| *answered != id);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        // What is in the ring is there; `poll_receive` wakes who sleeps.
        self.release(cx)?;
        Ok(false)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        self.sleepy = false;
        if !self.is_alone() {
            self.crowded = CROWDED_WAITS;
        }
        if std::mem::take(&mut self.asleep) {
            self.session.awake();
        }
        self.hear(cx)?;
        if self.look() {
            self.spin.found();
            return Ok(true);
        }
        if let Some(why) = &self.over {
            return Err(lost(why));
        }
        // It may wait for what was sent, or for room.
        self.wake_daemon()?;
        match if self.session.unanswered() > 0 { self.spin.next() } else { Next::Sleep } {
            Next::Look => {
                if look(|| self.session.has_news()) && self.look() {
                    self.spin.found();
                    return Ok(true);
                }
                cx.waker().wake_by_ref();
            }
            Next::Doze => self.sleepy = true,
            Next::Sleep => self.fall_asleep(cx),
        }
        Ok(false)
    }

    fn rest(&mut self, cx: &mut Context<'_>, may_doze: bool) -> Result<bool, ServiceError> {
        if !std::mem::take(&mut self.sleepy) {
            return Ok(false);
        }
        self.spin.dozed();
        if !may_doze || self.ring_full || self.crowded > 0 || !self.is_alone() {
            self.crowded = self.crowded.saturating_sub(1);
            self.fall_asleep(cx);
            return Ok(false);
        }
        // That may be all it takes.
        let has_news = self.way.give_way() && self.session.has_news();
        if !has_news && self.session.may_sleep_on_bell() {
            self.session.wait_on_bell(DOZE_MAX).map_err(|error| lost(&error.to_string()))?;
        }
        self.session.awake();
        Ok(true)
    }

    fn next_answer(&mut self) -> Result<Option<(u64, Response)>, ServiceError> {
        Ok(self.answers.pop_front())
    }
}

impl Drop for ShmWire {
    /// Where nobody reads anything any more, the daemon may have all leases back. Else, and where it cannot be told so, it has
    /// those of what is not read; those of values that are still read end with this process.
    fn drop(&mut self) {
        self.answers.clear();
        // A session that is over has no ring for them, and may be detached from all the same.
        let flushed = self.session.flush_releases();
        let link = self.link.get();
        let is_detached = self.guards.are_gone() && link.detach().is_ok();
        if !is_detached && flushed.is_ok() && self.session.must_wake() {
            // Where the daemon is gone, it need not hear anything.
            let _ = link.wake();
        }
    }
}
