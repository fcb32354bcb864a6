//! Directories that are not what the writer left: what was synced and does not verify is refused with file and offset,
//! a torn tail is cut, and nothing is ever made of somebody else's bytes.

use crate::rig::{append, config, live, open, pending, put, put_id};
use bettong_core::conformance::memory_disk::{Loss, MemoryDisk};
use bettong_core::journal::{Fault, Journal, JournalConfig, OpenError, Record, Write};
use bettong_core::world::{Clock, World};
use bettong_wire::PutId;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Three segments of puts; with the mark of an idle journal behind them, or without.
pub fn directory(marked: bool) -> (MemoryDisk, Vec<PutId>) {
    let disk = MemoryDisk::default();
    let ids = live(&disk, 1, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        for n in 1..=10 {
            append(&journal, (2 * n..2 * n + 2).map(|n| put(1, n, n, 700)).collect()).await.unwrap();
        }
        append(&journal, vec![Write::Record(Record::UploadDone { put_id: put_id(1, 3) })]).await.unwrap();
        if marked {
            world.clock().sleep(Duration::from_millis(200)).await;
        }
        pending(&journal).await
    });
    disk.crash(Loss::Nothing);
    (disk, ids.unwrap())
}

/// What opens, or why it does not.
pub fn opened(disk: &MemoryDisk) -> Result<Vec<PutId>, OpenError> {
    live(disk, 2, async |world| {
        let (_, journal) = open(&world, 2).await?;
        Ok(pending(&journal).await)
    })
    .unwrap()
}

/// The segments by name, with their bytes.
pub fn segments(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    disk.contents().into_iter().filter(|(name, _)| name.ends_with(".seg")).collect()
}

pub fn name(number: u64) -> String {
    format!("journal/{number:020}.seg")
}

/// Where the batches of a segment begin, by their headers.
pub fn batches(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 24..at + 28].try_into().unwrap()) as usize + 64;
        all.push(at..at + len);
        at += len;
    }
    all
}

#[test]
fn any_flipped_bit_is_refused_or_costs_nothing() {
    let (disk, ids) = directory(true);
    let contents = segments(&disk);
    let (last, _) = contents.last_key_value().unwrap();
    assert!(contents.len() >= 3, "{} segments", contents.len());
    let mut refused = 0;
    for (file, bytes) in &contents {
        let mark = batches(bytes).last().unwrap().start;
        for at in (0..bytes.len()).step_by(37).chain(0..batches(bytes)[0].end) {
            let copy = disk.copy();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            copy.replace(file, Some(flipped));
            match opened(&copy) {
                // The mark itself is what nothing else tells of.
                Ok(found) => assert!(found == ids && file == last && at >= mark, "{file} at {at}: {found:?}"),
                Err(OpenError::Corrupt(damage)) => {
                    let batch = batches(bytes).into_iter().find(|batch| batch.contains(&at)).unwrap();
                    assert_eq!((&damage.file, damage.offset), (file, batch.start as u64), "{damage}");
                    refused += 1;
                }
                Err(other) => panic!("{file} at {at}: {other}"),
            }
        }
    }
    assert!(refused > 100);
}

