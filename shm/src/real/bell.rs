//! Sleeping on the other side's bell: a futex, the cheapest way to be woken. Who sleeps there hears nothing else, and knows
//! nothing of the other side's end: so it does for a bounded time.

use super::{MappedSegment, OwnSegment, OwnStagingMapping, PeerSegment};
use crate::ring::{Receiver, Segment};
use crate::session::ClientSession;
use rustix::io::Errno;
use rustix::thread::futex;
use std::io;
use std::sync::Arc;
use std::time::Duration;

impl<Own: Segment, M: Send + Sync> Receiver<Own, Arc<MappedSegment<M>>> {
    /// Sleeps until the other side writes something; `false` where the time was over first. May return earlier: the caller
    /// looks again. Only where `may_sleep_on_bell` has just said so.
    pub fn wait_on_bell(&self, time_max: Duration) -> io::Result<bool> {
        let timeout = futex::Timespec {
            tv_sec: i64::try_from(time_max.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time_max.subsec_nanos().into(),
        };
        // Not private: the other side is another process.
        match futex::wait(self.peer().control().bell(), futex::Flags::empty(), self.seen(), Some(&timeout)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::TIMEDOUT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl ClientSession<OwnSegment, PeerSegment, OwnStagingMapping> {
    /// As `Receiver::wait_on_bell`.
    pub fn wait_on_bell(&self, time_max: Duration) -> io::Result<bool> {
        self.receiver().wait_on_bell(time_max)
    }
}
