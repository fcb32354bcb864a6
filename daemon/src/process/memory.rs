//! The memory that payloads live in: one pool for everything, where the platform allows it in a segment that other
//! processes can be given to read.

use crate::config::Config;
use crate::exit::{Exit, OrExit, Outcome};
use crate::render::progress::Progress;
use bettong_shm::pool::SlotPool;
#[cfg(target_os = "linux")]
use bettong_shm::real::Memfd;

/// The pool, and how it is given to other processes.
#[derive(Debug)]
pub struct PayloadMemory {
    pub pool: SlotPool,
    #[cfg(target_os = "linux")]
    pub segment: Memfd,
}

/// What is said of a pool that takes longer than that.
const PROGRESS_FROM_BYTES: u64 = 1 << 30;

#[cfg(target_os = "linux")]
pub fn reserve(config: &Config) -> Outcome<PayloadMemory> {
    let what = || format!("memory_bytes of {}", config.memory_bytes);
    let bytes = config.memory_bytes.0;
    let (segment, mapping) = usize::try_from(bytes)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| Ok(Memfd::own(bytes)?))
        .or_exit(Exit::Failed, what())?;
    if config.prefault.0 {
        let mut progress = (bytes >= PROGRESS_FROM_BYTES).then(|| Progress::new("payload memory, bytes", bytes));
        let mut done = 0;
        let step = |so_far: u64| {
            progress.iter_mut().for_each(|progress| progress.advance(so_far - done));
            done = so_far;
        };
        mapping.prefault(step).or_exit(Exit::Failed, what())?;
    }
    let pool = SlotPool::new(std::sync::Arc::new(mapping)).or_exit(Exit::Usage, what())?;
    Ok(PayloadMemory { pool, segment })
}

/// On this platform no other process can read it.
#[cfg(not(target_os = "linux"))]
pub fn reserve(config: &Config) -> Outcome<PayloadMemory> {
    let what = || format!("memory_bytes of {}", config.memory_bytes);
    let bytes = usize::try_from(config.memory_bytes.0).or_exit(Exit::Usage, what())?;
    Ok(PayloadMemory { pool: SlotPool::on_the_heap(bytes).or_exit(Exit::Usage, what())? })
}
