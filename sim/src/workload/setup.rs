//! Swarm configuration: sizes, limits, levels and knobs, redrawn for each seed.

use crate::host::ShmLimits;
use crate::plan::{Plan, Workload};
use crate::random::Stream;
use bettong_core::StoreConfig;
use bettong_core::tiers::disk::DiskConfig;
use bettong_wire::envelope::Algorithm;
use bettong_wire::{ModelIdentity, NamespaceId};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// Memory of a node, where its largest values need no more.
const MEMORY_BYTES: Range<u64> = 64 << 10..1 << 20;
/// Operations that all clients of a run do together, at least.
pub const OPERATIONS_MIN: u64 = 200;
/// Where the run's objects are in the bucket.
pub const PREFIX: &str = "sim";
/// The parts that every block of the simulated model has.
pub const PARTS: [u16; 2] = [0, 1];

/// What a client may do, and how often relative to the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Put,
    Get,
    GetRange,
    GetMany,
    Exists,
    Delete,
    PutBlocks,
    Lookup,
    GetBlocks,
    Restore,
    SaveChain,
    RestoreChain,
    Head,
    List,
    Clear,
    Stats,
    Hostile,
    /// Reads by a look-up of long ago.
    HeldLookup,
    /// Opens a namespace with one of two model identities.
    Contest,
    /// Asks for several values at once over one connection.
    AtOnce,
}

/// Which upkeep an operator does in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upkeep {
    pub scrubs: bool,
    pub retires: bool,
    pub prefetches: bool,
}

impl Upkeep {
    fn draw(plan: &Plan, random: &mut Stream) -> Self {
        let (scrubs, retires, prefetches) = (random.chance(0.3), random.chance(0.15), random.chance(0.2));
        match plan.workload {
            Workload::Upkeep => Self { scrubs: true, retires: true, prefetches: true },
            // One node id: there is nobody to retire.
            Workload::TwoDaemons => Self { scrubs, retires: false, prefetches },
            _ => Self { scrubs, retires, prefetches },
        }
    }

    pub fn is_some(self) -> bool {
        self != Self::default()
    }
}

/// One run's configuration.
#[derive(Debug, Clone)]
pub struct Setup {
    pub nodes: u32,
    pub clients: u32,
    pub operations: u64,
    pub namespaces: usize,
    pub plain_keys: u64,
    pub chains: usize,
    pub chain_blocks: usize,
    pub len_max: u64,
    pub think: Duration,
    /// Of the puts, so many are of level `memory`.
    pub memory_share: f64,
    /// How much of what is to be kept is journaled first.
    pub journal_share: f64,
    journal_segment_bytes: u64,
    journal_bytes: u64,
    journal_batch_bytes: u64,
    /// Hits a second that uploads give way to.
    uploads_busy_hits: u64,
    /// So many values are so short that they do not say whose they are.
    pub nameless_share: f64,
    /// Of the puts of plain keys, so many expire.
    pub ttl_share: f64,
    pub weights: Vec<(Action, u64)>,
    pub peer_refresh: Duration,
    pub upkeep: Upkeep,
    /// What was written more lately is none of the scrubber's business.
    pub scrub_grace: Duration,
    pub expiry_patience: Duration,
    pub shm: ShmLimits,
    budgets: Budgets,
    memory_bytes: u64,
    has_disk: bool,
    disk_bytes: u64,
    region_bytes: u64,
    disk_open: Duration,
    /// Names of a page of a listing, and of a walk over a bucket that lists in no order.
    object_page: usize,
    object_walk_page: usize,
    compression: Algorithm,
    pack_below: u64,
    pack_bytes: u64,
    attempts: u32,
    attempt_timeout: Duration,
    commit_wait: Duration,
    commit_batch: usize,
}

/// What a node may keep, and remember of what was used. Zero is no budget.
#[derive(Debug, Clone, Copy)]
struct Budgets {
    object_bytes: u64,
    namespace_bytes: u64,
    evict_batch: usize,
    signal_bytes: u64,
}

impl Budgets {
    fn draw(plan: &Plan, len_max: u64, random: &mut Stream) -> Self {
        let always = plan.workload == Workload::Eviction;
        let some = always || random.chance(if plan.workload == Workload::SharedMemory { 0.6 } else { 0.3 });
        let mut budget = |chance: f64| {
            let bytes = len_max * random.within(2..16);
            if some && random.chance(chance) { bytes } else { 0 }
        };
        let object_bytes = budget(if always { 1.0 } else { 0.8 });
        Self {
            object_bytes,
            namespace_bytes: budget(0.4),
            evict_batch: 1 << random.below(5),
            signal_bytes: [0, 8 << 10, 64 << 20].get(random.below(3) as usize).copied().unwrap_or(0),
        }
    }
}

