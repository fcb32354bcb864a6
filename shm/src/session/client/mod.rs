//! The client's end of a session.

mod answers;
mod expected;
#[expect(unsafe_code, reason = "a slot is read in place for as long as it is leased")]
mod leased;

use super::staging::{NoStaging, OwnStaging, Reserved, StagingArea};
use super::{FRAMES_PER_CALL, INLINE_BYTES_MIN, MAP_STAGING, SessionError, StartError};
use crate::frame::{Frame, MmapRef};
use crate::pool::Region;
use crate::ring::{Receiver, Segment, SendError, Sender, TooLong, Violation};
use answers::{Answers, Pool, Step};
use bettong_wire::message::encode_request;
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{Payload, Request, Response, ServiceError};
use expected::Expected;
use std::sync::Arc;

/// Why a request was not sent. Everything is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Wait for answers, or until the daemon has read.
    #[error("the ring is full: {needed} words are needed, {free} are free")]
    Full { needed: u64, free: u64 },
    /// Wait for answers, unless it is for ever.
    #[error(transparent)]
    NoStaging(#[from] NoStaging),
    /// Wait for answers.
    #[error("{limit} requests are unanswered, which is the limit")]
    Inflight { limit: u32 },
    /// Split the request.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Fix the request.
    #[error(transparent)]
    Invalid(#[from] ServiceError),
    #[error("a staged payload is of another session's area")]
    Foreign,
    /// Begin a new session.
    #[error(transparent)]
    Broken(#[from] SessionError),
}

/// A request that was not sent, with its payloads.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unsent<M> {
    pub error: RequestError,
    pub body: Vec<Reserved<M>>,
}

/// Sends requests and releases, reads answers in place.
pub struct ClientSession<Own, Peer, M> {
    sender: Sender<Own, Peer>,
    receiver: Receiver<Own, Peer>,
    area: StagingArea<M>,
    pool: Pool,
    answers: Answers,
    expected: Expected<M>,
    inline_max: u16,
    last_id: u64,
    /// Zeros that nobody looks at: they stand for staged payloads, of which a message says only the lengths.
    stand_in: Payload,
    wrote: bool,
    has_read: bool,
    ended: Option<SessionError>,
}

impl<Own, Peer, M> Drop for ClientSession<Own, Peer, M> {
    /// What unanswered requests name, the daemon may read yet, however late: nobody writes there again.
    fn drop(&mut self) {
        self.area.retire();
    }
}

impl<Own: Segment + Clone, Peer: Segment + Clone, M: OwnStaging> ClientSession<Own, Peer, M> {
    /// A fresh session; `own` is written here, `peer` by the daemon.
    pub fn new(
        own: Own,
        peer: Peer,
        area: StagingArea<M>,
        pool: Arc<dyn Region>,
        inline_max: u16,
    ) -> Result<Self, StartError> {
        if inline_max < INLINE_BYTES_MIN {
            return Err(StartError::Inline { got: inline_max, least: INLINE_BYTES_MIN });
        }
        Ok(Self {
            sender: Sender::new(own.clone(), peer.clone(), inline_max)?,
            receiver: Receiver::new(own, peer, inline_max)?,
            area,
            pool: Pool::new(pool, inline_max)?,
            answers: Answers::default(),
            expected: Expected::new(),
            inline_max,
            last_id: 0,
            stand_in: Payload::default(),
            wrote: false,
            has_read: false,
            ended: None,
        })
    }

    /// Where payloads are staged: reserve a range, fill it, and send it with `request_staged`.
    pub fn staging(&self) -> &StagingArea<M> {
        &self.area
    }

    /// Requests that wait for their answers.
    pub fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Sends a request with a copy of its payloads. Answers the id under which its answer will come.
    pub fn request(&mut self, request: &Request, body: &[&[u8]]) -> Result<u64, RequestError> {
        let staged = body.iter().map(|bytes| self.area.stage(bytes)).collect::<Result<Vec<_>, _>>()?;
        self.request_staged(request, staged).map_err(|unsent| unsent.error)
    }

    /// Sends a request whose payloads are staged. Answers the id under which its answer will come.
    pub fn request_staged(&mut self, request: &Request, body: Vec<Reserved<M>>) -> Result<u64, Unsent<M>> {
        match self.send(request, &body) {
            Ok((id, message)) => {
                let mut staged = body;
                staged.extend(message);
                self.expected.begin(id, request, staged);
                Ok(id)
            }
            Err(error) => Err(Unsent { error, body }),
        }
    }

    /// All of a request's frames. Answers its message where that is staged, too.
    fn send(&mut self, request: &Request, body: &[Reserved<M>]) -> Result<(u64, Option<Reserved<M>>), RequestError> {
        if body.iter().any(|staged| !self.area.has(staged)) {
            return Err(RequestError::Foreign);
        }
        self.flush_releases()?;
        if !self.expected.has_room(request.op()) {
            return Err(RequestError::Inflight { limit: self.expected.limit });
        }
        let id = self.last_id + 1;
        let payloads = body.iter().map(|staged| self.stand_in(staged.len())).collect();
        let message = encode_request(id, request, payloads)?.head;
        let is_long = message.len() > usize::from(self.inline_max);
        let staged = is_long.then(|| self.area.stage(&message)).transpose()?;
        let first = match &staged {
            Some(staged) => named(staged),
            None => Frame::Inline(&message),
        };
        let sent = if body.is_empty() {
            self.sender.send(&first)
        } else {
            let behind =
                body.iter().map(|payload| if payload.is_empty() { Frame::Inline(&[]) } else { named(payload) });
            let frames: Vec<_> = std::iter::once(first).chain(behind).collect();
            self.sender.check_length(&frames)?;
            self.sender.send_all(&frames)
        };
        match sent {
            Ok(()) => {}
            Err(SendError::Full { needed, free }) => return Err(RequestError::Full { needed, free }),
            Err(error) => return Err(self.failed(error).into()),
        }
        self.wrote = true;
        self.last_id = id;
        Ok((id, staged))
    }

    fn stand_in(&mut self, len: u64) -> Payload {
        if (self.stand_in.len() as u64) < len {
            // Never touched, so it is address space and no memory.
            self.stand_in = vec![0; usize::try_from(len).unwrap_or(0)].into();
        }
        self.stand_in.slice(0, len).unwrap_or_default()
    }

    /// Tells the daemon of what is not read any more, as far as there is room. Answers how many leases it still has to be
    /// told of.
    pub fn flush_releases(&mut self) -> Result<usize, SessionError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        while let Some(slot) = self.pool.releases.pop() {
            match self.sender.send(&Frame::Slot(slot)) {
                Ok(()) => self.wrote = true,
                Err(SendError::Full { .. }) => {
                    self.pool.releases.push_back(slot);
                    break;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(self.pool.releases.len())
    }

    /// Leases that nobody uses and the daemon does not know of.
    pub fn pending_releases(&self) -> usize {
        self.pool.releases.len()
    }

    /// Nobody waits for the answer to `id` any more: the daemon is told where there is room for it, and what it still answers
    /// is released.
    pub fn abandon(&mut self, id: u64) {
        if self.expected.abandon(id)
            && let Ok(cancel) = self.request(&Request::Cancel { request_id: id }, &[])
        {
            self.expected.abandon(cancel);
        }
    }

    /// The next answer; `None` where none is complete. Its payloads are read in place where they are long, for as long as
    /// they are held, and released with the next request or by `flush_releases`. Looks at a bounded number of frames.
    pub fn recv(&mut self) -> Result<Option<(u64, Response)>, SessionError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let answer = self.answer();
        if let Err(error) = &answer {
            self.ended = Some(error.clone());
        }
        answer
    }

    fn answer(&mut self) -> Result<Option<(u64, Response)>, SessionError> {
        for _ in 0..FRAMES_PER_CALL {
            let check = |id, head: &_| self.expected.check(id, head);
            let Some(step) = self.answers.step(&mut self.receiver, &self.pool, check)? else { return Ok(None) };
            self.has_read = true;
            let Step::Answer { id, response } = step else { continue };
            if let Outcome::Ok(Answer::Opened(opened)) = &response.outcome {
                self.expected.limit = opened.limits.requests_inflight_max.max(1);
            }
            if self.expected.end(id) {
                return Ok(Some((id, response)));
            }
        }
        Ok(None)
    }

    fn failed(&mut self, error: SendError) -> SessionError {
        let violation = match error {
            SendError::Violation(violation) => violation,
            SendError::Frame(error) => Violation::Frame(error),
            SendError::Full { .. } => unreachable!("whoever calls this waits where the ring is full"),
        };
        self.ended.insert(violation.into()).clone()
    }

    /// Whether the daemon has written something, or had before. Costs a load.
    pub fn has_news(&self) -> bool {
        self.receiver.has_news()
    }

    /// Whether the daemon sleeps and must be woken for what was written or read since this was last asked. To be asked
    /// after every request, and whenever no answer is there: the daemon may wait for room.
    pub fn must_wake(&mut self) -> bool {
        let (wrote, read) = (std::mem::take(&mut self.wrote), std::mem::take(&mut self.has_read));
        // Who wakes for what was written wakes for what was read before it, too.
        if wrote { self.sender.must_wake() } else { read && self.receiver.must_wake() }
    }

    /// Says that this side is about to sleep until an answer comes; whether it may. Whoever may not, or has slept, says
    /// `awake`.
    pub fn may_sleep(&self) -> bool {
        self.receiver.may_sleep() && !self.answers.has_frame()
    }

    /// As `may_sleep`, on the daemon's bell: for who does nothing else meanwhile than `wait_on_bell`.
    pub fn may_sleep_on_bell(&self) -> bool {
        self.receiver.may_sleep_on_bell() && !self.answers.has_frame()
    }

    /// As `may_sleep`, and also until the daemon has read: for who was told `Full`. The daemon then wakes it by the socket.
    pub fn may_sleep_until_read(&self) -> bool {
        self.may_sleep() && self.sender.may_sleep_until_read()
    }

    /// The end that reads answers.
    pub fn receiver(&self) -> &Receiver<Own, Peer> {
        &self.receiver
    }

    /// What the daemon's bell said when there was nothing left.
    pub fn seen(&self) -> u32 {
        self.receiver.seen()
    }

    /// Nobody need wake this side any more.
    pub fn awake(&self) {
        self.receiver.awake();
    }
}

/// The frame that names a staged range. It is at most as long as a payload or a message may be, which is far below 4 GiB.
fn named<M>(staged: &Reserved<M>) -> Frame<'static> {
    let len = u32::try_from(staged.len()).unwrap_or(u32::MAX);
    Frame::Mmap(MmapRef { map: MAP_STAGING, generation: 0, offset: staged.range().start, len })
}
