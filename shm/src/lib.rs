//! Shared memory: what the entries of a ring look like.
//!
//! Everything that a ring holds was written by another process and is judged before it is used. What this does not
//! hold: the rings themselves, the slot pool, doorbells and process watching, which need the real memory.
#![forbid(unsafe_code)]

pub mod frame;

pub use frame::{Frame, InvalidFrame, MmapRef, SlotRef};
