//! What every `World` promises besides its clock and its disk: randomness, tasks, and calls into SlateDB and out of it.

use super::{Verdict, holds};
use crate::world::{Clock, World};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// Draws of one suite. That two of them are equal, or that one bit is the same in all, has a chance below 2^-50.
const DRAWS: usize = 64;

pub async fn world<W: World>(world: &W) -> Verdict {
    randomness(world)?;
    tasks(world).await?;
    calls(world).await
}

fn randomness<W: World>(world: &W) -> Verdict {
    let drawn: Vec<u64> = (0..DRAWS).map(|_| world.random_u64()).collect();
    let different: BTreeSet<&u64> = drawn.iter().collect();
    holds!(different.len() == DRAWS, drawn);
    let (ones, zeros) = drawn.iter().fold((0, 0), |(ones, zeros), number| (ones | number, zeros | !number));
    holds!(ones == u64::MAX && zeros == u64::MAX, drawn);
    Ok(())
}

/// A task runs beside the one that spawned it, also when nobody waits for it.
async fn tasks<W: World>(world: &W) -> Verdict {
    let (sender, answer) = oneshot::channel();
    let inner = world.clone();
    world.spawn(async move {
        inner.clock().sleep(Duration::from_millis(2)).await;
        let _ = sender.send(inner.clock().mono());
    });
    let began = world.clock().mono();
    let ended = super::step("a task's answer", answer.await)?;
    holds!(ended.since(began) >= Duration::from_millis(2), ended);
    Ok(())
}

/// A call in has tokio's context, may wait for a call out of it, and one that is dropped disturbs no other.
async fn calls<W: World>(world: &W) -> Verdict {
    holds!(world.enter(async { tokio::runtime::Handle::try_current().is_ok() }).await, "no context");
    for sleep_ms in [0, 1, 30] {
        let sleep = Duration::from_millis(sleep_ms);
        let began = world.clock().mono();
        let answer = world.enter(async {
            world.leave(world.clock().sleep(sleep)).await;
            sleep_ms
        });
        holds!(answer.await == sleep_ms, sleep_ms);
        let took = world.clock().mono().since(began);
        // A wake-up that is lost would show here: nothing else wakes the caller for as long.
        holds!(took >= sleep && took < sleep + Duration::from_secs(5), took);
    }
    let mut dropped = Box::pin(world.enter(world.leave(world.clock().sleep(Duration::from_secs(3600)))));
    let pending = futures::poll!(dropped.as_mut()).is_pending();
    drop(dropped);
    holds!(pending, pending);
    let (sender, answer) = oneshot::channel();
    let inner = world.clone();
    world.spawn(async move {
        inner.clock().sleep(Duration::from_millis(3)).await;
        let _ = sender.send(7);
    });
    let answer = world.enter(answer).await;
    holds!(answer == Ok(7), answer);
    Ok(())
}
