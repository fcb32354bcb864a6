//! A client's process: its sessions with the daemons of its host, and the steps of a call between any two of which it may
//! die. The next call is then made by the process that comes after it.

use super::ShmState;
use super::session::{NAP, Session, Woke};
use crate::faults::{FaultKind, Strike};
use crate::host::Host;
use crate::model::Daemon;
use crate::random::Stream;
use crate::workload::Shared;
use crate::workload::client::{Heard, is_read};
use crate::workload::remote::Opening;
use crate::world::elapsed;
use bettong_shm::pool::SessionId;
use bettong_shm::session::staging::{HeapStaging, Reserved};
use bettong_shm::session::{RequestError, Unsent};
use bettong_wire::request::{NsHandle, Open};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{ErrorKind, Payload, Request, Response};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a client holds on to what it reads.
const HELD: Range<Duration> = Duration::from_millis(1)..Duration::from_secs(12);
/// Of its answers a client holds so many for a while.
const HELD_SHARE: f64 = 0.35;
/// Leases that one session holds on to.
const HOLDS_MAX: usize = 48;
/// How late a daemon hears that a process is gone.
const GONE: Range<Duration> = Duration::ZERO..Duration::from_secs(1);
/// The leases of the dead are back this long after the daemon has heard of it.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// A call that nobody answered this long after its deadline is forgotten.
const PATIENCE: Duration = Duration::from_secs(90);
/// A read is answered at its deadline; a busy daemon, and lines, may need this much longer.
const LATE_MAX: Duration = Duration::from_secs(1);

/// The daemon, and the tenant.
type Place = (String, String);

pub struct Process {
    name: String,
    shared: Arc<Shared>,
    random: Stream,
    pid: u32,
    sessions: BTreeMap<Place, Session>,
    /// Sessions in which nothing can be asked any more, of which something is still read.
    reading: Vec<Session>,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Staging,
    Asked,
}

impl Process {
    pub fn new(name: &str, shared: Arc<Shared>) -> Self {
        let random = Stream::new(shared.cluster.run().seed(), &format!("process/{name}"));
        Self { name: name.to_owned(), shared, random, pid: 1, sessions: BTreeMap::new(), reading: Vec::new() }
    }

    fn reached(&self, state: ShmState) {
        self.shared.cluster.run().state_reached(state.as_str());
    }

    /// Asks `daemon` in a namespace.
    pub async fn ask(
        &mut self,
        daemon: &Daemon,
        opening: Opening,
        body: Vec<Payload>,
        build: impl FnOnce(NsHandle) -> Request,
    ) -> Heard {
        let place = (daemon.name.clone(), opening.tenant.clone());
        let Some(ns) = self.open(&place, opening).await else { return Heard::Nothing { asked: false } };
        let request = build(ns);
        self.call(&place, request, body).await
    }

    /// Asks several things at once in one session. Answers how each of them ended, or nothing where it is not open.
    pub async fn ask_at_once(
        &mut self,
        daemon: &Daemon,
        opening: Opening,
        build: impl FnOnce(NsHandle) -> Vec<(Request, Vec<Payload>)>,
    ) -> Vec<Heard> {
        let place = (daemon.name.clone(), opening.tenant.clone());
        let Some(ns) = self.open(&place, opening).await else { return Vec::new() };
        let (requests, pid) = (build(ns), self.pid);
        let mut sent = Vec::new();
        for (request, body) in &requests {
            // One that cannot be sent keeps those behind it back.
            let asked = match sent.last() {
                None | Some(Ok(_)) => self.send(&place, request, body).await,
                Some(Err(_)) => Err(false),
            };
            sent.push(asked);
        }
        let mut heard = Vec::new();
        for ((request, _), asked) in requests.iter().zip(sent) {
            heard.push(match asked {
                Ok(id) => self.answer(&place, id, is_read(request)).await,
                Err(asked) => Heard::Nothing { asked },
            });
        }
        self.forget_arrived(&place);
        if self.pid != pid {
            // What a process had taken ends with it: its slots may be others' by now.
            let taken = heard.iter_mut().filter(|heard| matches!(heard, Heard::Answer(_)));
            taken.for_each(|heard| *heard = Heard::Nothing { asked: true });
        }
        heard
    }

