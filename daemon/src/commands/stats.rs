//! `bettong stats`: the daemon's counters.

use crate::cli::Global;
use crate::exit::Outcome;
use crate::price::{self, Prices};
use crate::remote::Remote;
use crate::render::table::Table;
use crate::render::{self, units};
use serde_json::Value;
use std::time::Duration;

pub async fn run(prices: &Prices, global: &Global) -> Outcome {
    let stats = Remote::open(&global.access()?, None).await?.stats().await?;
    match global.json {
        true => render::line(&stats.to_string()),
        false => render::line(&format!("{}\n{}", table(&stats), price::since_start(&stats, prices))),
    }
}

/// Every number under its path, in the document's own order; what is there for programs alone is left to --json.
fn table(stats: &Value) -> String {
    let mut table = Table::new(&["counter", "value"]);
    rows(&mut table, "", stats);
    table.to_string()
}

fn rows(table: &mut Table, path: &str, value: &Value) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => {
            let read = fields.iter().filter(|(key, _)| *key != "buckets");
            read.for_each(|(key, field)| rows(table, &below(key), field));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| rows(table, &below(&index.to_string()), item));
        }
        scalar => table.row(&[path, &shown(path, scalar)]),
    }
}

/// Names say their unit: `..._us`, `..._ms`, `..._bytes`.
fn shown(path: &str, value: &Value) -> String {
    match (value, value.as_u64()) {
        (_, Some(us)) if path.ends_with("_us") => units::duration(Duration::from_micros(us)),
        (_, Some(bytes)) if path.ends_with("bytes") => format!("{} ({})", units::count(bytes), units::bytes(bytes)),
        (_, Some(number)) if path.ends_with("_ms") => number.to_string(),
        (_, Some(number)) => units::count(number),
        (Value::String(text), _) => text.clone(),
        (Value::Null, _) => "-".to_owned(),
        (other, _) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_document_is_shown() {
        let document =
            json!({ "hits": { "count": 1200, "bytes": 2048 }, "p50_us": 1500, "none": null, "list": [true, "x"] });
        let text = table(&document);
        let rows: Vec<Vec<&str>> = text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        for row in [
            vec!["hits.count", "1,200"],
            vec!["hits.bytes", "2,048", "(2.0", "KiB)"],
            vec!["p50_us", "1.50", "ms"],
            vec!["none", "-"],
            vec!["list.0", "true"],
            vec!["list.1", "x"],
        ] {
            assert!(rows.contains(&row), "{text} has no {row:?}");
        }
    }
}
