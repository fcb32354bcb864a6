//! Opens the store that the configuration describes.

use super::data_dir::DataDir;
use crate::config::Config;
use crate::config::scalar::Compression;
use crate::exit::{Exit, Failure, OrExit, Outcome};
use crate::objects::{OpenedStore, StoreUrl};
use bettong_core::index::IndexError;
use bettong_core::journal;
use bettong_core::life::LifeError;
use bettong_core::real::{Folder, RealWorld};
use bettong_core::store::OpenError;
use bettong_core::tiers::disk::DiskConfig;
use bettong_core::{Store, StoreConfig, StoreParts};
use bettong_shm::pool::SlotPool;
use bettong_wire::NamespaceId;
use bettong_wire::envelope::Algorithm;
use object_store::ObjectStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Smallest disk tier: foyer works in regions, and a few must be free.
pub const DISK_BYTES_MIN: u64 = 64 << 20;
/// Largest region of the disk tier, and with it the largest block that the tier takes.
const REGION_BYTES_MAX: u64 = 64 << 20;

/// The store's own configuration.
fn store_config(config: &Config, node_id: String, store: &OpenedStore) -> StoreConfig {
    let count = |count: crate::config::scalar::Count| usize::try_from(count.0).unwrap_or(usize::MAX);
    StoreConfig {
        prefix: store.prefix.to_string(),
        memory_bytes: config.memory_bytes.0,
        payload_bytes_max: config.payload_bytes_max.0,
        compression: match config.compression {
            Compression::None => Algorithm::None,
            Compression::Zstd => Algorithm::Zstd,
            Compression::Lz4 => Algorithm::Lz4,
        },
        object_attempts_max: config.object_attempts_max.0,
        object_attempt_timeout: config.object_attempt_ms.duration(),
        object_backoff: config.object_backoff_ms.duration(),
        object_inflight_max: count(config.object_inflight_max),
        commit_wait_max: config.commit_wait_ms.duration(),
        commit_queue_max: count(config.commit_queue_max),
        journal_bytes_max: config.journal_bytes.0,
        journal_segment_bytes: config.journal_segment_bytes.0,
        peer_refresh: config.peer_refresh_ms.duration(),
        peer_hint_bytes: config.peer_hint_bytes.0,
        scrub_grace: config.scrub_grace_ms.duration(),
        prefetch_every: config.prefetch_every_ms.duration(),
        prefetch_bytes: config.prefetch_bytes.0,
        prefetch_blocks_max: count(config.prefetch_blocks),
        prefetch_time_max: config.prefetch_ms.duration(),
        object_bytes_max: config.object_bytes_max.0,
        namespace_bytes_max: config.namespace_bytes_max.0,
        namespace_budgets: (config.namespace_budgets.0.iter())
            .map(|budget| (NamespaceId::derive(&budget.tenant, &budget.namespace), budget.bytes.0))
            .collect(),
        signal_bytes_max: config.signal_bytes_max.0,
        plain_keys_max: count(config.plain_keys_max),
        pack_below: config.pack_below.0,
        pack_bytes: config.pack_bytes.0,
        index_entries_max: count(config.index_entries_max),
        read_deadline_default: config.deadline_default_ms.duration(),
        ..StoreConfig::new(node_id)
    }
}

/// Opens the store. Must be called where the storage runtime is current.
/// `background` runs what nobody waits for.
pub async fn open(
    config: &Config,
    data_dir: &DataDir,
    background: &Handle,
    store: OpenedStore,
    memory: SlotPool,
) -> Outcome<(Store<RealWorld>, RealWorld)> {
    let node_id = data_dir.node_id(&config.node_id.0)?;
    let settings = store_config(config, node_id, &store);
    settings.check().or_exit(Exit::Usage, "configuration")?;
    let world = RealWorld::new(node_dir(data_dir.path()), Handle::current())
        .or_exit(Exit::DataDir, "data directory")?
        .with_background(background.clone());
    let disk = (config.disk_bytes.0 > 0).then(|| DiskConfig {
        dir: data_dir.path().join("cache"),
        bytes: config.disk_bytes.0,
        region_bytes: region_bytes(config),
        write_buffer_bytes: REGION_BYTES_MAX.min(config.disk_bytes.0 / 4),
        open_max: config.disk_open_ms.duration(),
    });
    let parts = StoreParts {
        // The local file store cannot replace an object only if it is unchanged.
        conditional_update: !matches!(store.url, StoreUrl::File(_)),
        ordered_listing: !matches!(store.url, StoreUrl::File(_)),
        objects: store.objects,
        local_index: Some(local_index(data_dir)?),
        memory,
        disk,
    };
    let store = Store::open(world.clone(), settings, parts).await.map_err(|error| failure(&error, data_dir.path()))?;
    Ok((store, world))
}

/// What the store keeps in a data directory: its record of lives and the journal.
pub fn node_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("node")
}

fn region_bytes(config: &Config) -> u64 {
    (config.disk_bytes.0 / 16).clamp(1 << 20, REGION_BYTES_MAX)
}

/// Regions of the disk tier: each is a file that stays open.
pub fn regions(config: &Config) -> u64 {
    config.disk_bytes.0 / region_bytes(config)
}

