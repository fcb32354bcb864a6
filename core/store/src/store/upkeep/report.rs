//! What a slice of upkeep did.

use bettong_wire::request::Task;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Notes of one slice; what does not fit is counted.
const NOTES_MAX: usize = 32;

/// Counts and notes of one slice. Counts of several slices add up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    task: Task,
    dry_run: bool,
    stage: &'static str,
    counts: BTreeMap<&'static str, u64>,
    notes: Vec<String>,
    items: Vec<Value>,
}

impl Report {
    pub(super) fn new(task: Task, dry_run: bool) -> Self {
        Self { task, dry_run, stage: "", counts: BTreeMap::new(), notes: Vec::new(), items: Vec::new() }
    }

    pub(super) fn add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }

    pub(super) fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(super) fn stage(&mut self, stage: &'static str) {
        self.stage = stage;
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note.into());
        } else {
            self.count("notes_left_out");
        }
    }

    /// Something that the caller gets to see by name; whoever adds items bounds their number.
    pub(super) fn item(&mut self, item: Value) {
        self.items.push(item);
    }

    /// How often `what` was counted.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// The document that the caller gets.
    pub fn to_json(&self) -> Value {
        json!({
            "task": self.task.as_str(),
            "dry_run": self.dry_run,
            "stage": self.stage,
            "counts": self.counts,
            "notes": self.notes,
            "items": self.items,
        })
    }
}
