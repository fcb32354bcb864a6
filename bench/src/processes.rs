//! Other processes of a run; they end with it.

use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Option<Self> {
        command.stdin(Stdio::null()).spawn().ok().map(Self)
    }

    /// This program, as something else.
    pub fn of_self(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        Self::start(Command::new(program).args(arguments)).expect("this program starts")
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32).expect("a child has an id");
        kill_process(pid, signal).expect("a child may be signalled");
    }

    /// CPU time of the process so far.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is there.
pub fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(there) = there() {
            return there;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "a process does not come up");
        std::thread::sleep(Duration::from_millis(5));
    }
}
