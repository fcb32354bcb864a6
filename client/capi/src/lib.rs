//! The client of bettong for C, and for whatever calls C: over TCP and, on Linux, over shared memory.
//!
//! **What is exported** are the functions that begin with `bettong_`, in `session.rs`, `blocks.rs`, `sidecars.rs` and
//! `error.rs`; `abi.rs` has the types that they share with a caller. cbindgen makes `include/bettong.h` of these files, and a
//! test fails where that is not up to date. `docs/c-abi.md` tells a caller how to use it.
//!
//! **Handles are numbers**, not addresses (`handles.rs`): they are looked up and never followed, so that one that was closed
//! before, or is of another kind, is an error. Arrays, texts and places for answers are the caller's memory, which can
//! only be taken at its word: `memory.rs` is where that is done, after all has been checked that can be.
//!
//! **No panic crosses the border**: each function's body runs in `error::call`, or where it talks to a daemon in
//! `error::call_daemon`, which keeps SIGPIPE from the caller's thread as well.

// Under the simulator there is no blocking client, and this library is empty.
#[cfg(not(madsim))]
mod abi;
#[cfg(not(madsim))]
mod blocks;
#[cfg(not(madsim))]
mod error;
#[cfg(not(madsim))]
mod handles;
#[cfg(not(madsim))]
mod memory;
#[cfg(not(madsim))]
mod session;
#[cfg(not(madsim))]
mod settings;
#[cfg(not(madsim))]
mod sidecars;
#[cfg(all(unix, not(madsim)))]
mod sigpipe;
#[cfg(all(test, not(madsim)))]
mod tests;
