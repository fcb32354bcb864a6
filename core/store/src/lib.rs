//! The store: tiers, index and service loop. Knows seams, never the world.
#![forbid(unsafe_code)]

pub mod config;
pub mod conformance;
pub mod door;
pub mod index;
pub mod keys;
pub mod objects;
pub mod observe;
mod race;
pub mod real;
pub mod seal;
pub mod service;
pub mod tiers;
pub mod world;

pub use config::StoreConfig;
pub use service::{Deadline, Peer, Rights, Service};
pub use world::{Clock, Disk, World};
