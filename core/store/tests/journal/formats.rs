//! Both formats: round trips by bits, damage of every kind refused, hostile bytes harmless, and what version 1 and 2
//! wrote, pinned.

use crate::rig::{body, key, put_id, sealed, version};
use bettong_core::journal::signal::{self, SignalEvent};
use bettong_core::journal::{Batch, HEADER_LEN, HeadRecord, Link, PutRecord, Record, seal as seal_batch};
use bettong_core::life::Life;
use bettong_wire::envelope::Algorithm;
use bettong_wire::request::{HeadValue, Level};
use bettong_wire::{BlockHash, DecodeError, NamespaceId, SidecarKey};
use proptest::prelude::*;

fn put_record(n: u64, group: u64, algorithm: Algorithm) -> Record {
    let payload = if algorithm == Algorithm::None { body(put_id(1, n), 300) } else { vec![7; 300] };
    let sealed = sealed(1, n, n, payload, algorithm);
    let [head, stored] = sealed.parts();
    let stored_hash = (sealed.header.algorithm != Algorithm::None).then(|| *blake3::hash(stored).as_bytes());
    Record::Put(PutRecord { group, ordinal: 1, header: sealed.header.clone(), head: head.clone(), stored_hash })
}

fn records() -> impl Strategy<Value = Record> {
    let algorithm = prop_oneof![Just(Algorithm::None), Just(Algorithm::Zstd), Just(Algorithm::Lz4)];
    let level = prop_oneof![Just(Level::Memory), Just(Level::Journal), Just(Level::Object)];
    let value = (any::<[u8; 32]>(), any::<u32>(), any::<Option<[u8; 32]>>())
        .prop_map(|(tip, length, sidecar)| HeadValue { tip: BlockHash(tip), length, sidecar: sidecar.map(SidecarKey) });
    let head = (any::<[u8; 32]>(), any::<u64>(), "[a-zà-ü]{1,100}", proptest::option::of(value));
    prop_oneof![
        (any::<u64>(), any::<u64>(), algorithm).prop_map(|(n, group, algorithm)| put_record(n, group, algorithm)),
        (any::<u64>(), any::<u32>()).prop_map(|(group, puts)| Record::Commit { group, puts }),
        any::<[u64; 4]>().prop_map(|[name, ordinal, counter, wall_ms]| Record::Delete {
            key: key(name),
            horizon: version(ordinal % 1000, counter),
            wall_ms
        }),
        (any::<[u64; 3]>(), level).prop_map(|([name, ordinal, counter], level)| Record::Overwrite {
            key: key(name),
            version: version(ordinal % 1000, counter),
            level
        }),
        head.prop_map(|(namespace, generation, name, value)| {
            let namespace = NamespaceId(namespace);
            Record::Head(HeadRecord { namespace, version: version(2, generation), generation, name, value })
        }),
        any::<u64>().prop_map(|n| Record::UploadDone { put_id: put_id(1, n) }),
        any::<[u64; 4]>().prop_map(|[from, to, segment, offset]| Record::Void {
            from: from.min(to),
            to: from.max(to),
            segment,
            offset
        }),
        any::<[u64; 4]>().prop_map(|[ordinal, life, number, previous_nonce]| Record::Segment {
            life: Life { ordinal, life },
            number,
            previous_nonce
        }),
        Just(Record::Mark),
    ]
}

fn link() -> Link {
    Link { previous: [3; 32], synced_through: 6, nonce: 0x1122_3344_5566_7788 }
}

