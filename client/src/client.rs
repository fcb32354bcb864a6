//! The client: makes calls, repeats what may be repeated, and keeps every call within its time.

use crate::call::{
    Asked, Body, Call, CallKey, Command, Lost, NamespaceKey, Opening, TellOnDrop, TimedOut, changes_anything,
    is_repeatable,
};
use crate::callers::Callers;
use crate::dial::{Dial, Tcp};
use crate::namespace::Namespace;
use crate::options::{Address, Options};
use crate::put_buffer::{PutBuffer, Rooms};
use crate::session;
use crate::session::wire::Reach;
#[cfg(all(target_os = "linux", not(madsim)))]
use crate::shm::{Areas, ShmReach};
use crate::tcp::TcpReach;
use bettong_wire::limits::{BLOCK_BYTES_MAX, PROTOCOL_VERSION};
use bettong_wire::memory::HeapMemory;
use bettong_wire::request::Open;
use bettong_wire::response::{Answer, Opened, Outcome};
use bettong_wire::{ErrorKind, ModelIdentity, Payload, Request, Response, ServiceError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// A connection to one daemon, kept up in the background. Cheap to clone; closed when the last clone and the last
/// namespace are dropped.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    options: Options,
    rooms: Rooms,
    payload_crc: bool,
    next_key: AtomicU64,
    calls: AtomicUsize,
    trouble: Trouble,
}

/// Why calls cannot be made at the moment, for the texts of errors.
#[derive(Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<Troubles>>);

#[derive(Default)]
struct Troubles {
    /// Why there is no connection.
    connection: Option<String>,
    /// Why a namespace is not open on the connection.
    namespaces: BTreeMap<NamespaceKey, String>,
}

impl Trouble {
    pub fn set(&self, trouble: Option<String>) {
        self.lock().connection = trouble;
    }

    pub fn set_of(&self, namespace: NamespaceKey, trouble: Option<String>) {
        let mut troubles = self.lock();
        match trouble {
            Some(trouble) => troubles.namespaces.insert(namespace, trouble),
            None => troubles.namespaces.remove(&namespace),
        };
    }

    fn get(&self, namespace: Option<NamespaceKey>) -> Option<String> {
        let troubles = self.lock();
        let of_namespace = || namespace.and_then(|key| troubles.namespaces.get(&key)).cloned();
        troubles.connection.clone().or_else(of_namespace)
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call for as long as it is under way.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Connects to `tcp://HOST:PORT` or, on Linux, to `shm:///PATH`. Tries once: a daemon that is not there is an error at
    /// once; one that leaves later is waited for.
    pub async fn connect(url: &str, options: Options) -> Result<Self, ServiceError> {
        Self::connect_for(url, options, None).await
    }

    /// The same, for `callers` whose threads do nothing but wait.
    pub(crate) async fn connect_for(
        url: &str,
        options: Options,
        callers: Option<Callers>,
    ) -> Result<Self, ServiceError> {
        match Address::parse(url)? {
            Address::Tcp { .. } => Self::connect_by(Tcp, url, options).await,
            #[cfg(all(target_os = "linux", not(madsim)))]
            Address::Shm { path } => {
                let areas = Areas::default();
                // What stays on this host is not summed.
                let reach = ShmReach::new(path, &options, callers, areas.clone());
                Self::connect_to(reach, Rooms::Staging(areas), false, options).await
            }
            #[cfg(not(all(target_os = "linux", not(madsim))))]
            Address::Shm { path } => {
                drop(callers);
                Err(no_shared_memory(&path))
            }
        }
    }

    /// The same, over connections that `dial` makes to `tcp://HOST:PORT`.
    pub async fn connect_by(dial: impl Dial, url: &str, options: Options) -> Result<Self, ServiceError> {
        let Address::Tcp { host_port, is_loopback } = Address::parse(url)? else {
            let text = format!("`{url}` is not reached by dialling: write tcp://HOST:PORT");
            return Err(ServiceError::new(ErrorKind::Invalid, text));
        };
        let payload_crc = options.payload_crc.unwrap_or(!is_loopback);
        let memory = HeapMemory::new(options.received_bytes_max, BLOCK_BYTES_MAX);
        Self::connect_to(TcpReach { dial, host_port, memory }, Rooms::Heap, payload_crc, options).await
    }

    async fn connect_to(
        mut reach: impl Reach,
        rooms: Rooms,
        payload_crc: bool,
        options: Options,
    ) -> Result<Self, ServiceError> {
        let wire = reach.reach(options.connect_timeout).await?;
        let (commands, receiver) = mpsc::unbounded_channel();
        let trouble = Trouble::default();
        tokio::spawn(session::run(reach, wire, options.clone(), receiver, trouble.clone()));
        let (next_key, calls) = (AtomicU64::new(1), AtomicUsize::new(0));
        Ok(Self { shared: Arc::new(Shared { commands, options, rooms, payload_crc, next_key, calls, trouble }) })
    }

    /// Whether the daemon answers. Answers how long it took.
    pub async fn ping(&self) -> Result<Duration, ServiceError> {
        let start = Instant::now();
        let response = self.call(None, Request::Ping, Vec::new()).await?;
        match response.outcome {
            Outcome::Ok(Answer::Pong) => Ok(start.elapsed()),
            other => Err(unexpected("a ping", other)),
        }
    }

    /// Opens the namespace `name` of the client's tenant. With a model identity its blocks are reachable, and the daemon
    /// refuses an identity that differs from the one the namespace was made with; without, plain keys only.
    pub async fn open_namespace(&self, name: &str, identity: Option<ModelIdentity>) -> Result<Namespace, ServiceError> {
        let options = &self.shared.options;
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: options.tenant.clone(),
            token: options.token.clone(),
            namespace: name.to_owned(),
            identity,
            payload_crc: self.shared.payload_crc,
        };
        bettong_wire::validate::request(&Request::open(open.clone()))?;
        let key = NamespaceKey(self.shared.next_key.fetch_add(1, Ordering::Relaxed));
        let opened = self.open(key, open).await?;
        Ok(Namespace::new(self.clone(), key, opened))
    }

