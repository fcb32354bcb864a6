//! The crash test: a real daemon on real files is killed at random moments, over and over, and everything that it
//! acknowledged is read again.
//!
//! It shows that what is acknowledged survives the death of the process. It does not show that it survives the loss of
//! power: the kernel keeps what a killed process has written. That is the simulator's work.

pub mod dice;
pub mod ledger;
pub mod load;
pub mod report;
pub mod rounds;