/// Where the index lives if the object store cannot create an object only if it is absent.
fn local_index(data_dir: &DataDir) -> Outcome<Arc<dyn ObjectStore>> {
    let path = data_dir.path().join("index");
    let failed = || format!("data directory {}", path.display());
    std::fs::create_dir_all(&path).or_exit(Exit::DataDir, failed())?;
    Ok(Arc::new(Folder::open(&path).or_exit(Exit::DataDir, failed())?))
}

/// The exit code for a store that did not open. What is said of files is below `data_dir`.
fn failure(error: &OpenError, data_dir: &Path) -> Failure {
    let exit = match error {
        OpenError::Config(_) | OpenError::JournalHolds { .. } => Exit::Usage,
        OpenError::Format { .. } => Exit::Stored,
        OpenError::Index(error) => index_exit(error, Exit::ObjectStore),
        OpenError::LocalIndex(error) => index_exit(error, Exit::DataDir),
        OpenError::Journal(error) => journal_exit(error),
        OpenError::JournalWrite(_) => Exit::DataDir,
        OpenError::Objects(_)
        | OpenError::NoConditionalCreate
        | OpenError::OtherOwner { .. }
        | OpenError::Contended { .. } => Exit::ObjectStore,
        OpenError::Disk(_) => Exit::DataDir,
        OpenError::Fenced(_) | OpenError::Retired { .. } => Exit::Fenced,
        OpenError::Life(LifeError::Disk(_) | LifeError::OtherNode { .. } | LifeError::Damaged(_)) => Exit::DataDir,
        OpenError::Life(LifeError::Objects(_)) => Exit::ObjectStore,
        OpenError::Life(LifeError::Contended) => Exit::Fenced,
    };
    let whose = match error {
        OpenError::Journal(_) | OpenError::JournalWrite(_) => format!(" ({})", journal_of(data_dir)),
        OpenError::Life(LifeError::OtherNode { .. } | LifeError::Damaged(_))
        | OpenError::JournalHolds { .. }
        | OpenError::Retired { puts: 1.., .. } => format!(" (--data-dir {})", data_dir.display()),
        _ => String::new(),
    };
    Failure::new(exit, format!("the store did not open: {error}{whose}"))
}

/// The exit code for an index that does not open, where what it is kept in cannot be used for `unreachable`.
fn index_exit(error: &IndexError, unreachable: Exit) -> Exit {
    match error {
        IndexError::Unreachable(_) => unreachable,
        IndexError::Stored(_) => Exit::Stored,
        IndexError::Closed(_) => Exit::Retry,
        IndexError::Defect(_) => Exit::Failed,
    }
}

/// The exit code for a journal that cannot be read or does not verify.
pub fn journal_exit(error: &journal::OpenError) -> Exit {
    match error {
        journal::OpenError::Config(_) => Exit::Usage,
        journal::OpenError::Disk(_) => Exit::DataDir,
        _ => Exit::Stored,
    }
}

/// Which journal it is, and how to name it to the commands that look at it.
pub fn journal_of(data_dir: &Path) -> String {
    format!("files below {}; --data-dir {}", node_dir(data_dir).display(), data_dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_core::objects::ObjectError;
    use bettong_core::world::DiskError;

    #[test]
    fn each_store_that_does_not_open_ends_with_the_code_of_its_remedy() {
        let why = || "why".to_owned();
        let full = || DiskError::NoSpace { path: why(), detail: why() };
        for (error, exit) in [
            (OpenError::Objects(ObjectError::Unknown(why())), Exit::ObjectStore),
            (OpenError::Index(IndexError::Unreachable(why())), Exit::ObjectStore),
            (OpenError::LocalIndex(IndexError::Unreachable(why())), Exit::DataDir),
            (OpenError::Index(IndexError::Stored(why())), Exit::Stored),
            (OpenError::LocalIndex(IndexError::Stored(why())), Exit::Stored),
            (OpenError::Index(IndexError::Closed(why())), Exit::Retry),
            (OpenError::Index(IndexError::Defect(why())), Exit::Failed),
            (OpenError::Journal(journal::OpenError::Disk(full())), Exit::DataDir),
            (OpenError::JournalWrite(journal::AppendError::Disk(full())), Exit::DataDir),
            (OpenError::Life(LifeError::Disk(full())), Exit::DataDir),
            (OpenError::Fenced(why()), Exit::Fenced),
        ] {
            assert_eq!(failure(&error, Path::new("data")).exit, exit, "{error:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_data_directory_is_said_with_its_path() {
        for error in [
            OpenError::Life(LifeError::OtherNode { held: "a".to_owned(), asked: "b".to_owned() }),
            OpenError::Life(LifeError::Damaged("why".to_owned())),
            OpenError::JournalHolds { puts: 1, bytes: 2 },
            OpenError::Retired { node_id: "a".to_owned(), by: "b".to_owned(), puts: 3 },
        ] {
            let said = failure(&error, Path::new("/var/lib/bettong")).message;
            assert!(said.contains("/var/lib/bettong"), "{said}");
        }
    }
}
