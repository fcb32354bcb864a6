//! When all clients are gone, nothing of a pool is kept but what the memory tier keeps.

use super::ShmState;
use crate::model::Daemon;
use crate::workload::Shared;
use crate::workload::client::{Client, Heard};
use crate::world::elapsed;
use bettong_wire::Request;
use bettong_wire::Response;
use std::time::Duration;

/// What was under way has ended, and what waited for a disk was written, this long after the last client left.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// O7, O14: no session is left, and slots are free or the tier's.
pub async fn check(shared: &Shared, client: &mut Client, daemons: &[Daemon]) {
    let run = shared.cluster.run();
    for daemon in daemons {
        // Of daemons without a door for shared memory, too.
        let host = shared.hosts.of(&daemon.name);
        let began = elapsed();
        loop {
            let slots = slots(client, daemon).await;
            let sessions = host.as_ref().map_or(0, |host| host.sessions.len());
            match slots {
                Some((in_use, kept)) if in_use == kept && sessions == 0 => {
                    run.state_reached(ShmState::SlotsConserved.as_str());
                    break;
                }
                _ if elapsed() > began + QUIET_WITHIN => {
                    let what = format!("{sessions} sessions; bytes of slots in use, and of the tier's: {slots:?}");
                    return run.fail("O14", format!("{} keeps what nobody has: {what}", daemon.name));
                }
                _ => madsim::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

/// Bytes of slots that are in use, and of those that the tier keeps values in.
async fn slots(client: &mut Client, daemon: &Daemon) -> Option<(u64, u64)> {
    let heard = client.ask(daemon, 0, Vec::new(), |_| Request::Stats).await;
    let Heard::Answer(Response { payloads, .. }) = heard else { return None };
    let stats: serde_json::Value = serde_json::from_slice(payloads.first()?.as_ref()).ok()?;
    let number = |path: &str| stats.pointer(path).and_then(serde_json::Value::as_u64);
    Some((number("/memory/slot_bytes")?, number("/memory/tier_bytes")?))
}
