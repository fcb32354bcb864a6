//! The block journal and the signal journal on a disk that fails, tears and forgets.
#![forbid(unsafe_code)]

mod rig;
mod writing;
