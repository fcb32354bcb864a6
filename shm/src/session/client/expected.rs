//! Requests that wait for their answers, and what these must be.

use crate::session::SessionError;
use crate::session::staging::Reserved;
use bettong_wire::message::{Op, ResponseHead};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{DecodeError, Request};
use std::collections::BTreeMap;

/// Requests that may be unanswered before OPEN has said how many.
const INFLIGHT_AT_START: u32 = 1;

#[derive(Debug)]
pub(super) struct Expected<M> {
    requests: BTreeMap<u64, One<M>>,
    /// How many there may be that are counted, and how many of all others.
    pub limit: u32,
    counted: u32,
    others: u32,
}

#[derive(Debug)]
struct One<M> {
    op: Op,
    is_counted: bool,
    /// Items that the answer must have, and whether it may have fewer.
    items: Option<(usize, bool)>,
    /// The answer must bring the whole value.
    whole: bool,
    /// Nobody waits for it any more.
    abandoned: bool,
    /// What the daemon reads until it has answered.
    _staged: Vec<Reserved<M>>,
}

impl<M> Expected<M> {
    pub fn new() -> Self {
        Self { requests: BTreeMap::new(), limit: INFLIGHT_AT_START, counted: 0, others: 0 }
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
        let items = match request {
            Request::GetMany(body) => Some((body.targets.len(), false)),
            Request::GetBlocks(body) => Some((body.keys.len(), body.leading)),
            Request::PutBlocks(body) => Some((body.blocks.len(), false)),
            _ => None,
        };
        let op = request.op();
        let whole = matches!(request, Request::Get(get) if get.range.is_none()) || op == Op::GetSidecar;
        let is_counted = is_counted(op);
        *self.count(is_counted) += 1;
        self.requests.insert(id, One { op, is_counted, items, whole, abandoned: false, _staged: staged });
    }

    /// Nobody waits for it any more; whether somebody did.
    pub fn abandon(&mut self, id: u64) -> bool {
        self.requests.get_mut(&id).is_some_and(|one| !std::mem::replace(&mut one.abandoned, true))
    }

    /// The answer is complete; whether somebody waits for it.
    pub fn end(&mut self, id: u64) -> bool {
        let Some(one) = self.requests.remove(&id) else { return false };
        *self.count(one.is_counted) -= 1;
        !one.abandoned
    }

    /// Whether an answer is one to request `id`.
    pub fn check(&self, id: u64, answer: &ResponseHead) -> Result<(), SessionError> {
        let one = self.requests.get(&id).ok_or(SessionError::NotAsked { id })?;
        if let Some(op) = answer.op.filter(|op| *op != one.op) {
            let must = "that of its request";
            return Err(DecodeError::Invalid { what: "the operation of an answer", got: op.code().into(), must }.into());
        }
        let got = match &answer.outcome {
            Outcome::Ok(Answer::Items(items)) => Some(items.len()),
            Outcome::Ok(Answer::StoredBatch(stored)) => Some(stored.len()),
            _ => None,
        };
        if let (Some((asked, fewer)), Some(got)) = (one.items, got)
            && (got > asked || (got < asked && !fewer))
        {
            let (said, got) = (asked as u64, got as u64);
            return Err(DecodeError::LengthMismatch { what: "the answer to a batch (in items)", said, got }.into());
        }
        if let (Outcome::Ok(Answer::Hit(hit)), [len]) = (&answer.outcome, answer.payload_lens.as_slice())
            && one.whole
            && *len != hit.total_len
        {
            return Err(DecodeError::LengthMismatch { what: "a whole value", said: hit.total_len, got: *len }.into());
        }
        Ok(())
    }

    fn count(&mut self, is_counted: bool) -> &mut u32 {
        if is_counted { &mut self.counted } else { &mut self.others }
    }
}

fn is_counted(op: Op) -> bool {
    !matches!(op, Op::Ping | Op::Cancel)
}
