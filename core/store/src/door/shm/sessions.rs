//! Who is attached, for operators.

use bettong_shm::pool::{Leases, SessionId};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of a client when it attaches.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// As it calls itself.
    pub name: String,
    pub pid: u32,
    pub uid: u32,
    /// Of its staging area.
    pub staging_bytes: u64,
}

/// What a session does now.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pub requests: AtomicU64,
    pub unanswered: AtomicU64,
    /// Of answers that wait for room in its ring.
    pub queued_bytes: AtomicU64,
}

#[derive(Debug)]
struct Attached {
    client: Client,
    pulse: Arc<Pulse>,
    /// Why it is over, where its client may still be reading.
    ended: Option<String>,
}

/// All sessions of a door. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Sessions {
    attached: Arc<Mutex<BTreeMap<SessionId, Attached>>>,
    leases: Arc<Leases>,
}

impl Sessions {
    pub fn new(leases: Arc<Leases>) -> Self {
        Self { attached: Arc::default(), leases }
    }

    pub fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    /// How many there are, those included whose clients may still be reading.
    pub fn len(&self) -> usize {
        self.attached.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn begin(&self, session: SessionId, client: Client) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::default());
        self.attached.lock().insert(session, Attached { client, pulse: pulse.clone(), ended: None });
        pulse
    }

    /// The session is over, and its client may still be reading.
    pub fn ended(&self, session: SessionId, why: String) {
        if let Some(attached) = self.attached.lock().get_mut(&session) {
            attached.ended = Some(why);
        }
    }

    pub(super) fn gone(&self, session: SessionId) {
        self.attached.lock().remove(&session);
    }

    /// Takes out a session that nobody drives any more, and ends its leases: only where its client is known to be gone.
    pub fn forget(&self, session: SessionId) {
        self.leases.detach(session);
        self.gone(session);
    }

    /// One object a session, in the order in which they attached.
    pub fn facts(&self) -> Value {
        let attached = self.attached.lock();
        let all = attached.iter().map(|(session, Attached { client, pulse, ended })| {
            let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
            json!({
                "session": session.0,
                "name": client.name,
                "pid": client.pid,
                "uid": client.uid,
                "staging_bytes": client.staging_bytes,
                "leased_bytes": self.leases.bytes_of(*session),
                "lease_bytes_max": self.leases.quota_bytes(),
                "requests": number(&pulse.requests),
                "unanswered": number(&pulse.unanswered),
                "queued_bytes": number(&pulse.queued_bytes),
                "ended": ended,
            })
        });
        Value::Array(all.collect())
    }
}
