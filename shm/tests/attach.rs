//! Daemon and client as two processes, from the socket on: what is put through staging is got in place, who is killed is
//! known to be gone, and who may not attach hears why. Runs itself as the other process.

#[cfg(not(all(target_os = "linux", not(any(loom, shuttle)))))]
fn main() {}

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
mod attached;

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["client", role, path] => attached::client(role, path.as_ref()),
        // What a runner of tests asks of every test, and of those that are left out.
        ["--list", .., "--ignored"] => {}
        ["--list", ..] => println!("attach: test"),
        _ => attached::tests(),
    }
}
