//! One file a command.

pub mod bench;
pub mod config;
pub mod crash_test;
pub mod demo;
pub mod flush;
pub mod journal;
pub mod keys;
pub mod ls;
pub mod node;
pub mod replay;
pub mod serve;
pub mod sessions;
pub mod stats;
pub mod upkeep;
