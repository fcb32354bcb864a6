//! What must hold between values before anything is started.

use super::Config;
use super::machine::Machine;
use super::scalar::Bytes;
use crate::exit::{Exit, Failure, Outcome};
use bettong_core::index::INDEX_ENTRY_BYTES;
use std::net::{SocketAddr, ToSocketAddrs};

/// Longest node id: it is one segment of an object's name.
pub const NODE_ID_BYTES_MAX: usize = 64;

/// Most threads of one kind: far beyond what any machine has cores for.
const THREADS_MAX: u32 = 1024;
/// What Linux calls huge pages, on machines whose ordinary ones have 4 KiB.
const HUGE_PAGE_BYTES: u64 = 2 << 20;
const GIANT_PAGE_BYTES: u64 = 1 << 30;

/// Most blocks of one prefetch: they are chosen in memory, at some 300 bytes each.
const PREFETCH_BLOCKS_MAX: u32 = 65_536;
/// Longest prefetch: no other upkeep goes on beside one of the background.
const PREFETCH_MS_MAX: u64 = 3_600_000;

/// Refuses values that cannot work together, naming the value, the limit and what was given.
pub fn check(config: &Config, machine: &Machine) -> Outcome {
    budget(config, machine)?;
    node_id(&config.node_id.0)?;
    for (name, value) in [("reactors", config.reactors.0), ("storage_threads", config.storage_threads.0)] {
        require((1..=THREADS_MAX).contains(&value), || {
            format!("{name} is {value}, it must be from 1 to {THREADS_MAX}")
        })?;
    }
    let times = [
        ("object_attempt_ms", config.object_attempt_ms),
        ("deadline_default_ms", config.deadline_default_ms),
        ("stall_ms", config.stall_ms),
    ];
    for (name, value) in times {
        require(value.0 >= 1, || format!("{name} is {value}, it must be over 0"))?;
    }
    let at_least_one = [
        ("connections_max", config.connections_max.0),
        ("inflight_max", config.inflight_max.0),
        ("object_attempts_max", config.object_attempts_max.0),
        ("object_inflight_max", config.object_inflight_max.0),
        ("commit_queue_max", config.commit_queue_max.0),
        ("index_entries_max", config.index_entries_max.0),
    ];
    for (name, value) in at_least_one {
        require(value >= 1, || format!("{name} is {value}, it must be at least 1"))?;
    }
    let frame = config.frame_bytes_max.0;
    let frame_max = u64::from(bettong_wire::limits::FRAME_BYTES_MAX);
    require((64 << 10..=frame_max).contains(&frame), || {
        format!("frame_bytes_max is {frame}, it must be from 65536 to {frame_max}")
    })?;
    require(config.peer_refresh_ms.0 >= 100, || {
        format!("peer_refresh_ms is {}, it must be at least 100", config.peer_refresh_ms.0)
    })?;
    let (payload, payload_max) = (config.payload_bytes_max.0, bettong_wire::limits::BLOCK_BYTES_MAX);
    require((1..=payload_max).contains(&payload), || {
        format!("payload_bytes_max is {payload}, it must be from 1 to {payload_max}")
    })?;
    require(config.memory_bytes.0 / 4 >= payload, || {
        format!(
            "memory_bytes is {}, it must be at least {}, four payloads of payload_bytes_max ({})",
            config.memory_bytes,
            payload.saturating_mul(4),
            config.payload_bytes_max
        )
    })?;
    memory_place(config)?;
    let (pack, pack_max) = (config.pack_bytes.0, bettong_wire::pack::BYTES_MAX);
    require(pack <= pack_max, || format!("pack_bytes is {pack}, it must be at most {pack_max}"))?;
    require(config.pack_below.0 <= pack, || {
        format!("pack_below is {}, it must be at most pack_bytes ({})", config.pack_below, config.pack_bytes)
    })?;
    let (disk, disk_min) = (config.disk_bytes.0, crate::process::storage::DISK_BYTES_MIN);
    require(disk == 0 || disk >= disk_min, || format!("disk_bytes is {disk}, it must be 0 or at least {disk_min}"))?;
    journal(config)?;
    prefetch(config)?;
    require(config.deadline_default_ms <= config.deadline_max_ms, || {
        format!(
            "deadline_default_ms is {}, over deadline_max_ms of {}",
            config.deadline_default_ms, config.deadline_max_ms
        )
    })
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Failure::new(Exit::Usage, message())) }
}

