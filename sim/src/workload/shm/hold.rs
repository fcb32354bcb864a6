//! A lease that a client holds on to: its bytes stay as they were, whatever becomes of the value and of the daemon.

use super::ShmState;
use crate::model::recognise;
use crate::workload::Shared;
use crate::world::elapsed;
use bettong_shm::SlotRef;
use bettong_wire::{Payload, PutId};
use std::time::Duration;

pub struct Hold {
    payload: Payload,
    /// What was there when it was handed out.
    bytes: Vec<u8>,
    slot: SlotRef,
    put_id: PutId,
    since: Duration,
    /// Until when; `None` for as long as the client lives.
    pub until: Option<Duration>,
}

impl Hold {
    pub fn new(payload: Payload, slot: SlotRef, put_id: PutId, until: Option<Duration>) -> Self {
        let bytes = payload.as_ref().to_vec();
        Self { payload, bytes, slot, put_id, since: elapsed(), until }
    }

    pub fn is_due(&self) -> bool {
        self.until.is_some_and(|until| until <= elapsed())
    }

    /// O4, O6: every byte is what it was.
    pub fn verify(&self, shared: &Shared, who: &str, daemon: &str) {
        let run = shared.cluster.run();
        let now = self.payload.as_ref();
        if now == self.bytes {
            self.note(shared, daemon);
            return;
        }
        let at = now.iter().zip(&self.bytes).position(|(now, then)| now != then);
        let (put_id, slot, since) = (self.put_id, self.slot, self.since.as_secs_f64());
        let became = recognise(now).map_or_else(String::new, |attempt| format!(", now of attempt {attempt}"));
        run.fail(
            "O6",
            format!(
                "S3: {who} has leased {put_id} of {daemon} in {slot:?} since {since:.6}: byte {at:?} changed{became}"
            ),
        );
    }

    /// What became of the value meanwhile.
    fn note(&self, shared: &Shared, daemon: &str) {
        let run = shared.cluster.run();
        let forgotten = run.forgotten();
        let here = forgotten.get(&self.put_id).into_iter().flatten().filter(|forgotten| forgotten.daemon == daemon);
        if here.into_iter().any(|forgotten| !forgotten.expired && forgotten.began > self.since) {
            run.state_reached(ShmState::EvictedWhileLeased.as_str());
        }
        let model = shared.model.lock();
        if model.dead(self.put_id).is_some_and(|dead| dead.daemon.name == daemon && dead.since > self.since) {
            run.state_reached(ShmState::DeletedWhileLeased.as_str());
        }
        let Some(attempt) = recognise(&self.bytes).and_then(|id| model.attempt(id)) else { return };
        let newer = |other: &crate::model::Attempt| {
            other.daemon.name == daemon && other.span.invoked > self.since && other.stored.is_some()
        };
        if attempt.key.is_plain() && model.possible(&attempt.key).any(newer) {
            run.state_reached(ShmState::OverwrittenWhileLeased.as_str());
        }
    }
}
