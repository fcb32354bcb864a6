//! The simulated world, the workloads, the oracles, and the tool that sweeps and replays.
//!
//! Everything is empty unless built for the simulator (`cargo sim`), which sets `cfg(madsim)`.
#![forbid(unsafe_code)]

#[cfg(madsim)]
pub mod faults;
#[cfg(madsim)]
pub mod host;
#[cfg(madsim)]
pub mod model;
#[cfg(madsim)]
pub mod network;
#[cfg(madsim)]
pub mod object_store;
#[cfg(madsim)]
pub mod oracle;
#[cfg(madsim)]
pub mod plan;
#[cfg(madsim)]
pub mod random;
#[cfg(madsim)]
pub mod run;
#[cfg(madsim)]
pub mod tool;
#[cfg(madsim)]
pub mod trace;
#[cfg(madsim)]
pub mod workload;
#[cfg(madsim)]
pub mod world;
