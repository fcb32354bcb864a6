//! The table of hit rates.

use super::PolicyName;
use crate::render::table::Table;
use crate::render::units;
use serde_json::{Value, json};
use std::time::Duration;

/// One capacity.
#[derive(Clone, Debug)]
pub struct Row {
    /// Of the different blocks.
    pub percent: f64,
    pub blocks: usize,
    /// In the order of `PolicyName::ALL`.
    pub hits: [u64; PolicyName::ALL.len()],
}

impl Row {
    pub fn hits(&self, name: PolicyName) -> u64 {
        self.hits.get(name as usize).copied().unwrap_or(0)
    }

    /// Hits of ours to those of LRU, and to the most of all others.
    pub fn ratios(&self) -> (f64, f64) {
        let best = PolicyName::OTHERS.map(|name| self.hits(name)).into_iter().max().unwrap_or(0);
        let to = |other: u64| if other == 0 { f64::NAN } else { self.hits(PolicyName::Ours) as f64 / other as f64 };
        (to(self.hits(PolicyName::Lru)), to(best))
    }
}

/// What every policy made of one trace.
#[derive(Clone, Debug)]
pub struct Report {
    pub what: String,
    pub requests: u64,
    pub references: u64,
    pub distinct: u64,
    pub rows: Vec<Row>,
    pub took: Duration,
}

fn ratio(ratio: f64) -> String {
    if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") }
}

impl Report {
    pub fn table(&self) -> String {
        let names = PolicyName::ALL.map(PolicyName::as_str);
        let mut table =
            Table::new(&[&["capacity", "blocks"], &names[..], &["ours to LRU", "to the best other"]].concat());
        for row in &self.rows {
            let rates = row.hits.iter().map(|hits| units::percent(*hits, self.references));
            let (to_lru, to_best) = row.ratios();
            let cells: Vec<String> = [format!("{} %", row.percent), units::count(row.blocks as u64)]
                .into_iter()
                .chain(rates)
                .chain([ratio(to_lru), ratio(to_best)])
                .collect();
            table.row(&cells);
        }
        format!(
            "{}: {} requests, {} block references, {} different blocks; hit rates of whole prefixes, in {}\n{table}",
            self.what,
            units::count(self.requests),
            units::count(self.references),
            units::count(self.distinct),
            units::duration(self.took),
        )
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let hits: serde_json::Map<String, Value> =
                PolicyName::ALL.iter().map(|name| (name.as_str().to_owned(), row.hits(*name).into())).collect();
            let (to_lru, to_best) = row.ratios();
            json!({
                "capacity_percent": row.percent, "blocks": row.blocks, "hits": hits,
                "ours_to_lru": to_lru, "ours_to_best_other": to_best,
            })
        };
        json!({
            "workload": self.what, "requests": self.requests, "references": self.references,
            "distinct_blocks": self.distinct, "seconds": self.took.as_secs_f64(),
            "capacities": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
