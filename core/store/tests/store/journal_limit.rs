//! The journal's share of the disk.

use super::rig::Bucket;
use bettong_core::index::rows::ValueKey;
use bettong_core::journal::{AppendError, Journal, JournalConfig, Write};
use bettong_core::life::Life;
use bettong_core::seal::{SealMeta, seal};
use bettong_core::{Clock, World};
use bettong_wire::envelope::{Algorithm, Kind};
use bettong_wire::{NamespaceId, Part, PutId};
use std::time::Duration;

const LIMIT: u64 = 64 << 10;

fn put(counter: u64) -> Write {
    let hash = *blake3::hash(&counter.to_le_bytes()).as_bytes();
    let key = ValueKey { kind: Kind::Block, namespace: NamespaceId([7; 32]), hash, part: Part(0) };
    let meta = SealMeta {
        kind: key.kind,
        namespace: key.namespace,
        hash: key.hash,
        part: key.part,
        plain_key: String::new(),
        sequence: 0,
        put_id: PutId { life: 1, counter },
        parent: None,
        created_at_ms: 0,
        expires_at_ms: 0,
    };
    Write::Put(seal(&meta, &vec![counter as u8; 28 << 10].into(), Algorithm::None))
}

/// While one append is on its way to the disk, others are let in by what will be there, not by what is.
#[tokio::test]
async fn what_is_being_written_counts_against_the_limit() {
    let bucket = Bucket::new();
    let life = Life { ordinal: 1, life: 1 };
    let config = JournalConfig {
        bytes_max: LIMIT,
        segment_bytes: 32 << 10,
        batch_bytes_max: 4 << 10,
        ..JournalConfig::new(life)
    };
    let world = bucket.world("a");
    let (_, journal) = Journal::open(world.clone(), config, &mut |_, _| {}).await.unwrap();
    // Nothing is uploaded: whoever finds no room waits for it in vain.
    let until = world.clock().mono().plus(Duration::from_secs(2));
    let appends = (0..32).map(async |counter| match journal.append(vec![put(counter)], until).await {
        Ok(_) => true,
        Err(AppendError::Busy { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    let taken = futures::future::join_all(appends).await.into_iter().filter(|taken| *taken).count();
    let stats = journal.stats();
    assert!(taken >= 1 && stats.disk_bytes <= LIMIT, "{taken} puts take {} of {LIMIT} bytes", stats.disk_bytes);
}
