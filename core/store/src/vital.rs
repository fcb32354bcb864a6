//! Tasks without which a store cannot work: where one of them panics, the store has to end.

use crate::world::World;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;

/// How such a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// As it should.
    Done,
    /// A defect; the panic hook has logged it.
    Panicked,
}

/// Runs the task to its end.
pub(crate) async fn run<W: World>(world: &W, task: impl Future<Output = ()>) -> End {
    // What the task owned is dropped; what it shared is not trusted again, for the store ends.
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(()) => End::Done,
        Err(_) => {
            world.violated("a task without which the store cannot work has panicked");
            End::Panicked
        }
    }
}
