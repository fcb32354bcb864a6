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
mod operator;
mod recover;
mod remote;
mod setup;
mod shm;
mod store;

pub use setup::{PARTS, Setup};
pub use shm::ShmState;

use crate::faults::FaultKind;
use crate::host::Hosts;
use crate::model::{Daemon, Model};
use crate::object_store::{Effect, EffectKind};
use crate::plan::Workload;
use crate::run::Cluster;
use crate::world::elapsed;
use operator::Retirement;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What all clients and nodes of one run share.
pub struct Shared {
    pub cluster: Arc<Cluster>,
    pub setup: Setup,
    pub doors: door::Doors,
    /// Where clients of the daemons' own hosts attach.
    pub hosts: Hosts,
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
    /// Nodes that were asked to retire others.
    pub retirements: Mutex<Vec<Retirement>>,
    /// Faults are over, nodes are up, and what had to be told has been.
    pub settled: AtomicBool,
}

impl Shared {
    /// What `node` is configured with at present.
    pub fn setup_of(&self, node: &str) -> Setup {
        let run = self.cluster.run();
        match run.redrawn(node) {
            0 => self.setup.clone(),
            number => self.setup.redrawn(run.seed(), run.plan(), node, number),
        }
    }

    fn may_meet(&self, kind: FaultKind) -> bool {
        self.cluster.run().plan().faults.iter().any(|fault| fault.kind == kind)
    }

    /// Node ids that may have been retired by now: somebody asked for it.
    pub fn retired(&self) -> BTreeSet<String> {
        self.retirements.lock().iter().map(|known| known.of.clone()).collect()
    }

    /// The nodes that were retired, and by whom, as the bucket says.
    pub fn claims(&self) -> BTreeMap<String, String> {
        let daemons = self.daemons.lock().clone();
        let bucket = self.cluster.service().bucket().lock();
        let claimed = bucket.effects().iter().filter(|effect| matches!(effect.kind, EffectKind::Put { .. }));
        let claim = |effect: &Effect| {
            let of = effect.path.strip_suffix("/retired")?.rsplit('/').next()?.to_owned();
            let by = daemons.iter().find(|daemon| daemon.name == effect.by)?.node_id.clone();
            Some((of, by))
        };
        claimed.filter_map(claim).collect()
    }

    /// Whether `by` was heard to have taken `of` over wholly.
    pub fn is_retired_by(&self, of: &str, by: &str) -> bool {
        self.retirements.lock().iter().any(|known| known.of == of && known.by == by && known.done.is_some())
    }

    /// The heir of the heir has finished what that one had begun.
    pub fn settle_claim(&self, of: &str, by: &str) {
        let mut retirements = self.retirements.lock();
        retirements.iter_mut().filter(|known| known.of == of && known.by == by).for_each(|known| {
            known.done.get_or_insert(elapsed());
        });
    }

    /// No fault makes a wall clock jump.
    pub fn clocks_are_steady(&self) -> bool {
        !self.may_meet(FaultKind::ClockJump)
    }

    /// Nodes may die and their disk caches be slow; whatever else they need answers at once.
    pub fn only_caches_are_slow(&self) -> bool {
        let faults = &self.cluster.run().plan().faults;
        self.may_meet(FaultKind::CacheSlow)
            && faults.iter().all(|fault| matches!(fault.kind, FaultKind::CacheSlow | FaultKind::KillNode))
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
