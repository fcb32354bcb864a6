//! What the nodes and their clients do.

mod engines;

use crate::plan::Workload;
use crate::run::Cluster;
use std::sync::Arc;

/// Runs the plan's workload to its end.
pub async fn run(cluster: Arc<Cluster>) {
    match cluster.run().plan().workload {
        Workload::Engines => engines::run(cluster).await,
        _ => {}
    }
}