    /// The session with a daemon, and the handle of a namespace in it.
    async fn open(&mut self, place: &Place, opening: Opening) -> Option<NsHandle> {
        if !self.step(&place.0, Stage::Before).await || !self.attach(place).await {
            return None;
        }
        let known = self.sessions.get(place)?.handles.get(&opening.number).copied();
        if known.is_some() {
            return known;
        }
        let open = Request::open(Open {
            protocol_version: 1,
            tenant: opening.tenant,
            token: String::new(),
            namespace: opening.name,
            identity: Some(opening.identity),
            payload_crc: false,
        });
        match self.call(place, open, Vec::new()).await {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Opened(opened)), .. }) => {
                self.sessions.get_mut(place)?.handles.insert(opening.number, opened.ns);
                Some(opened.ns)
            }
            _ => None,
        }
    }

    async fn attach(&mut self, place: &Place) -> bool {
        if self.sessions.get(place).is_some_and(Session::is_open) {
            return true;
        }
        self.reading.extend(self.sessions.remove(place));
        let Some(host) = self.shared.hosts.of(&place.0) else {
            madsim::time::sleep(Duration::from_millis(50)).await;
            return false;
        };
        let Some(attached) = host.attach(&self.name, self.pid, None).await else { return false };
        let random = Stream::new(self.random.draw(), "session");
        match Session::new(attached, random) {
            Ok(Some(session)) => {
                self.sessions.insert(place.clone(), session);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.shared.cluster.run().fail("setup", format!("{} attaches in vain: {error}", self.name));
                false
            }
        }
    }

    async fn call(&mut self, place: &Place, request: Request, body: Vec<Payload>) -> Heard {
        let reads = is_read(&request);
        match self.send(place, &request, &body).await {
            Ok(id) => {
                let heard = self.answer(place, id, reads).await;
                self.forget_arrived(place);
                heard
            }
            Err(asked) => Heard::Nothing { asked },
        }
    }

    /// Nobody waits for these any more.
    fn forget_arrived(&mut self, place: &Place) {
        self.sessions.get_mut(place).into_iter().for_each(|session| session.arrived.clear());
    }

    /// Stages payloads and sends a request. Where it fails, says whether it may have been heard.
    async fn send(&mut self, place: &Place, request: &Request, body: &[Payload]) -> Result<u64, bool> {
        let mut staged: Vec<Reserved<HeapStaging>> = Vec::new();
        for payload in body {
            let session = self.sessions.get(place).ok_or(false)?;
            let Ok(mut range) = session.rings.staging().reserve(payload.len() as u64) else {
                self.reached(ShmState::StagingFull);
                return Err(false);
            };
            let half = self.random.below(payload.len() as u64) as usize;
            let (first, rest) = payload.as_ref().split_at_checked(half).unwrap_or_default();
            range.write(0, first);
            if !self.step(&place.0, Stage::Staging).await {
                return Err(false);
            }
            range.write(half as u64, rest);
            staged.push(range);
        }
        if !self.step(&place.0, Stage::Staging).await {
            return Err(false);
        }
        let until = elapsed() + PATIENCE;
        while elapsed() < until {
            let session = self.sessions.get_mut(place).ok_or(false)?;
            if !session.is_open() {
                return Err(false);
            }
            let full = match session.rings.request_staged(request, staged) {
                Ok(id) => {
                    // It dies before it wakes the daemon, or after.
                    if !self.step(&place.0, Stage::Asked).await {
                        return Err(true);
                    }
                    self.sessions.get_mut(place).ok_or(true)?.wake();
                    return Ok(id);
                }
                Err(Unsent { error: RequestError::Full { .. } | RequestError::Inflight { .. }, body }) => body,
                Err(Unsent { error: RequestError::NoStaging(_), .. }) => {
                    self.reached(ShmState::StagingFull);
                    return Err(false);
                }
                Err(Unsent { error: RequestError::Broken(error), .. }) => {
                    let what = format!("S2: {} does not understand {}: {error}", self.name, place.0);
                    self.shared.cluster.run().fail("O3", what);
                    return Err(false);
                }
                // The daemon would refuse it, too.
                Err(Unsent { .. }) => return Err(false),
            };
            staged = full;
            self.reached(ShmState::RingFull);
            self.take_answers(place);
            let session = self.sessions.get_mut(place).ok_or(false)?;
            session.sleep(true).await;
            if !self.step(&place.0, Stage::Staging).await {
                return Err(false);
            }
        }
        Err(false)
    }

    /// Takes the answers that are there. `None` where the session is of no more use.
    fn take_answers(&mut self, place: &Place) -> Option<usize> {
        let mut taken = 0;
        loop {
            let received = self.sessions.get_mut(place)?.rings.recv();
            match received {
                Ok(Some((id, response))) => {
                    self.keep(place, &response);
                    self.sessions.get_mut(place)?.arrived.insert(id, response);
                    taken += 1;
                }
                Ok(None) => return Some(taken),
                Err(error) => {
                    let what = format!("S2: {} does not understand {}: {error}", self.name, place.0);
                    self.shared.cluster.run().fail("O3", what);
                    return None;
                }
            }
        }
    }

    fn keep(&mut self, place: &Place, response: &Response) {
        let run = self.shared.cluster.run().clone();
        let Self { random, sessions, .. } = self;
        let Some(session) = sessions.get_mut(place) else { return };
        let room = HOLDS_MAX.saturating_sub(session.holds.len());
        let mut kept = 0;
        session.keep(response, || {
            if kept == room {
                return None;
            }
            let until = match run.fault_event(&place.0, FaultKind::ShmHold) {
                Some(strike) => {
                    run.fault_changed(&strike.key);
                    None
                }
                None if random.chance(HELD_SHARE) => Some(elapsed() + random.duration(&HELD)),
                None => return None,
            };
            kept += 1;
            Some(until)
        });
        self.note(place, response);
    }

    /// What a refusal says of quotas. A frame has room for the beginning of its text only.
    fn note(&mut self, place: &Place, response: &Response) {
        let Outcome::Error(error) = &response.outcome else { return };
        let state = match error.kind {
            ErrorKind::Busy if error.message.starts_with("the session holds leases") => ShmState::OverQuotaBusy,
            ErrorKind::Busy if error.message.contains("bytes of frames") => ShmState::AnswersQueuedBusy,
            ErrorKind::Busy if error.message.contains("bytes of payload memory") => ShmState::NoRoomBesideLeases,
            ErrorKind::TooLarge if error.message.contains("bytes of slots") => ShmState::OverQuotaTooLarge,
            _ => return,
        };
        let leased = self.sessions.get(place).is_some_and(|session| !session.host.book.leased().is_empty());
        if leased || state != ShmState::NoRoomBesideLeases {
            self.reached(state);
        }
        if state == ShmState::OverQuotaBusy && self.random.chance(0.5) {
            // It lets go of what it does not hold for ever.
            let now = elapsed();
            let session = self.sessions.get_mut(place);
            let holds = session.into_iter().flat_map(|session| &mut session.holds);
            holds.filter_map(|hold| hold.until.as_mut()).for_each(|until| *until = now);
        }
    }

    /// Waits for the answer to request `id`.
    async fn answer(&mut self, place: &Place, id: u64, reads: bool) -> Heard {
        let asked = elapsed();
        let (run, deadline) = (self.shared.cluster.run().clone(), self.shared.setup.shm.deadline);
        let nothing = Heard::Nothing { asked: true };
        let mut slow = Duration::ZERO;
        if let Some(strike) = run.fault_event(&place.0, FaultKind::ShmSlow) {
            run.fault_changed(&strike.key);
            slow = strike.delay;
            madsim::time::sleep(slow).await;
            if !self.step(&place.0, Stage::Asked).await {
                return nothing;
            }
        }
        loop {
            // What was published before a daemon died can be read.
            let Some(_) = self.take_answers(place) else { return nothing };
            let Some(session) = self.sessions.get_mut(place) else { return nothing };
            if let Some(response) = session.arrived.remove(&id) {
                let took = elapsed().saturating_sub(asked);
                if reads && took > deadline + slow + LATE_MAX && self.shared.never_pauses() {
                    let what = format!("O8: a read of {} by {} takes {took:?}", place.0, self.name);
                    run.stuck(format!("{what}, its deadline is {deadline:?}"));
                }
                self.reached(ShmState::Answered);
                return Heard::Answer(response);
            }
            if session.over || !session.host.is_up() {
                return nothing;
            }
            if elapsed() > asked + deadline + PATIENCE {
                match run.faults_stopped() {
                    true => run.stuck(format!("{} waits {} s beyond its deadline", self.name, PATIENCE.as_secs())),
                    false => run.state_reached("sim client gave up"),
                }
                return nothing;
            }
            let on_bell = self.random.chance(0.3);
            let woke = if on_bell { session.sleep_on_bell().await } else { session.sleep(false).await };
            if woke == Woke::Rung {
                self.reached(ShmState::RungAwake);
            }
            if woke == Woke::Late {
                let Some(taken) = self.take_answers(place) else { return nothing };
                let heard = self.sessions.get_mut(place).is_some_and(|session| session.was_told(on_bell));
                if taken > 0 && !heard && self.shared.never_pauses() {
                    run.stuck(format!(
                        "O8: {} sleeps {NAP:?} beside an answer of {}: nobody woke it",
                        self.name, place.0
                    ));
                }
            }
            if !self.step(&place.0, Stage::Asked).await {
                return nothing;
            }
        }
    }

    /// One step of this process. It tends what it holds, and may die: then `false`, and everything that it had is gone.
    async fn step(&mut self, daemon: &str, stage: Stage) -> bool {
        let run = self.shared.cluster.run().clone();
        for session in self.sessions.values_mut().chain(&mut self.reading) {
            session.verify(&self.shared, &self.name, false);
            session.let_go(&self.shared, &self.name);
        }
        for session in std::mem::take(&mut self.reading) {
            match session.holds.is_empty() {
                true => session.detach(),
                false => self.reading.push(session),
            }
        }
        if let Some(strike) = run.fault_event(daemon, FaultKind::ShmDeath) {
            self.die(&strike, stage);
            return false;
        }
        if let Some(strike) = run.fault_event(daemon, FaultKind::ShmClose) {
            for session in self.sessions.values_mut().filter(|session| session.is_open()) {
                session.close();
                run.fault_changed(&strike.key);
            }
        }
        if self.random.chance(0.2) {
            let pause = self.random.duration(&(Duration::from_millis(1)..Duration::from_millis(6)));
            madsim::time::sleep(pause).await;
        }
        run.failure().is_none()
    }

    fn die(&mut self, strike: &Strike, stage: Stage) {
        let run = self.shared.cluster.run().clone();
        let mut random = Stream::new(strike.choice, "death");
        let sessions: Vec<_> = std::mem::take(&mut self.sessions).into_values().chain(self.reading.drain(..)).collect();
        let hears = random.duration(&GONE);
        for mut session in sessions {
            session.verify(&self.shared, &self.name, true);
            let unanswered = session.rings.unanswered() > 0;
            let holds = !session.holds.is_empty();
            let for_ever = session.holds.iter().any(|hold| hold.until.is_none());
            let torn = random.chance(0.3);
            for (is, state) in [
                (holds, ShmState::DiedWithLeases),
                (for_ever, ShmState::HeldForEver),
                (unanswered, ShmState::DiedAsking),
                (unanswered && !session.rings.may_sleep(), ShmState::DiedUnread),
                (stage == Stage::Staging, ShmState::DiedStaging),
                (torn, ShmState::DiedWriting),
            ] {
                if is {
                    run.state_reached(state.as_str());
                }
            }
            if holds || unanswered || stage == Stage::Staging {
                run.fault_changed(&strike.key);
            }
            let (host, id) = session.die(torn, hears);
            drop(madsim::task::spawn(returned(self.shared.clone(), host, id, hears)));
        }
        run.trace(&self.name, format_args!("process {} dies at {stage:?}", self.pid));
        self.pid += 1;
    }

    /// Where nothing is under way, both sides count the same leases.
    pub async fn compare(&mut self) {
        let open: Vec<_> =
            self.sessions.iter().filter(|(_, session)| session.is_open()).map(|(place, _)| place.clone()).collect();
        for place in open {
            let Some(session) = self.sessions.get_mut(&place) else { continue };
            if session.rings.unanswered() > 0 || !matches!(session.rings.flush_releases(), Ok(0)) {
                continue;
            }
            if let Heard::Answer(_) = self.call(&place, Request::Ping, Vec::new()).await
                && let Some(session) = self.sessions.get(&place).filter(|session| session.rings.unanswered() == 0)
                && session.rings.pending_releases() == 0
                && session.host.is_up()
            {
                session.watch.settled();
                self.reached(ShmState::AccountsAgree);
            }
        }
    }

    /// The process ends, in order or not.
    pub async fn end(&mut self) {
        for session in self.sessions.values_mut().chain(&mut self.reading) {
            session.verify(&self.shared, &self.name, true);
        }
        let hears = self.random.duration(&GONE);
        let sessions = std::mem::take(&mut self.sessions).into_values().chain(std::mem::take(&mut self.reading));
        for session in sessions {
            if session.holds.iter().any(|hold| hold.until.is_none()) {
                self.shared.cluster.run().state_reached(ShmState::HeldForEver.as_str());
            }
            if self.random.chance(0.5) {
                session.detach();
                self.shared.cluster.run().state_reached(ShmState::Detached.as_str());
            } else {
                let (host, id) = session.die(false, hears);
                drop(madsim::task::spawn(returned(self.shared.clone(), host, id, hears)));
            }
        }
    }
}

/// O6: the leases of the dead return.
async fn returned(shared: Arc<Shared>, host: Arc<Host>, session: SessionId, hears: Duration) {
    madsim::time::sleep(hears + BACK_WITHIN).await;
    let run = shared.cluster.run();
    match host.leases.bytes_of(session) {
        _ if !host.is_up() => {}
        None => run.state_reached(ShmState::LeasesReturned.as_str()),
        Some(bytes) if shared.never_pauses() => {
            let (who, daemon) = (session.0, &host.daemon);
            run.fail(
                "O6",
                format!("S4: {bytes} bytes of session {who} of {daemon} are leased, and its client is dead"),
            );
        }
        Some(_) => {}
    }
}
