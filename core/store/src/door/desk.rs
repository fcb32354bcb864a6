//! What every door does with a request once it has read it: who asks, until when, and which calls are under way.

use super::Authenticate;
use crate::service::{Deadline, Peer, Service};
use bettong_wire::request::Open;
use bettong_wire::{ErrorKind, Payload, Request, Response, ServiceError, limits};
use futures::FutureExt;
use futures::future::{AbortHandle, Abortable, Aborted, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A request with the service: its id, and its answer unless it was cancelled.
type Call = BoxFuture<'static, (u64, Result<Response, Aborted>)>;

/// How long requests may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// One that does not say so itself.
    pub default: Duration,
    /// The most that one may ask for.
    pub max: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { default: Duration::from_secs(30), max: Duration::from_secs(600) }
    }
}

/// The calls of one session.
pub(super) struct Desk<S> {
    service: Arc<S>,
    origin: String,
    deadlines: Deadlines,
    peer: Option<Arc<Peer>>,
    calls: FuturesUnordered<Call>,
    aborts: BTreeMap<u64, AbortHandle>,
}

impl<S: Service> Desk<S> {
    pub fn new(service: Arc<S>, origin: String, deadlines: Deadlines) -> Self {
        Self { service, origin, deadlines, peer: None, calls: FuturesUnordered::new(), aborts: BTreeMap::new() }
    }

    /// Who asks, once it has opened a namespace.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        self.peer.as_ref()
    }

    /// As `peer`, or that nobody has opened anything.
    pub fn known_peer(&self) -> Result<&Arc<Peer>, ServiceError> {
        self.peer.as_ref().ok_or_else(not_open)
    }

    /// Makes sure that this session has a peer, and that it is the one that `open` names.
    pub fn let_in(&mut self, open: &Open, authenticate: &impl Authenticate) -> Result<(), ServiceError> {
        let (asked, spoken) = (open.protocol_version, limits::PROTOCOL_VERSION);
        if asked != spoken {
            let text = format!("protocol version {asked} is asked for, this daemon speaks {spoken}");
            return Err(ServiceError::new(ErrorKind::Invalid, text));
        }
        match &self.peer {
            Some(peer) if peer.tenant != open.tenant => {
                let text = format!("tenant `{}` on a connection of tenant `{}`", open.tenant, peer.tenant);
                Err(ServiceError::new(ErrorKind::Denied, text))
            }
            Some(_) => Ok(()),
            None => {
                let rights = authenticate.authenticate(&open.tenant, &open.token, &self.origin)?;
                self.peer = Some(Arc::new(Peer::new(open.tenant.clone(), rights, self.origin.clone())));
                Ok(())
            }
        }
    }

    /// Hands a request to the service. Many are answered at once (a hit in memory): they never join the others.
    pub fn call(
        &mut self,
        cx: &mut Context<'_>,
        id: u64,
        mut request: Request,
        body: Vec<Payload>,
    ) -> Option<Response> {
        let Some(peer) = self.peer.clone() else { return Some(Response::error(not_open())) };
        if let Request::Open(open) = &mut request {
            // Beyond the door nobody needs it.
            open.token = String::new();
        }
        // A panic takes down the request that met it, nothing else; the panic hook has logged it.
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.service.at_once(&peer, &request))) {
            Ok(None) => {}
            Ok(answer) => return answer,
            Err(_) => return Some(panicked()),
        }
        let deadline = self.deadline(&request);
        let service = self.service.clone();
        // In a place of its own before it is wrapped: it is large, and each wrapper would move it.
        let call: BoxFuture<'static, Response> =
            Box::pin(async move { service.call(&peer, request, body, deadline).await });
        let call = AssertUnwindSafe(call).catch_unwind().map(|result| result.unwrap_or_else(|_| panicked()));
        let (abort, registration) = AbortHandle::new_pair();
        let mut call = Abortable::new(call, registration);
        match call.poll_unpin(cx) {
            Poll::Ready(response) => Some(response.unwrap_or_else(|Aborted| cancelled())),
            Poll::Pending => {
                self.aborts.insert(id, abort);
                self.calls.push(Box::pin(call.map(move |response| (id, response))));
                None
            }
        }
    }

    /// The next answer that is there, and whose it is.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Option<(u64, Response)> {
        if self.calls.is_empty() {
            return None;
        }
        let Poll::Ready(Some((id, response))) = self.calls.poll_next_unpin(cx) else { return None };
        self.aborts.remove(&id);
        Some((id, response.unwrap_or_else(|Aborted| cancelled())))
    }

    /// Nobody waits for request `id` any more; it is answered all the same.
    pub fn cancel(&self, id: u64) {
        if let Some(abort) = self.aborts.get(&id) {
            abort.abort();
        }
    }

    fn deadline(&self, request: &Request) -> Deadline {
        let asked = request.read_limits().map_or(0, |limits| limits.deadline_ms);
        let wait = match asked {
            0 => self.deadlines.default,
            ms => Duration::from_millis(u64::from(ms)).min(self.deadlines.max),
        };
        Deadline(self.service.now().plus(wait))
    }
}

fn cancelled() -> Response {
    Response::error(ServiceError::new(ErrorKind::Retry, "cancelled by the caller: its outcome may be unknown"))
}

fn panicked() -> Response {
    Response::error(ServiceError::new(
        ErrorKind::Internal,
        "the request met a defect of the daemon, which its log describes",
    ))
}

fn not_open() -> ServiceError {
    ServiceError::new(ErrorKind::Denied, "no namespace is open: send OPEN first")
}
