//! That a C program, compiled with the header and linked with the library, can do all that the header says.

mod server;

use server::Server;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

#[derive(Clone, Copy)]
enum Linked {
    Shared,
    Static,
}

/// Where the libraries are. Cargo builds them for no test by itself, since no Rust program could link with them.
fn libraries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--package", "bettong-capi", "--lib", "--target-dir"]).arg(target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "{build:?}");
        target.join("debug")
    })
}

/// Compiles the program with the system's compiler. It is in the folder that is answered.
fn compiled(linked: Linked) -> (TempDir, PathBuf) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("round_trip");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-o"]).arg(&program);
    cc.arg("-I").arg(here.join("include")).arg(here.join("tests/round_trip.c"));
    match linked {
        Linked::Shared => cc
            .arg("-L")
            .arg(libraries())
            .args(["-lbettong", "-lpthread"])
            .arg(format!("-Wl,-rpath,{}", libraries().display())),
        Linked::Static => cc.arg(libraries().join("libbettong.a")).args(["-lpthread", "-ldl", "-lm"]),
    };
    assert!(cc.status().expect("a C compiler is needed, by the name of cc").success(), "{cc:?}");
    (folder, program)
}

fn round_trip(linked: Linked, server: &Server, door: &str) {
    let (_folder, program) = compiled(linked);
    let ran = Command::new(program).args([&server.url, door]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{door}: {}: {said}", ran.status);
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "all is well\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_program_makes_a_round_trip_over_tcp() {
    let server = Server::tcp().await;
    round_trip(Linked::Shared, &server, "tcp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_program_that_is_linked_statically_makes_a_round_trip() {
    let server = Server::tcp().await;
    round_trip(Linked::Static, &server, "tcp");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_c_program_makes_a_round_trip_over_shared_memory_and_reads_in_place() {
    let server = Server::shm();
    round_trip(Linked::Shared, &server, "shm");
}

/// A C program has not switched SIGPIPE off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_hangs_up_does_not_end_the_program() {
    let server = Server::tcp().await;
    let (_folder, program) = compiled(Linked::Shared);
    let mut command = Command::new(program);
    command.args([&server.url, "leaving"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "opened");
    server.leave.notify_one();
    server.hung_up.notified().await;
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{ended}");
}