#[test]
fn any_truncation_of_the_last_segment_is_a_torn_tail_and_of_another_one_corruption() {
    let (disk, ids) = directory(false);
    let contents = segments(&disk);
    let (last, _) = contents.last_key_value().unwrap();
    for (file, bytes) in &contents {
        for at in (0..bytes.len()).step_by(23) {
            let copy = disk.copy();
            copy.replace(file, Some(bytes[..at].to_vec()));
            match opened(&copy) {
                Ok(found) => {
                    assert_eq!(file, last, "at {at}");
                    let uploaded = put_id(1, 3);
                    let kept: Vec<_> = found.iter().filter(|id| **id != uploaded).copied().collect();
                    assert!(ids.starts_with(&kept) && found.len() % 2 == usize::from(!found.contains(&uploaded)));
                }
                // Its first batch was whole once.
                Err(OpenError::Corrupt(_)) => assert!(file != last || at < batches(bytes)[0].end, "at {at}"),
                Err(other) => panic!("{file} at {at}: {other}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Batches of one segment in another order, some of them again, some not at all, or of another segment.
    #[test]
    fn batches_in_another_order_are_noticed(order in proptest::collection::vec(any::<prop::sample::Index>(), 1..8)) {
        let (disk, ids) = directory(true);
        let contents = segments(&disk);
        let all: Vec<&[u8]> =
            contents.values().flat_map(|bytes| batches(bytes).into_iter().map(move |batch| &bytes[batch])).collect();
        let (last, _) = contents.last_key_value().unwrap();
        for file in [&name(2), last] {
            let own = batches(&contents[file]);
            let begin = &contents[file][own[0].clone()];
            let bytes = order.iter().fold(begin.to_vec(), |bytes, at| [&bytes, all[at.index(all.len())]].concat());
            if contents[file].starts_with(&bytes) {
                continue;
            }
            let copy = disk.copy();
            copy.replace(file, Some(bytes));
            match opened(&copy) {
                // Cut where it stops to be what was written: as if the rest had never been.
                Ok(found) => prop_assert!(file == last && ids.starts_with(&found[..found.len().min(ids.len())])
                    || found.contains(&put_id(1, 3)), "{:?}", found),
                Err(OpenError::Corrupt(_)) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    #[test]
    fn hostile_segments_never_panic(segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..6000), 1..4)) {
        let disk = MemoryDisk::default();
        for (bytes, number) in segments.into_iter().zip(1..) {
            disk.replace(&name(number), Some(bytes));
        }
        let _ = opened(&disk);
    }
}

#[test]
fn a_repeated_tail_is_not_applied_again() {
    let (disk, ids) = directory(true);
    let contents = segments(&disk);
    let (last, bytes) = contents.last_key_value().unwrap();
    for batch in batches(bytes) {
        let copy = disk.copy();
        copy.replace(last, Some([bytes.as_slice(), &bytes[batch.clone()]].concat()));
        match opened(&copy) {
            // A segment's beginning says nothing anywhere else.
            Ok(found) => assert!(found == ids && batch.start == 0),
            Err(OpenError::Corrupt(damage)) => {
                assert_eq!((damage.offset, damage.batches_after), (bytes.len() as u64, 1), "{damage}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// A batch that verifies where another belongs is what no crash leaves.
#[test]
fn a_batch_that_is_gone_from_before_the_last_one_is_no_torn_tail() {
    let (disk, _) = directory(false);
    let contents = segments(&disk);
    let (last, bytes) = contents.last_key_value().unwrap();
    let all = batches(bytes);
    assert!(all.len() > 2, "{} batches", all.len());
    for gone in &all[1..all.len() - 1] {
        let copy = disk.copy();
        copy.replace(last, Some([&bytes[..gone.start], &bytes[gone.end..]].concat()));
        let Err(OpenError::Corrupt(damage)) = opened(&copy) else { panic!("an acknowledged append was lost") };
        assert_eq!((&damage.file, damage.offset), (last, gone.start as u64), "{damage}");
    }
}

/// A client's payload that looks like a batch is never taken for one.
#[test]
fn bytes_inside_a_payload_do_not_pass_for_a_batch() {
    let (disk, _) = directory(false);
    let (_, bytes) = segments(&disk).last_key_value().map(|(name, bytes)| (name.clone(), bytes.clone())).unwrap();
    let forged = bytes[batches(&bytes)[0].end..].to_vec();
    let hostile = MemoryDisk::default();
    live(&hostile, 7, async |world| {
        let (_, journal) = open(&world, 1).await.unwrap();
        append(&journal, vec![put(1, 1, 1, 100)]).await.unwrap();
        let sealed = crate::rig::sealed(1, 2, 2, forged.repeat(3), bettong_wire::envelope::Algorithm::None);
        append(&journal, vec![Write::Put(sealed)]).await.unwrap();
    });
    hostile.crash(Loss::Nothing);
    let contents = segments(&hostile);
    let (file, bytes) = contents.last_key_value().unwrap();
    // The header of the batch that bears the payload is torn.
    let mut torn = bytes.clone();
    torn[batches(bytes).last().unwrap().start] ^= 1;
    hostile.replace(file, Some(torn));
    assert_eq!(opened(&hostile), Ok(vec![put_id(1, 1)]));
}

#[test]
fn what_does_not_belong_is_named() {
    let (disk, _) = directory(true);
    let contents: BTreeMap<String, Vec<u8>> = disk.contents();

    let copy = disk.copy();
    copy.replace("journal/notes.txt", Some(b"hello".to_vec()));
    assert_eq!(opened(&copy), Err(OpenError::Foreign { file: "journal/notes.txt".to_owned() }));

    for number in [1, 2] {
        let copy = disk.copy();
        copy.replace(&name(number), None);
        assert_eq!(opened(&copy), Err(OpenError::Missing { file: name(number) }));
    }

    let copy = disk.copy();
    let mut newer = contents[&name(2)].clone();
    newer[4] = 3;
    let end = batches(&newer)[0].end;
    let hash = blake3::Hasher::new().update(&newer[..32]).update(&newer[64..end]).finalize();
    newer[32..64].copy_from_slice(hash.as_bytes());
    copy.replace(&name(2), Some(newer));
    assert_eq!(opened(&copy), Err(OpenError::Newer { file: name(2), offset: 0, version: 3, supported: 2 }));

    let copy = disk.copy();
    copy.replace("journal/low-water", Some(b"1".to_vec()));
    assert!(matches!(opened(&copy), Err(OpenError::LowWater { .. })));

    // A segment under another's name.
    let copy = disk.copy();
    copy.replace(&name(3), Some(contents[&name(2)].clone()));
    let refused = opened(&copy);
    assert!(
        matches!(&refused, Err(OpenError::Corrupt(damage)) if damage.file == name(3) && damage.fault == Fault::Sequence { expected: damage.sequence, found: damage.sequence } || matches!(damage.fault, Fault::Nonce | Fault::Segment | Fault::Sequence { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_journal_that_is_full_answers_busy_and_takes_what_shrinks_it() {
    let disk = MemoryDisk::default();
    live(&disk, 1, async |world| {
        let config = JournalConfig { bytes_max: 16 << 10, ..config(1) };
        let (_, journal) = Journal::open(world.clone(), config, &mut |_, _| {}).await.unwrap();
        let deadline = |ms| world.clock().mono().plus(Duration::from_millis(ms));
        let mut n = 0;
        let refused = loop {
            n += 1;
            match journal.append(vec![put(1, n, n, 1000)], deadline(20)).await {
                Ok(_) => assert!(n < 100, "it is never full"),
                Err(error) => break error,
            }
        };
        let bettong_core::journal::AppendError::Busy { retry_after_ms, limit, .. } = &refused else {
            panic!("{refused}");
        };
        assert!(*retry_after_ms > 0 && *limit == 16 << 10);
        journal.upload_done(&(1..n).map(|n| put_id(1, n)).collect::<Vec<_>>()).await.unwrap();
        assert!(journal.trim().await.unwrap() > 0);
        journal.append(vec![put(1, n, n, 1000)], deadline(20)).await.unwrap();
        assert!(journal.stats().disk_bytes <= 16 << 10);
    });
}
