//! What other processes may read: which session holds which slots, and how often.
//!
//! A lease holds the payload, so a slot that is leased is not free, whatever is evicted meanwhile. It is recorded before
//! anybody is told of it, and ends by its release or with its session, never by a clock: bytes that change under a reader
//! are worse than memory that is not given back.

use super::{Found, SlotPool};
use crate::frame::SlotRef;
use crate::sync::Mutex;
use bettong_wire::Payload;
use std::collections::BTreeMap;

/// A client's session with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Why a payload was not leased: its bytes have to go another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("the bytes are not in the pool, or there are none")]
    NotInPool,
    #[error("the session holds leases of {held} bytes, a slot of {slot_bytes} more is over its limit of {limit}")]
    OverQuota { held: u64, slot_bytes: u64, limit: u64 },
    #[error("session {0:?} has ended")]
    Ended(SessionId),
}

/// A session released what it does not hold: it is not to be believed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "slot {}.{}.{}, generation {}, is released and not leased", slot.class, slot.extent, slot.slot, slot.generation
)]
pub struct NotLeased {
    pub slot: SlotRef,
}

/// Every session's leases.
#[derive(Debug)]
pub struct Leases {
    pool: SlotPool,
    sessions: Mutex<BTreeMap<SessionId, Session>>,
    /// Bytes of slots that a session may hold at once.
    quota_bytes: u64,
}

#[derive(Debug, Default)]
struct Session {
    held: BTreeMap<SlotRef, Held>,
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    /// What keeps the slot from being used again.
    _payload: Payload,
    slot_bytes: u64,
    count: u64,
}

/// What a lease holds.
#[cfg(not(shuttle))]
fn kept(payload: &Payload) -> Payload {
    payload.clone()
}

/// What a lease holds, unless a test wants to see what happens if it does not.
#[cfg(shuttle)]
fn kept(payload: &Payload) -> Payload {
    use crate::sync::planted::{Bug, is};
    if is(Bug::NoHold) { Payload::default() } else { payload.clone() }
}

impl Leases {
    pub fn new(pool: SlotPool, quota_bytes: u64) -> Self {
        Self { pool, sessions: Mutex::default(), quota_bytes }
    }

    /// Bytes of slots that a session may hold at once.
    pub fn quota_bytes(&self) -> u64 {
        self.quota_bytes
    }

    /// A session begins, with no leases. `false` where it is there already.
    #[must_use]
    pub fn attach(&self, session: SessionId) -> bool {
        let mut sessions = crate::sync::lock(&self.sessions);
        let is_new = !sessions.contains_key(&session);
        if is_new {
            sessions.insert(session, Session::default());
        }
        is_new
    }

    /// A session has ended: nobody reads what it held. Answers how many bytes of slots that were.
    pub fn detach(&self, session: SessionId) -> u64 {
        let ended = crate::sync::lock(&self.sessions).remove(&session);
        ended.map_or(0, |session| session.bytes)
    }

    /// Leases the payload's slot to the session. When this returns the lease is recorded, and the reference may be
    /// published.
    pub fn grant(&self, session: SessionId, payload: &Payload) -> Result<Found, LeaseError> {
        let found = self.pool.find(payload).ok_or(LeaseError::NotInPool)?;
        let Found { slot, slot_bytes, .. } = found;
        let mut sessions = crate::sync::lock(&self.sessions);
        let holder = sessions.get_mut(&session).ok_or(LeaseError::Ended(session))?;
        if let Some(held) = holder.held.get_mut(&slot) {
            held.count += 1;
            return Ok(found);
        }
        let (held, limit) = (holder.bytes, self.quota_bytes);
        if held.saturating_add(slot_bytes) > limit {
            return Err(LeaseError::OverQuota { held, slot_bytes, limit });
        }
        holder.bytes += slot_bytes;
        holder.held.insert(slot, Held { _payload: kept(payload), slot_bytes, count: 1 });
        Ok(found)
    }

    /// One lease less. What the session does not hold it cannot release: `NotLeased`, and nothing changes.
    pub fn release(&self, session: SessionId, slot: SlotRef) -> Result<(), NotLeased> {
        let mut sessions = crate::sync::lock(&self.sessions);
        let holder = sessions.get_mut(&session).ok_or(NotLeased { slot })?;
        let held = holder.held.get_mut(&slot).ok_or(NotLeased { slot })?;
        held.count -= 1;
        if held.count > 0 {
            return Ok(());
        }
        let ended = holder.held.remove(&slot);
        holder.bytes -= ended.as_ref().map_or(0, |held| held.slot_bytes);
        // Its slot may go back to the pool now, which takes another lock.
        drop(sessions);
        drop(ended);
        Ok(())
    }

    /// Bytes of slots that the session holds; `None` where there is no such session.
    pub fn bytes_of(&self, session: SessionId) -> Option<u64> {
        crate::sync::lock(&self.sessions).get(&session).map(|session| session.bytes)
    }
}
