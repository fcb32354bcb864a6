//! The daemon's process: its data directory, its threads, its signals, its end.

pub mod background;
pub mod data_dir;
pub mod descriptors;
pub mod logs;
pub mod memory;
pub mod priority;
pub mod reactors;
pub mod ready;
pub mod signals;
pub mod storage;
pub mod tokens;
