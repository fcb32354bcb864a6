//! What every `Clock` promises.

use super::{Verdict, holds};
use crate::world::Clock;
use std::time::Duration;

/// Monotone time never steps back, and a sleep is never short.
pub async fn clock<C: Clock>(clock: &C) -> Verdict {
    let mut last = clock.mono();
    for sleep_ms in [0, 1, 7] {
        let before = clock.mono();
        holds!(before >= last, (before, last));
        let duration = Duration::from_millis(sleep_ms);
        clock.sleep(duration).await;
        let after = clock.mono();
        holds!(after.since(before) >= duration, (before, after, duration));
        last = after;
    }
    // A dropped sleep is forgotten: it must not disturb later ones.
    drop(clock.sleep(Duration::from_secs(3600)));
    let before = clock.mono();
    clock.sleep(Duration::from_millis(2)).await;
    let slept = clock.mono().since(before);
    holds!(slept >= Duration::from_millis(2) && slept < Duration::from_secs(3600), slept);
    let year_2020_ms = 1_577_836_800_000;
    holds!(clock.wall_ms() > year_2020_ms, clock.wall_ms());
    Ok(())
}
