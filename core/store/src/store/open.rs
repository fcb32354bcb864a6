//! Opening and closing a store: format, capabilities, life, index, tiers, in this order.

use super::lives::Lives;
use super::shared::{DeadBook, Ghosts, NO_NAMESPACE, Recovery, Shared};
use super::upkeep::retire::{check_not_retired, inherited};
use super::{Fate, Store, behind, bootstrap, claim, disk, listing};
use crate::config::StoreConfig;
use crate::evict::{Accounts, Uses};
use crate::flight::Flights;
use crate::health::{Breaker, Estimates};
use crate::index::committer::{CommitLimits, Committer, IndexChange, Succession, Visible};
use crate::index::db::{Floor, IndexHome};
use crate::index::{IndexError, IndexMap};
use crate::journal::{self, Backlog, Journal, Recovered};
use crate::keys::NamespaceTable;
use crate::life::{self, Exclusive, Life, LifeError, LifeWatch};
use crate::locks::KeyLocks;
use crate::objects::counting::{CountingStore, RequestCounts};
use crate::objects::names::Names;
use crate::objects::{ObjectError, Objects};
use crate::observe::{Point, State};
use crate::race::timeout;
use crate::record::{self, RECORD_BYTES_MAX};
use crate::stats::Stats;
use crate::store::loads::Loads;
use crate::tiers::disk::DiskConfig;
use crate::tiers::memory::MemoryTier;
use crate::vital::End;
use crate::world::{Clock, Disk, DiskError, World};
use bettong_shm::pool::SlotPool;
use object_store::ObjectStore;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// What a store is made of besides its configuration.
pub struct StoreParts {
    /// The object store that all hosts share.
    pub objects: Arc<dyn ObjectStore>,
    /// A local object store for the index, used where `objects` cannot create an object only if it is absent.
    pub local_index: Option<Arc<dyn ObjectStore>>,
    /// Where payloads live in memory; its budget is `StoreConfig::memory_bytes`.
    pub memory: SlotPool,
    /// `None` runs without a disk tier.
    pub disk: Option<DiskConfig>,
    /// Whether `objects` can replace an object only if it is unchanged.
    pub conditional_update: bool,
    /// Whether `objects` lists in the order of names, as every cloud store does and a file system does not.
    pub ordered_listing: bool,
}

/// Why a store did not open. Nothing is half-started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("configuration: {0}")]
    Config(String),
    #[error("the bucket is in format {bucket}, this release reads {min} to {max}")]
    Format { bucket: u32, min: u32, max: u32 },
    #[error("the object store: {0}")]
    Objects(#[from] ObjectError),
    #[error(
        "the object store cannot create an object only if it is absent, and no local index was given: \
         two nodes on one prefix would overwrite each other"
    )]
    NoConditionalCreate,
    #[error("this prefix belongs to node `{owner}`: on an object store without conditional writes one node is allowed")]
    OtherOwner { owner: String },
    #[error(
        "node `{other}` claims this prefix as well (`{claim}`), and on an object store without conditional writes one \
         node is allowed: start one of the two again; where `{other}` is gone for good, remove its claim"
    )]
    Contended { other: String, claim: String },
    #[error(transparent)]
    Life(#[from] LifeError),
    /// The index, where the object store keeps it.
    #[error("the index: {0}")]
    Index(IndexError),
    /// The index, where a local disk keeps it.
    #[error("the index on the local disk: {0}")]
    LocalIndex(IndexError),
    #[error("the disk tier: {0}")]
    Disk(String),
    #[error("the journal: {0}")]
    Journal(#[from] journal::OpenError),
    /// What it holds could not be settled.
    #[error("the journal: {0}")]
    JournalWrite(#[from] journal::AppendError),
    #[error(
        "this node is to run without a journal, and its directory has one that holds {puts} puts ({bytes} bytes) that \
         are not in the object store: start it with a journal once more, which uploads them"
    )]
    JournalHolds { puts: u64, bytes: u64 },
    #[error("a newer life of node `{0}` has started")]
    Fenced(String),
    #[error(
        "node `{node_id}` was retired by node `{by}`, which answers for what it had: start this daemon under another \
         node id, with an empty data directory{}",
        left_behind(*puts)
    )]
    Retired {
        node_id: String,
        by: String,
        /// Puts that only the journal of its directory has.
        puts: u64,
    },
}

