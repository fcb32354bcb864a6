//! Requests and answers over two half rings, without I/O: frames in, events out.
//!
//! A request is its message (head and archive) and one frame for each of its payloads, in order. Its bytes stand in the
//! staging area, which the client writes and the daemon reads; a short message travels in its frame. An answer is its
//! message and one frame for each payload: short ones travel in their frames, all others are slots of the pool, which the
//! client reads in place and releases when it is done. `docs/shared-memory.md` draws both.
//!
//! Neither side believes the other: whatever does not hold is a `SessionError`, after which nothing of the rings is looked at
//! again. What this does not know: how two processes come to share the memory, how either sleeps, and when the client is
//! gone. Only then do its leases end (`Leases::detach`): a client that broke the protocol may still be reading.

mod by_id;
mod client;
mod error;
mod places;
mod server;
pub mod staging;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

pub use client::{ClientSession, RequestError, Unsent};
pub use error::{SessionError, StartError};
pub use server::{ServerEvent, ServerLimits, ServerParts, ServerSession};

use bettong_wire::message::HEAD_BYTES;
use std::time::Duration;

/// The map that a mapping frame from the daemon names: the pool.
pub const MAP_POOL: u32 = 0;
/// The map that a mapping frame from the client names: the staging area.
pub const MAP_STAGING: u32 = 1;
/// Words of a ring that takes any request whole: a batch of 1,024 payloads is 1,025 mapping frames of 8 words.
pub const RING_WORDS_DEFAULT: usize = 16_384;
/// Shortest limit on what travels in a frame: an error's head and some of its text.
pub const INLINE_BYTES_MIN: u16 = 128;
/// Whoever looks for news for longer than this gives way between two looks: the other side may not have come to it for want of
/// this very core.
pub const ALONE: Duration = Duration::from_micros(20);
/// Looks in a row: to give way costs as much as many of them. About a microsecond.
const LOOKS: usize = 32;
/// Frames that one call looks at.
const FRAMES_PER_CALL: usize = 256;

const _: () = assert!(HEAD_BYTES < INLINE_BYTES_MIN as usize);

/// Looks some times in a row whether there are news.
pub fn look(has_news: impl Fn() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        std::hint::spin_loop();
        has_news()
    })
}
