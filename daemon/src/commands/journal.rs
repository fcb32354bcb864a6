//! `bettong journal check | dump | salvage`: the journal of a data directory, read from its files.

use crate::cli::{ConfigArgs, SalvageArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::process::data_dir::DataDir;
use crate::process::storage::{journal_exit, journal_of, node_dir};
use crate::render::table::Table;
use crate::render::{self, units};
use bettong_core::journal::{self, CheckReport, DumpLine, JournalConfig, Salvaged};
use bettong_core::life::Life;
use bettong_core::real::RealWorld;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A data directory whose journal is looked at.
struct Place {
    data_dir: PathBuf,
    world: RealWorld,
    config: JournalConfig,
}

impl Place {
    /// Makes nothing: a directory that no daemon has used is an error.
    fn of(args: &ConfigArgs) -> Outcome<Self> {
        let loaded = super::config::loaded(args)?;
        let data_dir = Path::new(&loaded.config.data_dir.0);
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::DataDir, format!("data directory {}: {error}", data_dir.display()))
        };
        let data_dir = data_dir.canonicalize().map_err(|error| failed(&error))?;
        let node = node_dir(&data_dir);
        if !node.is_dir() {
            return Err(failed(&format!("no daemon has used it: there is no {}", node.display())));
        }
        let world = RealWorld::new(node, tokio::runtime::Handle::current()).map_err(|error| failed(&error))?;
        let segment_bytes = loaded.config.journal_segment_bytes.0;
        // A salvage is no life of the node.
        let config = JournalConfig { segment_bytes, ..JournalConfig::new(Life { ordinal: 0, life: 0 }) };
        Ok(Self { data_dir, world, config })
    }

    fn failed(&self, exit: Exit, error: impl std::fmt::Display) -> Failure {
        Failure::new(exit, format!("the journal: {error} ({})", journal_of(&self.data_dir)))
    }

    async fn check(&self) -> Outcome<CheckReport> {
        let report = journal::check(&self.world, &self.config.dir).await;
        report.map_err(|error| self.failed(Exit::DataDir, error))
    }
}

pub async fn check(args: &ConfigArgs, as_json: bool) -> Outcome {
    let place = Place::of(args)?;
    let report = place.check().await?;
    render::line(&if as_json { check_document(&report) } else { check_table(&report) })?;
    match report.problems.len() {
        0 => Ok(()),
        count => {
            let remedy = match report.beyond_salvage {
                0 => "`bettong journal salvage` keeps what verifies".to_owned(),
                beyond => format!(
                    "{beyond} of them are no damage, and `bettong journal salvage` refuses them as well: do first what is \
                     said there"
                ),
            };
            Err(place.failed(Exit::Stored, format!("{count} problems: no daemon starts from it; {remedy}")))
        }
    }
}

fn check_table(report: &CheckReport) -> String {
    let mut table = Table::new(&["journal", ""]);
    let mut row = |what: &str, value: String| table.row(&[what, &value]);
    row("segments", units::count(report.segments));
    row("batches", units::count(report.batches));
    row("records", units::count(report.records));
    row("bytes that verify", format!("{} ({})", units::count(report.bytes), units::bytes(report.bytes)));
    row("to upload: puts", units::count(report.backlog.puts));
    row("to upload: heads", units::count(report.backlog.heads));
    row("to upload: bytes", units::bytes(report.backlog.bytes));
    row("next sequence number", units::count(report.end));
    row("known to be synced through", units::count(report.synced_through));
    if let Some(cut) = report.torn {
        row("torn tail", format!("segment {} at offset {}: of a crash, or being written", cut.segment, cut.offset));
    }
    for (what, segments) in [("only begun", &report.passed_over), ("dead", &report.dead)] {
        if !segments.is_empty() {
            row(&format!("segments {what}"), format!("{segments:?}"));
        }
    }
    let problems: String = report.problems.iter().map(|problem| format!("PROBLEM: {problem}\n")).collect();
    format!("{table}{problems}")
}

