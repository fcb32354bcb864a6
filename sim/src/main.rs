//! `cargo sim`: runs, sweeps, replays, and checks determinism.
#![forbid(unsafe_code)]

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    bettong_sim::tool::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "The simulator needs its own build flavour. Run it as `cargo sim`, for example: cargo sim sweep --seeds 20"
    );
    std::process::ExitCode::from(2)
}
