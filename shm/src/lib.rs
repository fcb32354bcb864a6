//! Shared memory: rings between two processes that do not trust each other, and the frames that they carry.
//!
//! Everything that a ring holds was written by another process and is judged before it is used. What this does not
//! hold: the slot pool, doorbells and process watching, which need the real memory.
#![forbid(unsafe_code)]

pub mod frame;
pub mod ring;
mod sync;

#[cfg(loom)]
pub use sync::planted;

pub use frame::{Frame, InvalidFrame, MmapRef, SlotRef};
