//! The runtime of work that nobody waits for: uploads of what the journal has, removals, rewriting of packs.
//!
//! Its file operations run on threads that take only the time that nothing else wants. A thread that is within a system
//! call of a file system keeps its core for hundreds of microseconds, and a hit in memory would wait for that. What they
//! run holds no lock of the store. The tasks themselves share a thread of ordinary priority, so that a lock that one of them
//! holds for a moment is not held for longer on a machine that is busy.

use crate::exit::{Exit, OrExit, Outcome};
use crate::process::priority::give_way;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// File operations at once.
const FILE_THREADS: usize = 2;

/// A running runtime; ends, with whatever runs in it, when it is dropped.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub fn start() -> Outcome<Self> {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(FILE_THREADS).on_thread_start(give_way).build();
        let runtime = runtime.or_exit(Exit::Failed, "background runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("background".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        });
        Ok(Self { handle, stop: Some(stop), thread: Some(thread.or_exit(Exit::Failed, "background thread")?) })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the background thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_tasks_run_and_end_with_it() {
        let background = Background::start().unwrap();
        let (sender, answer) = oneshot::channel();
        background.handle().spawn(async move {
            let read = tokio::task::spawn_blocking(|| std::thread::current().name().map(str::to_owned)).await;
            let _ = sender.send(read.is_ok());
            std::future::pending::<()>().await;
        });
        assert_eq!(answer.blocking_recv(), Ok(true));
        drop(background);
    }
}
