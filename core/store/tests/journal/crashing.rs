//! The process or the machine ends at every change of the disk, or the change fails; then the journal is opened again,
//! twice. Every acknowledged record is there, groups are whole, what was answered as refused is not there.

use crate::rig::{append, live, open, pending, put, put_id};
use bettong_core::conformance::memory_disk::{Loss, MemoryDisk, Strike};
use bettong_core::conformance::memory_world::MemoryWorld;
use bettong_core::journal::{AppendError, Journal, Record, Write};
use bettong_wire::PutId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What the caller of a journal knows.
#[derive(Clone, Default, Debug)]
struct Known {
    /// Puts of each append that was asked for.
    asked: Vec<Vec<PutId>>,
    acknowledged: BTreeSet<PutId>,
    /// Answered with certainty: never there.
    refused: BTreeSet<PutId>,
    /// Perhaps taken out again.
    going: BTreeSet<PutId>,
    /// Taken out again, and that was acknowledged.
    gone: BTreeSet<PutId>,
}

type Shared = Arc<Mutex<Known>>;

/// One append of several puts.
async fn ask(
    journal: &Journal<MemoryWorld>,
    known: &Shared,
    ordinal: u64,
    counters: std::ops::RangeInclusive<u64>,
    len: usize,
) {
    let ids: Vec<PutId> = counters.clone().map(|n| put_id(ordinal, n)).collect();
    known.lock().unwrap().asked.push(ids.clone());
    let answer = append(journal, counters.map(|n| put(ordinal, n, 100 * ordinal + n, len)).collect()).await;
    let mut known = known.lock().unwrap();
    match answer {
        Ok(_) => known.acknowledged.extend(ids),
        Err(AppendError::Unknown(_)) => {}
        Err(_) => known.refused.extend(ids),
    }
}

async fn uploaded(journal: &Journal<MemoryWorld>, known: &Shared, done: Vec<PutId>) {
    known.lock().unwrap().going.extend(&done);
    if journal.upload_done(&done).await.is_ok() {
        known.lock().unwrap().gone.extend(done);
    }
}

/// One life: small puts side by side, a group, uploads, a trim, and more puts in a new segment.
async fn scenario(world: MemoryWorld, ordinal: u64, known: Shared) {
    let Ok((_, journal)) = open(&world, ordinal).await else { return };
    let singles = [1..=1, 2..=2, 3..=4].map(|counters| ask(&journal, &known, ordinal, counters, 600));
    futures::future::join_all(singles).await;
    ask(&journal, &known, ordinal, 5..=9, 1500).await;
    uploaded(&journal, &known, (1..=4).map(|n| put_id(ordinal, n)).collect()).await;
    ask(&journal, &known, ordinal, 10..=11, 1200).await;
    uploaded(&journal, &known, (5..=9).map(|n| put_id(ordinal, n)).collect()).await;
    let _ = journal.trim().await;
    ask(&journal, &known, ordinal, 12..=12, 6000).await;
    ask(&journal, &known, ordinal, 13..=13, 100).await;
    // The mark that an idle journal ends with.
    world_idles(&world).await;
    let shown = pending(&journal).await;
    let known = known.lock().unwrap();
    let refused: Vec<_> = shown.iter().filter(|id| known.refused.contains(id)).collect();
    assert!(refused.is_empty(), "refused and shown: {refused:?}");
}

async fn world_idles(world: &MemoryWorld) {
    use bettong_core::world::{Clock, World};
    world.clock().sleep(std::time::Duration::from_millis(200)).await;
}

/// Opens the journal and looks at it, without changing anything that counts.
fn shown(disk: &MemoryDisk, ordinal: u64) -> Vec<PutId> {
    let opened = live(disk, ordinal, async |world| match open(&world, ordinal).await {
        Ok((_, journal)) => pending(&journal).await,
        Err(error) => panic!("the journal does not open: {error}"),
    });
    opened.expect("nothing strikes")
}

fn check(disk: &MemoryDisk, ordinal: u64, known: &Known, what: &str) {
    let found = shown(disk, ordinal);
    let set: BTreeSet<PutId> = found.iter().copied().collect();
    assert_eq!(set.len(), found.len(), "{what}: nothing twice");
    let lost: Vec<_> = known.acknowledged.iter().filter(|id| !known.going.contains(id) && !set.contains(id)).collect();
    assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}; found {found:?}");
    let refused: Vec<_> = set.intersection(&known.refused).collect();
    assert!(refused.is_empty(), "{what}: refused and found: {refused:?}");
    let back: Vec<_> = set.intersection(&known.gone).collect();
    assert!(back.is_empty(), "{what}: taken out and found: {back:?}");
    for group in &known.asked {
        let there = group.iter().filter(|id| set.contains(id)).count();
        let whole = there == 0 || there == group.len() || group.iter().any(|id| known.going.contains(id));
        assert!(whole, "{what}: a part of {group:?}: {found:?}");
    }
    // Recovery again: from what a crash right behind it leaves, and from all of it.
    let durable = disk.copy();
    assert_eq!(shown(&durable, ordinal + 1), found, "{what}: recovery twice");
    disk.crash(Loss::Everything);
    assert_eq!(shown(disk, ordinal + 1), found, "{what}: recovery after another crash");
}