/// What is said of a node that answers for nothing any more, where its journal holds `puts` that nothing else has.
pub(super) fn left_behind(puts: u64) -> String {
    match puts {
        0 => String::new(),
        _ => format!(
            "; {puts} journaled puts are still in its data directory and nowhere else, and nobody uploads them: \
             `bettong journal dump` names them"
        ),
    }
}

/// Without conditional creates the index is on the local disk.
pub(super) fn of_index(conditional_create: bool, error: impl Into<IndexError>) -> OpenError {
    if conditional_create { OpenError::Index(error.into()) } else { OpenError::LocalIndex(error.into()) }
}

/// What `{prefix}/format` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct FormatRecord {
    reader_min: u32,
    writer_min: u32,
}

const FORMAT: u32 = 1;

/// Where a start finds its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Index,
    /// The index is gone, or was never complete.
    Listing,
    /// The index is older than what this node has acknowledged: the bucket has the say.
    StaleIndex,
    /// This node's first life.
    Nothing,
}

impl<W: World> Store<W> {
    /// Opens the store. Ends when it is ready: every value that was acknowledged is found.
    pub async fn open(world: W, config: StoreConfig, parts: StoreParts) -> Result<Self, OpenError> {
        config.check().map_err(OpenError::Config)?;
        let began = world.clock().mono();
        // Before a life begins: a directory remembers a bounded number of lives, however often a start is refused.
        let read = read_journal(&world, &config).await?;
        let journaled = read.as_ref().map_or(0, |read| read.backlog().puts);
        let names = Names::new(&config.prefix);
        let counts = Arc::new(RequestCounts::default());
        let counted: Arc<dyn ObjectStore> = Arc::new(CountingStore::new(parts.objects, counts.clone()));
        let objects = Objects::new(world.clone(), counted.clone(), counts.clone(), &config, parts.ordered_listing);

        check_format(&objects, &names).await?;
        let conditional_create = probe(&world, &objects, &names, &config.node_id).await?;
        let index_store = if conditional_create {
            counted
        } else {
            let local_index = parts.local_index.ok_or(OpenError::NoConditionalCreate)?;
            claim::prefix(&world, &objects, &names, &config.node_id).await?;
            local_index
        };
        let exclusive = if conditional_create { Exclusive::Yes } else { Exclusive::No };
        check_not_retired(&world, &objects, &names, &config.node_id, journaled).await?;
        let floor = Arc::new(Floor::default());
        let conditional_update = parts.conditional_update && conditional_create;
        let home = IndexHome { world: world.clone(), store: index_store, floor: floor.clone(), conditional_update };
        if let Some(read) = &read {
            let opened = behind::Opened {
                world: &world,
                config: &config,
                objects: &objects,
                names: &names,
                home: &home,
                conditional_create,
            };
            behind::refuse_at_risk(&opened, read).await?;
        }
        let life_began = world.clock().mono();
        let begun = match life::begin(&world, &objects, &names, &config.node_id, exclusive).await {
            // Its journal may be what fills the disk, and only a start can empty it.
            Err(LifeError::Disk(DiskError::NoSpace { .. })) if read.is_some() => {
                Journal::give_reserve(&world, &config.journal(Life { ordinal: 0, life: 0 }).dir).await;
                life::begin(&world, &objects, &names, &config.node_id, exclusive).await?
            }
            begun => begun?,
        };
        // Again, now that the life is there: whoever retires the node meanwhile has said so before it looked for lives.
        check_not_retired(&world, &objects, &names, &config.node_id, journaled).await?;
        let mut lives = Lives::new(begun.lives.clone());
        inherited(&objects, &names, &config.node_id, &mut lives).await?;
        let journal = match read {
            Some(read) => Some(Journal::go_on(world.clone(), config.journal(begun.life), read).await?),
            None => None,
        };
        world.at(Point::BeforeIndexOpen).await;

        floor.raise(begun.clock_ms);
        let path = names.index(&config.node_id);
        let db = home.open(path.clone()).await.map_err(|error| of_index(conditional_create, error))?;
        let watch = LifeWatch {
            world: world.clone(),
            objects: objects.clone(),
            names: names.clone(),
            node_id: config.node_id.clone(),
            own: begun.path.clone(),
        };
        // After the open, not before: whoever opens last writes, and must then be the newest.
        match watch.is_newest().await {
            Ok(true) => {}
            Ok(false) => {
                close_index(&world, &db).await;
                return Err(OpenError::Fenced(config.node_id.clone()));
            }
            Err(error) => {
                close_index(&world, &db).await;
                return Err(ObjectError::Unknown(error).into());
            }
        }
        let disk = match disk::open(&world, parts.disk).await {
            Ok(disk) => disk,
            Err(error) => {
                close_index(&world, &db).await;
                return Err(OpenError::Disk(error));
            }
        };
        let in_flight = config.in_flight_bytes();
        let shared = Arc::new(Shared {
            map: IndexMap::new(world.random_u64()),
            namespaces: RwLock::new(NamespaceTable::default()),
            namespaces_added: Mutex::default(),
            identities: Mutex::default(),
            identities_chosen: Mutex::default(),
            plain: Mutex::default(),
            generations: Mutex::default(),
            dead: Mutex::new(DeadBook::default()),
            ghosts: Mutex::new(Ghosts::default()),
            uses: Uses::default(),
            accounts: Mutex::new(Accounts::new(config.object_bytes_max)),
            has_budgets: config.has_budgets(),
            removals: Arc::new(Semaphore::new(REMOVALS_MAX)),
            signals: OnceLock::new(),
            housekeeping: Notify::new(),
            nodes: Mutex::new(vec![config.node_id.clone()]),
            unresolved: Mutex::default(),
            owed: Mutex::default(),
            horizons: Mutex::default(),
            upkeep_turn: tokio::sync::Mutex::new(()),
            active: AtomicU64::new(NO_NAMESPACE),
            identity_turns: KeyLocks::default(),
            loads: Loads::new(in_flight / 2),
            memory: MemoryTier::new(parts.memory),
            disk: disk.tier,
            disk_trouble: disk.trouble,
            disk_health: Breaker::default(),
            estimates: Estimates::default(),
            flights: Flights::default(),
            stats: Stats::default(),
            fate: watch::Sender::new(None),
            recovery: Mutex::new(Recovery::default()),
            journal: journal.as_ref().map(|(_, journal)| journal.clone()),
            shadowed: Mutex::default(),
            replacing: Mutex::default(),
            uploads: Notify::new(),
            upload_troubles: Default::default(),
            flushes: AtomicU64::new(0),
            packs: Mutex::default(),
            repacks: Notify::new(),
            counter: AtomicU64::new(0),
            lives: RwLock::new(lives),
            life: begun.life,
            began: life_began,
            conditional_create,
            home: home.clone(),
            objects,
            names,
            config,
            world: world.clone(),
        });

        let found = match bootstrap::from_index(&shared, &db).await {
            Ok(found) => found,
            Err(error) => {
                close_index(&world, &db).await;
                return Err(of_index(conditional_create, error));
            }
        };
        let last = found.state.filter(|state| state.life != 0);
        // The journal answers for itself: a damaged record of the directory is no reason to drop it.
        let stale_journal = last.is_some_and(|last| {
            journal.as_ref().is_some_and(|(found, journal)| {
                journal.state(|state| behind::lacks(state, found.end, &last, &begun.lives))
            })
        });
        let stale_directory = stale_journal || last.is_some_and(|last| !begun.directory.knows(last.life));
        // An index on the local disk goes back in time with it: what the bucket knows of lives tells.
        let stale_index = !conditional_create
            && found.complete
            && begun.before().is_some_and(|newest| found.state.is_none_or(|state| state.life != newest));
        let replaced = !conditional_create && begun.before().is_some_and(|newest| !begun.directory.knows(newest));
        let rolled_back = stale_directory || replaced;
        if rolled_back {
            world.reached(State::RolledBackDirectory);
            tracing::warn!(
                node = shared.config.node_id,
                "the data directory lacks what the bucket says that it held: it was rolled back or replaced; the bucket \
                 is trusted over it, and journaled puts that are not in the bucket are lost"
            );
        }
        let limits = CommitLimits {
            wait_max: shared.config.commit_wait_max,
            batch_max: shared.config.commit_batch_max,
            queue_max: shared.config.commit_queue_max,
            change_records_kept: shared.config.change_records_kept,
        };
        let (commits, end) = Committer {
            home,
            path,
            db,
            visible: shared.clone(),
            succession: watch.clone(),
            limits,
            life: begun.life.life,
            // An index that was lost starts far above where it was: no reader takes up in the midst of it.
            next_sequence: found.state.map_or(begun.life.ordinal << 32, |state| state.change_sequence),
            records: VecDeque::from(found.records),
            closing: Arc::new(AtomicBool::new(false)),
            trouble: Arc::default(),
            troubles: Default::default(),
        }
        .start();
        let store = Self {
            shared,
            commits,
            locks: Arc::new(KeyLocks::default()),
            watch,
            ended: Arc::new(tokio::sync::Mutex::new(Some(end))),
        };
        let source = match (found.complete, stale_index) {
            (true, false) => Source::Index,
            (_, true) => Source::StaleIndex,
            (false, false) if begun.lives.len() > 1 => Source::Listing,
            (false, false) => Source::Nothing,
        };
        let from = match store.fill(source).await {
            Ok(from) => from,
            Err(error) => {
                store.close(CLOSE_MAX).await;
                return Err(error);
            }
        };
        let replayed = match store.replay(stale_journal || stale_index || replaced).await {
            Ok(replayed) => replayed,
            Err(error) => {
                store.close(CLOSE_MAX).await;
                return Err(error);
            }
        };
        store.recall().await;
        *store.shared.recovery.lock() = Recovery {
            from,
            values: store.shared.map.len() as u64,
            duration_ms: u64::try_from(world.clock().mono().since(began).as_millis()).unwrap_or(u64::MAX),
            directory_rolled_back: rolled_back,
            replayed,
        };
        store.watch_journal();
        store.resume_removals();
        store.start_uploads();
        store.start_housekeeping();
        store.start_expiry();
        store.start_repacking();
        store.start_refresh();
        store.start_prefetch();
        Ok(store)
    }

