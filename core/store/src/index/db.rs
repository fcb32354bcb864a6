//! SlateDB as the durable index: opened in this world, with bounded retries and a clock that never steps back.

use super::outward::OutwardStore;
use crate::world::{Clock, World};
use chrono::{DateTime, Utc};
use object_store::ObjectStore;
use object_store::path::Path;
use slatedb::admin::Admin;
use slatedb::config::{
    CompactorOptions, GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ObjectStoreCacheOptions, Settings,
};
use slatedb::{Db, DbReader, DbReaderMode};
use slatedb_common::clock::{SystemClock, SystemClockTicker};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Retries of one SlateDB request, on top of the first attempt: its own default is for ever.
const RETRIES_MAX: u32 = 6;

/// The clock that SlateDB sees: max(floor, wall), never stepping back. The floor is raised to what was persisted.
#[derive(Debug, Default)]
pub struct Floor(AtomicU64);

impl Floor {
    pub fn raise(&self, ms: u64) -> u64 {
        self.0.fetch_max(ms, Ordering::SeqCst).max(ms)
    }
}

struct IndexClock<W: World> {
    world: W,
    floor: Arc<Floor>,
}

impl<W: World> std::fmt::Debug for IndexClock<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IndexClock")
    }
}

impl<W: World> SystemClock for IndexClock<W> {
    fn now(&self) -> DateTime<Utc> {
        let ms = self.floor.raise(self.world.clock().wall_ms());
        DateTime::from_timestamp_millis(i64::try_from(ms).unwrap_or(i64::MAX)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move { self.world.leave(self.world.clock().sleep(duration)).await })
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}

/// Where and how the index is kept.
#[derive(Clone)]
pub struct IndexHome<W: World> {
    pub world: W,
    pub store: Arc<dyn ObjectStore>,
    pub floor: Arc<Floor>,
    /// Whether the object store can replace an object only if it is unchanged. Without, garbage is kept for longer than
    /// any stale process may live.
    pub conditional_update: bool,
}

impl<W: World> IndexHome<W> {
    fn clock(&self) -> Arc<dyn SystemClock> {
        Arc::new(IndexClock { world: self.world.clone(), floor: self.floor.clone() })
    }

    fn outward(&self) -> Arc<dyn ObjectStore> {
        Arc::new(OutwardStore::new(self.world.clone(), self.store.clone()))
    }

    /// Opens the index for writing, fencing whoever had it.
    pub async fn open(&self, path: Path) -> Result<Db, slatedb::Error> {
        self.world.enter(Box::pin(self.catch_up(path.clone()))).await?;
        let build = Db::builder(path, self.outward())
            .with_settings(self.settings())
            .with_system_clock(self.clock())
            .with_db_cache_disabled()
            .with_seed(self.world.random_u64())
            .build();
        self.world.enter(Box::pin(build)).await
    }

    /// Raises the floor to when the index was last written: where the wall clock has gone back since, or the writer's was
    /// before this one's, SlateDB would write nothing into it until the clock is there again.
    async fn catch_up(&self, path: Path) -> Result<(), slatedb::Error> {
        let admin = Admin::builder(path, self.outward()).with_system_clock(self.clock()).build();
        let Some(manifest) = admin.read_manifest(None).await? else { return Ok(()) };
        let tables = manifest.l0().iter().map(|view| view.sst.id.value());
        let newest = tables.chain(manifest.last_compacted_l0_sst_view_id()).map(|id| id.timestamp_ms()).max();
        let tick = u64::try_from(manifest.last_l0_clock_tick()).unwrap_or(0);
        self.floor.raise(newest.unwrap_or(0).max(tick));
        Ok(())
    }

    /// Opens another node's index for reading, writing nothing into it.
    pub async fn open_reader(&self, path: Path) -> Result<DbReader, slatedb::Error> {
        let options = slatedb::config::DbReaderOptions {
            // Opened for one look and closed again: it never polls by itself.
            manifest_poll_interval: Duration::from_secs(3600),
            checkpoint_lifetime: Duration::from_secs(3 * 3600),
            object_store_max_retries: Some(RETRIES_MAX),
            ..Default::default()
        };
        let build = DbReader::builder(path, self.outward())
            .with_reader_mode(DbReaderMode::FollowLatest)
            .with_options(options)
            .with_system_clock(self.clock())
            .with_db_cache_disabled()
            .with_seed(self.world.random_u64())
            .build();
        self.world.enter(Box::pin(build)).await
    }

    fn settings(&self) -> Settings {
        // A writer that stopped must have been gone for this long before what fences it may be removed.
        let min_age = Duration::from_secs(if self.conditional_update { 300 } else { 24 * 3600 });
        let directory = || {
            Some(GarbageCollectorDirectoryOptions { interval: Some(Duration::from_secs(300)), min_age, dry_run: false })
        };
        Settings {
            // Every group commit flushes; an idle index makes no requests.
            flush_interval: None,
            manifest_poll_interval: Duration::from_secs(10),
            manifest_update_timeout: Duration::from_secs(60),
            l0_sst_size_bytes: 16 << 20,
            max_unflushed_bytes: 64 << 20,
            compression_codec: None,
            object_store_cache_options: ObjectStoreCacheOptions::default(),
            object_store_max_retries: Some(RETRIES_MAX),
            compactor_options: Some(CompactorOptions {
                poll_interval: Duration::from_secs(10),
                object_store_max_retries: Some(RETRIES_MAX),
                ..CompactorOptions::default()
            }),
            garbage_collector_options: Some(GarbageCollectorOptions {
                manifest_options: directory(),
                wal_options: directory(),
                // A fence that is gone lets a paused writer believe in its write: fences stay.
                wal_fence_options: None,
                compacted_options: directory(),
                compactions_options: directory(),
                detach_options: None,
                boundary_files_enabled: self.conditional_update,
                object_store_max_retries: Some(RETRIES_MAX),
                ..GarbageCollectorOptions::default()
            }),
            ..Settings::default()
        }
    }
}
