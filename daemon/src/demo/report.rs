//! The table at the end of the demonstration.

use super::ledger::Audit;
use crate::render::table::Table;
use crate::render::units;
use crate::replay::early::{Early, WINDOW};
use crate::replay::tally::Tally;
use bettong_wire::request::Tier;
use std::time::Duration;

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Report {
    pub replay: Tally,
    pub acknowledged: u64,
    pub audits: Vec<(&'static str, Audit)>,
    /// From SIGKILL to the first session with the restarted daemon.
    pub restart: Duration,
    /// How the rest of the trace began on the restarted daemon, and on one that was not interrupted.
    pub restarted: Early,
    pub uninterrupted: Early,
    /// What each attack showed, and whether the promise held.
    pub attacks: Vec<(&'static str, String, bool)>,
}

impl Report {
    pub fn verified(&self) -> u64 {
        self.replay.verified + self.audits.iter().map(|(_, audit)| audit.verified).sum::<u64>()
    }

    pub fn wrong(&self) -> u64 {
        self.replay.wrong + self.audits.iter().map(|(_, audit)| audit.wrong).sum::<u64>()
    }

    pub fn lost(&self) -> u64 {
        self.audits.iter().map(|(_, audit)| audit.lost()).sum()
    }

    pub fn held(&self) -> bool {
        self.wrong() == 0 && self.lost() == 0 && self.attacks.iter().all(|(_, _, held)| *held)
    }

    /// What was warm after the restart. Shown, not judged: a cache may be cold.
    fn warmth(&self, row: &mut impl FnMut(&str, String)) {
        let after = |first: Option<Duration>| match first {
            Some(first) => units::duration(self.restart + first),
            None => "there was none".to_owned(),
        };
        row("ready after SIGKILL", units::duration(self.restart));
        row("first hit after SIGKILL", after(self.restarted.first.into_iter().flatten().min()));
        row("first disk hit after SIGKILL", after(self.restarted.first.get(Tier::Disk as usize).copied().flatten()));
        let window = units::duration(WINDOW);
        row(&format!("hits from then on, {window} at most, restarted"), self.restarted.to_string());
        row("the same, uninterrupted", self.uninterrupted.to_string());
        let ratio = self.restarted.rate() / self.uninterrupted.rate();
        row(
            "hit rate, restarted to uninterrupted",
            if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() },
        );
    }

    pub fn table(&self) -> String {
        let mut table = Table::new(&["what", "result"]);
        let mut row = |what: &str, result: String| table.row(&[what.to_owned(), result]);
        let (hits, blocks) = (self.replay.verified, self.replay.blocks);
        row(
            "trace",
            format!("{} requests, {} block references", units::count(self.replay.requests), units::count(blocks)),
        );
        row("hit rate", format!("{} ({} blocks)", units::percent(hits, blocks), units::count(hits)));
        row("acknowledged before SIGKILL", format!("{} blocks", units::count(self.acknowledged)));
        for (what, audit) in &self.audits {
            let lost: String = audit.lost.iter().map(|(reason, count)| format!(", {count} {reason}")).collect();
            row(
                what,
                format!(
                    "{} verified, {} wrong, {} lost{lost}",
                    units::count(audit.verified),
                    audit.wrong,
                    audit.lost()
                ),
            );
        }
        self.warmth(&mut row);
        for (what, result, held) in &self.attacks {
            row(what, format!("{}: {result}", if *held { "held" } else { "FAILED" }));
        }
        row("blocks verified", units::count(self.verified()));
        row("wrong blocks", format!("{} wrong", self.wrong()));
        row("lost blocks", format!("{} acknowledged blocks lost", self.lost()));
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_block_fails_everything() {
        let mut report = Report::default();
        assert!(report.held());
        report.attacks.push(("flip", "served".to_owned(), false));
        assert!(!report.held() && report.table().contains("FAILED: served"));
        report.attacks.clear();
        report.audits.push(("audit", Audit { wrong: 1, ..Audit::default() }));
        assert!(!report.held());
        report.audits = vec![("audit", Audit { lost: [("absent", 2)].into(), ..Audit::default() })];
        assert!(!report.held() && report.table().contains("2 acknowledged blocks lost"));
    }
}
