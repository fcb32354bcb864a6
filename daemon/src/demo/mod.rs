//! The demonstration: what bettong promises, shown on real daemons, real files and a real SIGKILL.

pub mod attacks;
pub mod child;
pub mod ledger;
pub mod report;
