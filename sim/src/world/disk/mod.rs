//! A disk that keeps only what was synced, and at a crash decides by the sector what else it keeps.

mod crash;
mod damage;
mod rollback;

pub use crash::Losses;
pub use damage::Volume;

use crate::faults::{FaultKind, Strike};
use crate::plan::Operation;
use crate::run::Run;
use bettong_core::world::{Disk, DiskError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The unit that a torn write keeps or loses whole.
const SECTOR_BYTES: usize = 512;
/// Older states that a rollback can go back to.
pub const SNAPSHOTS_MAX: usize = 8;
/// Every second sync that loses its data leaves it readable, as pages that the kernel took for clean, until a death.
const READABLE_CHOICE: u64 = 2;

/// The disk of one node; it outlives the node's lives.
#[derive(Clone)]
pub struct SimDisk {
    run: Run,
    node: String,
    volume: Volume,
    state: Arc<Mutex<State>>,
    /// Nothing strikes what is done through this handle: the harness's own, or an operator's.
    quiet: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// So many leading bytes are durable, but for the doomed.
    synced: usize,
    /// What a failed sync gave up: still read, and gone at the next death, whatever later syncs say.
    doomed: Vec<Range<usize>>,
}

/// A change of a directory that is not durable yet.
#[derive(Debug, Clone)]
enum Pending {
    Link { name: String, file: u64 },
    Rename { from: String, to: String, file: u64 },
    Unlink { name: String },
}

type Names = BTreeMap<String, u64>;

#[derive(Debug, Clone, Default)]
struct State {
    files: BTreeMap<u64, Contents>,
    files_made: u64,
    names: Names,
    durable_names: Names,
    pending: Vec<Pending>,
    /// Durable states of before: names, and the bytes of the files.
    snapshots: Vec<(Names, BTreeMap<u64, Contents>)>,
}

fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn valid(name: &str) -> Result<(), DiskError> {
    let ordinary = |component: &str| !matches!(component, "" | "." | "..") && !component.contains(['\0', '\\']);
    if name.split('/').all(ordinary) {
        return Ok(());
    }
    Err(DiskError::Io { path: name.escape_default().to_string(), detail: "not a name of this disk".to_owned() })
}

fn not_found(name: &str) -> DiskError {
    DiskError::NotFound { path: name.to_owned() }
}

impl Pending {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
        }
    }

    /// The directory whose sync makes it durable: for a rename, that of the new name.
    fn directory(&self) -> &str {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => directory(name),
            Self::Rename { to, .. } => directory(to),
        }
    }
}

impl State {
    fn file(&self, name: &str) -> Result<&Contents, DiskError> {
        self.names.get(name).and_then(|file| self.files.get(file)).ok_or_else(|| not_found(name))
    }

    fn file_mut(&mut self, name: &str) -> Result<&mut Contents, DiskError> {
        self.names.get(name).and_then(|file| self.files.get_mut(file)).ok_or_else(|| not_found(name))
    }

    fn change(&mut self, change: Pending) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// An operation that a fault fails.
struct Struck {
    error: DiskError,
    /// Of an append this much may be there nevertheless.
    choice: u64,
}

impl From<Struck> for DiskError {
    fn from(struck: Struck) -> Self {
        struck.error
    }
}

impl From<DiskError> for Struck {
    fn from(error: DiskError) -> Self {
        Self { error, choice: 0 }
    }
}

impl SimDisk {
    /// An empty disk on a volume that it shares with others.
    pub fn new(run: &Run, node: &str, volume: &Volume) -> Self {
        let state = Arc::default();
        volume.join(&state);
        Self { run: run.clone(), node: node.to_owned(), volume: volume.clone(), state, quiet: false }
    }

