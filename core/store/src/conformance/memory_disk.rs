//! A disk in memory that fails, tears and forgets on demand.

use crate::world::{Disk, DiskError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The unit that a torn write keeps or loses whole. Bytes.
const SECTOR_BYTES: usize = 512;

/// What happens at one of the changes that are asked of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strike {
    /// The process ends before it; it and everything after it never completes.
    Kill,
    /// The process ends when half of an append is done; of other changes nothing.
    KillHalfway,
    /// It fails, and is done half where it is an append.
    Fail,
    /// It fails; where it is a sync, what was not synced is gone, whatever a later sync says.
    FailAndLose,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Everything stays: only the process ended.
    Nothing,
    /// Nothing stays.
    Everything,
    /// A subset of the sectors and of the changes of directories, by this number.
    Some(u64),
}

#[derive(Clone, Default, Debug)]
struct Contents {
    bytes: Vec<u8>,
    /// So many leading bytes are durable.
    synced: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, u64),
    Rename(String, String, u64),
    Unlink(String),
}

#[derive(Default, Debug)]
struct State {
    files: BTreeMap<u64, Contents>,
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<Change>,
    /// Changes that were asked for so far.
    changes: u64,
    strikes: BTreeMap<u64, Strike>,
    dead: bool,
}

/// `Disk` in memory. All clones are the same disk.
#[derive(Clone, Default, Debug)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
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

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Link(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }

    fn directory(&self) -> &str {
        match self {
            Self::Link(name, _) | Self::Rename(_, name, _) | Self::Unlink(name) => directory(name),
        }
    }
}

impl State {
    fn file(&mut self, name: &str) -> Result<&mut Contents, DiskError> {
        self.names.get(name).and_then(|file| self.files.get_mut(file)).ok_or_else(|| not_found(name))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

impl MemoryDisk {
    /// Strikes the `at`-th change from now on, counted from 0.
    pub fn strike(&self, at: u64, strike: Strike) {
        let mut state = self.state.lock();
        let at = state.changes + at;
        state.strikes.insert(at, strike);
    }

    /// Changes that were asked for so far.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Whether a strike has ended the process.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// The machine comes back: what is left is durable, and nothing strikes any more.
    pub fn crash(&self, loss: Loss) {
        let mut state = self.state.lock();
        state.dead = false;
        state.strikes.clear();
        let mut random = match loss {
            Loss::Some(seed) => seed | 1,
            _ => 0,
        };
        let mut kept = move || match loss {
            Loss::Nothing => true,
            Loss::Everything => false,
            Loss::Some(_) => {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random >> 63 == 0
            }
        };
        for change in std::mem::take(&mut state.pending) {
            if kept() {
                change.apply(&mut state.durable);
            }
        }
        state.names = state.durable.clone();
        for contents in state.files.values_mut() {
            let mut end = contents.synced;
            for start in (0..contents.bytes.len()).step_by(SECTOR_BYTES) {
                let sector = contents.synced.max(start)..contents.bytes.len().min(start + SECTOR_BYTES);
                if sector.is_empty() {
                    continue;
                }
                if kept() {
                    end = sector.end;
                } else {
                    contents.bytes[sector].fill(0);
                }
            }
            contents.bytes.truncate(end);
            contents.synced = end;
        }
    }

    /// A disk of its own with the same contents, all of them durable.
    pub fn copy(&self) -> Self {
        let state = self.state.lock();
        let names = state.names.clone();
        let files = state.files.clone().into_iter().map(|(file, contents)| {
            let synced = contents.bytes.len();
            (file, Contents { synced, ..contents })
        });
        let copied = State { files: files.collect(), durable: names.clone(), names, ..State::default() };
        Self { state: Arc::new(Mutex::new(copied)) }
    }

    /// The bytes of all files, by name.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock();
        let bytes = |file: &u64| state.files.get(file).map(|contents| contents.bytes.clone()).unwrap_or_default();
        state.names.iter().map(|(name, file)| (name.clone(), bytes(file))).collect()
    }

    /// Puts these bytes under a name, durably; removes the name where there are none.
    pub fn replace(&self, name: &str, bytes: Option<Vec<u8>>) {
        let mut state = self.state.lock();
        let Some(bytes) = bytes else {
            state.names.remove(name);
            state.durable.remove(name);
            return;
        };
        let file = state.files.last_key_value().map_or(1, |(last, _)| last + 1);
        let synced = bytes.len();
        state.files.insert(file, Contents { bytes, synced });
        state.names.insert(name.to_owned(), file);
        state.durable.insert(name.to_owned(), file);
    }

    /// Counts a change, and what strikes it. Never completes where the process has ended.
    async fn begin(&self, name: &str) -> Result<Option<Strike>, DiskError> {
        valid(name)?;
        // A real disk lets others run meanwhile.
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        let (dead, strike) = {
            let mut state = self.state.lock();
            let at = state.changes;
            state.changes += 1;
            let strike = state.strikes.remove(&at);
            if strike == Some(Strike::Kill) {
                state.dead = true;
            }
            (state.dead, strike)
        };
        if dead {
            std::future::pending::<()>().await;
        }
        Ok(strike)
    }

    /// What a strike that is not an append's comes to.
    async fn struck(&self, name: &str, strike: Option<Strike>) -> Result<(), DiskError> {
        match strike {
            Some(Strike::Fail | Strike::FailAndLose) => {
                Err(DiskError::Io { path: name.to_owned(), detail: "struck".to_owned() })
            }
            Some(Strike::Kill | Strike::KillHalfway) => {
                self.state.lock().dead = true;
                std::future::pending().await
            }
            None => Ok(()),
        }
    }
}

impl Disk for MemoryDisk {
    async fn create(&self, name: &str) -> Result<(), DiskError> {
        let strike = self.begin(name).await?;
        self.struck(name, strike).await?;
        let mut state = self.state.lock();
        if state.names.contains_key(name) {
            return Err(DiskError::Exists { path: name.to_owned() });
        }
        let file = state.files.last_key_value().map_or(1, |(last, _)| last + 1);
        state.files.insert(file, Contents::default());
        state.change(Change::Link(name.to_owned(), file));
        Ok(())
    }

