//! Configuration: every value with its name, default, unit, meaning and origin.
//!
//! Layers, from weak to strong: defaults, a TOML file, the environment (`BETTONG_*`), flags.

pub mod check;
pub mod load;
pub mod machine;
pub mod scalar;

use machine::Machine;
use scalar::{Budgets, Bytes, Compression, Count, Millis, Switch, Text};
use serde::{Deserialize, Serialize};

/// What `bettong config` says of one value besides the value itself.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub name: &'static str,
    pub unit: &'static str,
    pub meaning: &'static str,
    /// Shown as `***` where it is set.
    pub secret: bool,
}

macro_rules! values {
    ($machine:ident; $($name:ident: $type:ty = $default:expr, $unit:literal, $meaning:literal $(, $secret:ident)?;)*) => {
        /// The daemon's configuration.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Config {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        /// The same, as far as a file sets it.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct FileValues {
            $(#[serde(default)] #[expect(dead_code, reason = "read by serde only: a file is checked for names and types")] $name: Option<$type>,)*
        }

        impl Config {
            /// The defaults on this machine.
            pub fn defaults($machine: &Machine) -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Every value, in the order in which it is shown.
        pub const VALUES: &[Described] = &[
            $(Described {
                name: stringify!($name),
                unit: $unit,
                meaning: $meaning,
                secret: values!(@secret $($secret)?),
            },)*
        ];
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

fn text(value: &str) -> Text {
    Text(value.to_owned())
}

values! { machine;
    data_dir: Text = text("./bettong-data"), "path", "where the daemon keeps its identity, its cache and, by default, its objects";
    store: Text = text(""), "URL", "object store: file:///path, s3://bucket/prefix or memory:; empty means a folder in data_dir";
    listen: Text = text("127.0.0.1:7450"), "address", "TCP address; port 0 takes a free one";
    shm_socket: Text = text(""), "path", "unix socket of the shared-memory door, for engines of this host and user; empty means bettong.sock in data_dir, none means no such door";
    shm_sessions_max: Count = Count(64), "sessions", "sessions of the shared-memory door at a time, those included whose process may still read; one more is told so";
    shm_lease_bytes: Bytes = Bytes(0), "bytes", "payload memory that one such session may hold for reading at once, each of a process that has several; 0 means a quarter of memory_bytes";
    shm_staging_bytes: Bytes = Bytes(64 << 20), "bytes", "memory that one such session may have for what it sends, each of a process that has several; it is at least what the longest value needs";
    shm_spin_us: Count = Count(100), "us", "how long a session looks for the next request before it sleeps, where the last came about as soon";
    node_id: Text = text(""), "name", "this node's name under the store's prefix; empty means drawn once and kept in data_dir";
    insecure: Switch = Switch(false), "switch", "allow a non-loopback listen address without TLS and authentication";
    token_file: Text = text(""), "path", "bearer tokens, one `tenant token [admin]` a line; empty means that whoever can connect is trusted, as any tenant and with the admin right: with --insecure from anywhere";
    reactors: Count = machine.reactors_default(), "threads", "door reactors, each pinned to a core with its own listening socket";
    storage_threads: Count = Count(u32::try_from(machine.cores.max(2)).unwrap_or(u32::MAX)), "threads", "threads of the storage runtime";
    connections_max: Count = Count(1024), "connections", "TCP connections at a time, fewer where this process may not open as many files; one more is told so and closed";
    inflight_max: Count = Count(128), "requests", "unanswered requests of one connection";
    unsent_bytes_max: Bytes = Bytes(64 << 20), "bytes", "answers of one connection that wait to be sent";
    frame_bytes_max: Bytes = Bytes(256 << 20), "bytes", "one TCP frame";
    deadline_default_ms: Millis = Millis(30_000), "ms", "a request's deadline where it names none";
    deadline_max_ms: Millis = Millis(600_000), "ms", "the longest deadline that a request may name";
    stall_ms: Millis = Millis(30_000), "ms", "a connection that owes something moves it in this time, or 512 KiB a second of it, and at least 64 KiB; else it is cut off";
    drain_ms: Millis = Millis(10_000), "ms", "how long SIGTERM waits for what is under way";
    payload_bytes_max: Bytes = Bytes(bettong_wire::limits::BLOCK_BYTES_MAX.min(machine.pool_default().0 / 4)), "bytes", "one block or value";
    memory_bytes: Bytes = machine.pool_default(), "bytes", "payload memory: the memory tier and what is on its way; the default is a quarter of the smaller of RAM and the control group's limit";
    memory_page_bytes: Bytes = Bytes(0), "bytes", "size of the pages of payload memory: 2MiB or 1GiB for huge ones, of which enough are set aside; 0 means ordinary ones";
    memory_numa_node: Text = text(""), "node", "NUMA node that payload memory is taken from; empty means any";
    prefault: Switch = Switch(true), "switch", "give payload memory its pages before the daemon is ready, 0.1 s a GiB; else each page costs its first user that, but for huge ones";
    disk_bytes: Bytes = Bytes(8 << 30), "bytes", "disk tier in data_dir; 0 means none";
    disk_open_ms: Millis = Millis(60_000), "ms", "how long a start waits for the disk tier to open; then it goes on without it, and says so in the log and in stats";
    journal_bytes: Bytes = Bytes(4 << 30), "bytes", "journal of puts of level `journal` in data_dir, until they are uploaded; beyond it such puts wait, then are busy; 0 means none";
    journal_segment_bytes: Bytes = Bytes(64 << 20), "bytes", "one file of the journal; room comes back a file at a time";
    object_bytes_max: Bytes = Bytes(0), "bytes", "what this node keeps in the object store; beyond it the least worth is evicted, down to 90 %; 0 keeps everything";
    namespace_bytes_max: Bytes = Bytes(0), "bytes", "the same for each namespace that namespace_budgets does not name; 0 means no such limit";
    namespace_budgets: Budgets = Budgets::default(), "list", "the same for single namespaces: TENANT/NAME=BYTES, separated by commas; TENANT is `default` where a client names none";
    signal_bytes_max: Bytes = Bytes(64 << 20), "bytes", "accesses that are remembered in data_dir, so that what was used lately is known after a restart; 0 remembers none";
    compression: Compression = Compression::None, "name", "payloads on disk and in the object store: none, zstd or lz4";
    pack_below: Bytes = Bytes(0), "bytes", "blocks and sidecars that take less than this in the object store share an object with others that are written with them; 0 means none";
    pack_bytes: Bytes = Bytes(4 << 20), "bytes", "one such shared object, at most";
    index_entries_max: Count = Count(machine.index_entries_default()), "entries", "blocks and other values in the index, 128 bytes of memory each; the default is less where that would be over an eighth of the memory";
    plain_keys_max: Count = Count(1_000_000), "keys", "plain keys, in all namespaces";
    commit_wait_ms: Millis = Millis(2), "ms", "how long an index write waits for others to join its group commit";
    commit_queue_max: Count = Count(8192), "writes", "index writes that wait for the committer; beyond it puts are busy";
    object_attempts_max: Count = Count(4), "attempts", "attempts of one request to the object store, the first included";
    object_attempt_ms: Millis = Millis(10_000), "ms", "one attempt of one request to the object store, and a second more for each 2 MiB that it carries";
    object_backoff_ms: Millis = Millis(50), "ms", "first pause between attempts; doubled each time, with jitter";
    object_inflight_max: Count = Count(64), "requests", "requests of puts and gets to the object store at a time";
    peer_refresh_ms: Millis = Millis(10_000), "ms", "how often other nodes of the prefix and newer lives of this node are looked for";
    peer_hint_bytes: Bytes = Bytes(64 << 20), "bytes", "memory for what other nodes' indexes say";
    scrub_grace_ms: Millis = Millis(3_600_000), "ms", "objects younger than this by the object store's clock are left alone by a scrub";
    prefetch_every_ms: Millis = Millis(0), "ms", "how often blocks that are likely to be asked for are fetched in the background; 0 means only when asked";
    prefetch_bytes: Bytes = Bytes(256 << 20), "bytes", "payload that one prefetch brings into the local tiers";
    prefetch_blocks: Count = Count(1024), "blocks", "blocks that one prefetch fetches, the best of all";
    prefetch_ms: Millis = Millis(10_000), "ms", "how long one prefetch works, pauses between its slices apart";
    s3_endpoint: Text = text(""), "URL", "S3 endpoint; empty means AWS_ENDPOINT_URL, else Amazon's; http is allowed on loopback only";
    s3_region: Text = text(""), "name", "S3 region; empty means AWS_REGION, else us-east-1";
    s3_access_key_id: Text = text(""), "text", "S3 access key; empty means AWS_ACCESS_KEY_ID";
    s3_secret_access_key: Text = text(""), "text", "S3 secret key; empty means AWS_SECRET_ACCESS_KEY", secret;
    s3_instance_role: Switch = Switch(false), "switch", "take S3 credentials from the machine's role instead of keys";
    s3_path_style: Switch = Switch(false), "switch", "address buckets as a path instead of a host name, as most S3 servers besides Amazon need";
    log: Text = text("warn,bettong=info,bettong_core=info"), "filter", "what is logged to standard error: levels by module";
}

impl Config {
    /// The object store's URL; the default is a folder in the data directory.
    pub fn store_or_default(&self) -> String {
        match self.store.0.as_str() {
            "" => {
                let data_dir = std::path::absolute(&self.data_dir.0).unwrap_or_else(|_| self.data_dir.0.clone().into());
                format!("file://{}", data_dir.join("objects").display())
            }
            url => url.to_owned(),
        }
    }
}