    /// Ends the store where the journal's writer panics.
    fn watch_journal(&self) {
        let Some(journal) = self.shared.journal.clone() else { return };
        let shared = self.shared.clone();
        self.shared.world.spawn(async move {
            if journal.end().await == End::Panicked {
                shared.broken("the writer of the journal");
            }
        });
    }

    /// Applies what other nodes deleted meanwhile, lists the bucket where the index is not complete, and proves that the
    /// index takes writes. Says where the values came from.
    async fn fill(&self, source: Source) -> Result<&'static str, OpenError> {
        let shared = &self.shared;
        if source == Source::StaleIndex {
            // Durable before anything else is: a start that is killed while it lists must not pass for a complete one.
            self.write(vec![IndexChange::Incomplete]).await?;
        }
        self.apply_all_dead_marks(source != Source::Index).await?;
        let from = match source {
            Source::Index => {
                shared.world.reached(State::BootstrapFromIndex);
                "index"
            }
            Source::Listing | Source::StaleIndex => {
                let listed = listing::from_listing(self).await;
                listed.map_err(|error| error.of_open(shared.conditional_create))?;
                shared.world.reached(State::BootstrapFromListing);
                "listing"
            }
            Source::Nothing => "nothing",
        };
        shared.horizons.lock().clear();
        let mut found = Vec::new();
        if source != Source::Index {
            found = self.all_taken_over();
            found.push(IndexChange::Complete);
        }
        // Also tells the next start which life was the last.
        self.write(found).await?;
        Ok(from)
    }

    async fn write(&self, changes: Vec<IndexChange>) -> Result<(), OpenError> {
        let shared = &self.shared;
        let announced = self.commits.announce();
        self.commits.commit(changes, announced).await.map_err(|error| match &*shared.fate.borrow() {
            Some(Fate::Fenced(_)) => OpenError::Fenced(shared.config.node_id.clone()),
            Some(Fate::Broken(_)) | None => of_index(shared.conditional_create, error),
        })
    }

    /// Finishes what is under way and closes the index, within `bound`. Says whether it finished.
    pub async fn close(&self, bound: Duration) -> bool {
        self.commits.close();
        self.shared.uploads.notify_one();
        let end = self.ended.lock().await.take();
        let finish = async {
            if let Some(end) = end {
                let _ = end.await;
            }
            if let Some(journal) = &self.shared.journal
                && let Err(left) = journal.close(bound).await
            {
                tracing::warn!(?left, "the journal did not close cleanly");
            }
            self.collect_uses();
            if let Some(signals) = self.shared.signals.get()
                && !signals.journal.close(&self.shared.world, bound).await
            {
                tracing::warn!("the signal journal did not close cleanly");
            }
            if let Some(disk) = &self.shared.disk
                && let Err(error) = disk.close().await
            {
                tracing::warn!(error, "the disk tier did not close cleanly");
            }
        };
        timeout(&self.shared.world, bound, finish).await.is_some()
    }

    /// Tells when and why the store ended by itself.
    pub fn fate(&self) -> watch::Receiver<Option<Fate>> {
        self.shared.fate.subscribe()
    }
}

