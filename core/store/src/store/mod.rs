//! The store: one node's blocks in memory, on disk and in the object store.

mod behind;
mod bootstrap;
mod claim;
mod delete;
mod disk;
mod evict;
mod expire;
mod facts;
mod fetch;
mod forget;
mod get;
mod head;
#[cfg(feature = "arbitrary")]
pub mod hostile;
mod journaled;
mod list;
mod listing;
mod lives;
mod loads;
mod namespace;
mod open;
mod packs;
mod peers;
mod put;
mod recency;
mod replay;
mod shared;
mod signals;
mod upkeep;
mod upload;

pub use get::{Patience, ReadOutcome};
pub use open::{OpenError, StoreParts};
pub use put::{PutError, PutSpec};
pub use upkeep::retire::{RetiredRecord, retired_by};
pub use upkeep::{Report, Slice};

use crate::index::committer::CommitQueue;
use crate::life::LifeWatch;
use crate::locks::KeyLocks;
use crate::world::World;
use shared::Shared;
use std::sync::Arc;

/// An open store. Cheap to clone; closes with `close`.
pub struct Store<W: World> {
    shared: Arc<Shared<W>>,
    commits: CommitQueue,
    locks: Arc<KeyLocks>,
    watch: LifeWatch<W>,
    ended: Arc<tokio::sync::Mutex<Option<tokio::sync::oneshot::Receiver<()>>>>,
}

impl<W: World> Clone for Store<W> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            commits: self.commits.clone(),
            locks: self.locks.clone(),
            watch: self.watch.clone(),
            ended: self.ended.clone(),
        }
    }
}

/// Why a store ended by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// A newer life of this node id exists. A supervisor must not start this process again.
    Fenced(String),
    /// A task without which it cannot work has panicked: this one. A new process may go on.
    Broken(&'static str),
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fenced(why) => f.write_str(why),
            Self::Broken(task) => write!(f, "{task} has panicked, which is a defect"),
        }
    }
}
