//! What the writer promises while nothing fails.

use crate::rig::{append, key, live, open, pending, put, put_id, version};
use bettong_core::conformance::memory_disk::{Loss, MemoryDisk};
use bettong_core::journal::{AppendError, Record, Write};
use std::time::Duration;

#[test]
fn what_is_acknowledged_is_there_after_a_crash() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (recovered, journal) = open(&world, 1).await.unwrap();
        assert_eq!((recovered.segments, recovered.end), (0, 1));
        for n in 1..=20 {
            append(&journal, vec![put(1, n, n, 700)]).await.unwrap();
        }
        assert_eq!(pending(&journal).await.len(), 20);
        assert!(journal.stats().segments_begun > 1, "segments are closed when they are full");
    });
    disk.crash(Loss::Everything);
    live(&disk, 2, async |world| {
        let (recovered, journal) = open(&world, 2).await.unwrap();
        assert_eq!(recovered.cut, None);
        assert_eq!(pending(&journal).await, (1..=20).map(|n| put_id(1, n)).collect::<Vec<_>>());
        assert!(journal.state(|state| state.holds(&key(20)) && !state.holds(&key(21))));
    });
}

#[test]
fn a_large_append_becomes_visible_with_its_last_batch() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        let appended = append(&journal, (1..=10).map(|n| put(1, n, n, 1500)).collect()).await.unwrap();
        assert!(appended.last - appended.first >= 10, "ten puts and a commit: {appended:?}");
        assert_eq!(pending(&journal).await.len(), 10);
        assert!(journal.stats().syncs > 1);
    });
    disk.crash(Loss::Everything);
    live(&disk, 2, async |world| {
        let (_, journal) = open(&world, 2).await.unwrap();
        assert_eq!(pending(&journal).await.len(), 10);
    });
}

#[test]
fn a_group_of_several_segments_is_whole_as_long_as_one_of_it_is_pending() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        append(&journal, (1..=10).map(|n| put(1, n, n, 1500)).collect()).await.unwrap();
        assert!(journal.stats().segments_begun > 1, "the group fills several segments");
        journal.upload_done(&(1..=9).map(|n| put_id(1, n)).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(journal.trim().await.unwrap(), 0, "the commit counts what the first segments hold");
    });
    disk.crash(Loss::Everything);
    live(&disk, 2, async |world| {
        let (_, journal) = open(&world, 2).await.unwrap();
        assert_eq!(pending(&journal).await, [put_id(1, 10)]);
        journal.upload_done(&[put_id(1, 10)]).await.unwrap();
        assert!(journal.trim().await.unwrap() > 0, "nothing of the group is pending");
    });
    disk.crash(Loss::Everything);
    live(&disk, 3, async |world| {
        let (_, journal) = open(&world, 3).await.unwrap();
        assert_eq!(pending(&journal).await, []);
    });
}

#[test]
fn what_is_uploaded_superseded_or_deleted_is_pending_no_more_and_its_segments_die() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        for n in 1..=20 {
            append(&journal, vec![put(1, n, n, 700)]).await.unwrap();
        }
        assert_eq!(journal.trim().await.unwrap(), 0, "nothing is dead");
        let delete = Record::Delete { key: key(1), horizon: version(1, 1), wall_ms: 0 };
        let overwrite =
            Record::Overwrite { key: key(2), version: version(1, 21), level: bettong_wire::request::Level::Object };
        append(&journal, vec![Write::Record(delete), Write::Record(overwrite)]).await.unwrap();
        append(&journal, vec![put(1, 22, 3, 10)]).await.unwrap();
        journal.upload_done(&(4..=19).map(|n| put_id(1, n)).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(pending(&journal).await, [put_id(1, 20), put_id(1, 22)]);
        let backlog = journal.state(|state| state.backlog());
        assert_eq!((backlog.puts, backlog.bytes), (2, 710));
        assert!(journal.trim().await.unwrap() > 0);
        assert!(journal.state(|state| !state.holds(&key(1)) && state.holds(&key(20))));
        assert_eq!(journal.close(Duration::from_secs(1)).await.map(|backlog| backlog.puts), Ok(2));
        let closed = append(&journal, vec![put(1, 30, 1, 1)]).await;
        assert_eq!(closed, Err(AppendError::Closed));
    });
    disk.crash(Loss::Everything);
    live(&disk, 2, async |world| {
        let (_, journal) = open(&world, 2).await.unwrap();
        assert_eq!(pending(&journal).await, [put_id(1, 20), put_id(1, 22)]);
    });
}