/// Batches of evicted or expired values whose objects may be on their way out of the object store.
const REMOVALS_MAX: usize = 4;

/// A store that does not open gives its index this long to close.
const CLOSE_MAX: Duration = Duration::from_secs(5);

async fn close_index<W: World>(world: &W, db: &slatedb::Db) {
    if !matches!(timeout(world, CLOSE_MAX, world.enter(db.close())).await, Some(Ok(()))) {
        tracing::warn!("the index of a store that did not open did not close cleanly");
    }
}

/// How often a start tells how much of the journal it has verified.
const PROGRESS: Duration = Duration::from_secs(1);

/// Reads the journal, with progress in the log: a large backlog takes a while to verify. A start that is to run without
/// one is refused where one is there that holds something.
async fn read_journal<W: World>(world: &W, config: &StoreConfig) -> Result<Option<journal::Read>, OpenError> {
    let mut said = world.clock().mono();
    let mut progress = |read: u64, total: u64| {
        let now = world.clock().mono();
        if now.since(said) >= PROGRESS {
            said = now;
            tracing::info!(read, total, "verifying the journal");
        }
    };
    let dir = config.journal(Life { ordinal: 0, life: 0 }).dir;
    let read = journal::Read::all(world, &dir, &mut progress).await;
    if read.as_ref().is_err_and(journal::OpenError::is_damage) {
        world.reached(State::DamagedJournalRefused);
        keep_evidence(world, &dir).await;
    }
    let read = read?;
    let (backlog, found) = (read.backlog(), read.recovered());
    if found.cut.is_some() || backlog.puts > 0 {
        let Recovered { records, bytes, cut, .. } = found;
        tracing::info!(records, bytes, torn_tail = ?cut, to_upload = backlog.puts, "the journal is verified");
    }
    world.reached_if(found.cut.is_some(), State::TornTailCut);
    match backlog {
        _ if config.journal_bytes_max > 0 => Ok(Some(read)),
        Backlog { puts: 0, heads: 0, .. } => Ok(None),
        Backlog { puts, bytes, .. } => Err(OpenError::JournalHolds { puts, bytes }),
    }
}

