//! What a bounded tier forgets first. Data structures only: no clock, no I/O, nothing that differs from run to run.

pub mod policy;

pub use policy::{Block, Policy};
