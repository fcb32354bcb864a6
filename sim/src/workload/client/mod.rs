//! A client: asks, tells the model, and has every answer judged.

mod chain;
mod forgery;
mod upkeep;
mod values;
mod watch;

use super::Shared;
use super::remote::{Opening, Remote};
use super::shm::Process;
use crate::model::{Daemon, Ending, Span, ValueKey};
use crate::oracle::{Seen, Verdict};
use crate::random::Stream;
use crate::world::elapsed;
use bettong_wire::message::Op;
use bettong_wire::request::*;
use bettong_wire::response::{Answer, ItemOutcome, Outcome};
use bettong_wire::{ErrorKind, MissReason, Payload, Request, Response};
use futures::future::{Either, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A request that nobody answered within this time after its deadline is forgotten.
const PATIENCE: Duration = Duration::from_secs(90);
/// A read is answered at its deadline; a busy daemon may need this much longer.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Where everything but the disk cache is well, whatever is no read is answered within this time.
const PROMPT_MAX: Duration = Duration::from_secs(4);
/// A node's clock runs fast by at most one part in so many.
const CLOCKS_DIFFER_PART: u32 = 10_000;
/// Before so many of its calls a client that shares memory compares its leases with the daemon's.
const COMPARED: f64 = 0.1;

pub struct Client {
    pub name: String,
    pub shared: Arc<Shared>,
    pub random: Stream,
    /// Handles of open namespaces, with the daemon's life that gave them.
    handles: BTreeMap<(String, usize), (u64, NsHandle)>,
    /// Questions that reached a daemon.
    pub operations: u64,
    /// Reads say that they would rather be declined than wait longer than this; zero says nothing.
    pub hurry_us: u32,
    /// Comes over the network; through the embedded door otherwise.
    remote: Option<Remote>,
    /// Comes through shared memory.
    process: Option<Process>,
}

/// How a question ended.
pub enum Heard {
    Answer(Response),
    /// The daemon is not there, died, or would not open the namespace; the question may have been heard.
    Nothing {
        asked: bool,
    },
}

impl Client {
    pub fn new(name: String, shared: Arc<Shared>) -> Self {
        let random = Stream::new(shared.cluster.run().seed(), &format!("client/{name}"));
        Self { name, shared, random, handles: BTreeMap::new(), operations: 0, hurry_us: 0, remote: None, process: None }
    }

    /// A client that comes over the network.
    pub fn remote(name: String, shared: Arc<Shared>) -> Self {
        let mut client = Self::new(name, shared);
        let call_timeout = Duration::from_millis(client.random.within(1_000..12_000));
        let seed = client.random.draw();
        client.remote = Some(Remote::new(client.shared.cluster.run(), seed, call_timeout));
        client
    }

    /// A client that shares memory with its daemons.
    pub fn attached(name: String, shared: Arc<Shared>) -> Self {
        let mut client = Self::new(name, shared);
        client.process = Some(Process::new(&client.name, client.shared.clone()));
        client
    }

    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    pub fn shares_memory(&self) -> bool {
        self.process.is_some()
    }

    /// Whether what it was never answered may be heard by the daemon yet.
    pub fn may_be_heard_later(&self) -> bool {
        self.remote.is_some() || self.process.is_some()
    }

    /// It asks nothing any more, and reads nothing.
    pub async fn end(&mut self) {
        if let Some(process) = &mut self.process {
            process.end().await;
        }
    }

    fn limits(&self) -> ReadLimits {
        ReadLimits { deadline_ms: 0, decline_over_us: self.hurry_us }
    }

    /// Whether this client once opened the namespace through the embedded door.
    fn has_open(&self, daemon: &Daemon, namespace: usize) -> bool {
        self.handles.contains_key(&(daemon.name.clone(), namespace))
    }

    fn trace(&self, daemon: &Daemon, what: std::fmt::Arguments<'_>) {
        self.shared.cluster.run().trace(&self.name, format_args!("@{} {what}", daemon.name));
    }

    /// Asks `daemon` in `namespace`. The request is built with the handle that this session has for it.
    pub async fn ask(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        body: Vec<Payload>,
        build: impl FnOnce(NsHandle) -> Request,
    ) -> Heard {
        if self.remote.is_some() {
            return self.ask_remotely(daemon, namespace, body, build(NsHandle(0))).await;
        }
        if let Some(process) = self.process.take() {
            return self.ask_attached(process, daemon, namespace, body, build).await;
        }
        let nothing = Heard::Nothing { asked: false };
        let Some(door) = self.shared.doors.of(&daemon.name) else {
            madsim::time::sleep(Duration::from_millis(50)).await;
            return nothing;
        };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let deadline = Duration::from_millis(self.random.within(200..12_000));
        let slot = (daemon.name.clone(), namespace);
        let known = self.handles.get(&slot).filter(|(life, _)| *life == door.life).map(|(_, handle)| *handle);
        let handle = match known {
            Some(handle) => handle,
            None => {
                let open = Request::open(Open {
                    protocol_version: 1,
                    tenant: tenant.clone(),
                    token: String::new(),
                    namespace: name,
                    identity: Some(self.shared.setup.identity()),
                    payload_crc: false,
                });
                let opened = self.wait(door.call(&self.name, &tenant, open, Vec::new(), deadline), deadline).await;
                match opened.map(|response| response.outcome) {
                    Some(Outcome::Ok(Answer::Opened(opened))) => {
                        self.handles.insert(slot, (door.life, opened.ns));
                        opened.ns
                    }
                    Some(other) => {
                        self.trace(daemon, format_args!("open ns{namespace} -> {}", brief(&other)));
                        return nothing;
                    }
                    None => return nothing,
                }
            }
        };
        let request = build(handle);
        let (op, reads, asked) = (request.op(), is_read(&request), elapsed());
        let answer = self.wait(door.call(&self.name, &tenant, request, body, deadline), deadline).await;
        let late = elapsed().saturating_sub(asked).saturating_sub(deadline);
        if reads && answer.is_some() && late > LATE_MAX && self.shared.never_pauses() {
            let run = self.shared.cluster.run();
            run.stuck(format!("O8: a read of {} is answered {late:?} after its deadline of {deadline:?}", daemon.name));
        }
        let took = elapsed().saturating_sub(asked);
        if took + deadline / CLOCKS_DIFFER_PART < deadline && answer.as_ref().is_some_and(says_deadline) {
            let run = self.shared.cluster.run();
            let what = format!("{} says after {took:?} that a deadline of {deadline:?} has passed", daemon.name);
            run.fail("O15", what);
        }
        let may_read_cache = reads || op == Op::Maintain;
        if !may_read_cache && answer.is_some() && took > PROMPT_MAX && self.shared.only_caches_are_slow() {
            let run = self.shared.cluster.run();
            run.stuck(format!("O8: {} takes {took:?} for {}, which needs no disk cache", daemon.name, op.as_str()));
        }
        self.operations += 1;
        self.shared.cluster.run().count(|counters| counters.operations += 1);
        answer.map_or(Heard::Nothing { asked: true }, Heard::Answer)
    }

    fn opening(&self, number: usize) -> Opening {
        let (tenant, name) = self.shared.setup.namespace(number);
        Opening { number, tenant, name, identity: self.shared.setup.identity() }
    }

    async fn ask_attached(
        &mut self,
        mut process: Process,
        daemon: &Daemon,
        namespace: usize,
        body: Vec<Payload>,
        build: impl FnOnce(NsHandle) -> Request,
    ) -> Heard {
        if self.random.chance(COMPARED) {
            process.compare().await;
        }
        let heard = process.ask(daemon, self.opening(namespace), body, build).await;
        self.process = Some(process);
        if !matches!(heard, Heard::Nothing { asked: false }) {
            self.operations += 1;
            self.shared.cluster.run().count(|counters| counters.operations += 1);
        }
        heard
    }

    async fn ask_remotely(&mut self, daemon: &Daemon, namespace: usize, body: Vec<Payload>, request: Request) -> Heard {
        let Some(remote) = &mut self.remote else { return Heard::Nothing { asked: false } };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let identity = self.shared.setup.identity();
        let address = self.shared.cluster.address(&daemon.name);
        let opening = Opening { number: namespace, tenant, name, identity };
        let patience = remote.patience();
        let ask = remote.ask(daemon, &address, opening, request, body);
        let run = self.shared.cluster.run();
        let heard = match select(pin!(ask), pin!(madsim::time::sleep(patience))).await {
            Either::Left((heard, _)) => heard,
            Either::Right(_) => {
                // The library promises an answer within its time limit, whatever the network does.
                run.stuck(format!("O8: a call of {} to {} did not end within {patience:?}", self.name, daemon.name));
                Heard::Nothing { asked: true }
            }
        };
        if !matches!(heard, Heard::Nothing { asked: false }) {
            self.operations += 1;
            run.count(|counters| counters.operations += 1);
            run.state_reached("sim call over the network");
        }
        heard
    }

    /// Asks several things at once over the client's one connection or session; nothing, where it has none.
    async fn ask_at_once(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        build: impl Fn(NsHandle) -> Vec<(Request, Vec<Payload>)>,
    ) -> Vec<Heard> {
        if let Some(mut process) = self.process.take() {
            let heard = process.ask_at_once(daemon, self.opening(namespace), build).await;
            self.process = Some(process);
            let asked = heard.iter().filter(|heard| !matches!(heard, Heard::Nothing { asked: false })).count() as u64;
            self.operations += asked;
            self.shared.cluster.run().count(|counters| counters.operations += asked);
            return heard;
        }
        let requests = build(NsHandle(0)).into_iter().map(|(request, _)| request).collect();
        let Some(remote) = &mut self.remote else { return Vec::new() };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let identity = self.shared.setup.identity();
        let address = self.shared.cluster.address(&daemon.name);
        let opening = Opening { number: namespace, tenant, name, identity };
        let patience = remote.patience();
        let asked = remote.ask_at_once(daemon, &address, opening, requests);
        let run = self.shared.cluster.run();
        match select(pin!(asked), pin!(madsim::time::sleep(patience))).await {
            Either::Left((heard, _)) => {
                self.operations += heard.len() as u64;
                run.count(|counters| counters.operations += heard.len() as u64);
                run.state_reached("sim calls at once over one connection");
                heard
            }
            Either::Right(_) => {
                run.stuck(format!("O8: calls of {} to {} did not end within {patience:?}", self.name, daemon.name));
                Vec::new()
            }
        }
    }

    /// Waits for an answer, but not for ever. A daemon that is up and answers nothing at all is stuck.
    async fn wait(&self, call: impl Future<Output = Option<Response>>, deadline: Duration) -> Option<Response> {
        let run = self.shared.cluster.run();
        match select(pin!(call), pin!(madsim::time::sleep(deadline + PATIENCE))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                if run.faults_stopped() {
                    run.stuck(format!("{} waits {} s beyond its deadline", self.name, PATIENCE.as_secs()));
                } else {
                    run.state_reached("sim client gave up");
                }
                None
            }
        }
    }

    /// Judges an answer; a wrong one ends the run.
    pub fn judge(&self, daemon: &Daemon, span: Span, judge: impl FnOnce(Seen<'_>) -> Verdict) {
        let run = self.shared.cluster.run();
        let settled = self.shared.settled.load(Ordering::Relaxed);
        let mut model = self.shared.model.lock();
        model.set_damaged(run.damaged());
        model.set_rolled_back(run.rolled_back());
        model.set_forgotten(run.forgotten());
        let mut gone = self.shared.cluster.gone();
        let retirements = self.shared.retirements.lock().clone();
        // What only its journal had goes with the node.
        let daemons = self.shared.daemons.lock();
        let retired = |daemon: &&Daemon| retirements.iter().any(|known| known.of == daemon.node_id);
        gone.extend(daemons.iter().filter(retired).map(|daemon| daemon.name.clone()));
        drop(daemons);
        model.set_gone(gone);
        model.set_heirs(retirements.into_iter().map(|known| (known.of, known.by, known.asked)).collect());
        let knew_of_others = if settled { span.invoked } else { run.knew_of_others(&daemon.name, span.invoked) };
        let clocks_are_steady = self.shared.clocks_are_steady();
        let only_caches_are_slow = self.shared.only_caches_are_slow();
        let seen = Seen {
            model: &model,
            daemon,
            span,
            calm: settled,
            disturbed: run.is_disturbed(&daemon.name, span.invoked),
            knew_of_others,
            clocks_are_steady,
            only_caches_are_slow,
            memory_is_ample: self.shared.setup.memory_is_ample(),
        };
        let verdict = judge(seen);
        drop(model);
        if let Err(no) = verdict {
            run.fail(no.oracle, format!("{} (asked at {:.6} by {})", no.what, span.invoked.as_secs_f64(), self.name));
        }
    }

    fn key(namespace: usize, target: &Target) -> ValueKey {
        ValueKey { namespace, target: target.clone() }
    }

    /// An error other than these, or none where one `must` be, is wrong. Errors that pass by themselves are always right.
    fn expect(&self, outcome: &Outcome, allowed: &[ErrorKind], must: bool, what: &str) {
        let passing = [ErrorKind::Retry, ErrorKind::Busy, ErrorKind::Unavailable];
        let right = match outcome {
            // What a client may lease is its own affair.
            Outcome::Error(error) if self.process.is_some() && error.message.contains("bytes of slots") => true,
            Outcome::Error(error) => allowed.contains(&error.kind) || passing.contains(&error.kind),
            _ => !must,
        };
        if !right {
            self.shared.cluster.run().fail("O3", format!("{what} is answered {}", brief(outcome)));
        }
    }
}

/// Whether the deadline of a request bounds its answer.
pub fn is_read(request: &Request) -> bool {
    use Request::{Get, GetBlocks, GetMany, GetSidecar, Restore, RestoreChain};
    matches!(request, Get(_) | GetMany(_) | GetBlocks(_) | GetSidecar(_) | Restore(_) | RestoreChain(_))
}

impl Heard {
    /// The error that was answered, for the trace.
    fn trouble(&self) -> String {
        match self {
            Self::Answer(Response { outcome: outcome @ Outcome::Error(_), .. }) => format!(": {}", brief(outcome)),
            _ => String::new(),
        }
    }
}

/// Whether a value is missing because its deadline has passed.
fn says_deadline(response: &Response) -> bool {
    match &response.outcome {
        Outcome::Miss(reason) => *reason == MissReason::Deadline,
        Outcome::Ok(Answer::Items(items)) => items.contains(&ItemOutcome::Miss(MissReason::Deadline)),
        Outcome::Ok(Answer::Chain(chain)) => chain.sidecar == Some(ItemOutcome::Miss(MissReason::Deadline)),
        _ => false,
    }
}

fn ending_of(heard: &Heard) -> Ending {
    match heard {
        Heard::Nothing { asked: false } => Ending::Refused,
        Heard::Nothing { asked: true } => Ending::Unknown,
        Heard::Answer(response) => match &response.outcome {
            Outcome::Error(error) => Ending::of_error(error.kind),
            _ => Ending::Unknown,
        },
    }
}

fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(answer) => format!("{answer:?}").chars().take(60).collect(),
        Outcome::Miss(reason) => format!("miss {}", reason.as_str()),
        Outcome::Error(error) => format!("{:?}: {}", error.kind, error.message),
    }
}
