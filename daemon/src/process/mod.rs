//! The daemon's process: its data directory, its threads, its signals, its end.

pub mod background;
pub mod data_dir;
pub mod descriptors;
pub mod logs;
pub mod memory;
pub mod priority;
pub mod reactors;
pub mod ready;
#[cfg_attr(not(target_os = "linux"), path = "shm_elsewhere.rs")]
pub mod shm;
pub mod signals;
pub mod storage;
pub mod tokens;
