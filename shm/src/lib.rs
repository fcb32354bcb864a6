//! Shared memory: rings between two processes that do not trust each other, the frames that they carry, the pool of slots
//! that the one reads and the other fills, and the sessions that requests and answers go by.
//!
//! Everything that a ring holds was written by another process and is judged before it is used. `session` is the protocol
//! without I/O; `real` is the memory and the socket under it. What this does not hold: who drives a session, and what
//! becomes of one whose client is gone.
#![deny(unsafe_code)]

pub mod frame;
#[expect(unsafe_code, reason = "slots are memory that other processes read")]
pub mod pool;
/// Memory of the operating system, where it has the means: memfds, mappings, futexes and the socket of Linux.
#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
#[expect(unsafe_code, reason = "mappings are memory that the operating system made")]
pub mod real;
pub mod ring;
pub mod session;
mod sync;

#[cfg(any(loom, shuttle))]
pub use sync::planted;

pub use frame::{Frame, InvalidFrame, MmapRef, SlotRef};