    async fn open(&self, key: NamespaceKey, open: Open) -> Result<Opened, ServiceError> {
        let until = Instant::now() + self.shared.options.call_timeout;
        let mut leaving = self.on_leaving(Command::Forget { key, timed_out: None });
        loop {
            let (reply, answer) = oneshot::channel();
            let since = Instant::now();
            self.tell(Command::Open { open: Box::new(open.clone()), asked: Asked { key, since, reply } })?;
            match timeout(until.saturating_duration_since(since), answer).await {
                Ok(Ok(Ok(opened))) => {
                    leaving.command = None;
                    return Ok(opened);
                }
                // The connection was lost on the way; opening twice is the same as opening once.
                Ok(Ok(Err(Opening::Lost))) => sleep(self.shared.options.backoff).await,
                Ok(Ok(Err(Opening::Refused(error)))) => return Err(error),
                Ok(Err(_)) => return Err(gone()),
                Err(_) => {
                    leaving.command = Some(Command::Forget { key, timed_out: Some(TimedOut { since }) });
                    return Err(self.timed_out(None));
                }
            }
        }
    }

    pub(crate) fn forget(&self, key: NamespaceKey) {
        // Where the session is gone, so is the namespace.
        let _ = self.tell(Command::Forget { key, timed_out: None });
    }

    fn on_leaving(&self, command: Command) -> TellOnDrop {
        TellOnDrop { commands: self.shared.commands.clone(), command: Some(command) }
    }

    fn tell(&self, command: Command) -> Result<(), ServiceError> {
        self.shared.commands.send(command).map_err(|_| gone())
    }

    /// Makes one call, repeating it where that changes nothing. `request` names any handle; the session puts in the one
    /// that the current connection gave the namespace.
    pub(crate) async fn call(
        &self,
        namespace: Option<NamespaceKey>,
        request: Request,
        payloads: Vec<Payload>,
    ) -> Result<Response, ServiceError> {
        self.call_until(self.call_end(), namespace, request, payloads).await
    }

    /// When a call that begins now has to be over.
    pub(crate) fn call_end(&self) -> Instant {
        Instant::now() + self.shared.options.call_timeout
    }

    /// The same, where the caller waits until another moment.
    pub(crate) async fn call_until(
        &self,
        until: Instant,
        namespace: Option<NamespaceKey>,
        request: Request,
        payloads: Vec<Payload>,
    ) -> Result<Response, ServiceError> {
        bettong_wire::validate::request(&request)?;
        let options = &self.shared.options;
        let _counted = self.count()?;
        let (repeatable, changes) = (is_repeatable(&request), changes_anything(&request));
        let (mut attempts, mut pause) = (0, options.backoff);
        let mut answered: Option<ServiceError> = None;
        // An attempt to change something has no answer, or none that is certain: whatever is said of a later one, it may
        // have acted.
        let mut in_doubt = false;
        loop {
            let remaining = until.saturating_duration_since(Instant::now());
            let body = Body::Payloads(payloads.clone());
            let attempt = self.attempt(namespace, request.clone(), body, remaining).await;
            // Out of time: of a read, what the daemon said before says more than that it has not said it again.
            let no_answer = |error| truly(answered.take().filter(|_| !changes).unwrap_or(error), in_doubt);
            let wait = match attempt.map_err(no_answer)? {
                Ok(response) => {
                    attempts += 1;
                    let again = again_after(&response, pause).filter(|_| repeatable && attempts < options.attempts_max);
                    let Some(wait) = again else { return outcome(response).map_err(|error| truly(error, in_doubt)) };
                    answered = outcome(response).err();
                    let uncertain = answered.as_ref().is_some_and(|error| error.kind == ErrorKind::Retry);
                    in_doubt |= uncertain && changes;
                    wait
                }
                Err(Lost { may_have_acted: true, error }) if !repeatable => return Err(error),
                Err(Lost { may_have_acted, .. }) => {
                    in_doubt |= may_have_acted && changes;
                    Duration::ZERO
                }
            };
            if wait >= until.saturating_duration_since(Instant::now()) {
                return Err(truly(answered.unwrap_or_else(|| self.timed_out(namespace)), in_doubt));
            }
            if wait > Duration::ZERO {
                sleep(wait).await;
            }
            pause = (pause * 2).min(options.backoff_max);
        }
    }

