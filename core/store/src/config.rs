//! Every limit and knob of the store, with its unit, its default and the reason for it.

use crate::journal::JournalConfig;
use crate::life::Life;
use bettong_shm::pool::{PoolError, SlotPool};
use bettong_wire::NamespaceId;
use bettong_wire::envelope::Algorithm;
use bettong_wire::limits;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a store is opened. The defaults suit a 2-core machine.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Names this node in the bucket: 1 to 64 characters of `a-z`, `0-9`, `-`. One daemon at a time.
    pub node_id: String,
    /// Everything of this store in the object store lies under this prefix; empty or `/`-separated segments.
    pub prefix: String,
    /// Payload memory in all: the memory tier and what is on its way in or out. Bytes.
    pub memory_bytes: u64,
    /// Largest payload of one block or value. Bytes.
    pub payload_bytes_max: u64,
    /// Compression of new payloads; stored raw where it would not shrink by 1/16.
    pub compression: Algorithm,
    /// Attempts of one object-store request, the first included.
    pub object_attempts_max: u32,
    /// One attempt of one object-store request is given up after this long, and a second more for each 2 MiB that it
    /// carries; its outcome is then unknown.
    pub object_attempt_timeout: Duration,
    /// First pause between attempts; doubled each time, with jitter.
    pub object_backoff: Duration,
    /// Object-store requests of puts and gets under way at once, SlateDB's own apart.
    pub object_inflight_max: usize,
    /// Longest wait for other index writes to join a group commit.
    pub commit_wait_max: Duration,
    /// Most index writes in one group commit.
    pub commit_batch_max: usize,
    /// Index writes waiting for the committer; beyond it puts are `busy`.
    pub commit_queue_max: usize,
    /// How often other nodes, dead marks and lives are looked at.
    pub peer_refresh: Duration,
    /// Memory for other nodes' index entries. Bytes.
    pub peer_hint_bytes: u64,
    /// Names of one page of a long listing of the object store, at most.
    pub object_page_max: usize,
    /// Names that one walk over an object store gathers that lists in no order: some 300 bytes of memory each.
    pub object_walk_page: usize,
    /// Records of index changes are kept this long for other nodes.
    pub change_records_kept: Duration,
    /// Dead marks are kept this long after their objects are gone.
    pub dead_marks_kept: Duration,
    /// A publish that took longer than this answers unknown.
    pub head_publish_max: Duration,
    /// Generations of a head older than this may be removed, the newest never.
    pub head_generations_kept: Duration,
    /// Objects younger than this by the bucket's clock are none of the scrubber's business.
    pub scrub_grace: Duration,
    /// Blocks that are likely to be asked for soon are fetched so often; zero does so only when asked.
    pub prefetch_every: Duration,
    /// Payload that one prefetch brings into the local tiers at most. Bytes.
    pub prefetch_bytes: u64,
    /// Blocks that one prefetch fetches at most, the best of all; each takes some 300 bytes while it is chosen.
    pub prefetch_blocks_max: usize,
    /// One prefetch works for this long at most, pauses between its slices apart.
    pub prefetch_time_max: Duration,
    /// Plain keys held at most, in all namespaces.
    pub plain_keys_max: usize,
    /// Blocks and other values in the index at most.
    pub index_entries_max: usize,
    /// What this node keeps in the object store: beyond it the least worth is forgotten, down to 90 %. Zero keeps
    /// everything. Bytes.
    pub object_bytes_max: u64,
    /// The same for each namespace that `namespace_budgets` does not name. Bytes.
    pub namespace_bytes_max: u64,
    /// The same for single namespaces. Bytes.
    pub namespace_budgets: BTreeMap<NamespaceId, u64>,
    /// Values that one step of an eviction takes from the index at once. Short steps let what is used meanwhile stay.
    pub evict_batch_max: usize,
    /// How often a part of the index is looked through for values past their time.
    pub expiry_walk_every: Duration,
    /// Their bytes go when the wall clock has said so for this much monotone time, at every look.
    pub expiry_patience: Duration,
    /// The signal journal on disk: accesses, so that recency survives a restart; the oldest go first. Zero remembers
    /// none. Bytes.
    pub signal_bytes_max: u64,
    /// Names of evicted values that are remembered, so that `evicted` is told from `absent`.
    pub ghosts_max: usize,
    /// Reads of a request that gives no deadline are given up after this long.
    pub read_deadline_default: Duration,
    /// The journal's segments on disk, all together; beyond it puts of level `journal` wait and are then `busy`. Zero
    /// runs without a journal. Bytes.
    pub journal_bytes_max: u64,
    /// A segment of the journal is closed once it has reached this length. Bytes.
    pub journal_segment_bytes: u64,
    /// Stored bytes that one batch of the journal gathers at most; a put of several values that has more fills several,
    /// and becomes visible with the last. Bytes.
    pub journal_batch_bytes: u64,
    /// From so many hits a second on uploads that nobody waits for give way to them.
    pub uploads_busy_hits: u64,
    /// Blocks and sidecars whose envelope is smaller than this share an object with others that are written with them.
    /// Zero packs nothing. Bytes.
    pub pack_below: u64,
    /// Most bytes of one such object.
    pub pack_bytes: u64,
    /// Pages of a listing hold at most this many entries.
    pub list_page_max: u32,
}

