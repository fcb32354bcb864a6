//! A short sweep over all plans is part of `cargo test`. It builds the simulator's flavour, and fails where it cannot.
#![cfg(not(madsim))]
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

/// `cargo sim` from the top of the workspace, without what would win over the alias.
fn sim(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO"));
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTDOCFLAGS"] {
        command.env_remove(name);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command.current_dir(root).arg("sim").args(arguments).output().unwrap()
}

fn text(output: &std::process::Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_short_sweep_is_green_and_a_planted_nondeterminism_is_found() {
    let sweep = sim(&["sweep", "--seeds", "66", "--base", "cargo test"]);
    assert!(sweep.status.success(), "{}", text(&sweep));
    let planted = ["check-determinism", "--seeds", "1", "--plan", "swarm", "--base", "planted"];
    let found = sim(&[&planted[..], &["--planted-nondeterminism"]].concat());
    assert_eq!(found.status.code(), Some(13), "{}", text(&found));
    let same = sim(&planted);
    assert!(same.status.success(), "{}", text(&same));
    let wrong = sim(&["run", "--seed", "1", "--plan", "no-such-plan"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}
