//! Progress of long work: a bar on a terminal, a plain line now and then elsewhere.

use super::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Lines that a whole run prints where there is no terminal.
const PLAIN_LINES: u64 = 10;

/// Counts towards a known total, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    done: u64,
}

impl Progress {
    pub fn new(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_message(what.to_owned());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        Self { bar, what: what.to_owned(), total, done: 0 }
    }

    /// `more` of the total are done.
    pub fn advance(&mut self, more: u64) {
        let step = |done: u64| done.saturating_mul(PLAIN_LINES) / self.total.max(1);
        let crossed = step(self.done) != step(self.done + more);
        self.done += more;
        match &self.bar {
            Some(bar) => bar.inc(more),
            None if crossed => {
                eprintln!("{}: {} of {}", self.what, units::count(self.done), units::count(self.total));
            }
            None => {}
        }
    }
}

/// Says how far work of unknown length is.
#[derive(Debug)]
pub struct Ticker {
    bar: Option<ProgressBar>,
    what: String,
    ticks: u64,
}

/// Ticks between two plain lines.
const TICKS_A_LINE: u64 = 10;

impl Ticker {
    pub fn new(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            style.map_or(bar.clone(), |style| bar.with_style(style))
        });
        Self { bar, what: what.to_owned(), ticks: 0 }
    }

    pub fn tick(&mut self, said: &str) {
        self.ticks += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{}: {said}", self.what));
                bar.tick();
            }
            None if self.ticks.is_multiple_of(TICKS_A_LINE) => eprintln!("{}: {said}", self.what),
            None => {}
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
