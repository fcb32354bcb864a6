//! `bettong bench`: interleaved runs against a running daemon.

use crate::bench::beside::Work;
use crate::bench::load::Load;
use crate::bench::report::{self, Series};
use crate::bench::{Plan, Target, process_cpu};
use crate::cli::{BenchArgs, BenchOp, Beside, Global, Transport};
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::remote::{Access, Remote};
use crate::render::{self, progress::Progress};
use bettong_wire::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, BLOCK_BYTES_MAX, LOOKUP_HASHES_MAX};
use std::net::ToSocketAddrs;

fn wrong<T>(message: String) -> Outcome<T> {
    Err(Failure::new(Exit::Usage, message))
}

/// Reads `redis://HOST:PORT` or `disk:DIR`.
fn compared(text: &str, op: BenchOp) -> Outcome<Target> {
    if !matches!(op, BenchOp::Put | BenchOp::Get | BenchOp::Exists) {
        return wrong(format!("--compare {text} is for --op put, get and exists"));
    }
    if let Some(address) = text.strip_prefix("redis://") {
        return Ok(Target::Redis { address: address.trim_end_matches('/').to_owned() });
    }
    match text.strip_prefix("disk:") {
        Some(_) if op != BenchOp::Put => wrong(format!("--compare {text} is for --op put")),
        Some(dir) => Ok(Target::Disk { dir: dir.into() }),
        None => wrong(format!("--compare {text}: write redis://HOST:PORT or disk:DIR")),
    }
}

/// The local process that serves `address`, where it can be found.
fn server(address: &str) -> Option<u32> {
    address.to_socket_addrs().ok()?.filter(|address| address.ip().is_loopback()).find_map(process_cpu::listener_of)
}

/// What the arguments ask for; refuses what cannot be measured.
fn plan(args: &BenchArgs) -> Outcome<Plan> {
    if args.size.0 > BLOCK_BYTES_MAX {
        return wrong(format!("--size is {}, over the limit of {BLOCK_BYTES_MAX}", args.size.0));
    }
    if !(1..=1024).contains(&args.concurrency) || !(1..=100).contains(&args.runs) {
        return wrong("--concurrency must be from 1 to 1024 and --runs from 1 to 100".to_owned());
    }
    if args.duration.0 == 0 {
        return wrong("--duration must be over 0".to_owned());
    }
    let batch_max = if args.op == BenchOp::Lookup { LOOKUP_HASHES_MAX } else { BATCH_ITEMS_MAX };
    if !(1..=batch_max).contains(&args.batch) {
        let (op, batch) = (args.op.name(), args.batch);
        return wrong(format!("--batch is {batch}, it must be from 1 to {batch_max} for --op {op}"));
    }
    let plan = Plan {
        op: args.op,
        size: usize::try_from(args.size.0).or_exit(Exit::Usage, "--size")?,
        batch: args.batch,
        concurrency: args.concurrency,
        duration: args.duration.duration(),
        level: args.level,
    };
    let bytes = plan.request_bytes() as u64;
    if bytes > BATCH_BYTES_MAX {
        return wrong(format!("--batch times --size is {bytes} bytes, over the limit of {BATCH_BYTES_MAX}"));
    }
    Ok(plan)
}

/// The daemon, by the way that was asked for.
async fn ours(args: &BenchArgs, global: &Global) -> Outcome<Access> {
    let access = global.access()?;
    if args.transport == Transport::Connect {
        return Ok(access);
    }
    let stats = Remote::open(&access, None).await?.stats().await?;
    let socket = super::sessions::socket(&stats).ok_or_else(|| {
        let text = format!("--transport shm: the daemon at {} names no shared-memory socket", access.connect);
        Failure::new(Exit::Unavailable, text)
    })?;
    Ok(Access { connect: format!("shm://{socket}"), ..access })
}

/// Runs alone and beside other work in turn, on the same connections.
async fn beside(args: &BenchArgs, plan: Plan, work: Beside, global: &Global) -> Outcome {
    let server = args.pid.or_else(|| server(global.connect.trim_start_matches("tcp://")));
    let mut load = Load::prepare(&Target::Bettong(ours(args, global).await?), plan).await?;
    let series = |name| Series { name, runs: Vec::new() };
    let mut all = [series("alone"), series(work.name())];
    let mut progress = Progress::new("bench", u64::from(args.runs) * 2);
    let measured = async {
        for _ in 0..args.runs {
            let [alone, other] = &mut all;
            alone.runs.push(load.run(server).await?);
            progress.advance(1);
            let work = Work::start(work, global, plan.duration).await?;
            other.runs.push(load.run(server).await?);
            work.end().await?;
            progress.advance(1);
        }
        Ok(())
    }
    .await;
    drop(progress);
    // What was stored goes, however the runs ended; what is said is the first thing that failed.
    measured.and(load.clean().await)?;
    if !global.json {
        return render::line(&format!("{}{}", report::table(&plan, &all), report::beside_line(&all)));
    }
    let mut document = report::document(&plan, &all);
    document["beside"] = report::beside_document(&all);
    render::line(&document.to_string())
}

pub async fn run(args: &BenchArgs, global: &Global) -> Outcome {
    let plan = plan(args)?;
    if let Some(work) = args.beside {
        return beside(args, plan, work, global).await;
    }
    let ours = Target::Bettong(ours(args, global).await?);
    let mut targets = vec![(ours, args.pid.or_else(|| server(global.connect.trim_start_matches("tcp://"))))];
    if let Some(text) = &args.compare {
        let target = compared(text, args.op)?;
        let pid = match &target {
            Target::Redis { address } => server(address),
            _ => None,
        };
        targets.push((target, pid));
    }
    let mut loads = Vec::new();
    for (target, pid) in &targets {
        let series = Series { name: target.name(), runs: Vec::new() };
        loads.push((Load::prepare(target, plan).await?, *pid, series));
    }
    let mut progress = Progress::new("bench", u64::from(args.runs) * loads.len() as u64);
    let mut ended = async {
        for _ in 0..args.runs {
            for (load, pid, series) in &mut loads {
                series.runs.push(load.run(*pid).await?);
                progress.advance(1);
            }
        }
        Ok(())
    }
    .await;
    drop(progress);
    let mut all = Vec::new();
    for (load, _, series) in loads {
        // What was stored goes, however the runs ended; what is said is the first thing that failed.
        ended = ended.and(load.clean().await);
        all.push(series);
    }
    ended?;
    match global.json {
        true => render::line(&report::document(&plan, &all).to_string()),
        false => render::line(&report::table(&plan, &all)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_compare_with_is_read_strictly() {
        assert!(
            matches!(compared("redis://127.0.0.1:6379/", BenchOp::Get), Ok(Target::Redis { address }) if address == "127.0.0.1:6379")
        );
        assert!(matches!(compared("disk:/tmp", BenchOp::Put), Ok(Target::Disk { .. })));
        for (text, op) in [
            ("redis://x", BenchOp::Lookup),
            ("disk:/tmp", BenchOp::Get),
            ("memcached://x", BenchOp::Get),
            ("", BenchOp::Put),
        ] {
            assert_eq!(compared(text, op).unwrap_err().exit, Exit::Usage);
        }
    }
}
