//! `check`, `dump` and `salvage`: what they say of a damaged journal, what they leave, and that they may be killed.

use crate::damage::{batches, directory, name, opened, segments};
use crate::rig::{append, config, live, open, pending, put, put_id};
use bettong_core::conformance::memory_disk::{Loss, MemoryDisk, Strike};
use bettong_core::journal::{CheckReport, DumpLine, OpenError, Salvaged, check, dump, salvage};
use bettong_wire::PutId;

fn checked(disk: &MemoryDisk) -> CheckReport {
    live(disk, 5, async |world| check(&world, "journal").await.unwrap()).unwrap()
}

fn salvaged(disk: &MemoryDisk) -> Option<Result<Salvaged, OpenError>> {
    live(disk, 6, async |world| salvage(&world, &config(2)).await)
}

/// A journal of puts 2 to 21, two in a batch, with one bit of one batch of its second segment flipped.
fn damaged(in_body: bool) -> (MemoryDisk, Vec<PutId>, u64) {
    let (disk, ids) = directory(true);
    let mut bytes = disk.contents()[&name(2)].clone();
    let batch = batches(&bytes)[1].clone();
    let at = if in_body { batch.end - 1 } else { batch.start + 200 };
    bytes[at] ^= 1;
    disk.replace(&name(2), Some(bytes));
    (disk, ids, batch.start as u64)
}

#[test]
fn a_sound_journal_checks_and_dumps_without_a_change() {
    let (disk, ids) = directory(true);
    let before = disk.contents();
    let report = checked(&disk);
    assert!(report.problems.is_empty() && report.torn.is_none(), "{report:?}");
    assert_eq!(report.backlog.puts, ids.len() as u64);
    let mut lines = Vec::new();
    live(&disk, 5, async |world| dump(&world, "journal", &mut |line| lines.push(line)).await.unwrap()).unwrap();
    assert_eq!(lines.len() as u64, report.records);
    for line in &lines {
        assert!(matches!(line, DumpLine::Record { body_verifies: None | Some(true), .. }), "{line}");
        assert!(!line.to_string().is_empty() && line.to_json()["kind"].is_string());
    }
    assert_eq!(disk.contents(), before);
    // An append that is under way is a torn tail, not a problem.
    let contents = segments(&disk);
    let (last, bytes) = contents.last_key_value().unwrap();
    disk.replace(last, Some(bytes[..bytes.len() - 10].to_vec()));
    let report = checked(&disk);
    assert!(report.problems.is_empty() && report.torn.is_some(), "{report:?}");
}

#[test]
fn damage_is_named_and_salvaged() {
    for in_body in [false, true] {
        let (disk, ids, offset) = damaged(in_body);
        let refused = opened(&disk);
        assert!(matches!(&refused, Err(OpenError::Corrupt(damage)) if damage.offset == offset), "{refused:?}");
        let before = disk.contents();
        let report = checked(&disk);
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].contains(&format!("{}: offset {offset}", name(2))), "{report:?}");
        assert_eq!(disk.contents(), before);
        let kept = salvaged(&disk).unwrap().unwrap();
        assert_eq!(kept.quarantined, [2]);
        let lost: Vec<PutId> = if in_body {
            kept.lost_puts.iter().map(|(_, _, put_id)| *put_id).collect()
        } else {
            assert_eq!(kept.lost.len(), 1, "{kept:?}");
            assert_eq!(kept.lost[0].1 - kept.lost[0].0, 2, "{kept:?}");
            ids.iter().copied().filter(|id| !opened(&disk).unwrap().contains(id)).collect()
        };
        assert_eq!(lost.len(), if in_body { 1 } else { 2 }, "{kept:?}");
        let left: Vec<PutId> = ids.into_iter().filter(|id| !lost.contains(id)).collect();
        assert_eq!(opened(&disk), Ok(left.clone()));
        assert_eq!(kept.puts, left.len() as u64);
        assert!(checked(&disk).problems.is_empty());
        assert!(disk.contents().contains_key("journal/quarantine/00000000000000000002.seg"));
    }
}

#[test]
fn a_salvage_that_is_killed_anywhere_is_run_again() {
    let changes = {
        let (disk, ..) = damaged(true);
        let before = disk.changes();
        salvaged(&disk).unwrap().unwrap();
        disk.changes() - before
    };
    assert!(changes > 10);
    let (whole, ..) = damaged(true);
    salvaged(&whole).unwrap().unwrap();
    let expected = opened(&whole).unwrap();
    for at in 0..changes {
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(at + 3)] {
            let (disk, ..) = damaged(true);
            disk.strike(at, Strike::KillHalfway);
            assert!(salvaged(&disk).is_none(), "killed at {at}");
            disk.crash(loss);
            // Nobody starts on a half of it.
            if let Ok(found) = opened(&disk.copy()) {
                assert_eq!(found, expected, "at {at}, {loss:?}");
            }
            salvaged(&disk).unwrap().unwrap();
            disk.crash(Loss::Everything);
            assert_eq!(opened(&disk), Ok(expected.clone()), "at {at}, {loss:?}");
            let aside = "journal/quarantine/00000000000000000002.seg";
            assert!(disk.contents().contains_key(aside), "at {at}, {loss:?}: what is damaged is kept");
        }
    }
}

