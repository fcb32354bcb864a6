//! What a put at level `object` can at best cost on a local file store: the same bytes written and synced, file and
//! folder, and one BLAKE3 pass.

use super::Plan;
use crate::exit::{Exit, OrExit, Outcome};
use crate::render::latency::Latency;
use crate::trace::payload;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Writes on `concurrency` threads until the time is over; one (operations, latencies) a thread.
pub async fn run(dir: &Path, plan: Plan, until: Instant) -> Outcome<Vec<(u64, Latency)>> {
    let writers = (0..plan.concurrency).map(|index| {
        let dir = dir.to_owned();
        async move {
            let written = tokio::task::spawn_blocking(move || write(&dir, index, plan.size, until)).await;
            written.or_exit(Exit::Failed, "a disk writer")?
        }
    });
    futures::future::try_join_all(writers).await
}

fn write(dir: &Path, index: u32, size: usize, until: Instant) -> Outcome<(u64, Latency)> {
    let bytes = payload::block(u64::from(index), size);
    let (mut ops, mut latency) = (0_u64, Latency::default());
    let mut begin = Instant::now();
    while begin < until {
        let path = dir.join(format!("bettong-bench-{}-{index}-{ops}", std::process::id()));
        one(dir, &path, &bytes).or_exit(Exit::Failed, path.display())?;
        let end = Instant::now();
        latency.record(end.saturating_duration_since(begin));
        std::fs::remove_file(&path).or_exit(Exit::Failed, path.display())?;
        begin = Instant::now();
        ops += 1;
    }
    Ok((ops, latency))
}

fn one(dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::hint::black_box(blake3::hash(bytes));
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{BenchOp, PutLevel};
    use std::time::Duration;

    #[tokio::test]
    async fn it_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let plan =
            Plan { op: BenchOp::Put, size: 100, concurrency: 2, duration: Duration::ZERO, level: PutLevel::Object };
        let runs = run(dir.path(), plan, Instant::now() + Duration::from_millis(5)).await.unwrap();
        assert!(runs.len() == 2 && runs.iter().all(|(ops, latency)| *ops == latency.count()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
