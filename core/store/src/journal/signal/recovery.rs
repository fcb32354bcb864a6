//! Reading the signal journal: what verifies, in order, each sequence number once.

use super::codec::{SignalEvent, decode_batch};
use crate::journal::header::{HEADER_LEN, MAGIC};
use crate::journal::names;
use crate::world::{Disk, DiskError, World};
use std::collections::BTreeMap;

/// Most bytes of one segment that are looked at.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// What a reading of the signal journal found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SignalsRecovered {
    pub segments: u64,
    pub batches: u64,
    pub events: u64,
    /// Places where bytes that do not verify were skipped, torn tails among them.
    pub skipped: u64,
    pub skipped_bytes: u64,
    /// Batches that were there already, or older than what came before them.
    pub repeated: u64,
    /// The sequence number behind the last one.
    pub end: u64,
}

/// Reads all segments; `each` gets the events. Returns the lengths of the segments as well.
pub(super) async fn recover<W: World>(
    world: &W,
    dir: &str,
    each: &mut (dyn FnMut(u64, SignalEvent) + Send + '_),
) -> Result<(SignalsRecovered, BTreeMap<u64, u64>), DiskError> {
    let mut found = SignalsRecovered::default();
    let mut files = BTreeMap::new();
    for name in world.disk().list(dir).await? {
        let Some(number) = names::segment_number(&name) else { continue };
        let path = format!("{dir}/{name}");
        let bytes = world.disk().read_at(&path, 0, SEGMENT_BYTES_MAX).await?;
        files.insert(number, world.disk().len(&path).await?);
        found.segments += 1;
        segment(&bytes, &mut found, each);
    }
    let others = world.disk().others(dir).await?;
    if let Some(first) = others.first() {
        let (file, count) = (format!("{dir}/{first}"), others.len());
        tracing::warn!(file, count, "not a regular file: it is no part of the signal journal, and left alone");
    }
    Ok((found, files))
}

fn segment(bytes: &[u8], found: &mut SignalsRecovered, each: &mut (dyn FnMut(u64, SignalEvent) + Send + '_)) {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Ok((header, events, len)) = decode_batch(rest) else {
            let skipped = next_magic(rest);
            found.skipped += 1;
            found.skipped_bytes += skipped as u64;
            at += skipped;
            continue;
        };
        at += len;
        if header.first < found.end {
            found.repeated += 1;
            continue;
        }
        found.batches += 1;
        found.events += u64::from(header.count);
        found.end = header.first + u64::from(header.count);
        events.into_iter().zip(header.first..).for_each(|(event, sequence)| each(sequence, event));
    }
}

/// Bytes to the next place where a batch that verifies may begin; all of them where there is none.
fn next_magic(bytes: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.windows(MAGIC.len()).position(|four| four == MAGIC)) {
        at += found;
        if bytes.len() - at >= HEADER_LEN && decode_batch(&bytes[at..]).is_ok() {
            return at;
        }
        at += 1;
    }
    bytes.len()
}
