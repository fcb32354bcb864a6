//! The block journal and the signal journal on a disk that fails, tears and forgets.
#![forbid(unsafe_code)]

mod crashing;
mod damage;
mod formats;
mod rig;
mod salvaging;
mod signals;
mod writing;