fn check_document(report: &CheckReport) -> String {
    let torn = report.torn.map(|cut| json!({ "segment": cut.segment, "offset": cut.offset, "sequence": cut.sequence }));
    let document = json!({
        "segments": report.segments, "batches": report.batches, "records": report.records, "bytes": report.bytes,
        "backlog_puts": report.backlog.puts, "backlog_heads": report.backlog.heads,
        "backlog_bytes": report.backlog.bytes, "next_sequence": report.end, "synced_through": report.synced_through,
        "torn_tail": torn, "passed_over": report.passed_over, "dead": report.dead, "problems": report.problems,
        "beyond_salvage": report.beyond_salvage,
    });
    document.to_string()
}

pub async fn dump(args: &ConfigArgs, as_json: bool) -> Outcome {
    let place = Place::of(args)?;
    let mut lines = render::Lines::new();
    let mut each = |line: DumpLine| lines.add(&if as_json { line.to_json().to_string() } else { line.to_string() });
    let dumped = journal::dump(&place.world, &place.config.dir, &mut each).await;
    dumped.map_err(|error| place.failed(Exit::DataDir, error))?;
    lines.end()
}

pub async fn salvage(args: &SalvageArgs, as_json: bool) -> Outcome {
    let place = Place::of(&args.config)?;
    let _held = DataDir::hold(&place.data_dir)?;
    if !args.anyway && place.check().await?.problems.is_empty() {
        let nothing = "nothing is wrong within this journal: nothing was changed (--anyway, where a start says so)";
        return render::line(&if as_json { json!({ "salvaged": false }).to_string() } else { nothing.to_owned() });
    }
    let salvaged = journal::salvage(&place.world, &place.config).await;
    let salvaged = salvaged.map_err(|error| place.failed(journal_exit(&error), error))?;
    render::line(&if as_json { salvage_document(&salvaged) } else { salvage_table(&salvaged) })?;
    let puts = salvaged.lost_puts.len();
    if salvaged.lost.is_empty() && puts == 0 {
        return Ok(());
    }
    let known: u64 = salvaged.lost.iter().filter(|(_, to)| *to != u64::MAX).map(|(from, to)| to - from).sum();
    let open =
        if salvaged.lost.iter().any(|(_, to)| *to == u64::MAX) { " and nobody can tell how many more" } else { "" };
    let what = format!("what was synced is lost: {known} records{open} whole, and the bytes of {puts} puts");
    Err(place.failed(Exit::CheckFailed, what))
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

fn salvage_table(salvaged: &Salvaged) -> String {
    let mut table = Table::new(&["salvage", ""]);
    let mut row = |what: &str, value: String| table.row(&[what, &value]);
    for problem in &salvaged.problems {
        row("was wrong", problem.clone());
    }
    row("puts kept", units::count(salvaged.puts));
    row("heads kept", units::count(salvaged.heads));
    row("segments in quarantine", format!("{:?}", salvaged.quarantined));
    for (from, to) in &salvaged.lost {
        let range = if *to == u64::MAX { format!("{from} on") } else { format!("{from} to {}", to - 1) };
        row("lost: sequence numbers", range);
    }
    for (key, part, put_id) in &salvaged.lost_puts {
        row("lost: put", format!("{}.{part} {put_id}", hex(key)));
    }
    table.to_string()
}

fn salvage_document(salvaged: &Salvaged) -> String {
    let puts = |(key, part, put_id): &([u8; 32], u16, bettong_wire::PutId)| json!({ "key": hex(key), "part": part, "put_id": put_id.to_string() });
    let document = json!({
        "salvaged": true, "problems": salvaged.problems, "puts": salvaged.puts, "heads": salvaged.heads,
        "quarantined": salvaged.quarantined, "lost_sequences": salvaged.lost,
        "lost_puts": salvaged.lost_puts.iter().map(puts).collect::<Vec<_>>(),
    });
    document.to_string()
}
