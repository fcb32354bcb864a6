//! The store: tiers, index and service loop. Knows seams, never the world.
#![forbid(unsafe_code)]

pub mod conformance;
pub mod observe;
pub mod real;
pub mod service;
pub mod world;

pub use service::{Deadline, Peer, Rights, Service};
pub use world::{Clock, Disk, World};
