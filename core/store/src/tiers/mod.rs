//! The fast tiers: memory and local disk. A tier never calls up.

pub mod disk;
pub mod memory;
