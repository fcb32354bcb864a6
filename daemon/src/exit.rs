//! How the process ends: one exit code for each kind of failure, and one clear line.

use bettong_wire::{ErrorKind, MissReason};
use std::fmt;

/// The exit codes of every command. They are part of the interface: scripts and supervisors rely on the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// A defect, or an error that has no code of its own.
    Failed = 1,
    /// The command line, a configuration value, a trace or an input is wrong: fix it.
    Usage = 2,
    /// The key is not there; the reason is on standard error.
    Miss = 3,
    /// The daemon cannot be reached, or what it needs is unavailable.
    Unavailable = 4,
    /// The daemon refused: denied, another model identity, too large.
    Refused = 5,
    /// Busy, or the outcome is unknown: try again.
    Retry = 6,
    /// The data directory cannot be used: held by another process, or not writable.
    DataDir = 10,
    /// The address cannot be listened on.
    Listen = 11,
    /// The object store cannot be used: wrong URL, unreachable, refused.
    ObjectStore = 12,
    /// What is stored cannot be opened: damaged, or written by a newer release.
    Stored = 13,
    /// A newer life of this node id exists, or the node was retired. A supervisor must not restart the daemon.
    Fenced = 14,
    /// The bound of a drain or of a flush passed; what was still under way was cut off, what the journal has stays there.
    Undrained = 15,
    /// A part of the daemon without which it cannot work met a defect. What was acknowledged is kept: start it again.
    Broken = 16,
    /// A check failed, a salvage lost something, or a scrub left damage: wrong bytes, lost blocks, or numbers that disagree.
    CheckFailed = 20,
    /// A second signal ended the process at once.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, as `bettong --help` and the README show them.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Ok, "done"),
        (Self::Failed, "a defect, or an error that has no code of its own"),
        (Self::Usage, "wrong command line, configuration, trace or input"),
        (Self::Miss, "the key is not there"),
        (Self::Unavailable, "the daemon, or what it needs, cannot be reached"),
        (Self::Refused, "refused: denied, another model identity, too large"),
        (Self::Retry, "busy, or the outcome is unknown: try again"),
        (Self::DataDir, "the data directory is held by another process or not writable"),
        (Self::Listen, "the address cannot be listened on"),
        (Self::ObjectStore, "the object store: wrong URL, unreachable, refused"),
        (Self::Stored, "what is stored cannot be opened: damaged, or of a newer release"),
        (Self::Fenced, "a newer life of this node id exists, or the node was retired: do not restart"),
        (Self::Undrained, "a drain or flush passed its bound: requests were cut off, or puts wait in the journal"),
        (Self::Broken, "a defect ended the daemon: start it again, and report what the log says of the panic"),
        (Self::CheckFailed, "a check failed: wrong bytes, lost blocks, numbers that disagree"),
        (Self::Interrupted, "interrupted by a second signal, or before the store was open"),
    ];
}

/// A failure as the user sees it: one line and an exit code.
#[derive(Debug, Clone)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A miss of `key`, with its reason.
    pub fn miss(key: &str, reason: MissReason) -> Self {
        Self::new(Exit::Miss, format!("{key}: not there ({})", reason.as_str()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line whatever the source of the message: scripts read standard error line by line.
        let mut words = self.message.split_whitespace();
        f.write_str(words.next().unwrap_or("failed"))?;
        words.try_for_each(|word| write!(f, " {word}"))
    }
}

impl std::error::Error for Failure {}

/// The exit code for a kind of error of the service.
pub fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Invalid => Exit::Usage,
        ErrorKind::Retry | ErrorKind::Busy | ErrorKind::Declined => Exit::Retry,
        ErrorKind::TooLarge | ErrorKind::Denied | ErrorKind::IdentityMismatch => Exit::Refused,
        ErrorKind::Unavailable => Exit::Unavailable,
        ErrorKind::Internal => Exit::Failed,
    }
}

/// Context for errors that end a command with a given exit code.
pub trait OrExit<T> {
    /// Turns the error into a failure: `what: error`.
    fn or_exit(self, exit: Exit, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: fmt::Display> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::new(exit, format!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_pinned() {
        let numbers: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 20, 130]);
    }

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::new(Exit::Usage, "first\n  second\tthird\r\n");
        assert_eq!(failure.to_string(), "first second third");
    }
}
