//! Racing a future against the clock, always polling the work first.

use crate::world::{Clock, World};
use futures::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// The future's output, or `None` once `duration` has passed. A future that is ready wins against a timer that is too.
pub async fn timeout<W: World, F: Future>(world: &W, duration: Duration, future: F) -> Option<F::Output> {
    if duration == Duration::MAX {
        return Some(future.await);
    }
    match select(pin!(future), pin!(world.clock().sleep(duration))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}
