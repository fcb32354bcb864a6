//! What the tests of the real binary share.

use bettong::demo::child::Setup;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The binary under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_bettong");

/// Longest that a command may take; a daemon that should have been refused would never end.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs `program` to its end, without what the environment says about bettong and S3.
pub fn run(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BETTONG_") || name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (ended, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watch.join().unwrap();
    output
}

/// The exit code and the one line on standard error of what must not start.
pub fn refused(program: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(program, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    (output.status.code().unwrap(), said)
}

/// A small daemon that keeps everything under `dir`.
pub fn setup(dir: &Path, values: &[&str]) -> Setup {
    let mut all = vec!["memory_bytes=512MiB".to_owned(), "disk_bytes=64MiB".to_owned()];
    all.extend(values.iter().map(|pair| (*pair).to_owned()));
    Setup {
        program: PROGRAM.into(),
        data_dir: dir.join("data"),
        store: format!("file://{}", dir.join("objects").display()),
        values: all,
    }
}
