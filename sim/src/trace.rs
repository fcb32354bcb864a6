//! The semantic trace: what happened, in order, with its virtual time.
//!
//! Operations, results, payload digests, faults and state changes; never random draws, so that code that draws once more
//! keeps its trace. Equal traces have equal hashes.

use std::fmt::Write;
use std::time::Duration;

/// Collects events and hashes them as they come.
#[derive(Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    line: String,
    events: u64,
    /// The events as text, where they are kept.
    kept: Option<Vec<String>>,
    /// The last events, for the report of a failure.
    tail: std::collections::VecDeque<String>,
}

/// Events that a failure's report shows.
const TAIL_EVENTS: usize = 40;

impl Trace {
    /// `keep` holds every event as text, so that two traces can be compared line by line.
    pub fn new(keep: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            line: String::new(),
            events: 0,
            kept: keep.then(Vec::new),
            tail: std::collections::VecDeque::with_capacity(TAIL_EVENTS),
        }
    }

    pub fn event(&mut self, at: Duration, who: &str, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a String does not fail.
        let _ = write!(self.line, "{:>14.9} {who} {what}", at.as_secs_f64());
        self.hasher.update(self.line.as_bytes());
        self.hasher.update(b"\n");
        self.events += 1;
        if self.tail.len() == TAIL_EVENTS {
            self.tail.pop_front();
        }
        self.tail.push_back(self.line.clone());
        if let Some(kept) = &mut self.kept {
            kept.push(self.line.clone());
        }
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash so far: 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().chars().take(16).collect()
    }

    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// All events, where they were kept.
    pub fn take_kept(&mut self) -> Vec<String> {
        self.kept.take().unwrap_or_default()
    }
}

/// Sixteen hexadecimal digits that stand for some bytes in the trace.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(16).collect()
}