    /// The same disk, through a handle that nothing strikes.
    pub fn quietly(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// A copy of the disk as it is now, on a volume of its own; nothing strikes it.
    pub fn image(&self) -> Self {
        let state = Arc::new(Mutex::new(self.state.lock().clone()));
        Self { state, volume: Volume::default(), quiet: true, ..self.clone() }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.state.lock().files.values().map(|contents| contents.bytes.len() as u64).sum()
    }

    /// Before and after an operation the process may die: of this task nothing more is seen then.
    async fn step(&self) {
        if !self.quiet && self.run.step(&self.node) {
            std::future::pending::<()>().await;
        }
    }

    /// An operation takes a moment, and may fail. Answers the strikes that change what it does.
    async fn strike(&self, operation: Operation, name: &str) -> Result<Vec<Strike>, Struck> {
        if self.quiet {
            tokio::task::yield_now().await;
            return Ok(Vec::new());
        }
        self.step().await;
        let wanted = |kind: FaultKind| kind.of_disk() || kind.needs_descriptors();
        let strikes = self.run.fault_operation(&self.node, operation, name, wanted);
        let mut left = Vec::new();
        for strike in strikes {
            let path = name.to_owned();
            let error = match strike.kind {
                FaultKind::DiskSlowSync => {
                    madsim::time::sleep(strike.delay).await;
                    self.run.fault_changed(&strike.key);
                    continue;
                }
                FaultKind::DiskSyncLost | FaultKind::DiskRot | FaultKind::DiskMisdirectedRead => {
                    left.push(strike);
                    continue;
                }
                FaultKind::DiskNoSpace => DiskError::NoSpace { path, detail: "the simulated disk is full".to_owned() },
                FaultKind::FdLimit => DiskError::Descriptors { path, detail: "simulated EMFILE".to_owned() },
                _ => DiskError::Io { path, detail: "simulated EIO".to_owned() },
            };
            self.run.fault_changed(&strike.key);
            return Err(Struck { error, choice: strike.choice });
        }
        Ok(left)
    }

    /// A sync takes its time: a crash can come in between.
    async fn syncing(&self) {
        if !self.quiet {
            madsim::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What a read of a file that is there answers, by what strikes it.
    fn read_struck(&self, bytes: Bytes, name: &str, offset: u64, strikes: &[Strike]) -> Result<Bytes, DiskError> {
        let mut read = bytes;
        for strike in strikes {
            let changed = match strike.kind {
                FaultKind::DiskRot => {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX);
                    let range = start..start.saturating_add(read.len());
                    let mut state = self.state.lock();
                    let stored = &mut state.file_mut(name)?.bytes;
                    let seen = damage::rot(stored, &range, strike.choice);
                    read = Bytes::copy_from_slice(stored.get(range).unwrap_or_default());
                    seen
                }
                _ => match self.volume.astray(offset, read.len(), strike.choice).filter(|other| *other != read) {
                    Some(other) => {
                        read = other;
                        true
                    }
                    None => false,
                },
            };
            if changed {
                self.run.fault_changed(&strike.key);
            }
        }
        Ok(read)
    }
}

impl Disk for SimDisk {
    async fn create(&self, name: &str) -> Result<(), DiskError> {
        valid(name)?;
        self.strike(Operation::Create, name).await?;
        {
            let mut state = self.state.lock();
            if state.names.contains_key(name) {
                return Err(DiskError::Exists { path: name.to_owned() });
            }
            state.files_made += 1;
            let file = state.files_made;
            state.files.insert(file, Contents::default());
            state.change(Pending::Link { name: name.to_owned(), file });
        }
        self.step().await;
        Ok(())
    }

    async fn append(&self, name: &str, buffers: &[Bytes]) -> Result<(), DiskError> {
        valid(name)?;
        let struck = self.strike(Operation::Append, name).await.err();
        {
            let mut state = self.state.lock();
            let contents = state.file_mut(name)?;
            let before = contents.bytes.len();
            buffers.iter().for_each(|buffer| contents.bytes.extend_from_slice(buffer));
            if let Some(Struck { error, choice }) = struck {
                // What a write that fails has written of its bytes is anybody's guess.
                let all = (contents.bytes.len() - before) as u64;
                let part = choice.checked_rem(all + 1).and_then(|part| usize::try_from(part).ok()).unwrap_or_default();
                contents.bytes.truncate(before + part);
                return Err(error);
            }
        }
        self.step().await;
        Ok(())
    }

    async fn read_at(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        valid(name)?;
        let strikes = self.strike(Operation::Read, name).await?;
        let read = {
            let state = self.state.lock();
            let contents = state.file(name)?;
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(contents.bytes.len());
            let (start, end) = (bound(offset), bound(offset.saturating_add(len)));
            Bytes::copy_from_slice(contents.bytes.get(start..end).unwrap_or_default())
        };
        self.read_struck(read, name, offset, &strikes)
    }

    async fn len(&self, name: &str) -> Result<u64, DiskError> {
        valid(name)?;
        Ok(self.state.lock().file(name)?.bytes.len() as u64)
    }

    async fn sync(&self, name: &str) -> Result<(), DiskError> {
        valid(name)?;
        self.state.lock().file(name)?;
        self.syncing().await;
        let lost = self.strike(Operation::Sync, name).await?.pop();
        {
            let mut state = self.state.lock();
            let contents = state.file_mut(name)?;
            if let Some(strike) = lost {
                contents.lose_unsynced(strike.choice.is_multiple_of(READABLE_CHOICE));
                self.run.fault_changed(&strike.key);
                let detail = "simulated EIO: the data is gone".to_owned();
                return Err(DiskError::Io { path: name.to_owned(), detail });
            }
            contents.synced = contents.bytes.len();
        }
        self.step().await;
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        valid(from)?;
        valid(to)?;
        self.strike(Operation::Rename, from).await?;
        {
            let mut state = self.state.lock();
            let file = *state.names.get(from).ok_or_else(|| not_found(from))?;
            state.change(Pending::Rename { from: from.to_owned(), to: to.to_owned(), file });
        }
        self.step().await;
        Ok(())
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        let here = state.names.keys().filter(|name| directory(name) == dir);
        Ok(here.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        valid(name)?;
        self.strike(Operation::Remove, name).await?;
        {
            let mut state = self.state.lock();
            state.file(name)?;
            state.change(Pending::Unlink { name: name.to_owned() });
        }
        self.step().await;
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.syncing().await;
        self.strike(Operation::SyncDir, dir).await?;
        {
            let mut state = self.state.lock();
            let changes = std::mem::take(&mut state.pending);
            let (durable, pending): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|change| change.directory() == dir);
            state.pending = pending;
            for change in durable {
                change.apply(&mut state.durable_names);
            }
        }
        self.step().await;
        Ok(())
    }
}
