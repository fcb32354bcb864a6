//! Who is too slow: bytes that one direction of a connection moved while its peer owed some all the time.

use std::time::Duration;

/// Bytes that a peer which owes something must move within the stall limit, however little it owes.
const BYTES_MIN: u64 = 64 << 10;
/// What a peer moves in a second, where it owes so much. One that trickles holds memory as one does that is silent.
const BYTES_A_SECOND_MIN: u64 = 512 << 10;

/// One direction of a connection, within one stall limit.
#[derive(Debug, Default)]
pub(super) struct Progress {
    moved: u64,
    /// Whether the peer owed nothing at some moment.
    settled: bool,
    least: u64,
}

impl Progress {
    /// `within` begins, and the peer owes `owed` bytes, where it owes any.
    pub fn begin(owed: Option<u64>, within: Duration) -> Self {
        let at_rate = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).saturating_mul(BYTES_A_SECOND_MIN) / 1000;
        let least = owed.unwrap_or(0).min(at_rate).max(BYTES_MIN);
        Self { moved: 0, settled: owed.is_none(), least }
    }

    pub fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    pub fn note(&mut self, owes: bool) {
        self.settled |= !owes;
    }

    /// What was moved, and the least that had to be, where it was too little.
    pub fn too_little(&self) -> Option<(u64, u64)> {
        (!self.settled && self.moved < self.least).then_some((self.moved, self.least))
    }
}
