//! Shared memory: rings between two processes that do not trust each other, the frames that they carry, and the pool of slots
//! that the one reads and the other fills.
//!
//! Everything that a ring holds was written by another process and is judged before it is used. What this does not
//! hold yet: how processes attach, and how one hears of the other's end.
#![deny(unsafe_code)]

pub mod frame;
#[expect(unsafe_code, reason = "slots are memory that other processes read")]
pub mod pool;
/// Memory of the operating system, where it has the means: memfds, mappings and futexes of Linux.
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
#[expect(unsafe_code, reason = "mappings are memory that the operating system made")]
pub mod real;
pub mod ring;
mod sync;

#[cfg(any(loom, shuttle))]
pub use sync::planted;

pub use frame::{Frame, InvalidFrame, MmapRef, SlotRef};