impl StoreConfig {
    /// The defaults, for the node `node_id`.
    pub fn new(node_id: impl Into<String>) -> Self {
        Self {
            node_id: node_id.into(),
            prefix: String::new(),
            memory_bytes: 512 << 20,
            payload_bytes_max: limits::BLOCK_BYTES_MAX,
            compression: Algorithm::None,
            object_attempts_max: 4,
            object_attempt_timeout: Duration::from_secs(10),
            object_backoff: Duration::from_millis(50),
            object_inflight_max: 64,
            commit_wait_max: Duration::from_millis(2),
            commit_batch_max: 1024,
            commit_queue_max: 8192,
            peer_refresh: Duration::from_secs(10),
            peer_hint_bytes: 64 << 20,
            object_page_max: 1000,
            object_walk_page: 65_536,
            change_records_kept: Duration::from_secs(3600),
            dead_marks_kept: Duration::from_secs(7 * 24 * 3600),
            head_publish_max: Duration::from_secs(3600),
            head_generations_kept: Duration::from_secs(24 * 3600),
            scrub_grace: Duration::from_secs(3600),
            prefetch_every: Duration::ZERO,
            prefetch_bytes: 256 << 20,
            prefetch_blocks_max: 1024,
            prefetch_time_max: Duration::from_secs(10),
            plain_keys_max: 1_000_000,
            index_entries_max: 16_000_000,
            object_bytes_max: 0,
            namespace_bytes_max: 0,
            namespace_budgets: BTreeMap::new(),
            evict_batch_max: 64,
            expiry_walk_every: Duration::from_secs(10),
            expiry_patience: Duration::from_secs(3600),
            signal_bytes_max: 64 << 20,
            ghosts_max: 65_536,
            read_deadline_default: Duration::from_secs(30),
            journal_bytes_max: 4 << 30,
            journal_segment_bytes: 64 << 20,
            journal_batch_bytes: 16 << 20,
            uploads_busy_hits: 1000,
            pack_below: 0,
            pack_bytes: 4 << 20,
            list_page_max: limits::LIST_PAGE_MAX,
        }
    }

    /// Payload memory that the tier leaves to what is on its way in or out: a quarter, and at least two largest payloads.
    pub fn in_flight_bytes(&self) -> u64 {
        (self.memory_bytes / 4).max(self.payload_bytes_max.saturating_mul(2))
    }

    /// Payload memory that only this process sees.
    ///
    /// # Errors
    /// Where `memory_bytes` are fewer than a slot, or more than a pool may have.
    pub fn memory_on_the_heap(&self) -> Result<SlotPool, PoolError> {
        SlotPool::on_the_heap(usize::try_from(self.memory_bytes).unwrap_or(usize::MAX))
    }

    /// How the journal is opened, and salvaged, by this run of the process.
    pub fn journal(&self, life: Life) -> JournalConfig {
        JournalConfig {
            bytes_max: self.journal_bytes_max,
            segment_bytes: self.journal_segment_bytes,
            batch_bytes_max: self.journal_batch_bytes,
            ..JournalConfig::new(life)
        }
    }

    /// Whether anything is ever evicted from the object store.
    pub fn has_budgets(&self) -> bool {
        self.object_bytes_max > 0 || self.namespace_bytes_max > 0 || self.namespace_budgets.values().any(|max| *max > 0)
    }

    /// Says what is wrong with the configuration, naming the value and the limit.
    pub fn check(&self) -> Result<(), String> {
        if !is_node_id(&self.node_id) {
            return Err(format!("node id `{}` must be 1 to 64 characters of a-z, 0-9 and -", self.node_id));
        }
        let segment_ok = |segment: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(known)
        };
        if !self.prefix.is_empty() && !self.prefix.split('/').all(segment_ok) {
            let prefix = &self.prefix;
            return Err(format!("prefix `{prefix}` must be `/`-separated segments of a-z, A-Z, 0-9, `-`, `_` and `.`"));
        }
        if self.payload_bytes_max == 0 || self.payload_bytes_max > limits::BLOCK_BYTES_MAX {
            let (max, limit) = (self.payload_bytes_max, limits::BLOCK_BYTES_MAX);
            return Err(format!("payload_bytes_max is {max}, it must be 1 to {limit}"));
        }
        if self.memory_bytes < self.payload_bytes_max.saturating_mul(4) {
            let (memory, payload) = (self.memory_bytes, self.payload_bytes_max);
            return Err(format!(
                "memory_bytes is {memory}, it must hold at least four payloads of payload_bytes_max ({payload})"
            ));
        }
        let (pack, limit) = (self.pack_bytes, bettong_wire::pack::BYTES_MAX);
        if pack > limit {
            return Err(format!("pack_bytes is {pack}, the limit is {limit}"));
        }
        if self.pack_below > pack {
            let below = self.pack_below;
            return Err(format!("pack_below is {below}, it must be at most pack_bytes ({pack})"));
        }
        let at_least_one = [
            ("object_attempts_max", self.object_attempts_max as usize),
            ("object_inflight_max", self.object_inflight_max),
            ("commit_batch_max", self.commit_batch_max),
            ("evict_batch_max", self.evict_batch_max),
            ("object_page_max", self.object_page_max),
            ("object_walk_page", self.object_walk_page),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0, it must be at least 1"));
        }
        Ok(())
    }
}

/// Whether a node may be called so.
pub(crate) fn is_node_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
