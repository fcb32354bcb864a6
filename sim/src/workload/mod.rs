//! What the nodes and their clients do.

mod client;
mod door;
mod engines;
mod finish;
mod hostile;
mod journal;
mod ledger;
mod mix;
mod node;
mod recover;
mod remote;
mod setup;
mod store;

pub use setup::{PARTS, Setup};

use crate::faults::FaultKind;
use crate::model::{Daemon, Model};
use crate::plan::Workload;
use crate::run::Cluster;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all clients and nodes of one run share.
pub struct Shared {
    pub cluster: Arc<Cluster>,
    pub setup: Setup,
    pub doors: door::Doors,
    pub model: Mutex<Model>,
    /// The daemons, in the order in which they first started.
    pub daemons: Mutex<Vec<Daemon>>,
    /// The kv_dtype with which a contested namespace was first opened.
    pub contested: Mutex<BTreeMap<String, String>>,
    /// The first node id that was ready, where an object store allows only one.
    pub owner: Mutex<Option<String>>,
    /// Journals that were damaged, by the daemon's name, until somebody has salvaged them.
    pub damages: Mutex<BTreeMap<String, journal::Damage>>,
    /// Salvages whose report was heard, by the daemon's name.
    pub salvages: Mutex<BTreeMap<String, usize>>,
    /// Faults are over, nodes are up, and what had to be told has been.
    pub settled: AtomicBool,
}

impl Shared {
    fn may_meet(&self, kind: FaultKind) -> bool {
        self.cluster.run().plan().faults.iter().any(|fault| fault.kind == kind)
    }

    /// No fault makes a wall clock jump.
    pub fn clocks_are_steady(&self) -> bool {
        !self.may_meet(FaultKind::ClockJump)
    }

    /// No fault makes a node stand still.
    pub fn never_pauses(&self) -> bool {
        !self.may_meet(FaultKind::PauseNode)
    }
}

/// Runs the plan's workload to its end.
pub async fn run(cluster: Arc<Cluster>) {
    match cluster.run().plan().workload {
        Workload::Engines => engines::run(cluster).await,
        _ => store::run(cluster).await,
    }
}
