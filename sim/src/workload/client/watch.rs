//! What a client tells the model besides answers: that it begins a put, and what it read of plain keys, so that their
//! histories are judged whole.

use super::Client;
use crate::faults::FaultKind;
use crate::model::{AttemptId, Daemon, Model, Observed, Span, ValueKey};
use crate::oracle::register::{self, Steadiness};
use crate::world::elapsed;
use bettong_wire::MissReason;
use bettong_wire::request::Level;
use bettong_wire::response::Hit;

impl Client {
    /// A put begins; answers the attempt's number.
    pub(super) fn begin_put(&self, daemon: &Daemon, key: ValueKey, level: Level, len: u64, ttl_ms: u64) -> AttemptId {
        let mut model = self.shared.model.lock();
        let id = model.begin_put(daemon, key, level, len, ttl_ms, elapsed());
        if self.is_remote() {
            model.set_repeats(id);
        }
        id
    }

    /// A hit on `key`; `range` is what was asked for.
    pub(super) fn saw_hit(
        &self,
        daemon: &Daemon,
        span: Span,
        key: &ValueKey,
        hit: &Hit,
        payload: &[u8],
        range: Option<(u64, u64)>,
    ) {
        self.saw(daemon, span, key, |model| Some(register::hit(model, key, hit, payload, range)));
    }

    /// EXISTS, or a listing, says that `key` is there with so many bytes.
    pub(super) fn saw_len(&self, daemon: &Daemon, span: Span, key: &ValueKey, len: u64) {
        self.saw(daemon, span, key, |model| Some(register::exists(model, key, len)));
    }

    pub(super) fn saw_miss(&self, daemon: &Daemon, span: Span, key: &ValueKey, reason: MissReason) {
        self.saw(daemon, span, key, |model| register::miss(model, key, reason));
    }

    /// Adds a read of a plain key to its history, and judges the history.
    fn saw(&self, daemon: &Daemon, span: Span, key: &ValueKey, observe: impl FnOnce(&Model) -> Option<Observed>) {
        let run = self.shared.cluster.run();
        if !key.is_plain() || run.failure().is_some() {
            return;
        }
        {
            let mut model = self.shared.model.lock();
            model.set_damaged(run.damaged());
            model.set_rolled_back(run.rolled_back());
            model.set_forgotten(run.forgotten());
            let Some(observed) = observe(&model) else { return };
            model.end_read(daemon, key, span, observed);
        }
        let clocks_jump = run.plan().faults.iter().any(|fault| fault.kind == FaultKind::ClockJump);
        let index_lost = run.index_lost(&daemon.node_id);
        let mut decided = false;
        self.judge(daemon, span, |seen| {
            decided = register::check(seen, key, &Steadiness { clocks_jump, index_lost: &index_lost })?;
            Ok(())
        });
        run.state_reached(if decided { "sim O11 history judged" } else { "sim O11 history not decided" });
    }
}
