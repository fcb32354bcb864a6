//! The signal journal: what it keeps, what it drops, and that it never stands in the way.

use crate::rig::live;
use bettong_core::conformance::memory_disk::{Loss, MemoryDisk, Strike};
use bettong_core::conformance::memory_world::MemoryWorld;
use bettong_core::journal::signal::{SignalConfig, SignalEvent, SignalJournal, SignalsRecovered};
use bettong_core::world::{Clock, World};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn event(n: u64) -> SignalEvent {
    SignalEvent { entity: n, kind: (n % 5) as u8, weight: n as f32, timestamp_ns: n }
}

fn config() -> SignalConfig {
    SignalConfig { segment_bytes: 4 << 10, bytes_max: 16 << 10, ..SignalConfig::default() }
}

async fn open(world: &MemoryWorld) -> (SignalsRecovered, Vec<u64>, SignalJournal) {
    let mut entities = Vec::new();
    let mut each = |_, event: SignalEvent| entities.push(event.entity);
    let (recovered, journal) = SignalJournal::open(world.clone(), config(), &mut each).await.unwrap();
    (recovered, entities, journal)
}

/// Records `events`, each `at_once` of them in an append of their own.
async fn fill(world: &MemoryWorld, journal: &SignalJournal, events: std::ops::Range<u64>, at_once: usize) {
    for some in events.collect::<Vec<_>>().chunks(at_once) {
        some.iter().for_each(|n| journal.record(event(*n)));
        world.clock().sleep(Duration::from_millis(150)).await;
    }
}

#[test]
fn signals_come_back_in_order_and_the_oldest_go_first() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, none, journal) = open(&world).await;
        assert!(none.is_empty());
        fill(&world, &journal, 0..2000, 100).await;
        assert!(journal.close(&world, SECOND).await);
        let stats = journal.stats();
        assert_eq!((stats.appended, stats.dropped, stats.failed), (2000, 0, 0));
        assert!(stats.disk_bytes <= 20 << 10, "{stats:?}");
    });
    disk.crash(Loss::Everything);
    live(&disk, 2, async |world| {
        let (recovered, entities, journal) = open(&world).await;
        assert_eq!((recovered.end, recovered.skipped, recovered.events), (2000, 0, entities.len() as u64));
        assert!((300..2000).contains(&entities.len()), "{} are left", entities.len());
        assert!(entities.iter().copied().eq(2000 - entities.len() as u64..2000));
        fill(&world, &journal, 2000..2010, 10).await;
        assert!(journal.close(&world, SECOND).await);
    });
    live(&disk, 3, async |world| assert_eq!(open(&world).await.1.last(), Some(&2009)));
}

#[test]
fn damage_is_skipped_and_repetition_counts_once() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, _, journal) = open(&world).await;
        fill(&world, &journal, 0..90, 30).await;
        journal.close(&world, SECOND).await;
    });
    let contents = disk.contents();
    let (file, bytes) = contents.first_key_value().unwrap();
    let batch = 64 + 30 * 21;
    assert_eq!(bytes.len(), 3 * batch);
    for at in 0..bytes.len() {
        let copy = disk.copy();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        copy.replace(file, Some(damaged));
        live(&copy, 2, async |world| {
            let (recovered, entities, _) = open(&world).await;
            assert_eq!((recovered.skipped, recovered.skipped_bytes, entities.len()), (1, batch as u64, 60));
            assert!(!entities.contains(&(at as u64 / batch as u64 * 30)));
        });
    }
    let copy = disk.copy();
    copy.replace(file, Some([bytes.as_slice(), bytes, &bytes[..batch + 9]].concat()));
    live(&copy, 2, async |world| {
        let (recovered, entities, _) = open(&world).await;
        assert_eq!((entities.len(), recovered.repeated, recovered.skipped_bytes), (90, 4, 9));
    });
}

#[test]
fn full_buffers_drop_and_a_failing_disk_costs_signals_only() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let config = SignalConfig { buffer_events_max: 64, ..config() };
        let (_, journal) = SignalJournal::open(world.clone(), config, &mut |_, _| {}).await.unwrap();
        (0..1000).for_each(|n| journal.record(event(n)));
        world.clock().sleep(SECOND).await;
        let stats = journal.stats();
        assert!(stats.dropped > 900 && stats.appended + stats.dropped == 1000, "{stats:?}");
        for change in 0..20 {
            disk.strike(change, Strike::Fail);
        }
        for n in 0..20 {
            fill(&world, &journal, n..n + 1, 1).await;
        }
        let stats = journal.stats();
        assert!(stats.failed > 0, "{stats:?}");
        fill(&world, &journal, 5000..5001, 1).await;
        assert!(journal.close(&world, SECOND).await);
    });
    live(&disk, 2, async |world| assert_eq!(open(&world).await.1.last(), Some(&5000)));
}

/// Every crash leaves a beginning of what was recorded, and costs no more than what was not synced.
#[test]
fn a_crash_at_any_change_loses_a_tail_only() {
    for at in 0..30 {
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(at + 5)] {
            let disk = MemoryDisk::default();
            disk.strike(at, Strike::KillHalfway);
            live(&disk, 1, async |world| {
                let (_, _, journal) = open(&world).await;
                fill(&world, &journal, 0..400, 20).await;
            });
            disk.crash(loss);
            live(&disk, 2, async |world| {
                let (_, entities, _) = open(&world).await;
                assert!(entities.windows(2).all(|pair| pair[0] < pair[1]), "{at} {loss:?}: {entities:?}");
            });
        }
    }
}
