//! Upkeep that an operator asks for, a slice at a time: each call does a bounded piece of a task and answers where the
//! next begins. A task that is stopped between two slices, or killed within one, leaves nothing that it would not leave
//! after its end.

mod clock;
mod heal;
mod import;
mod orphans;
mod packs;
mod prefetch;
mod report;
pub(super) mod retire;
mod retirements;
mod scrub;

pub use report::Report;

use super::Store;
use crate::world::{Clock, Mono, World};
use bettong_wire::request::Task;
use bettong_wire::{ErrorKind, ServiceError};
use std::time::Duration;

/// What one slice may do, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    pub until: Mono,
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
}

/// When to come again while another task is under way: about as long as its slice takes.
const TURN_MS: u32 = 200;
/// Longest pause after a piece of work of upkeep.
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl<W: World> Store<W> {
    /// Does one slice of a task. Answers the cursor of the next, empty after the last one, and what this one did.
    pub async fn maintain(
        &self,
        task: Task,
        argument: &str,
        cursor: &[u8],
        slice: Slice,
    ) -> Result<(Vec<u8>, Report), ServiceError> {
        let Ok(_turn) = self.shared.upkeep_turn.try_lock() else {
            return Err(ServiceError::busy("another task of upkeep is under way on this node", TURN_MS));
        };
        let mut report = Report::new(task, slice.dry_run);
        let next = match task {
            Task::Scrub => self.scrub(cursor, slice, &mut report).await?,
            Task::Retire => self.retire(argument, cursor, slice, &mut report).await?,
            Task::Prefetch => self.prefetch(cursor, slice, &mut report).await?,
        };
        Ok((next, report))
    }

    fn is_over(&self, slice: Slice) -> bool {
        self.mono() >= slice.until || !self.is_running()
    }

    /// Rests for as long as the last piece of work took, so that upkeep takes at most half of what it could.
    async fn rest(&self, began: Mono) {
        let took = self.mono().since(began);
        self.shared.world.clock().sleep(took.clamp(Duration::from_millis(1), PAUSE_MAX)).await;
    }
}

fn bad_cursor() -> ServiceError {
    ServiceError::new(ErrorKind::Invalid, "the cursor is not one that a slice of this task answered")
}

/// Reads what only upkeep reads, for the fuzzer.
#[cfg(feature = "arbitrary")]
pub(super) fn read_hostile(bytes: &[u8], sealed: &[u8]) {
    let _ = (scrub::Stage::decode(bytes), crate::record::decode::<retirements::Retirement>(sealed));
}
