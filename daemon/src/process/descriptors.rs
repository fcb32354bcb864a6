//! File descriptors: how many this process may have open, and how many connections that leaves room for.
//!
//! The store opens files and connections of its own all the time. Clients that took the last descriptor would make every
//! put and every get from an object fail, so that connections get only what the store can spare.

use super::{shm, storage};
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors besides those that the configuration decides: standard streams, the lock, the runtimes', the index's own
/// requests, and connections that are accepted only to be told that there is no room, or to be closed.
const OTHERS: u64 = 80;
/// A reactor's: its listener, and what its event loop needs.
const EACH_REACTOR: u64 = 4;
/// A session of the shared-memory door: its socket, its doorbell and its client's process.
const EACH_SESSION: u64 = 3;

/// Raises the limit as far as this process may, and answers how many connections it leaves room for, at most
/// `connections_max`.
///
/// # Errors
/// There is no room for a single one.
pub fn connections(config: &Config) -> Outcome<u32> {
    let limit = raise();
    let sessions = if config.shm_socket.0 == shm::NONE { 0 } else { config.shm_sessions_max.0.into() };
    let needed = OTHERS
        .saturating_add(EACH_REACTOR.saturating_mul(config.reactors.0.into()))
        .saturating_add(config.object_inflight_max.0.into())
        .saturating_add(EACH_SESSION.saturating_mul(sessions))
        .saturating_add(storage::regions(config));
    let asked = config.connections_max.0;
    let room = u32::try_from(limit.saturating_sub(needed)).unwrap_or(u32::MAX).min(asked);
    if room == 0 {
        let text = format!(
            "this process may open {limit} files, the store needs {needed} before the first connection (disk_bytes, \
             object_inflight_max, reactors, shm_sessions_max): raise the limit (ulimit -n) or lower these"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    if room < asked {
        tracing::warn!(
            "connections_max is {asked}, and there is room for {room}: this process may open {limit} files (ulimit -n), \
             of which the store needs {needed}"
        );
    }
    Ok(room)
}

/// Raises the soft limit to the hard one: the soft one of most systems is for programs that cannot count beyond it.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    (if raised { maximum } else { current }).unwrap_or(u64::MAX)
}