    async fn append(&self, name: &str, buffers: &[Bytes]) -> Result<(), DiskError> {
        let strike = self.begin(name).await?;
        let bytes = buffers.concat();
        let some = if strike.is_some() { bytes.len() / 2 } else { bytes.len() };
        self.state.lock().file(name)?.bytes.extend_from_slice(&bytes[..some]);
        self.struck(name, strike).await
    }

    async fn read_at(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        valid(name)?;
        let mut state = self.state.lock();
        let contents = state.file(name)?;
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(contents.bytes.len());
        let (start, end) = (bound(offset), bound(offset.saturating_add(len)));
        Ok(Bytes::copy_from_slice(contents.bytes.get(start..end).unwrap_or_default()))
    }

    async fn len(&self, name: &str) -> Result<u64, DiskError> {
        valid(name)?;
        Ok(self.state.lock().file(name)?.bytes.len() as u64)
    }

    async fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.state.lock().file(name)?;
        let strike = self.begin(name).await?;
        if strike == Some(Strike::FailAndLose) {
            let mut state = self.state.lock();
            let contents = state.file(name)?;
            contents.bytes.truncate(contents.synced);
        }
        self.struck(name, strike).await?;
        let mut state = self.state.lock();
        let contents = state.file(name)?;
        contents.synced = contents.bytes.len();
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        valid(to)?;
        let strike = self.begin(from).await?;
        self.struck(from, strike).await?;
        let mut state = self.state.lock();
        let file = *state.names.get(from).ok_or_else(|| not_found(from))?;
        state.change(Change::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        let here = state.names.keys().filter(|name| directory(name) == dir);
        Ok(here.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let strike = self.begin(name).await?;
        self.struck(name, strike).await?;
        let mut state = self.state.lock();
        state.file(name)?;
        state.change(Change::Unlink(name.to_owned()));
        Ok(())
    }

    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let strike = self.begin("directory").await?;
        self.struck(dir, strike).await?;
        let mut state = self.state.lock();
        let changes = std::mem::take(&mut state.pending);
        let (durable, pending): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.directory() == dir);
        state.pending = pending;
        for change in durable {
            change.apply(&mut state.durable);
        }
        Ok(())
    }
}
