//! Shared memory: rings between two processes that do not trust each other, the frames that they carry, and the pool of slots
//! that the one reads and the other fills.
//!
//! Everything that a ring holds was written by another process and is judged before it is used. What this does not
//! hold: doorbells, process watching and the mappings, which need the real memory.
#![deny(unsafe_code)]

pub mod frame;
#[expect(unsafe_code, reason = "slots are memory that other processes read")]
pub mod pool;
pub mod ring;
mod sync;

#[cfg(any(loom, shuttle))]
pub use sync::planted;

pub use frame::{Frame, InvalidFrame, MmapRef, SlotRef};