    /// The same, once: what was sent of `body` is not there to be sent again.
    #[cfg(all(target_os = "linux", not(madsim)))]
    pub(crate) async fn call_once(
        &self,
        namespace: NamespaceKey,
        request: Request,
        body: Body,
    ) -> Result<Response, ServiceError> {
        bettong_wire::validate::request(&request)?;
        let _counted = self.count()?;
        let attempt = self.attempt(Some(namespace), request, body, self.shared.options.call_timeout).await?;
        attempt.map_err(|lost| lost.error).and_then(outcome)
    }

    pub(crate) fn reserve_put(&self, len: usize) -> Result<PutBuffer, ServiceError> {
        self.shared.rooms.reserve(len)
    }

    fn count(&self) -> Result<Counted<'_>, ServiceError> {
        let limit = self.shared.options.calls_max;
        let counted = Counted(&self.shared.calls);
        let before = counted.0.fetch_add(1, Ordering::Relaxed);
        if before >= limit {
            let text = format!("{before} calls of this client are under way, the limit is {limit}");
            return Err(ServiceError { limit: limit as u64, ..ServiceError::busy(text, 10) });
        }
        Ok(counted)
    }

    async fn attempt(
        &self,
        namespace: Option<NamespaceKey>,
        request: Request,
        body: Body,
        remaining: Duration,
    ) -> Result<Result<Response, Lost>, ServiceError> {
        let key = CallKey(self.shared.next_key.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let since = Instant::now();
        self.tell(Command::Call(Box::new(Call { key, namespace, request, body, since, reply })))?;
        let mut leaving = self.on_leaving(Command::Abandon { key, timed_out: None });
        match timeout(remaining, answer).await {
            Ok(answered) => {
                leaving.command = None;
                // It may have been sent.
                answered.map_err(|_| ServiceError { kind: ErrorKind::Retry, ..gone() })
            }
            Err(_) => {
                leaving.command = Some(Command::Abandon { key, timed_out: Some(TimedOut { since }) });
                Err(self.timed_out(namespace))
            }
        }
    }

    fn timed_out(&self, namespace: Option<NamespaceKey>) -> ServiceError {
        let waited = self.shared.options.call_timeout;
        let text = match self.shared.trouble.get(namespace) {
            Some(trouble) => format!("no answer within {waited:?}: {trouble}"),
            None => format!("no answer within {waited:?}"),
        };
        ServiceError::new(ErrorKind::Retry, text)
    }
}

/// How long to wait before a call that was answered is made again; `None` where the answer is final.
fn again_after(response: &Response, pause: Duration) -> Option<Duration> {
    match &response.outcome {
        Outcome::Error(error) if error.kind == ErrorKind::Busy => {
            Some(pause.max(Duration::from_millis(u64::from(error.retry_after_ms))))
        }
        Outcome::Error(error) if error.kind == ErrorKind::Retry => Some(pause),
        _ => None,
    }
}

/// What may be said of a call that ends with `error`: where an attempt before is `in_doubt`, that a later one was refused
/// does not say that nothing happened. Not even a refusal for good does: the daemon may have come back with other limits.
fn truly(error: ServiceError, in_doubt: bool) -> ServiceError {
    if !in_doubt || error.kind == ErrorKind::Retry {
        return error;
    }
    let text = format!(
        "the outcome is unknown: an attempt may have acted, and the one after it was answered: {}",
        error.message
    );
    ServiceError::new(ErrorKind::Retry, text)
}

fn outcome(response: Response) -> Result<Response, ServiceError> {
    match response.outcome {
        Outcome::Error(error) => Err(error),
        _ => Ok(response),
    }
}

#[cfg(not(all(target_os = "linux", not(madsim))))]
fn no_shared_memory(path: &std::path::Path) -> ServiceError {
    let path = path.display();
    let text =
        format!("shm://{path}: this platform has no door of shared memory, only Linux has; write tcp://HOST:PORT");
    ServiceError::new(ErrorKind::Invalid, text)
}

fn gone() -> ServiceError {
    ServiceError::new(ErrorKind::Unavailable, "the client's connection task has ended")
}

pub(crate) fn unexpected(what: &str, outcome: Outcome) -> ServiceError {
    ServiceError::new(ErrorKind::Internal, format!("{what} was answered {outcome:?}"))
}
