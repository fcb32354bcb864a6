//! The simulated host: memory that a daemon and its clients share, the line between them, and who looks on.
//!
//! Rings, pool, leases and sessions are the production code over heap memory. The daemon reaches a session's memory through
//! wrappers: at each of its accesses the other side may write (`Meddler`), and `Watch` sees what is published at that very
//! moment. A daemon's death closes its lines and leaves its memory to whoever still reads it, as a memfd does; a client's
//! death is told to the daemon later, as by a pidfd.
//!
//! What this does not hold: who attaches, and what clients do. And S1, that a page has one writer, is only kept here: a
//! mapping's protection has no counterpart on the heap.

mod attach;
mod book;
mod feeder;
mod line;
mod memory;
mod watch;

pub use attach::{Attached, Host, Hosts, Parts, ShmLimits, Start};
pub use book::Book;
pub use feeder::{Ends, Feeder};
pub use line::{ClientLine, Told};
pub use memory::{Meddler, lie, scribble_behind, scribble_words};
pub use watch::Watch;
