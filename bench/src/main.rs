//! What a hit over shared memory costs, beside redis, iceoryx2 and the bare machine, in one run.
//!
//! `cargo run --release --manifest-path bench/Cargo.toml -- target/release/bettong [--json]` starts a daemon of its own, and
//! `redis-server` where there is one. Every row is measured several times, in turn with its peer; it shows the median of the
//! repetitions, and the least and the most, which is how noisy the machine is.

mod futex;
mod iceoryx;
mod ours;
mod processes;
mod redis;
mod report;
mod rows;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["iceoryx-server", name] => iceoryx::serve(name),
        ["futex-echo", fd] => futex::echo(fd),
        ["client", socket, key, seconds] => ours::load(socket, key, seconds),
        [daemon] | [daemon, "--json"] | ["--json", daemon] => {
            let report = rows::measure(daemon.as_ref());
            print!("{}", if words.contains(&"--json") { report.json() } else { report.table() });
        }
        _ => {
            eprintln!("write: bettong-bench PATH-OF-BETTONG [--json]");
            std::process::exit(2);
        }
    }
}