fn events() -> impl Strategy<Value = Vec<SignalEvent>> {
    let event =
        (any::<u64>(), any::<u8>(), any::<u32>(), any::<u64>()).prop_map(|(entity, kind, bits, timestamp_ns)| {
            SignalEvent { entity, kind, weight: f32::from_bits(bits), timestamp_ns }
        });
    proptest::collection::vec(event, 1..=256)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_batch_is_read_back_by_bits(records in proptest::collection::vec(records(), 1..=256), first in 7u64..1 << 60) {
        let (header, bytes) = seal_batch(&link(), first, 99, &records);
        let batch = Batch::decode(&bytes).unwrap();
        prop_assert_eq!((&batch.header, &batch.link, &batch.records), (&header, &link(), &records));
        let (_, again) = seal_batch(&batch.link, batch.header.first, batch.header.timestamp_ns, &batch.records);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn any_flipped_bit_of_a_batch_is_refused(
        records in proptest::collection::vec(records(), 1..=9),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (_, bytes) = seal_batch(&link(), 7, 99, &records);
        let mut bytes = bytes.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Batch::decode(&bytes).is_err());
        prop_assert!(!Batch::is_newer(&bytes), "a rotten version is not a newer one");
    }

    #[test]
    fn any_truncation_of_a_batch_is_named(
        records in proptest::collection::vec(records(), 1..=9),
        at in any::<prop::sample::Index>(),
    ) {
        let (_, bytes) = seal_batch(&link(), 7, 99, &records);
        let refused = Batch::decode(&bytes[..at.index(bytes.len())]);
        prop_assert!(matches!(refused, Err(DecodeError::Truncated { .. })), "{:?}", refused);
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), version in 1u8..=3) {
        let _ = (Batch::decode(&bytes), signal::decode_batch(&bytes), Batch::is_newer(&bytes));
        if bytes.len() >= HEADER_LEN {
            bytes[..8].copy_from_slice(&[0x44, 0x4C, 0x49, 0x54, version, 0, 1, 0]);
            let _ = (Batch::decode(&bytes), signal::decode_batch(&bytes), Batch::is_newer(&bytes));
        }
    }

    #[test]
    fn signals_are_read_back_by_bits(events in events(), first in 0u64..1 << 60, time in any::<u64>()) {
        let mut bytes = Vec::new();
        signal::encode_batch(first, time, &events, &mut bytes);
        let (header, read, len) = signal::decode_batch(&bytes).unwrap();
        prop_assert_eq!((header.first, header.timestamp_ns, len), (first, time, bytes.len()));
        let bits = |events: &[SignalEvent]| events.iter().map(SignalEvent::encode).collect::<Vec<_>>();
        prop_assert_eq!(bits(&read), bits(&events));
    }

    #[test]
    fn any_flipped_bit_and_any_truncation_of_signals_is_refused(
        events in events(),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = Vec::new();
        signal::encode_batch(1, 2, &events, &mut bytes);
        let at = at.index(bytes.len());
        prop_assert!(signal::decode_batch(&bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(signal::decode_batch(&bytes).is_err());
    }
}

/// One of each record, in the order of their kinds.
fn one_of_each() -> Vec<Record> {
    let value = HeadValue { tip: BlockHash([4; 32]), length: 5, sidecar: Some(SidecarKey([6; 32])) };
    let head = HeadRecord {
        namespace: NamespaceId([9; 32]),
        version: version(1, 8),
        generation: 2,
        name: "conversation".to_owned(),
        value: Some(value),
    };
    vec![
        put_record(1, 0, Algorithm::None),
        put_record(2, 3, Algorithm::Lz4),
        Record::Commit { group: 3, puts: 1 },
        Record::Delete { key: key(1), horizon: version(1, 5), wall_ms: 6 },
        Record::Overwrite { key: key(2), version: version(1, 7), level: Level::Object },
        Record::Head(head),
        Record::UploadDone { put_id: put_id(1, 1) },
        Record::Void { from: 1, to: 257, segment: 3, offset: 4096 },
        Record::Segment { life: Life { ordinal: 2, life: 0xABCD }, number: 4, previous_nonce: 0x99 },
        Record::Mark,
    ]
}

/// What version 2 of the block journal wrote stays readable, and is still what is written.
#[test]
fn version_2_of_the_block_journal_is_pinned() {
    let golden = include_bytes!("../../golden/journal-block-2.bin");
    let (_, bytes) = seal_batch(&link(), 7, 0x0102_0304_0506_0708, &one_of_each());
    assert_eq!(bytes, golden.as_slice());
    let batch = Batch::decode(golden).unwrap();
    assert_eq!((batch.link, batch.records), (link(), one_of_each()));
}

/// What version 1 of the signal journal wrote stays readable, and is still what is written.
#[test]
fn version_1_of_the_signal_journal_is_pinned() {
    let golden = include_bytes!("../../golden/journal-signal-1.bin");
    let events = [(1, 2, 0.5), (3, 4, -1.0)].map(|(entity, kind, weight)| SignalEvent {
        entity,
        kind,
        weight,
        timestamp_ns: 0x0102_0304_0506_0708,
    });
    let mut bytes = Vec::new();
    signal::encode_batch(9, 0x1112_1314_1516_1718, &events, &mut bytes);
    assert_eq!(bytes, golden);
    let (header, read, len) = signal::decode_batch(golden).unwrap();
    assert_eq!((header.first, header.count, len, read.as_slice()), (9, 2, golden.len(), events.as_slice()));
    // The layout, by hand.
    assert_eq!(golden[..8], [0x44, 0x4C, 0x49, 0x54, 1, 0, 2, 0]);
    assert_eq!(
        golden[8..32],
        [[9, 0, 0, 0, 0, 0, 0, 0], [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11], [42, 0, 0, 0, 0, 0, 0, 0]]
            .concat()
    );
    let mut hashed = golden[..32].to_vec();
    hashed.extend_from_slice(&golden[64..]);
    assert_eq!(golden[32..64], *blake3::hash(&hashed).as_bytes());
    assert_eq!(golden[64..85], [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x3F, 8, 7, 6, 5, 4, 3, 2, 1]);
    let content = *blake3::hash(&golden[64..85]).as_bytes().first_chunk::<16>().unwrap();
    assert_eq!(events[0].content_hash(), u128::from_le_bytes(content));
}
