//! What the crash test saw.

use super::ledger::Found;
use crate::render::latency::Latency;
use crate::render::table::Table;
use crate::render::units;

/// Broken promises that are told one by one.
const SHOWN_MAX: usize = 10;

/// What the daemon was doing when it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Start,
    Load,
    Drain,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub rounds: u64,
    pub names: u64,
    /// Operations that were asked, and of those acknowledged; each block of a batch counts.
    pub asked: u64,
    pub acknowledged: u64,
    /// Acknowledged puts by level.
    pub by_level: Vec<(&'static str, u64)>,
    /// Puts that only the journal had at a restart.
    pub replayed: u64,
    pub restarts: Latency,
    kills: [u64; 3],
    right: u64,
    whole: u64,
    absent: u64,
    lost: u64,
    returned: u64,
    wrong: u64,
    broken: Vec<String>,
}

impl Report {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub fn killed(&mut self, stage: Stage) {
        if let Some(count) = self.kills.get_mut(stage as usize) {
            *count += 1;
        }
    }

    /// Counts one reading; `which` tells it apart where a promise is broken.
    pub fn found(&mut self, found: &Found, which: impl FnOnce() -> String) {
        let (count, what) = match found {
            Found::Right => (&mut self.right, None),
            Found::Whole => (&mut self.whole, None),
            Found::Absent => (&mut self.absent, None),
            Found::Lost(reason) => (&mut self.lost, Some(format!("acknowledged, and a miss: {}", reason.as_str()))),
            Found::Returned => (&mut self.returned, Some("deleted, and there again".to_owned())),
            Found::Wrong => (&mut self.wrong, Some("not what was put".to_owned())),
        };
        *count += 1;
        if let Some(what) = what.filter(|_| self.broken.len() < SHOWN_MAX) {
            self.broken.push(format!("{}: {what}", which()));
        }
    }

    pub fn held(&self) -> bool {
        self.lost == 0 && self.returned == 0 && self.wrong == 0
    }

    fn rows(&self) -> Vec<(String, u64)> {
        let [start, load, drain] = self.kills;
        let by_level = self.by_level.iter().map(|(level, puts)| (format!("acknowledged at level {level}"), *puts));
        let rows = [
            ("rounds", self.rounds),
            ("killed under load", load),
            ("killed during start", start),
            ("killed during drain", drain),
            ("operations asked", self.asked),
            ("acknowledged", self.acknowledged),
            ("only in the journal at a restart", self.replayed),
            ("names", self.names),
            ("verified", self.right),
            ("in doubt, whole", self.whole),
            ("in doubt, absent", self.absent),
            ("lost", self.lost),
            ("came back after a delete", self.returned),
            ("wrong", self.wrong),
        ];
        let mut rows: Vec<(String, u64)> = rows.into_iter().map(|(what, count)| (what.to_owned(), count)).collect();
        let behind = rows.iter().position(|(what, _)| what == "acknowledged").map_or(0, |at| at + 1);
        rows.splice(behind..behind, by_level);
        rows
    }

    pub fn table(&self) -> String {
        let mut table = Table::new(&["what", "result"]);
        for (what, count) in self.rows() {
            table.row(&[what, units::count(count)]);
        }
        for (what, q) in [("restart p50", 0.5), ("restart p99", 0.99)] {
            table.row(&[what.to_owned(), units::duration(self.restarts.quantile(q))]);
        }
        table.row(&["seed".to_owned(), self.seed.to_string()]);
        let broken: String = self.broken.iter().map(|line| format!("BROKEN: {line}\n")).collect();
        format!("{table}{broken}")
    }

    pub fn json(&self) -> serde_json::Value {
        let counts =
            self.rows().into_iter().map(|(what, count)| (what.replace(", ", " ").replace(' ', "_"), count.into()));
        let mut document: serde_json::Map<String, serde_json::Value> = counts.into_iter().collect();
        for (what, q) in [("restart_p50_ms", 0.5), ("restart_p99_ms", 0.99)] {
            document.insert(what.to_owned(), (self.restarts.quantile(q).as_secs_f64() * 1e3).into());
        }
        document.insert("seed".to_owned(), self.seed.into());
        document.insert("broken".to_owned(), self.broken.clone().into());
        document.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::MissReason;

    #[test]
    fn every_broken_promise_fails_it_and_is_told() {
        for found in [Found::Lost(MissReason::Absent), Found::Returned, Found::Wrong] {
            let mut report = Report::default();
            report.found(&Found::Right, || unreachable!());
            report.found(&Found::Absent, || unreachable!());
            assert!(report.held() && !report.table().contains("BROKEN"));
            report.found(&found, || "round 3".to_owned());
            assert!(!report.held() && report.table().contains("BROKEN: round 3"));
            assert_eq!(report.json()["broken"].as_array().unwrap().len(), 1);
        }
        let mut report = Report::default();
        report.killed(Stage::Drain);
        assert_eq!(report.json()["killed_during_drain"], 1);
    }
}
