//! Real engines that die: a daemon, clients over shared memory that are killed at random moments, clients that scribble over
//! all that they may write, and clients that verify every byte meanwhile. Runs itself as the clients that die.
//!
//! `cargo test -p bettong --test clients_die -- --kills 10000 --seed 7`

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
#[path = "../rig/mod.rs"]
#[expect(dead_code, reason = "it is for tests of commands, too")]
mod rig;

#[cfg(target_os = "linux")]
mod harness;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(target_os = "linux")]
mod value;

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["victim", socket, seed] => raw::victim(socket.as_ref(), seed.parse().unwrap()),
        ["scribbler", socket, seed] => raw::scribbler(socket.as_ref(), seed.parse().unwrap()),
        // What a runner of tests asks of every test.
        [.., "--list"] | ["--list", ..] => {
            if !words.contains(&"--ignored") {
                println!("clients_that_die_harm_nobody: test");
            }
        }
        _ => harness::run(harness::Asked::of(&words)),
    }
}
