//! What a put at level `object` can at best cost on a local file store: the same bytes written and synced, file and
//! folder, and one BLAKE3 pass.

use super::Plan;
use crate::exit::{Exit, OrExit, Outcome};
use crate::render::latency::Latency;
use crate::trace::payload;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What one thread wrote.
#[derive(Debug)]
pub struct Written {
    pub latency: Latency,
    files: Vec<PathBuf>,
}

impl Written {
    /// Removes the files. After the measurement, because a store keeps what it wrote and so never writes into the same
    /// warm pages again.
    pub fn remove(&self) -> Outcome {
        self.files.iter().try_for_each(|path| std::fs::remove_file(path).or_exit(Exit::Failed, path.display()))
    }
}

/// Writes on `concurrency` threads until the time is over; one answer a thread.
pub async fn run(dir: &Path, plan: Plan, until: Instant) -> Outcome<Vec<Written>> {
    let writers = (0..plan.concurrency).map(|index| {
        let dir = dir.to_owned();
        async move {
            let written = tokio::task::spawn_blocking(move || write(&dir, index, plan.size, until)).await;
            written.or_exit(Exit::Failed, "a disk writer")?
        }
    });
    futures::future::try_join_all(writers).await
}

fn write(dir: &Path, index: u32, size: usize, until: Instant) -> Outcome<Written> {
    let bytes = payload::block(u64::from(index), size);
    let (mut written, mut latency) = (Vec::new(), Latency::default());
    let mut begin = Instant::now();
    while begin < until {
        let path = dir.join(format!("bettong-bench-{}-{index}-{}", std::process::id(), written.len()));
        one(dir, &path, &bytes).or_exit(Exit::Failed, path.display())?;
        written.push(path);
        let end = Instant::now();
        latency.record(end.saturating_duration_since(begin));
        begin = end;
    }
    Ok(Written { latency, files: written })
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
        let plan = Plan {
            op: BenchOp::Put,
            size: 100,
            batch: 1,
            concurrency: 2,
            duration: Duration::ZERO,
            level: PutLevel::Object,
        };
        let runs = run(dir.path(), plan, Instant::now() + Duration::from_millis(5)).await.unwrap();
        let files: usize = runs.iter().map(|run| run.files.len()).sum();
        assert_eq!((runs.len(), std::fs::read_dir(dir.path()).unwrap().count()), (2, files));
        runs.iter().for_each(|run| run.remove().unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
