//! One suite for each seam, which its real, simulated and fault-injecting forms all pass, so that the simulation cannot
//! drift away from reality. Plain async functions: the caller brings the executor and a fresh instance.

pub mod block_memory;
pub mod clock;
pub mod disk;
pub mod memory_disk;
pub mod memory_world;
pub mod object_store;
pub mod service;
pub mod world;

/// What an implementation broke, in words; `Ok` where it keeps its promises.
pub type Verdict = Result<(), String>;

/// Fails the suite unless the condition holds, naming it and the value that was found.
macro_rules! holds {
    ($condition:expr, $found:expr) => {
        if !$condition {
            return Err(format!("{} does not hold: found {:?}", stringify!($condition), $found));
        }
    };
}
pub(crate) use holds;

/// Turns an unexpected error into a verdict that names the step.
pub(crate) fn step<T, E: std::fmt::Debug>(name: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| format!("{name}: {error:?}"))
}
