//! What the session needs of a connection, whatever carries it.

use crate::call::Body;
use bettong_wire::{ErrorKind, Request, Response, ServiceError};
use std::future::Future;
use std::task::Context;
use std::time::Duration;

/// One connection. It never waits, except in `rest`: where it returns with nothing done, `cx` is woken when there is more to
/// do. Any error but `Unsent` is its end.
pub(crate) trait Wire: Send {
    /// Whether another request may be sent now; else wait for an answer.
    fn has_room(&self) -> bool;

    /// Requests that wait for their answers.
    fn unanswered(&self) -> usize;

    /// Sends a request, or takes it to be sent. Answers the id under which its answer will come; `body` is taken then, and
    /// left as it is where there is no room.
    fn send(&mut self, request: &Request, body: &mut Body) -> Result<u64, Unsent>;

    /// Nobody waits for the answer to `id` any more: it is not to come out of `next_answer`.
    fn abandon(&mut self, id: u64);

    /// Moves what was sent along. Whether anything moved.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError>;

    /// Takes what has come. Whether anything has.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError>;

    /// Nothing moves. Where `may_doze`, and where this thread keeps nobody else waiting, it may wait a moment for an answer;
    /// whether it has, and there is to be looked again.
    fn rest(&mut self, _cx: &mut Context<'_>, _may_doze: bool) -> Result<bool, ServiceError> {
        Ok(false)
    }

    /// The next answer that is here whole.
    fn next_answer(&mut self) -> Result<Option<(u64, Response)>, ServiceError>;
}

/// Why a request was not sent.
#[derive(Debug)]
#[cfg_attr(
    not(all(target_os = "linux", not(madsim))),
    expect(dead_code, reason = "TCP has room while an answer may come")
)]
pub(crate) enum Unsent {
    /// Nothing has room now: an answer makes some, or `cx` is woken.
    Full,
    /// Its body has no room now; what has none may have.
    BodyFull,
    /// It can never be sent. Its caller is told so, as the daemon would.
    Never(ServiceError),
}

/// Makes connections to one daemon. A session asks again whenever it has lost one.
pub(crate) trait Reach: Send + 'static {
    type Wire: Wire + 'static;

    /// Connects once, within `limit`. An error names where to.
    fn reach(&mut self, limit: Duration) -> impl Future<Output = Result<Self::Wire, ServiceError>> + Send;
}

/// The end of a connection, seen from here.
pub(crate) fn lost(why: &str) -> ServiceError {
    ServiceError::new(ErrorKind::Retry, format!("the connection is lost: {why}"))
}