fn prefetch(config: &Config) -> Outcome {
    let (blocks, ms) = (config.prefetch_blocks.0, config.prefetch_ms);
    require((1..=PREFETCH_BLOCKS_MAX).contains(&blocks), || {
        format!("prefetch_blocks is {blocks}, it must be from 1 to {PREFETCH_BLOCKS_MAX}")
    })?;
    require((1..=PREFETCH_MS_MAX).contains(&ms.0), || {
        format!("prefetch_ms is {ms}, it must be from 1ms to {PREFETCH_MS_MAX}ms")
    })
}

/// Smallest and largest segment of the journal: many small files are slow to start from, a large one is freed late.
const JOURNAL_SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 30;
const JOURNAL_BYTES_MAX: u64 = 1 << 50;

/// The journal needs room for the segment that is written and for one that waits to be uploaded.
fn journal(config: &Config) -> Outcome {
    let (bytes, segment) = (config.journal_bytes.0, config.journal_segment_bytes.0);
    let (min, max) = (JOURNAL_SEGMENT_BYTES.start(), JOURNAL_SEGMENT_BYTES.end());
    require(JOURNAL_SEGMENT_BYTES.contains(&segment), || {
        format!("journal_segment_bytes is {segment}, it must be from {min} to {max}")
    })?;
    require(bytes == 0 || (segment * 2..=JOURNAL_BYTES_MAX).contains(&bytes), || {
        format!(
            "journal_bytes is {bytes}, it must be 0 or from two of journal_segment_bytes ({}) to {JOURNAL_BYTES_MAX}",
            segment * 2
        )
    })
}

/// The memory that is set aside by name, against what there is. Huge pages are part of neither. Answers that wait to be sent
/// come on top (`unsent_bytes_max`).
fn budget(config: &Config, machine: &Machine) -> Outcome {
    let entries = config.index_entries_max.0;
    let index = u64::from(entries).saturating_mul(INDEX_ENTRY_BYTES);
    let is_ordinary = config.memory_page_bytes.0 == 0;
    let memory = if is_ordinary { config.memory_bytes.0 } else { 0 };
    let sum = memory.saturating_add(config.peer_hint_bytes.0).saturating_add(index);
    let usable = machine.usable_bytes();
    require(sum <= usable, || {
        format!(
            "{}peer_hint_bytes of {} and {entries} entries of the index (index_entries_max) at \
             {INDEX_ENTRY_BYTES} bytes are {sum} bytes together, over the {usable} ({}) that this machine or its control \
             group has",
            if is_ordinary { format!("memory_bytes of {}, ", config.memory_bytes) } else { String::new() },
            config.peer_hint_bytes,
            Bytes(usable)
        )
    })
}

/// A node id is one safe segment of a name.
pub fn node_id(id: &str) -> Outcome {
    let safe = id.len() <= NODE_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    require(safe, || format!("node_id `{id}` may have up to {NODE_ID_BYTES_MAX} of a-z, 0-9 and dash"))
}

/// The address to listen on. A non-loopback address needs `insecure`: this release has no TLS.
pub fn listen_address(config: &Config) -> Outcome<SocketAddr> {
    let listen = &config.listen.0;
    let mut addresses = listen
        .to_socket_addrs()
        .map_err(|error| Failure::new(Exit::Usage, format!("listen is no address: `{listen}`: {error}")))?;
    let address = addresses
        .next()
        .ok_or_else(|| Failure::new(Exit::Usage, format!("listen is no address: `{listen}` names nothing")))?;
    require(address.ip().is_loopback() || config.insecure.0, || {
        format!(
            "listen is {address}, which is not loopback and connections are neither encrypted nor private: refused without --insecure"
        )
    })?;
    Ok(address)
}

