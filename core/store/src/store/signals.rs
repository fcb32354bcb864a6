//! Accesses on their way into the signal journal, and what it tells a start.

use super::Store;
use super::shared::Shared;
use crate::journal::signal::{SignalConfig, SignalEvent, SignalJournal, SignalsRecovered};
use crate::keys::Key;
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::{Disk, DiskError, World};
use serde_json::{Value, json};

/// What keys the names of entities: drawn once for a directory, told to nobody.
const KEY_FILE: &str = "node/signal-key";
/// Largest segment. Bytes.
const SEGMENT_BYTES_MAX: u64 = 8 << 20;
/// Segments that the bound is shared between, so that little is lost with the oldest.
const SEGMENTS: u64 = 8;

/// What happened, as the journal numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Signal {
    Put = 1,
    Hit = 2,
    Evict = 3,
}

/// The signal journal of an open store.
pub(super) struct Signals {
    pub journal: SignalJournal,
    pub recovered: SignalsRecovered,
    key: [u8; 32],
}

impl Signals {
    /// Names a value in 64 bits that stay over restarts.
    fn entity<W: World>(&self, shared: &Shared<W>, key: &Key) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&shared.namespace_id(key.ns).0);
        hasher.update(&key.hash);
        hasher.update(&[key.kind as u8]);
        hasher.update(&key.part.0.to_le_bytes());
        let mut short = [0; 8];
        hasher.finalize_xof().fill(&mut short);
        u64::from_le_bytes(short)
    }

    pub fn facts(&self) -> Value {
        let stats = self.journal.stats();
        json!({
            "appended": stats.appended,
            "dropped": stats.dropped,
            "failed": stats.failed,
            "disk_bytes": stats.disk_bytes,
            "recovered": self.recovered.events,
            "skipped_bytes": self.recovered.skipped_bytes,
        })
    }
}

/// What the journal knows of one value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Past {
    entity: u64,
    /// Orders last uses.
    pub last: u64,
    /// Unix milliseconds of the last use.
    pub wall_ms: u64,
    pub uses: u32,
}

/// What the journal knew at a start, by entity.
#[derive(Debug, Default)]
pub(super) struct Pasts(Vec<Past>);

impl Pasts {
    fn add(&mut self, sequence: u64, event: SignalEvent) {
        let uses = match event.kind {
            kind if kind == Signal::Put as u8 => 1,
            // What is no number counts for nothing; what is none of ours is left out.
            kind if kind == Signal::Hit as u8 => event.weight as u32,
            _ => return,
        };
        let wall_ms = event.timestamp_ns / 1_000_000;
        // Zero is for what it knows nothing of.
        self.0.push(Past { entity: event.entity, last: sequence.saturating_add(1), wall_ms, uses });
    }

    /// One entry for each entity.
    fn merge(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|next, kept| {
            let same = next.entity == kept.entity;
            if same {
                *kept = Past { uses: kept.uses.saturating_add(next.uses), ..*next };
            }
            same
        });
    }

    fn of(&self, entity: u64) -> Option<&Past> {
        let at = self.0.binary_search_by_key(&entity, |past| past.entity).ok()?;
        self.0.get(at)
    }
}

impl<W: World> Store<W> {
    /// Opens the signal journal. Where the disk refuses, recency is not known, and nothing else suffers.
    pub(super) async fn open_signals(&self) -> Pasts {
        let shared = &self.shared;
        let bytes_max = shared.config.signal_bytes_max;
        let mut pasts = Pasts::default();
        if bytes_max == 0 {
            return pasts;
        }
        let opened = async {
            let key = signal_key(&shared.world).await?;
            let segment_bytes = (bytes_max / SEGMENTS).min(SEGMENT_BYTES_MAX);
            let config = SignalConfig { bytes_max, segment_bytes, ..SignalConfig::default() };
            let mut each = |sequence, event| pasts.add(sequence, event);
            let (recovered, journal) = SignalJournal::open(shared.world.clone(), config, &mut each).await?;
            Ok::<_, DiskError>(Signals { journal, recovered, key })
        };
        match opened.await {
            Ok(signals) => drop(shared.signals.set(signals)),
            Err(error) => tracing::warn!(%error, "the signal journal cannot be opened; accesses are not remembered"),
        }
        pasts.merge();
        pasts
    }

    /// What the signal journal knew of a value when the store was opened.
    pub(super) fn past_of<'a>(&self, pasts: &'a Pasts, key: &Key) -> Option<&'a Past> {
        let signals = self.shared.signals.get()?;
        pasts.of(signals.entity(&self.shared, key))
    }

    /// Remembers accesses. Never waits.
    pub(super) fn signal(&self, key: &Key, signal: Signal, times: u32) {
        let shared = &self.shared;
        if let Some(signals) = shared.signals.get() {
            signals.journal.record(SignalEvent {
                entity: signals.entity(shared, key),
                kind: signal as u8,
                weight: times as f32,
                timestamp_ns: shared.wall_ms().saturating_mul(1_000_000),
            });
        }
    }
}

/// The directory's own key. One that is damaged is drawn anew: what was recorded under it is then of nobody.
async fn signal_key<W: World>(world: &W) -> Result<[u8; 32], DiskError> {
    let disk = world.disk();
    match disk.read_at(KEY_FILE, 0, RECORD_BYTES_MAX).await {
        Ok(bytes) => match record::decode::<[u8; 32]>(&bytes) {
            Ok(key) => return Ok(key),
            Err(error) => {
                tracing::warn!(error, file = KEY_FILE, "the key of the signal journal is damaged; it is drawn anew");
                disk.remove(KEY_FILE).await?;
            }
        },
        Err(DiskError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    for word in key.chunks_mut(8) {
        word.copy_from_slice(&world.random_u64().to_le_bytes());
    }
    let bytes = record::encode(&key).map_err(|detail| DiskError::Io { path: KEY_FILE.to_owned(), detail })?;
    disk.create(KEY_FILE).await?;
    disk.append(KEY_FILE, &[bytes]).await?;
    disk.sync(KEY_FILE).await?;
    disk.sync_dir("node").await?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_use_and_all_uses_of_each_are_known() {
        let mut pasts = Pasts::default();
        let event = |entity, kind, weight, ms: u64| SignalEvent { entity, kind, weight, timestamp_ns: ms * 1_000_000 };
        let events = [
            event(7, 1, 1.0, 10),
            event(8, 1, 1.0, 11),
            event(7, 2, 3.0, 12),
            event(7, 3, 1.0, 13),
            event(8, 2, f32::NAN, 14),
            event(8, 9, 5.0, 15),
        ];
        (0..).zip(events).for_each(|(sequence, event)| pasts.add(sequence, event));
        pasts.merge();
        assert_eq!(pasts.of(7), Some(&Past { entity: 7, last: 3, wall_ms: 12, uses: 4 }));
        assert_eq!(pasts.of(8), Some(&Past { entity: 8, last: 5, wall_ms: 14, uses: 1 }));
        assert_eq!(pasts.of(9), None);
    }
}
