//! The memory that payloads live in: one pool for everything, where the platform allows it in a segment that other
//! processes can be given to read.

use crate::config::Config;
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
    let memory = PayloadMemory { pool, segment, mapping };
    if pages != Pages::Ordinary {
        // Whether this node, and this control group, has as many shows only now. Later, to touch one would end the process.
        memory.give_pages(config)?;
    }
    Ok(memory)
}

/// What was asked for; of huge pages, how many there are, too.
#[cfg(target_os = "linux")]
fn with_pages(config: &Config) -> String {
    let (memory, page, node) = (config.memory_bytes, config.memory_page_bytes, &config.memory_numa_node.0);
    if page.0 == 0 {
        return format!("memory_bytes of {memory}");
    }
    let of = if node.is_empty() { "kernel/mm".to_owned() } else { format!("devices/system/node/node{node}") };
    let place = format!("/sys/{of}/hugepages/hugepages-{}kB", page.0 / 1024);
    let number = |name: &str| std::fs::read_to_string(format!("{place}/{name}")).ok()?.trim().parse::<u64>().ok();
    let there = match (number("free_hugepages"), number("nr_hugepages")) {
        (Some(free), Some(all)) => {
            format!(
                "{free} of {all} are free ({place}/nr_hugepages), without those that clients of an earlier daemon map"
            )
        }
        _ => format!("there are no such ({place})"),
    };
    format!("memory_bytes of {memory} in pages of {page}: it needs {}, {there}", memory.0 / page.0)
}

impl PayloadMemory {
    /// Gives it its pages, where that is asked for and they are ordinary: huge ones it has. What is in it stays as it is.
    #[cfg(target_os = "linux")]
    pub fn prefault(&self, config: &Config) -> Outcome {
        let is_due = config.prefault.0 && config.memory_page_bytes.0 == 0;
        if is_due { self.give_pages(config) } else { Ok(()) }
    }

    #[cfg(target_os = "linux")]
    fn give_pages(&self, config: &Config) -> Outcome {
        let bytes = config.memory_bytes.0;
        let mut progress = (bytes >= PROGRESS_FROM_BYTES).then(|| Progress::new("payload memory, bytes", bytes));
        let mut done = 0;
        let step = |so_far: u64| {
            progress.iter_mut().for_each(|progress| progress.advance(so_far - done));
            done = so_far;
        };
        self.mapping.prefault(step).or_exit(Exit::Failed, with_pages(config))
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::config::machine::Machine;
    use crate::config::scalar::{Bytes, Text};
    use rustix::fs::fstat;

    fn config(page: u64, node: &str) -> Config {
        let mut config = Config::defaults(&Machine { memory_bytes: 1 << 30, group_bytes: None, cores: 1 });
        (config.memory_bytes, config.memory_page_bytes) = (Bytes(8 << 20), Bytes(page));
        config.memory_numa_node = Text(node.to_owned());
        config
    }

    #[test]
    fn memory_has_the_pages_that_were_asked_for_or_says_how_many_there_are() {
        assert_eq!(fstat(&reserve(&config(0, "")).unwrap().segment).unwrap().st_blksize, 4096);
        match reserve(&config(2 << 20, "")) {
            Ok(memory) => assert_eq!(fstat(&memory.segment).unwrap().st_blksize, 2 << 20),
            // Most machines have none.
            Err(failure) => {
                let said = ["memory_bytes of 8MiB in pages of 2MiB: it needs 4, ", "hugepages-2048kB"];
                assert!(said.iter().all(|part| failure.message.contains(part)), "{failure}");
            }
        }
        let failure = reserve(&config(0, "4000000000")).unwrap_err();
        assert!(
            failure.message.starts_with("memory_numa_node: ") && failure.message.contains("4000000000"),
            "{failure}"
        );
    }
}
