//! Which values exist: in memory for look-ups, in SlateDB for restarts.

pub mod committer;
pub mod db;
pub mod entry;
pub mod error;
pub mod map;
mod numbers;
mod outward;
pub mod rows;

pub use entry::{Entry, InPack, NodeNum};
pub use error::IndexError;
pub use map::IndexMap;

/// What one value of an `IndexMap` takes at most, its key included: measured by `tests/index_memory.rs`. Bytes.
pub const INDEX_ENTRY_BYTES: u64 = 128;