impl Setup {
    pub fn draw(seed: u64, plan: &Plan) -> Self {
        let mut random = Stream::new(seed, "setup");
        // A stream of its own: what else a seed means stays.
        let mut packing = Stream::new(seed, "packing");
        let pack_below = match packing.below(4) {
            0 if plan.workload != Workload::Packs => 0,
            1 => 1 << packing.within(9..12),
            _ => 1 << 17,
        };
        let nodes = match plan.workload {
            Workload::TwoDaemons => 1,
            Workload::FewKeys | Workload::Upkeep => 2 + random.below(2) as u32,
            Workload::SharedMemory => 1 + random.below(2) as u32,
            _ => 1 + random.below(3) as u32,
        };
        let clients = 2 + random.below(4) as u32;
        let mut shm = Stream::new(seed, "shm");
        let len_max = match plan.workload {
            Workload::SharedMemory => 1 << shm.within(11..15),
            _ => 1 << random.within(8..16),
        };
        // So little that leases are in the way.
        let shm_memory = (len_max * shm.within(8..32)).max(MEMORY_BYTES.start);
        // A stream of its own: what is drawn above stays as it is.
        let mut more = Stream::new(seed, "setup/more");
        let journal_share = [0.0, 0.4, 0.9].get(random.below(3) as usize).copied().unwrap_or(0.0);
        let mut pages = Stream::new(seed, "pages");
        // Region and buffer bound what the disk tier takes: mostly everything, sometimes not the largest.
        let region_bytes = 64 << 10 << random.below(2);
        let mut upkeep = Stream::new(seed, "upkeep");
        let few = plan.workload == Workload::FewKeys;
        Self {
            nodes: plan.nodes.unwrap_or(nodes),
            clients,
            operations: OPERATIONS_MIN + random.below(150),
            namespaces: 1 + random.below(3) as usize,
            plain_keys: if few { 2 } else { 3 + random.below(10) },
            chains: if few { 1 } else { 2 + random.below(3) as usize },
            chain_blocks: if few { 2 } else { 2 + random.below(6) as usize },
            len_max,
            think: Duration::from_millis(1 << random.within(2..9)),
            memory_share: [0.0, 0.1, 0.4].get(random.below(3) as usize).copied().unwrap_or(0.0),
            journal_share: match plan.workload {
                // Two directories under one node id: neither knows the other's journal.
                Workload::TwoDaemons => 0.0,
                Workload::Journal => 0.9,
                _ => journal_share,
            },
            journal_segment_bytes: 4096 << random.below(6),
            journal_bytes: journal_bytes(len_max, &mut Stream::new(seed, "journal-bytes")),
            // Often so little that a put of several blocks fills several batches.
            journal_batch_bytes: *more.pick(&[16 << 20, len_max, 512]).unwrap_or(&512),
            uploads_busy_hits: *more.pick(&[1, 1000]).unwrap_or(&1),
            nameless_share: *more.pick(&[0.0, 0.05, 0.2]).unwrap_or(&0.05),
            ttl_share: match plan.workload {
                Workload::Eviction => 0.2,
                _ => [0.0, 0.1].get(random.below(2) as usize).copied().unwrap_or(0.0),
            },
            weights: weights(plan, &mut random),
            peer_refresh: Duration::from_millis(random.within(500..4_000)),
            upkeep: Upkeep::draw(plan, &mut upkeep),
            scrub_grace: Duration::from_millis(upkeep.below(3_000)),
            expiry_patience: Duration::from_secs(1 + Stream::new(seed, "expiry").below(20)),
            budgets: Budgets::draw(plan, len_max, &mut Stream::new(seed, "budgets")),
            shm: shm_limits(len_max, shm_memory, &mut shm),
            memory_bytes: match plan.workload {
                Workload::SharedMemory => shm_memory,
                _ => (len_max * 4).max(random.within(MEMORY_BYTES)),
            },
            has_disk: true,
            disk_bytes: region_bytes * random.within(4..12),
            region_bytes,
            disk_open: Duration::from_millis(Stream::new(seed, "disk-open").within(200..10_000)),
            compression: *random.pick(&[Algorithm::None, Algorithm::Zstd, Algorithm::Lz4]).unwrap_or(&Algorithm::None),
            object_page: 1 << pages.within(2..11),
            object_walk_page: 1 << pages.within(2..11),
            pack_below,
            pack_bytes: pack_below.max(4096 << packing.below(6)),
            attempts: 2 + random.below(4) as u32,
            // Above what listing all that a run leaves in the bucket takes, in pages as small as the simulated ones.
            attempt_timeout: Duration::from_millis(random.within(1_500..4_000)),
            commit_wait: Duration::from_millis(random.below(4)),
            commit_batch: 1 << random.below(8),
        }
    }

