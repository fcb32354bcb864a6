//! The session's connections through memory that is shared with a daemon of this host.

mod guards;
mod reach;
mod spin;
mod staged;
mod wire;

pub(crate) use reach::ShmReach;
pub(crate) use staged::{Areas, Staged};