#[test]
fn a_lost_first_batch_a_lost_segment_and_a_lost_mark_are_salvaged() {
    let (disk, ids) = directory(true);
    let contents = disk.contents();
    let first = |bytes: &[u8]| bytes[..64].iter().map(|byte| byte ^ 0x55).chain(bytes[64..].iter().copied()).collect();
    for (what, bytes) in
        [(name(2), Some(first(&contents[&name(2)]))), (name(3), None), ("journal/low-water".to_owned(), Some(vec![1]))]
    {
        let copy = disk.copy();
        copy.replace(&what, bytes);
        assert!(opened(&copy).is_err());
        assert!(!checked(&copy).problems.is_empty());
        let kept = salvaged(&copy).unwrap().unwrap();
        let found = opened(&copy).unwrap();
        assert!(found.iter().all(|id| ids.contains(id) || *id == put_id(1, 3)), "{what}: {found:?}");
        if what == name(3) {
            assert!(found.len() < ids.len() && !kept.lost.is_empty(), "{kept:?}");
        } else {
            assert_eq!(found, ids, "{what}");
        }
    }
}

#[test]
fn the_last_segment_is_missed_and_what_verifies_of_it_is_kept() {
    let (disk, ids) = directory(true);
    let contents = segments(&disk);
    let (last, bytes) = contents.last_key_value().unwrap();
    let newer = [&bytes[..4], &[bytes[4] ^ 1], &bytes[5..]].concat();
    let cases = [
        ("missing", last.as_str(), None),
        ("emptied", last, Some(Vec::new())),
        ("cut within its first batch", last, Some(bytes[..50].to_vec())),
        ("of another version by its first byte", last, Some(newer)),
        ("without the mark", "journal/newest", Some(b"{}".to_vec())),
    ];
    for (what, file, bytes) in cases {
        let copy = disk.copy();
        let is_whole = bytes.as_ref().is_some_and(|bytes| bytes.len() > 50) || file == "journal/newest";
        copy.replace(file, bytes);
        let refused = opened(&copy).unwrap_err();
        assert!(refused.is_damage() && refused.to_string().contains(file), "{what}: {refused}");
        assert!(checked(&copy).problems.iter().any(|problem| problem.contains(file)), "{what}");
        let kept = salvaged(&copy).unwrap().unwrap();
        let found = opened(&copy).unwrap();
        if is_whole {
            assert_eq!(found, ids, "{what}");
            assert!(kept.lost.iter().all(|(_, to)| *to != u64::MAX), "{what}: {kept:?}");
        } else {
            assert!(
                found.len() < ids.len() && found.iter().all(|id| ids.contains(id) || *id == put_id(1, 3)),
                "{what}"
            );
            assert_eq!(kept.lost.last().map(|(_, to)| *to), Some(u64::MAX), "{what}: {kept:?}");
        }
        assert_eq!(opened(&copy), Ok(found), "{what}");
    }
}

#[test]
fn what_is_not_ours_is_not_salvaged() {
    let (disk, ..) = damaged(false);
    disk.replace("journal/notes", Some(vec![1]));
    assert!(matches!(salvaged(&disk), Some(Err(OpenError::Foreign { .. }))));
}

#[test]
fn a_live_journal_is_checked_while_it_is_written() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        for n in 1..=30 {
            let (appended, report) =
                futures::future::join(append(&journal, vec![put(1, n, n, 900)]), check(&world, "journal")).await;
            appended.unwrap();
            assert!(report.unwrap().problems.is_empty());
            journal.upload_done(&[put_id(1, n)]).await.unwrap();
            journal.trim().await.unwrap();
        }
        assert!(pending(&journal).await.is_empty());
    });
}

/// What a failed append left of itself is nobody's: whether the next segment's void came to say so or not, no reader takes
/// it for damage, and no salvage for a loss. It takes room until its segment dies, and counts.
#[test]
fn the_piece_that_a_failed_append_left_is_no_damage_and_no_loss() {
    for goes_on in [false, true] {
        let disk = MemoryDisk::default();
        let kept = live(&disk, 1, async |world| {
            let (_, journal) = open(&world, 1).await.unwrap();
            append(&journal, (1..=2).map(|n| put(1, n, n, 700)).collect()).await.unwrap();
            disk.strike(0, Strike::Fail);
            append(&journal, vec![put(1, 3, 3, 3000)]).await.unwrap_err();
            if goes_on {
                append(&journal, vec![put(1, 4, 4, 700)]).await.unwrap();
            }
            let bytes: usize = segments(&disk).values().map(Vec::len).sum();
            assert_eq!(journal.stats().disk_bytes, bytes as u64, "it goes on: {goes_on}");
            pending(&journal).await
        });
        disk.crash(Loss::Nothing);
        let kept = kept.unwrap();
        assert_eq!(kept.len(), if goes_on { 3 } else { 2 });
        let report = checked(&disk);
        assert_eq!((report.problems.len(), report.torn.is_some()), (0, !goes_on), "{report:?}");
        assert_eq!(opened(&disk.copy()), Ok(kept.clone()));
        // Beside damage that is some.
        disk.replace("journal/low-water", Some(b"damaged".to_vec()));
        let salvaged = salvaged(&disk).unwrap().unwrap();
        assert_eq!((salvaged.puts, salvaged.lost, salvaged.lost_puts), (kept.len() as u64, vec![], vec![]));
        assert_eq!(opened(&disk), Ok(kept));
    }
}
