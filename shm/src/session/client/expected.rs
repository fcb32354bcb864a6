//! Requests that wait for their answers, and what these must be.

use crate::session::SessionError;
use crate::session::by_id::ById;
use crate::session::staging::Reserved;
use bettong_wire::Request;
use bettong_wire::message::{Expectation, Op, ResponseHead};

/// Requests that may be unanswered before OPEN has said how many.
const INFLIGHT_AT_START: u32 = 1;

#[derive(Debug)]
pub(super) struct Expected<M> {
    requests: ById<One<M>>,
    /// How many there may be that are counted, and how many of all others.
    pub limit: u32,
    counted: u32,
    others: u32,
}

#[derive(Debug)]
struct One<M> {
    answer: Expectation,
    is_counted: bool,
    /// Nobody waits for it any more.
    abandoned: bool,
    /// What the daemon reads until it has answered.
    _staged: Vec<Reserved<M>>,
}

impl<M> Expected<M> {
    pub fn new() -> Self {
        Self { requests: ById::new(), limit: INFLIGHT_AT_START, counted: 0, others: 0 }
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether one more may be sent.
    pub fn has_room(&mut self, op: Op) -> bool {
        let limit = self.limit;
        *self.count(is_counted(op)) < limit
    }

    pub fn begin(&mut self, id: u64, request: &Request, staged: Vec<Reserved<M>>) {
        let answer = Expectation::of(request);
        let is_counted = is_counted(answer.op());
        *self.count(is_counted) += 1;
        self.requests.insert(id, One { answer, is_counted, abandoned: false, _staged: staged });
    }

    /// Nobody waits for it any more; whether somebody did.
    pub fn abandon(&mut self, id: u64) -> bool {
        self.requests.get_mut(id).is_some_and(|one| !std::mem::replace(&mut one.abandoned, true))
    }

    /// The answer is complete; whether somebody waits for it.
    pub fn end(&mut self, id: u64) -> bool {
        let Some(one) = self.requests.remove(id) else { return false };
        *self.count(one.is_counted) -= 1;
        !one.abandoned
    }

    /// Whether an answer is one to request `id`.
    pub fn check(&self, id: u64, answer: &ResponseHead) -> Result<(), SessionError> {
        let one = self.requests.get(id).ok_or(SessionError::NotAsked { id })?;
        Ok(one.answer.check(answer)?)
    }

    fn count(&mut self, is_counted: bool) -> &mut u32 {
        if is_counted { &mut self.counted } else { &mut self.others }
    }
}

fn is_counted(op: Op) -> bool {
    !matches!(op, Op::Ping | Op::Cancel)
}
