//! One session of a process, and what of its answers the process holds.

use super::ShmState;
use super::hold::Hold;
use crate::host::{Attached, ClientLine, Host, Told, Watch, scribble_behind};
use crate::random::Stream;
use crate::workload::Shared;
use bettong_core::door::shm::Heard;
use bettong_shm::pool::SessionId;
use bettong_shm::ring::HeapSegment;
use bettong_shm::session::staging::{HeapStaging, StagingArea};
use bettong_shm::session::{ClientSession, StartError};
use bettong_wire::PutId;
use bettong_wire::Response;
use bettong_wire::request::NsHandle;
use bettong_wire::response::{Answer, ItemOutcome, Outcome};
use futures::future::{Either, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How late what is said on a line arrives.
const LINE: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(4);
/// A client that sleeps looks again after this long, whoever should have woken it.
pub const NAP: Duration = Duration::from_secs(2);

pub type Rings = ClientSession<Arc<HeapSegment>, Arc<HeapSegment>, HeapStaging>;

pub struct Session {
    pub host: Arc<Host>,
    pub id: SessionId,
    pub rings: Rings,
    pub watch: Arc<Watch>,
    pub handles: BTreeMap<usize, NsHandle>,
    pub holds: Vec<Hold>,
    /// Answers that were taken, by request.
    pub arrived: BTreeMap<u64, Response>,
    line: ClientLine,
    bell: Arc<Notify>,
    up: Arc<HeapSegment>,
    /// Nothing can be asked any more.
    pub over: bool,
    /// The client has closed its end of the line.
    pub closed: bool,
    random: Stream,
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woke {
    /// Somebody woke it, or nobody had to.
    Up,
    /// Its bell was rung.
    Rung,
    /// Nobody did.
    Late,
    /// The daemon is gone, or the session is over.
    Over,
}

impl Session {
    pub fn new(attached: Attached, random: Stream) -> Result<Option<Self>, StartError> {
        let Attached { host, session, down, bell, up, staging, line, watch, .. } = attached;
        let Some(watch) = watch else { return Ok(None) };
        let (region, inline_max) = (host.region.clone(), host.limits.inline_max);
        let rings = ClientSession::new(up.clone(), down, StagingArea::new(staging), region, inline_max)?;
        let (handles, holds, arrived) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let (over, closed) = (false, false);
        Ok(Some(Self {
            host,
            id: session,
            rings,
            watch,
            handles,
            holds,
            arrived,
            line,
            bell,
            up,
            over,
            closed,
            random,
        }))
    }

    /// Whether something can be asked.
    pub fn is_open(&self) -> bool {
        !self.over && !self.closed && self.host.is_up()
    }

    fn delay(&mut self) -> Duration {
        if self.random.chance(0.5) { Duration::ZERO } else { self.random.duration(&LINE) }
    }

    /// Wakes the daemon where it sleeps.
    pub fn wake(&mut self) {
        if self.rings.must_wake() {
            let delay = self.delay();
            self.line.say(Heard::Woken, delay);
        }
    }

    /// Sleeps until there may be an answer.
    pub async fn sleep_on_bell(&mut self) -> Woke {
        self.wake();
        if !self.rings.may_sleep_on_bell() {
            self.rings.awake();
            return Woke::Up;
        }
        let (rung, nap) = (pin!(self.bell.notified()), pin!(madsim::time::sleep(NAP)));
        let woke = if let Either::Left(_) = select(rung, nap).await { Woke::Rung } else { Woke::Late };
        self.rings.awake();
        woke
    }

    /// Sleeps on the line until there may be an answer, or also until the daemon has read.
    pub async fn sleep(&mut self, until_read: bool) -> Woke {
        self.wake();
        let may = if until_read { self.rings.may_sleep_until_read() } else { self.rings.may_sleep() };
        let woke = match may {
            false => Woke::Up,
            true => match select(pin!(self.line.told()), pin!(madsim::time::sleep(NAP))).await {
                Either::Left((told, _)) => {
                    self.over |= told != Some(Told::Wake);
                    if self.over { Woke::Over } else { Woke::Up }
                }
                Either::Right(_) => Woke::Late,
            },
        };
        self.rings.awake();
        let delay = self.delay();
        if woke == Woke::Up && may && !delay.is_zero() {
            madsim::time::sleep(delay).await;
        }
        woke
    }

    /// Whether the daemon has said something that was not heard yet, and wakes who sleeps: nothing does on the bell.
    pub fn was_told(&mut self, on_bell: bool) -> bool {
        match self.line.told_already() {
            Some(Told::Over(_)) => {
                self.over = true;
                true
            }
            told => told.is_some() && !on_bell,
        }
    }

    /// Holds payloads of an answer, each until what `until` draws; what it draws no time for is let go.
    pub fn keep(&mut self, response: &Response, mut until: impl FnMut() -> Option<Option<Duration>>) {
        let slots = self.watch.taken(&response.payloads);
        let ids = put_ids(response);
        for ((payload, slot), put_id) in response.payloads.iter().zip(slots).zip(ids) {
            let Some(slot) = slot else { continue };
            if let Some(until) = until() {
                self.holds.push(Hold::new(payload.clone(), slot, put_id, until));
            }
        }
    }

    /// Verifies what is held: one of it, or all.
    pub fn verify(&mut self, shared: &Shared, who: &str, all: bool) {
        if self.host.is_up() && !self.over {
            self.watch.look();
        }
        let one = self.random.below(self.holds.len() as u64) as usize;
        let (from, to) = if all { (0, self.holds.len()) } else { (one, one + 1) };
        let Some(holds) = self.holds.get(from..to.min(self.holds.len())) else { return };
        for hold in holds {
            hold.verify(shared, who, &self.host.daemon);
            let run = shared.cluster.run();
            if !self.host.is_up() {
                run.state_reached(ShmState::HeldPastDaemon.as_str());
            } else if self.closed {
                run.state_reached(ShmState::HeldPastLine.as_str());
            }
        }
    }

    /// Lets go of what was held long enough, and verifies it before.
    pub fn let_go(&mut self, shared: &Shared, who: &str) {
        let daemon = self.host.daemon.clone();
        self.holds.retain(|hold| {
            let due = hold.is_due();
            if due {
                hold.verify(shared, who, &daemon);
                shared.cluster.run().state_reached(ShmState::HeldUnchanged.as_str());
            }
            !due
        });
    }

    /// Closes the client's end of the line, and reads on.
    pub fn close(&mut self) {
        let delay = self.delay();
        self.closed = true;
        self.line.say(Heard::Closed, delay);
    }

    /// Nothing of the session is read any more, and the daemon is told.
    pub fn detach(mut self) {
        self.arrived.clear();
        self.holds.clear();
        self.watch.gone();
        let delay = self.delay();
        self.line.say(Heard::Detached, delay);
    }

    /// The client's process is gone. `torn` leaves a frame that is not whole where nobody has been told of it. Answers what
    /// is to be seen of the session, and after how long at most the daemon hears of the death.
    pub fn die(mut self, torn: bool, hears: Duration) -> (Arc<Host>, SessionId) {
        if torn {
            scribble_behind(&self.up, &mut self.random);
        }
        self.watch.gone();
        if !self.closed && self.random.chance(0.5) {
            let delay = self.delay();
            self.line.say(Heard::Closed, delay);
        }
        self.line.say(Heard::Gone, hears);
        (self.host, self.id)
    }
}

/// The put ids of an answer's payloads, in order.
fn put_ids(response: &Response) -> Vec<PutId> {
    match &response.outcome {
        Outcome::Ok(Answer::Hit(hit)) => vec![hit.put_id],
        Outcome::Ok(Answer::Items(items)) => {
            let hits = items.iter().filter_map(|item| match item {
                ItemOutcome::Hit(hit) => Some(hit.put_id),
                ItemOutcome::Miss(_) => None,
            });
            hits.collect()
        }
        Outcome::Ok(Answer::Chain(chain)) => {
            let tail = chain.sidecar.iter().filter_map(|sidecar| match sidecar {
                ItemOutcome::Hit(hit) => Some(hit),
                ItemOutcome::Miss(_) => None,
            });
            chain.hits.iter().chain(tail).map(|hit| hit.put_id).collect()
        }
        _ => Vec::new(),
    }
}
