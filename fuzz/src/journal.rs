//! The journals: both decoders, and whole directories that were tampered with. First byte: which.

use bettong_core::conformance::memory_disk::{Loss, MemoryDisk};
use bettong_core::conformance::memory_world::MemoryWorld;
use bettong_core::journal::signal::{self, SignalConfig, SignalEvent, SignalJournal};
use bettong_core::journal::{Batch, Journal, JournalConfig, Pending, Record, Write, check, dump, salvage, seal};
use bettong_core::life::Life;
use bettong_core::seal::SealMeta;
use bettong_core::world::Mono;
use bettong_wire::envelope::{Algorithm, HEADER_LEN as ENVELOPE_LEN, Kind};
use bettong_wire::{DecodeError, NamespaceId, Part, Payload, PutId};
use std::sync::OnceLock;

const HEADER_LEN: usize = 64;
const FIXED_LEN: usize = 120;
const PUTS: u64 = 9;
const NEVER: Mono = Mono(u64::MAX);

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 4 {
        0 => block_batch(rest),
        1 => signal_batch(rest),
        2 => block_directory(rest),
        _ => signal_directory(rest),
    }
}

/// The bytes with magics, lengths and hashes put right, since no fuzzer guesses them.
fn righted(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < FIXED_LEN {
        return bytes;
    }
    bytes[..5].copy_from_slice(b"DLIT\x02");
    let mut bodies = 0u32;
    let mut at = FIXED_LEN;
    while at + 4 <= bytes.len() {
        let (kind, len) = (bytes[at], usize::from(u16::from_le_bytes([bytes[at + 2], bytes[at + 3]])));
        at += 4;
        if kind == 1
            && let Some(envelope) = bytes.get_mut(at + 16..at + 16 + ENVELOPE_LEN)
        {
            envelope[..8].copy_from_slice(b"BETTONG\x01");
            // A length that this batch could have.
            envelope[164..168].fill(0);
            let hash = blake3::hash(&envelope[..224]);
            envelope[224..].copy_from_slice(hash.as_bytes());
            bodies =
                bodies.wrapping_add(u32::from_le_bytes([envelope[160], envelope[161], envelope[162], envelope[163]]));
        }
        at += len;
    }
    let records = (bytes.len() - FIXED_LEN) as u32;
    bytes[112..116].copy_from_slice(&records.to_le_bytes());
    let payload = records.wrapping_add((FIXED_LEN - HEADER_LEN) as u32).wrapping_add(bodies);
    bytes[24..28].copy_from_slice(&payload.to_le_bytes());
    rehash(&mut bytes);
    bytes
}

fn rehash(bytes: &mut [u8]) {
    let hash = blake3::Hasher::new().update(&bytes[..32]).update(&bytes[HEADER_LEN..]).finalize();
    bytes[32..HEADER_LEN].copy_from_slice(hash.as_bytes());
}

fn block_batch(bytes: &[u8]) {
    let _ = (Batch::decode(bytes), Batch::is_newer(bytes));
    let bytes = righted(bytes);
    match Batch::decode(&bytes) {
        Ok(batch) => {
            let (_, again) = seal(&batch.link, batch.header.first, batch.header.timestamp_ns, &batch.records);
            assert_eq!(again, bytes, "one spelling for one batch");
        }
        Err(DecodeError::Hash { what: "journal batch" }) => panic!("it was put right"),
        Err(_) => {}
    }
}

fn signal_batch(bytes: &[u8]) {
    let _ = signal::decode_batch(bytes);
    let mut bytes = bytes.to_vec();
    let events = bytes.len().saturating_sub(HEADER_LEN) / signal::EVENT_LEN;
    if events == 0 || events > 256 {
        return;
    }
    bytes.truncate(HEADER_LEN + events * signal::EVENT_LEN);
    bytes[..8].copy_from_slice(&[0x44, 0x4C, 0x49, 0x54, 1, 0, events as u8, (events >> 8) as u8]);
    bytes[24..28].copy_from_slice(&((events * signal::EVENT_LEN) as u32).to_le_bytes());
    bytes[28..32].fill(0);
    rehash(&mut bytes);
    if let Ok((header, read, len)) = signal::decode_batch(&bytes) {
        let mut again = Vec::new();
        signal::encode_batch(header.first, header.timestamp_ns, &read, &mut again);
        // The payload of a signalling NaN may be quieted by a machine that moves it; ours does not.
        assert_eq!((again, len), (bytes.clone(), bytes.len()));
    }
}

/// Runs one life on a runtime of its own.
fn live<T>(disk: &MemoryDisk, seed: u64, work: impl AsyncFnOnce(MemoryWorld) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let world = MemoryWorld::new(disk.clone(), runtime.handle().clone(), seed << 32);
    runtime.block_on(work(world))
}

fn config(life: u64) -> JournalConfig {
    let life = Life { ordinal: life, life };
    JournalConfig { segment_bytes: 4 << 10, batch_bytes_max: 2 << 10, ..JournalConfig::new(life) }
}

fn body(counter: u64) -> Vec<u8> {
    (0..300 + counter * 40).map(|n| (n * counter) as u8).collect()
}

