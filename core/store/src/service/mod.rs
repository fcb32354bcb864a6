//! The service: what every door calls.

mod chain;
mod half_sent;
pub mod handler;

use crate::world::Mono;
use bettong_wire::{Payload, Request, Response, ServiceError, WriteBuf};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a peer may do besides reading and writing its own tenant's namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// CLEAR of the object tier and FLUSHDB.
    pub admin: bool,
}

/// Who asks. One session of one connection; the namespaces that it opened are its own.
#[derive(Debug)]
pub struct Peer {
    /// The authenticated tenant. Every namespace that the peer can name is one of this tenant's.
    pub tenant: String,
    pub rights: Rights,
    /// Where the peer comes from, for logs: an address, a process id.
    pub origin: String,
    /// The namespaces that this session has opened, by handle.
    pub sessions: parking_lot::Mutex<Sessions>,
    /// Payload bytes that this session has announced and not sent.
    half_sent: Arc<AtomicU64>,
}

/// The open namespaces of one session; `NsHandle(n)` is the n-th that was opened.
#[derive(Debug, Default)]
pub struct Sessions {
    pub open: Vec<Option<crate::service::OpenNamespace>>,
}

/// One namespace as one session sees it.
#[derive(Debug, Clone)]
pub struct OpenNamespace {
    pub id: bettong_wire::NamespaceId,
    pub name: Arc<str>,
    /// `None` where the session gave no model identity: plain keys only.
    pub parts: Option<Arc<[u16]>>,
}

impl Peer {
    pub fn new(tenant: impl Into<String>, rights: Rights, origin: impl Into<String>) -> Self {
        let (tenant, origin) = (tenant.into(), origin.into());
        Self { tenant, rights, origin, sessions: parking_lot::Mutex::default(), half_sent: Arc::default() }
    }
}

/// The moment at which a caller stops waiting. Reaching it detaches the caller; the work belongs to the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(pub Mono);

/// The one meaning behind all doors.
pub trait Service: Send + Sync + 'static {
    /// Reserves a destination for each payload of one request, before they are read from the door.
    fn reserve(&self, peer: &Peer, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError>;

    /// Reserves a destination for a long archive of a request, before it is read from the door.
    fn reserve_archive(&self, peer: &Peer, len: u32) -> Result<Box<dyn WriteBuf>, ServiceError>;

    /// Payload bytes that the answer to a read would bring as things are now, without loading any; 0 for other requests.
    fn weigh(&self, peer: &Peer, request: &Request) -> u64;

    /// Answers one request. `body` holds one payload for each of `request.payload_lens()`, in order. Dropping the future
    /// cancels the waiting, not the work: a put that was dropped is whole or absent.
    fn call(
        &self,
        peer: &Peer,
        request: Request,
        body: Vec<Payload>,
        deadline: Deadline,
    ) -> impl Future<Output = Response> + Send;

    /// The answer, where nothing has to be waited for and it is there: what `call` would have answered. A hit in memory takes
    /// less time than to make a task of it.
    fn at_once(&self, _peer: &Peer, _request: &Request) -> Option<Response> {
        None
    }

    /// The current moment by the service's own clock, from which doors compute deadlines.
    fn now(&self) -> Mono;
}