    /// What a node has whose configuration was drawn anew for the `number`-th time: the settings that are its own affair.
    /// What clients and oracles go by stays, and so does the size of a device that is there.
    pub fn redrawn(&self, seed: u64, plan: &Plan, node: &str, number: u64) -> Self {
        let mut random = Stream::new(seed, &format!("redrawn/{node}/{number}"));
        let other = Self::draw(random.draw(), plan);
        Self {
            journal_segment_bytes: other.journal_segment_bytes,
            journal_batch_bytes: other.journal_batch_bytes,
            uploads_busy_hits: other.uploads_busy_hits,
            budgets: Budgets::draw(plan, self.len_max, &mut random),
            memory_bytes: other.memory_bytes.max(self.len_max * 4),
            has_disk: random.chance(0.6),
            compression: other.compression,
            pack_below: other.pack_below,
            pack_bytes: other.pack_bytes,
            attempts: other.attempts,
            attempt_timeout: other.attempt_timeout,
            commit_wait: other.commit_wait,
            commit_batch: other.commit_batch,
            ..self.clone()
        }
    }

    /// Whatever a node's memory was drawn to, what may be in flight there holds eight of the largest values.
    pub fn memory_is_ample(&self) -> bool {
        self.len_max * 8 <= MEMORY_BYTES.start / 4
    }

    pub fn store_config(&self, node_id: &str) -> StoreConfig {
        StoreConfig {
            prefix: PREFIX.to_owned(),
            memory_bytes: self.memory_bytes,
            payload_bytes_max: self.len_max,
            compression: self.compression,
            pack_below: self.pack_below,
            pack_bytes: self.pack_bytes,
            object_attempts_max: self.attempts,
            object_attempt_timeout: self.attempt_timeout,
            commit_wait_max: self.commit_wait,
            commit_batch_max: self.commit_batch,
            peer_refresh: self.peer_refresh,
            scrub_grace: self.scrub_grace,
            journal_bytes_max: self.journal_bytes,
            journal_segment_bytes: self.journal_segment_bytes,
            journal_batch_bytes: self.journal_batch_bytes,
            uploads_busy_hits: self.uploads_busy_hits,
            object_bytes_max: self.budgets.object_bytes,
            namespace_bytes_max: self.budgets.namespace_bytes,
            evict_batch_max: self.budgets.evict_batch,
            object_page_max: self.object_page,
            object_walk_page: self.object_walk_page,
            expiry_walk_every: self.expiry_patience / 8,
            expiry_patience: self.expiry_patience,
            signal_bytes_max: self.budgets.signal_bytes,
            ..StoreConfig::new(node_id)
        }
    }

    pub fn has_disk(&self) -> bool {
        self.has_disk
    }

    /// What the device files of a node's disk cache may take.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    pub fn disk_config(&self, dir: &Path) -> Option<DiskConfig> {
        self.has_disk.then(|| DiskConfig {
            dir: dir.to_owned(),
            bytes: self.disk_bytes,
            region_bytes: self.region_bytes,
            write_buffer_bytes: self.region_bytes * 2,
            open_max: self.disk_open,
        })
    }

    /// The namespaces' ids, by number.
    pub fn namespace_ids(&self) -> Vec<NamespaceId> {
        let id = |(tenant, name): (String, String)| NamespaceId::derive(&tenant, &name);
        (0..self.namespaces).map(|number| id(self.namespace(number))).collect()
    }

    /// The tenant and the name of a namespace. Two tenants use the same names.
    pub fn namespace(&self, number: usize) -> (String, String) {
        (format!("tenant-{}", number % 2), format!("chat-{}", number / 2))
    }

    /// A namespace that several want to open with different identities, and one of these.
    pub fn contested(&self, number: u64, kv_dtype: &str) -> (String, String, ModelIdentity) {
        let identity = ModelIdentity { kv_dtype: kv_dtype.to_owned(), ..self.identity() };
        ("tenant-0".to_owned(), format!("contested-{number}"), identity)
    }

    pub fn identity(&self) -> ModelIdentity {
        ModelIdentity {
            model: "sim/model".to_owned(),
            kv_dtype: "bf16".to_owned(),
            layout: "NHD".to_owned(),
            block_tokens: 16,
            parts: PARTS.to_vec(),
            ..ModelIdentity::default()
        }
    }
}

