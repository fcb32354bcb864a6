//! `bettong replay`: a trace against a running daemon.

use crate::cli::{Global, ReplayArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::policy_report;
use crate::price::{Bill, Requests, Spent};
use crate::remote::Remote;
use crate::render;
use crate::replay::tally::Tally;
use crate::replay::{self, Settings, Shared, counters, counters::Counters};
use crate::trace::{TraceRequest, generated, mooncake};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// The trace of `file`, or the generated one.
pub fn trace(file: Option<&Path>) -> Outcome<Vec<TraceRequest>> {
    file.map_or_else(|| Ok(generated::generate(generated::Shape::default())), mooncake::read)
}

/// Refuses settings that cannot be replayed.
pub fn settings(args: &ReplayArgs) -> Outcome<Settings> {
    let wrong = |message: String| Err(Failure::new(Exit::Usage, message));
    let block_max = bettong_wire::limits::BLOCK_BYTES_MAX;
    if args.block_bytes.0 == 0 || args.block_bytes.0 > block_max {
        return wrong(format!("--block-bytes is {}, it must be from 1 to {block_max}", args.block_bytes.0));
    }
    if !(1..=256).contains(&args.concurrency) {
        return wrong(format!("--concurrency is {}, it must be from 1 to 256", args.concurrency));
    }
    if args.speed.is_some_and(|speed| !speed.is_finite() || speed <= 0.0) {
        return wrong("--speed must be over 0".to_owned());
    }
    Ok(Settings {
        block_bytes: args.block_bytes.0,
        capacity: args.capacity,
        concurrency: usize::try_from(args.concurrency).unwrap_or(1),
        speed: args.speed,
        level: args.level.into(),
    })
}

/// What `--policy-report` prints.
fn policies(args: &ReplayArgs, requests: &[TraceRequest], as_json: bool) -> Outcome {
    let what =
        args.trace.as_deref().map_or_else(|| "the generated trace".to_owned(), |path| path.display().to_string());
    let reports = policy_report::run(&what, requests, |what| eprintln!("policy report: {what}"));
    match as_json {
        true => render::line(&Value::Array(reports.iter().map(policy_report::Report::json).collect()).to_string()),
        false => {
            let tables: Vec<String> = reports.iter().map(policy_report::Report::table).collect();
            render::line(&tables.join("\n"))
        }
    }
}

/// What the replay cost, and what the daemon costs idle: it is watched for a while.
async fn bill(args: &ReplayArgs, remote: &Remote, work: Spent, tally: &Tally) -> Outcome<Bill> {
    eprintln!("replay: watching the idle daemon for {}", args.idle);
    let (before, began) = (Requests::of(&remote.stats().await?), Instant::now());
    tokio::time::sleep(args.idle.duration()).await;
    let requests = Requests::of(&remote.stats().await?).since(before);
    let work = Spent { time: work.time.mul_f64(args.speed.unwrap_or(1.0)), ..work };
    Ok(Bill {
        prices: args.prices,
        work,
        trace_time: args.speed.is_some(),
        idle: Spent { requests, time: began.elapsed() },
        blocks: tally.put,
        bytes: tally.put * args.block_bytes.0,
    })
}

pub async fn run(args: &ReplayArgs, global: &Global) -> Outcome {
    let settings = settings(args)?;
    let mut requests = trace(args.trace.as_deref())?;
    requests.truncate(args.limit.unwrap_or(usize::MAX));
    if args.policy_report {
        return policies(args, &requests, global.json);
    }
    let access = global.access()?;
    let remote = Remote::open(&access, Some(replay::identity("bf16"))).await?;
    let before = remote.stats().await?;
    let shared = Shared::new(requests.into(), settings, "replay", None);
    let took = replay::run(&access, &shared).await?;
    let tally = shared.tally();
    let after = remote.stats().await?;
    let work = Spent { requests: Requests::of(&after).since(Requests::of(&before)), time: took };
    let bill = if args.price { Some(bill(args, &remote, work, &tally).await?) } else { None };
    let counted = Counters::between(&before, &after);
    let disagreements = counted.disagreements(&tally);
    if global.json {
        let document = json!({
            "replay": tally.to_json(settings.block_bytes, took),
            "daemon": counters::daemon_document(&before, &after),
            "agree": disagreements.is_empty(),
            "price": bill.map(|bill| bill.json()),
        });
        render::line(&document.to_string())?;
    } else {
        render::line(&tally.to_table(settings.block_bytes, took).to_string())?;
        render::line(&format!("\n{}", counters::daemon_table(&before, &after)))?;
        if let Some(bill) = bill {
            render::line(&format!("\n{}", bill.table()))?;
        }
    }
    verdict(tally.wrong, &disagreements)
}

fn verdict(wrong: u64, disagreements: &[(String, u64, u64)]) -> Outcome {
    if wrong > 0 {
        return Err(Failure::new(Exit::CheckFailed, format!("{wrong} blocks held wrong bytes")));
    }
    match disagreements {
        [] => Ok(()),
        some => {
            let said: Vec<String> = some
                .iter()
                .map(|(name, daemon, replay)| format!("{name}: the daemon counted {daemon}, the replay {replay}"))
                .collect();
            Err(Failure::new(Exit::CheckFailed, said.join("; ")))
        }
    }
}