fn put(counter: u64) -> Write {
    let meta = SealMeta {
        kind: Kind::Block,
        namespace: NamespaceId([1; 32]),
        hash: *blake3::hash(&counter.to_le_bytes()).as_bytes(),
        part: Part(0),
        plain_key: String::new(),
        sequence: 0,
        put_id: PutId { life: 1, counter },
        parent: None,
        created_at_ms: 0,
        expires_at_ms: 0,
    };
    Write::Put(bettong_core::seal::seal(&meta, &Payload::from(body(counter)), Algorithm::None))
}

/// Puts 1 to 9 in some segments, a group among them; the fourth is uploaded.
fn journal() -> &'static MemoryDisk {
    static DISK: OnceLock<MemoryDisk> = OnceLock::new();
    DISK.get_or_init(|| {
        let disk = MemoryDisk::default();
        live(&disk, 1, async |world| {
            let (_, journal) = Journal::open(world, config(1), &mut |_, _| {}).await.expect("an empty journal");
            for some in [1..=1, 2..=3, 4..=4, 5..=PUTS] {
                journal.append(some.map(put).collect(), NEVER).await.expect("acknowledged");
            }
            let done = Write::Record(Record::UploadDone { put_id: PutId { life: 1, counter: 4 } });
            journal.append(vec![done], NEVER).await.expect("acknowledged");
        });
        disk.crash(Loss::Nothing);
        disk
    })
}

/// Changes files by what the bytes say: which file, how, where, how much.
fn tamper(disk: &MemoryDisk, mut steps: &[u8]) {
    for _ in 0..8 {
        let Some(([file, how, low, high, much], rest)) = steps.split_first_chunk::<5>() else { return };
        steps = rest;
        let contents = disk.contents();
        let names: Vec<&String> = contents.keys().collect();
        let Some(name) = names.get(usize::from(*file) % names.len().max(1)) else { return };
        let mut bytes = contents[*name].clone();
        let at = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let end = (at + usize::from(*much) * 8).min(bytes.len());
        match how % 7 {
            0 => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= (*much).max(1)),
            1 => bytes.truncate(at),
            2 => bytes[at..end].fill(0),
            3 => bytes.extend_from_within(at..end),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let (inserted, left) = steps.split_at(usize::from(*much).min(steps.len()));
                steps = left;
                bytes.splice(at..at, inserted.iter().copied());
            }
            _ => {
                disk.replace(name, None);
                continue;
            }
        }
        disk.replace(name, Some(bytes));
    }
}

/// What is pending if the journal opens; every body must be what was put.
async fn pending(world: &MemoryWorld, life: u64) -> Option<Vec<u64>> {
    let (_, journal) = Journal::open(world.clone(), config(life), &mut |_, _| {}).await.ok()?;
    let mut counters = Vec::new();
    for (_, pending) in journal.state(|state| state.next_pending(0, usize::MAX)) {
        let Pending::Put(put) = pending else { panic!("nobody published a head") };
        let counter = put.record.header.put_id.counter;
        let stored = journal.read_body(&put).await.expect("readable");
        assert!(stored == body(counter), "put {counter} has other bytes");
        counters.push(counter);
    }
    let group = counters.iter().filter(|counter| **counter >= 5).count();
    assert!(group == 0 || group as u64 == PUTS - 4, "a part of a group: {counters:?}");
    Some(counters)
}

fn block_directory(steps: &[u8]) {
    let disk = journal().copy();
    tamper(&disk, steps);
    let opened = live(&disk.copy(), 3, async |world| pending(&world, 2).await);
    live(&disk, 2, async |world| {
        let report = check(&world, "journal").await.expect("readable");
        dump(&world, "journal", &mut |line| drop(line.to_string())).await.expect("readable");
        assert!(opened.is_none() || report.problems.is_empty(), "a start passed over {:?}", report.problems);
        let Ok(_) = salvage(&world, &config(2)).await else { return };
        let kept = pending(&world, 2).await.expect("a salvaged journal opens");
        let lost = opened.iter().flatten().find(|counter| !kept.contains(counter));
        assert_eq!(lost, None, "the salvage lost what a start would have kept");
    });
}

fn signal_directory(steps: &[u8]) {
    let disk = MemoryDisk::default();
    let config = || SignalConfig { segment_bytes: 1 << 10, ..SignalConfig::default() };
    live(&disk, 1, async |world| {
        for some in 0..3 {
            let (_, journal) = SignalJournal::open(world.clone(), config(), &mut |_, _| {}).await.expect("open");
            (0..20).for_each(|n| journal.record(SignalEvent { entity: some * 20 + n, ..SignalEvent::default() }));
            journal.close(&world, std::time::Duration::from_secs(5)).await;
        }
    });
    tamper(&disk, steps);
    live(&disk, 2, async |world| {
        let mut last = None;
        let mut each = |sequence: u64, event: SignalEvent| {
            assert!(last < Some(sequence) && event.entity < 60, "event {sequence} of entity {}", event.entity);
            last = Some(sequence);
        };
        SignalJournal::open(world, config(), &mut each).await.expect("damage is no error");
    });
}
