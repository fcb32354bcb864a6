//! Requests that are under way.

use crate::session::SessionError;
use crate::session::by_id::ById;
use bettong_wire::Request;
use bettong_wire::message::Op;

#[derive(Debug)]
pub(super) struct Unanswered {
    requests: ById<One>,
    /// How many there may be that are counted, and how many of all others.
    limit: u32,
    counted: u32,
    others: u32,
}

#[derive(Debug)]
struct One {
    op: Op,
    is_counted: bool,
    is_answered: bool,
}

impl Unanswered {
    pub fn new(limit: u32) -> Self {
        Self { requests: ById::new(), limit, counted: 0, others: 0 }
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn has(&self, id: u64) -> bool {
        self.requests.get(id).is_some()
    }

    pub fn begin(&mut self, id: u64, request: &Request) -> Result<(), SessionError> {
        let is_counted = !matches!(request, Request::Ping | Request::Cancel { .. });
        let limit = self.limit;
        let count = self.count(is_counted);
        if *count >= limit {
            return Err(SessionError::Inflight { limit });
        }
        *count += 1;
        self.requests.insert(id, One { op: request.op(), is_counted, is_answered: false });
        Ok(())
    }

    /// The operation of request `id`, the first time that it is answered.
    pub fn answer(&mut self, id: u64) -> Option<Op> {
        let one = self.requests.get_mut(id).filter(|one| !one.is_answered)?;
        one.is_answered = true;
        Some(one.op)
    }

    /// The answer to request `id` is written.
    pub fn end(&mut self, id: u64) {
        if let Some(one) = self.requests.remove(id) {
            *self.count(one.is_counted) -= 1;
        }
    }

    fn count(&mut self, is_counted: bool) -> &mut u32 {
        if is_counted { &mut self.counted } else { &mut self.others }
    }
}
