//! The disk tier at a start: opened within a bound, or done without.

use crate::observe::{Point, State};
use crate::race::timeout;
use crate::tiers::disk::{DiskConfig, DiskTier};
use crate::world::World;
use tokio::sync::oneshot;

/// What a start has of its disk tier.
#[derive(Debug, Default)]
pub struct DiskStart {
    pub tier: Option<DiskTier>,
    /// Why this process runs without the tier that it was to have.
    pub trouble: Option<String>,
}

/// Opens the tier, in a task of its own, since a device that hangs may hold on to whoever calls it. After `open_max` the
/// node starts without: what the device holds is a copy, whose put ids are compared whenever it is read again.
pub async fn open<W: World>(world: &W, config: Option<DiskConfig>) -> Result<DiskStart, String> {
    let Some(config) = config else { return Ok(DiskStart::default()) };
    let (dir, bound) = (config.dir.display().to_string(), config.open_max);
    let (answer, opened) = oneshot::channel();
    let task = world.clone();
    world.spawn(async move {
        task.at(Point::BeforeDiskOpen).await;
        // Given up meanwhile: another start may be at the same directory.
        if answer.is_closed() {
            return;
        }
        if let Err(Ok(late)) = answer.send(DiskTier::open(&config).await)
            && let Err(error) = late.close().await
        {
            tracing::debug!(error, "a disk tier that was given up did not close cleanly");
        }
    });
    match timeout(world, bound, opened).await {
        Some(Ok(Ok(tier))) => Ok(DiskStart { tier: Some(tier), trouble: None }),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(_)) => Err(format!("{dir}: the task that opens it ended")),
        None => {
            world.reached(State::StartedWithoutDisk);
            let trouble = format!("{dir}: it did not open within {bound:?}; this process runs without it");
            tracing::warn!(trouble, "the disk tier is left out until the next start");
            Ok(DiskStart { tier: None, trouble: Some(trouble) })
        }
    }
}
