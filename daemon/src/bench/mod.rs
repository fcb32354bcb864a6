//! Measuring a running daemon, beside a running redis where asked.

pub mod process_cpu;
pub mod resp;