/// What tells damage from a torn tail may never have been synced: a power cut after the refusal must not take it away.
async fn keep_evidence<W: World>(world: &W, dir: &str) {
    let disk = world.disk();
    let kept = async {
        for name in disk.list(dir).await? {
            disk.sync(&format!("{dir}/{name}")).await?;
        }
        disk.sync_dir(dir).await
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, "the damaged journal could not be synced as it is");
    }
}

async fn check_format<W: World>(objects: &Objects<W>, names: &Names) -> Result<(), OpenError> {
    let path = names.format();
    let text = match objects.get(&path, RECORD_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(ObjectError::NotFound) => {
            let held =
                record::encode(&FormatRecord { reader_min: FORMAT, writer_min: FORMAT }).map_err(OpenError::Config)?;
            // The same bytes from every node: whoever is first, and however often.
            return Ok(objects.put_unique(&path, held.into()).await?);
        }
        Err(error) => return Err(error.into()),
    };
    let held: FormatRecord = record::decode(&text)
        .map_err(|error| ObjectError::Denied(format!("{path} is not a format record: {error}")))?;
    let needed = held.reader_min.max(held.writer_min);
    if needed > FORMAT {
        return Err(OpenError::Format { bucket: needed, min: FORMAT, max: FORMAT });
    }
    Ok(())
}

/// Whether the object store really creates an object only if it is absent: asked twice, the second must be refused.
async fn probe<W: World>(world: &W, objects: &Objects<W>, names: &Names, node_id: &str) -> Result<bool, OpenError> {
    let path = names.probe(node_id, world.random_u64());
    let create = || objects.create(&path, bytes::Bytes::from_static(b"probe").into());
    let able = match create().await {
        Err(ObjectError::Unsupported(_)) => return Ok(false),
        Ok(()) | Err(ObjectError::AlreadyExists) => match create().await {
            Err(ObjectError::AlreadyExists) => true,
            Ok(()) => false,
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = objects.remove(&path).await {
        tracing::debug!(%error, %path, "a probe object stays behind");
    }
    Ok(able)
}