/// Which pages payload memory is made of, and from where.
fn memory_place(config: &Config) -> Outcome {
    let (page, memory) = (config.memory_page_bytes.0, config.memory_bytes.0);
    require([0, HUGE_PAGE_BYTES, GIANT_PAGE_BYTES].contains(&page), || {
        format!("memory_page_bytes is {}, it must be 0, 2MiB or 1GiB", config.memory_page_bytes)
    })?;
    require(page == 0 || memory.is_multiple_of(page), || {
        format!("memory_bytes is {memory}, it must be a multiple of memory_page_bytes ({})", config.memory_page_bytes)
    })?;
    let node = &config.memory_numa_node.0;
    require(node.is_empty() || node.parse::<u32>().is_ok(), || {
        format!("memory_numa_node is `{node}`, it must be empty or the number of a node")
    })?;
    let elsewhere = page != 0 || !node.is_empty();
    require(!elsewhere || cfg!(target_os = "linux"), || {
        "memory_page_bytes and memory_numa_node need Linux; leave them out on this platform".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::{Count, Switch, Text};

    const MACHINE: Machine = Machine { memory_bytes: 16 << 30, group_bytes: Some(4 << 30), cores: 2 };

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::defaults(&MACHINE);
        change(&mut config);
        config
    }

    #[test]
    fn the_defaults_pass_on_small_machines_too() {
        for memory in [256 << 20, 1 << 30, 2 << 30, 16 << 30, 1 << 40] {
            let machine = Machine { memory_bytes: memory, group_bytes: None, cores: 1 };
            check(&Config::defaults(&machine), &machine).unwrap();
        }
    }

    #[test]
    fn more_memory_than_fits_is_refused_with_both_numbers() {
        let failure = check(&config(|config| config.memory_bytes = Bytes(5 << 30)), &MACHINE).unwrap_err();
        for said in
            ["memory_bytes of 5GiB", "peer_hint_bytes of 64MiB", "5972688896 bytes together", "4294967296 (4GiB)"]
        {
            assert!(failure.message.contains(said), "{failure}");
        }
        let failure = check(&config(|config| config.memory_bytes = Bytes(128 << 20)), &MACHINE).unwrap_err();
        assert_eq!(
            failure.message,
            "memory_bytes is 128MiB, it must be at least 536870912, four payloads of payload_bytes_max (128MiB)"
        );
        assert!(check(&config(|config| config.memory_bytes = Bytes(u64::MAX)), &MACHINE).is_err());

        // Huge pages are no part of what there is.
        let huge =
            |config: &mut Config| (config.memory_bytes, config.memory_page_bytes) = (Bytes(8 << 30), Bytes(2 << 20));
        check(&config(huge), &MACHINE).unwrap();
        let mut over = config(huge);
        over.peer_hint_bytes = Bytes(5 << 30);
        let failure = check(&over, &MACHINE);
        assert!(failure.unwrap_err().message.starts_with("peer_hint_bytes of 5GiB and "));
        let long_index = check(&config(|config| config.index_entries_max = Count(30_000_000)), &MACHINE).unwrap_err();
        assert!(long_index.message.contains("30000000 entries"), "{long_index}");
    }

    #[test]
    fn a_public_address_needs_a_word() {
        let public = |insecure| {
            config(|config| (config.listen, config.insecure) = (Text("0.0.0.0:0".to_owned()), Switch(insecure)))
        };
        assert!(listen_address(&public(false)).unwrap_err().message.contains("--insecure"));
        listen_address(&public(true)).unwrap();
        listen_address(&config(|_| ())).unwrap();
        assert!(listen_address(&config(|config| config.listen = Text("nonsense".to_owned()))).is_err());
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_name() {
        use crate::config::scalar::{Millis, Text};
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 17] = [
            ("pack_below", |config| config.pack_below = Bytes(config.pack_bytes.0 + 1)),
            ("prefetch_blocks", |config| config.prefetch_blocks = Count(0)),
            ("prefetch_blocks", |config| config.prefetch_blocks = Count(u32::MAX)),
            ("prefetch_ms", |config| config.prefetch_ms = Millis(0)),
            ("pack_bytes", |config| config.pack_bytes = Bytes(1 << 40)),
            ("storage_threads", |config| config.storage_threads = Count(u32::MAX)),
            ("reactors", |config| config.reactors = Count(0)),
            ("object_attempt_ms", |config| config.object_attempt_ms = Millis(0)),
            ("index_entries_max", |config| config.index_entries_max = Count(0)),
            ("journal_segment_bytes", |config| config.journal_segment_bytes = Bytes(1000)),
            ("journal_bytes", |config| config.journal_bytes = Bytes(config.journal_segment_bytes.0 * 2 - 1)),
            ("journal_bytes", |config| config.journal_bytes = Bytes(u64::MAX)),
            ("memory_bytes", |config| config.memory_bytes = Bytes(config.payload_bytes_max.0 * 2)),
            ("memory_page_bytes", |config| config.memory_page_bytes = Bytes(4096)),
            ("memory_bytes", |config| {
                (config.memory_page_bytes, config.memory_bytes) = (Bytes(2 << 20), Bytes((1 << 30) + 4096));
            }),
            ("memory_numa_node", |config| config.memory_numa_node = Text("zero".to_owned())),
            ("memory_numa_node", |config| config.memory_numa_node = Text("-1".to_owned())),
        ];
        for (name, change) in changes {
            let failure = check(&config(change), &MACHINE).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(name), "{failure}");
        }
    }

    #[test]
    fn a_node_id_is_one_segment() {
        for id in ["a/b", "..", "a.b", "A", "a b", "ä", &"x".repeat(65)] {
            assert!(node_id(id).is_err(), "{id}");
        }
        node_id("gpu-7-rack-2").unwrap();
    }
}
