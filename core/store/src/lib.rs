//! The store: tiers, index and service loop. Knows seams, never the world.
#![forbid(unsafe_code)]

pub mod config;
pub mod conformance;
pub mod door;
pub mod evict;
mod flight;
mod health;
pub mod index;
pub mod journal;
pub mod keys;
pub mod life;
mod locks;
pub mod objects;
pub mod observe;
mod race;
pub mod real;
pub mod record;
pub mod seal;
pub mod seldom;
pub mod service;
mod stats;
pub mod store;
pub mod tiers;
mod vital;
pub mod world;

pub use config::StoreConfig;
pub use service::{Deadline, Peer, Rights, Service};
pub use store::{Fate, Store, StoreParts};
pub use world::{Clock, Disk, World};
