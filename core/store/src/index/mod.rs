//! Which values exist: in memory for look-ups, in SlateDB for restarts.

pub mod committer;
pub mod db;
pub mod entry;
pub mod map;
mod outward;
pub mod rows;

pub use entry::{Entry, NodeNum};
pub use map::IndexMap;
