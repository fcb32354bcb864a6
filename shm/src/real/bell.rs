//! Sleeping until another process writes, and waking one that does.

use crate::ring::Control;
use rustix::io::Errno;
use rustix::thread::futex;
use std::io;
use std::time::Duration;

/// Sleeps until the bell of `peer` says something else than `seen`, somebody rings it, or the time is over. May return
/// earlier: the caller looks again. Only after `Receiver::may_sleep`.
pub fn wait(peer: &Control, seen: u32, time_max: Duration) -> io::Result<()> {
    let timeout = futex::Timespec {
        tv_sec: i64::try_from(time_max.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time_max.subsec_nanos().into(),
    };
    // Not private: the other side is another process.
    match futex::wait(peer.bell(), futex::Flags::empty(), seen, Some(&timeout)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Wakes whoever sleeps on the bell of `own`. Only where `Sender::must_wake` says so.
pub fn ring(own: &Control) -> io::Result<()> {
    futex::wake(own.bell(), futex::Flags::empty(), 1)?;
    Ok(())
}
