//! The memory that payloads live in: one pool for everything, where the platform allows it in a segment that other
//! processes can be given to read.

use crate::config::Config;
#[cfg(target_os = "linux")]
use crate::config::scalar::Bytes;
use crate::exit::{Exit, OrExit, Outcome};
#[cfg(target_os = "linux")]
use crate::render::progress::Progress;
use bettong_shm::pool::SlotPool;
#[cfg(target_os = "linux")]
use bettong_shm::real::{Memfd, OwnMapping, Pages};
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// The pool, and how it is given to other processes.
#[derive(Debug)]
pub struct PayloadMemory {
    pub pool: SlotPool,
    #[cfg(target_os = "linux")]
    pub segment: Memfd,
    #[cfg(target_os = "linux")]
    mapping: Arc<OwnMapping>,
}

/// How far it is is said of a pool that is longer.
#[cfg(target_os = "linux")]
const PROGRESS_FROM_BYTES: u64 = 1 << 30;

/// Of huge pages there are only those that were set aside.
#[cfg(target_os = "linux")]
fn with_pages(config: &Config) -> String {
    let memory = config.memory_bytes;
    match config.memory_page_bytes {
        Bytes(0) => format!("memory_bytes of {memory}"),
        page => format!(
            "memory_bytes of {memory} in pages of {page}, of which {} must be set aside (vm.nr_hugepages)",
            memory.0 / page.0
        ),
    }
}

#[cfg(target_os = "linux")]
pub fn reserve(config: &Config) -> Outcome<PayloadMemory> {
    let what = || format!("memory_bytes of {}", config.memory_bytes);
    let bytes = usize::try_from(config.memory_bytes.0).or_exit(Exit::Usage, what())?;
    let pages = Pages::of(config.memory_page_bytes.0).unwrap_or_default();
    let (segment, mapping) = Memfd::own_of(bytes, pages).or_exit(Exit::Failed, with_pages(config))?;
    if let Ok(node) = config.memory_numa_node.0.parse() {
        mapping.bind(node).or_exit(Exit::Failed, "memory_numa_node")?;
    }
    let mapping = Arc::new(mapping);
    let pool = SlotPool::new(mapping.clone()).or_exit(Exit::Usage, what())?;
    Ok(PayloadMemory { pool, segment, mapping })
}

impl PayloadMemory {
    /// Gives it its pages, where that is asked for. What is in it stays as it is.
    #[cfg(target_os = "linux")]
    pub fn prefault(&self, config: &Config) -> Outcome {
        if !config.prefault.0 {
            return Ok(());
        }
        let bytes = config.memory_bytes.0;
        let mut progress = (bytes >= PROGRESS_FROM_BYTES).then(|| Progress::new("payload memory, bytes", bytes));
        let mut done = 0;
        let step = |so_far: u64| {
            progress.iter_mut().for_each(|progress| progress.advance(so_far - done));
            done = so_far;
        };
        self.mapping.prefault(step).or_exit(Exit::Failed, format!("memory_bytes of {}", config.memory_bytes))
    }

    /// Nothing to do: the heap gives pages where they are written.
    #[cfg(not(target_os = "linux"))]
    pub fn prefault(&self, _config: &Config) -> Outcome {
        Ok(())
    }
}

/// On this platform no other process can read it.
#[cfg(not(target_os = "linux"))]
pub fn reserve(config: &Config) -> Outcome<PayloadMemory> {
    let what = || format!("memory_bytes of {}", config.memory_bytes);
    let bytes = usize::try_from(config.memory_bytes.0).or_exit(Exit::Usage, what())?;
    Ok(PayloadMemory { pool: SlotPool::on_the_heap(bytes).or_exit(Exit::Usage, what())? })
}
