//! Embedded doors: how simulated clients reach the service of a node, and lose it when the node dies.

use bettong_wire::{Payload, Request, Response};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// One request on its way to a node.
pub struct Call {
    pub client: String,
    pub tenant: String,
    pub request: Request,
    pub body: Vec<Payload>,
    pub deadline: Duration,
    pub reply: oneshot::Sender<Response>,
}

/// The way to one life of one daemon.
#[derive(Clone)]
pub struct Door {
    /// Sessions end with the life: what was opened must be opened again.
    pub life: u64,
    sender: mpsc::UnboundedSender<Call>,
}

/// The doors that stand open, by daemon.
#[derive(Clone, Default)]
pub struct Doors(Arc<Mutex<BTreeMap<String, Door>>>);

impl Doors {
    /// Opens the door of `daemon` for this life; what comes through it is received.
    pub fn open(&self, daemon: &str, life: u64) -> mpsc::UnboundedReceiver<Call> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().insert(daemon.to_owned(), Door { life, sender });
        receiver
    }

    pub fn close(&self, daemon: &str) {
        self.0.lock().remove(daemon);
    }

    /// The door of `daemon`, where somebody is behind it.
    pub fn of(&self, daemon: &str) -> Option<Door> {
        self.0.lock().get(daemon).filter(|door| !door.sender.is_closed()).cloned()
    }
}

impl Door {
    /// The answer; `None` where the daemon died first.
    pub async fn call(
        &self,
        client: &str,
        tenant: &str,
        request: Request,
        body: Vec<Payload>,
        deadline: Duration,
    ) -> Option<Response> {
        let (reply, answer) = oneshot::channel();
        let (client, tenant) = (client.to_owned(), tenant.to_owned());
        self.sender.send(Call { client, tenant, request, body, deadline, reply }).ok()?;
        answer.await.ok()
    }
}
