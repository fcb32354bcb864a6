//! Clients of the shared-memory door: processes that ask, read in place, hold, and die; and hostile ones.

mod attack;
mod hold;
mod hostile;
mod process;
mod raw;
mod reckon;
mod session;
mod state;

pub use hostile::run as hostile;
pub use process::Process;
pub use reckon::check as reckon;
pub use state::ShmState;
