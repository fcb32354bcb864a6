//! A journal on a disk in memory, and the writes to fill it with.

use bettong_core::conformance::memory_disk::MemoryDisk;
use bettong_core::conformance::memory_world::MemoryWorld;
use bettong_core::index::rows::ValueKey;
use bettong_core::journal::{
    AppendError, Appended, Journal, JournalConfig, OpenError, Pending, Recovered, Version, Write,
};
use bettong_core::life::Life;
use bettong_core::seal::{SealMeta, Sealed, seal};
use bettong_core::world::Mono;
use bettong_wire::envelope::{Algorithm, Kind};
use bettong_wire::{NamespaceId, Part, Payload, PutId};
use std::future::Future;

pub const NS: NamespaceId = NamespaceId([9; 32]);
/// A time that no test gets to.
pub const NEVER: Mono = Mono(u64::MAX);

/// Runs one life of the process on a runtime of its own. `None` where a strike ended it.
pub fn live<T>(disk: &MemoryDisk, seed: u64, work: impl AsyncFnOnce(MemoryWorld) -> T) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let world = MemoryWorld::new(disk.clone(), runtime.handle().clone(), seed << 32);
    let mut work = Box::pin(work(world));
    runtime.block_on(std::future::poll_fn(|context| {
        if let std::task::Poll::Ready(output) = work.as_mut().poll(context) {
            return std::task::Poll::Ready(Some(output));
        }
        if disk.is_dead() {
            return std::task::Poll::Ready(None);
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }))
}

pub fn life(ordinal: u64) -> Life {
    Life { ordinal, life: 1000 + ordinal }
}

/// Small segments and batches, so that little work meets every edge.
pub fn config(ordinal: u64) -> JournalConfig {
    JournalConfig { segment_bytes: 8 << 10, batch_bytes_max: 4 << 10, ..JournalConfig::new(life(ordinal)) }
}

pub async fn open(world: &MemoryWorld, ordinal: u64) -> Result<(Recovered, Journal<MemoryWorld>), OpenError> {
    Journal::open(world.clone(), config(ordinal), &mut |_, _| {}).await
}

pub fn put_id(ordinal: u64, counter: u64) -> PutId {
    PutId { life: life(ordinal).life, counter }
}

pub fn version(ordinal: u64, counter: u64) -> Version {
    Version { ordinal, put_id: put_id(ordinal, counter) }
}

pub fn key(name: u64) -> ValueKey {
    ValueKey { kind: Kind::Block, namespace: NS, hash: *blake3::hash(&name.to_le_bytes()).as_bytes(), part: Part(1) }
}

/// The bytes of a put: another put has others.
pub fn body(put_id: PutId, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(put_id.to_string().as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn sealed(ordinal: u64, counter: u64, name: u64, payload: Vec<u8>, algorithm: Algorithm) -> Sealed {
    let key = key(name);
    let meta = SealMeta {
        kind: key.kind,
        namespace: key.namespace,
        hash: key.hash,
        part: key.part,
        plain_key: String::new(),
        sequence: 3,
        put_id: put_id(ordinal, counter),
        parent: None,
        created_at_ms: 5,
        expires_at_ms: 0,
    };
    seal(&meta, &Payload::from(payload), algorithm)
}

pub fn put(ordinal: u64, counter: u64, name: u64, len: usize) -> Write {
    Write::Put(sealed(ordinal, counter, name, body(put_id(ordinal, counter), len), Algorithm::None))
}

pub async fn append(journal: &Journal<MemoryWorld>, writes: Vec<Write>) -> Result<Appended, AppendError> {
    journal.append(writes, NEVER).await
}

/// The put ids that are pending, in order, each with its body verified.
pub async fn pending(journal: &Journal<MemoryWorld>) -> Vec<PutId> {
    let all = journal.state(|state| state.next_pending(0, usize::MAX));
    let mut ids = Vec::new();
    for (_, pending) in all {
        if let Pending::Put(put) = &pending {
            let stored = journal.read_body(put).await.unwrap();
            assert_eq!(*blake3::hash(&stored).as_bytes(), put.record.body_hash(), "the body of {:?}", put.place);
        }
        ids.push(pending.version().put_id);
    }
    ids
}