/// Often so little that a bucket that is away for a while fills it. The largest save of a chain, at what the queue charges
/// for a record, and two of the largest segments have room in each.
fn journal_bytes(len_max: u64, random: &mut Stream) -> u64 {
    let least = ((len_max + 4096) * 16).max(256 << 10);
    if random.chance(0.5) { least + random.below(least / 2) } else { 4 << 30 }
}

/// Rings that fill, quotas that bind, and deadlines that come.
fn shm_limits(len_max: u64, memory_bytes: u64, random: &mut Stream) -> ShmLimits {
    ShmLimits {
        words: 256 << random.below(3),
        inline_max: if random.chance(0.5) { 256 } else { 128 },
        requests_inflight_max: 2 + random.below(15) as u32,
        queued_bytes_max: 128 << random.below(7),
        staging_bytes: if random.chance(0.2) { len_max * 3 } else { len_max * 32 },
        quota_bytes: *random.pick(&[len_max * 6, memory_bytes / 2, memory_bytes * 2]).unwrap_or(&memory_bytes),
        deadline: random.duration(&(Duration::from_secs(2)..Duration::from_secs(10))),
    }
}

fn weights(plan: &Plan, random: &mut Stream) -> Vec<(Action, u64)> {
    use Action::*;
    let base: &[(Action, u64)] = match plan.workload {
        Workload::ChainSaveRestore => {
            &[(SaveChain, 30), (RestoreChain, 30), (Lookup, 10), (GetBlocks, 10), (Head, 10), (Delete, 4), (Stats, 2)]
        }
        Workload::FewKeys => &[
            (Put, 30),
            (Get, 30),
            (Delete, 12),
            (Exists, 5),
            (GetMany, 5),
            (List, 3),
            (Clear, 6),
            (Stats, 2),
            (Lookup, 5),
            (HeldLookup, 4),
            (AtOnce, 3),
        ],
        Workload::Eviction => &[
            (Put, 30),
            (Get, 24),
            (GetMany, 4),
            (Exists, 4),
            (Delete, 4),
            (PutBlocks, 14),
            (GetBlocks, 10),
            (SaveChain, 6),
            (RestoreChain, 6),
            (List, 2),
            (Clear, 3),
            (Stats, 4),
        ],
        Workload::Packs => &[
            (PutBlocks, 30),
            (Put, 8),
            (SaveChain, 8),
            (Delete, 20),
            (GetBlocks, 15),
            (Get, 10),
            (Clear, 8),
            (Lookup, 3),
        ],
        Workload::SharedMemory => &[
            (Put, 30),
            (Get, 30),
            (GetRange, 6),
            (GetMany, 8),
            (Exists, 3),
            (Delete, 8),
            (PutBlocks, 10),
            (GetBlocks, 14),
            (Lookup, 4),
            (HeldLookup, 3),
            (Restore, 2),
            (SaveChain, 4),
            (RestoreChain, 4),
            (Head, 2),
            (List, 2),
            (Clear, 4),
            (Stats, 2),
            (Hostile, 3),
            (AtOnce, 8),
        ],
        Workload::Bootstrap => {
            &[(Put, 40), (PutBlocks, 15), (Get, 20), (Delete, 10), (List, 5), (Lookup, 5), (Clear, 2)]
        }
        _ => &[
            (Put, 24),
            (Get, 24),
            (GetRange, 5),
            (GetMany, 4),
            (Exists, 4),
            (Delete, 6),
            (PutBlocks, 8),
            (Lookup, 6),
            (GetBlocks, 6),
            (Restore, 2),
            (SaveChain, 4),
            (RestoreChain, 4),
            (Head, 3),
            (List, 3),
            (Clear, 3),
            (Stats, 2),
            (Hostile, 4),
            (HeldLookup, 2),
            (Contest, 3),
            (AtOnce, 5),
        ],
    };
    // What keeps two identities apart is another mechanism there.
    let contest = if plan.conditional_writes { 1 } else { 12 };
    let base = base.iter().map(|(action, weight)| match action {
        Contest => (Contest, weight * contest),
        action => (*action, *weight),
    });
    // Some actions are much more, or much less, frequent in some runs.
    base.map(|(action, weight)| (action, (weight * random.within(1..9)).div_ceil(4))).collect()
}