const LOSSES: [Loss; 5] = [Loss::Nothing, Loss::Everything, Loss::Some(7), Loss::Some(77), Loss::Some(777)];

fn changes_of_the_scenario() -> u64 {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| scenario(world, 1, Shared::default()).await).unwrap();
    disk.changes()
}

#[test]
fn a_crash_at_any_change_loses_nothing_that_was_acknowledged() {
    let changes = changes_of_the_scenario();
    assert!(changes > 30, "the scenario is {changes} changes long");
    let (mut struck, mut acknowledged) = (0, 0);
    for at in 0..=changes {
        for strike in [Strike::Kill, Strike::KillHalfway] {
            for loss in LOSSES {
                let (disk, known) = (MemoryDisk::default(), Shared::default());
                disk.strike(at, strike);
                let ended = live(&disk, 1, async |world| scenario(world, 1, known.clone()).await);
                struck += u64::from(ended.is_none());
                disk.crash(loss);
                let known = known.lock().unwrap().clone();
                acknowledged += known.acknowledged.len();
                check(&disk, 2, &known, &format!("{strike:?} at {at}, then {loss:?} is lost"));
            }
        }
    }
    assert!(struck > changes && acknowledged > 0);
}

#[test]
fn a_change_that_fails_loses_nothing_that_was_acknowledged() {
    let changes = changes_of_the_scenario();
    let mut unknown = 0;
    for at in 0..=changes {
        for strike in [Strike::Fail, Strike::FailAndLose] {
            for loss in LOSSES {
                let (disk, known) = (MemoryDisk::default(), Shared::default());
                disk.strike(at, strike);
                live(&disk, 1, async |world| scenario(world, 1, known.clone()).await).unwrap();
                disk.crash(loss);
                let known = known.lock().unwrap().clone();
                let asked: usize = known.asked.iter().map(Vec::len).sum();
                unknown += asked - known.acknowledged.len() - known.refused.len();
                check(&disk, 2, &known, &format!("{strike:?} at {at}, then {loss:?} is lost"));
            }
        }
    }
    assert!(unknown > 0, "some appends met the fault");
}

/// Two strikes: the second while the first is being dealt with, or during the recovery.
#[test]
fn a_crash_while_a_failure_or_a_recovery_is_under_way_loses_nothing() {
    let changes = changes_of_the_scenario();
    for at in (0..=changes).step_by(2) {
        for then in 1..=12 {
            let (disk, known) = (MemoryDisk::default(), Shared::default());
            disk.strike(at, Strike::FailAndLose);
            disk.strike(at + then, Strike::KillHalfway);
            live(&disk, 1, async |world| scenario(world, 1, known.clone()).await);
            let what = format!("failure at {at}, end {then} later");
            disk.crash(Loss::Some(at * 31 + then));
            check(&disk, 2, &known.lock().unwrap(), &what);

            let (disk, known) = (MemoryDisk::default(), Shared::default());
            disk.strike(at, Strike::KillHalfway);
            live(&disk, 1, async |world| scenario(world, 1, known.clone()).await);
            disk.crash(Loss::Some(at * 31 + then));
            disk.strike(then - 1, Strike::KillHalfway);
            live(&disk, 2, async |world| scenario(world, 2, known.clone()).await);
            disk.crash(Loss::Some(then * 31 + at));
            check(&disk, 3, &known.lock().unwrap(), &format!("end at {at}, again {then} into the recovery"));
        }
    }
}

/// What a failed sync left on the disk is void, though all of it is there.
#[test]
fn what_a_failed_sync_left_is_not_brought_back_once_its_void_is_synced() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        append(&journal, vec![put(1, 1, 1, 100)]).await.unwrap();
        disk.strike(1, Strike::Fail);
        let failed = append(&journal, vec![put(1, 2, 2, 100)]).await;
        assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
        append(&journal, vec![put(1, 3, 3, 100)]).await.unwrap();
        assert_eq!(pending(&journal).await, [put_id(1, 1), put_id(1, 3)]);
    });
    disk.crash(Loss::Nothing);
    assert_eq!(shown(&disk, 2), [put_id(1, 1), put_id(1, 3)]);
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        for change in 0..6 {
            disk.strike(change, Strike::Fail);
        }
        let mut answers = Vec::new();
        for n in 1..=8 {
            answers.push(append(&journal, vec![put(1, n, n, 100)]).await);
        }
        assert!(matches!(answers[0], Err(AppendError::Unknown(_))), "{:?}", answers[0]);
        assert!(answers.iter().any(|answer| matches!(answer, Err(AppendError::Disk(_)))), "{answers:?}");
        assert!(answers.last().unwrap().is_ok(), "{answers:?}");
        let done = Record::UploadDone { put_id: put_id(1, 8) };
        append(&journal, vec![Write::Record(done)]).await.unwrap();
    });
}
