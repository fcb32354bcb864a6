//! What a bounded tier forgets first. Data structures only: no clock, no I/O, nothing that differs from run to run.

mod accounts;
pub mod policy;
mod uses;

pub use accounts::{Accounts, Scope, Use};
pub use policy::{Block, Policy};
pub use uses::Uses;
