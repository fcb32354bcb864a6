//! Sleeping until another process writes, and waking one that does.

use crate::ring::Control;
use rustix::io::Errno;
use rustix::thread::futex;
use std::io;
use std::time::Duration;

/// Sleeps until the bell of `peer` says something else than `seen` or somebody rings it; `false` where the time was over
/// first. May return earlier: the caller looks again. Only after `Receiver::may_sleep`.
pub fn wait(peer: &Control, seen: u32, time_max: Duration) -> io::Result<bool> {
    let timeout = futex::Timespec {
        tv_sec: i64::try_from(time_max.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time_max.subsec_nanos().into(),
    };
    // Not private: the other side is another process.
    match futex::wait(peer.bell(), futex::Flags::empty(), seen, Some(&timeout)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(true),
        Err(Errno::TIMEDOUT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Wakes whoever sleeps on the bell of `own`. Only where `Sender::must_wake` says so.
pub fn ring(own: &Control) -> io::Result<()> {
    futex::wake(own.bell(), futex::Flags::empty(), 1)?;
    Ok(())
}
