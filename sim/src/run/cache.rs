//! Faults of a disk cache's device files, which foyer writes past the `Disk` seam. They strike while the node is down.

use crate::random::Stream;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use twox_hash::XxHash64;

/// The unit in which device files go back to an older state, and at which foyer's entries begin.
const PAGE_BYTES: usize = 4096;
/// How foyer's block engine begins an entry, big-endian: key length u32, value length u32, hash u64, sequence u64,
/// checksum u64 (XXH64 of value and key, in this order), magic and compression u32.
const HEADER_BYTES: usize = 36;
const CHECKSUM_AT: usize = 24;
const MAGIC_AT: usize = 32;
const MAGIC: [u8; 3] = [0x97, 0x03, 0x27];

pub type Files = BTreeMap<PathBuf, Vec<u8>>;

pub fn read_files(dir: &Path) -> Files {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), std::fs::read(entry.path()).ok()?))).collect()
}

/// Puts a random subset of pages back to what they held before; a file that was not there was nothing but zeros.
pub fn roll_back_pages(dir: &Path, before: &Files, random: &mut Stream) -> bool {
    let mut changed = false;
    for (path, mut now) in read_files(dir) {
        let mut old = before.get(&path).cloned().unwrap_or_default();
        old.resize(now.len(), 0);
        for (page, old) in now.chunks_mut(PAGE_BYTES).zip(old.chunks(PAGE_BYTES)) {
            if page != old && random.chance(0.5) {
                page.copy_from_slice(old);
                changed = true;
            }
        }
        if std::fs::write(path, now).is_err() {
            return false;
        }
    }
    changed
}

/// Flips some bits of the device files.
pub fn rot(dir: &Path, choice: u64) -> bool {
    let mut random = Stream::new(choice, "cache-rot");
    let mut changed = false;
    for (path, mut bytes) in read_files(dir) {
        for page in bytes.chunks_mut(PAGE_BYTES) {
            let written = page.iter().take(64).any(|byte| *byte != 0);
            if !(written && random.chance(0.3)) {
                continue;
            }
            changed |= flip(page, &mut random);
        }
        if std::fs::write(&path, bytes).is_err() {
            return false;
        }
    }
    changed
}

fn flip(bytes: &mut [u8], random: &mut Stream) -> bool {
    let position = random.below(bytes.len() as u64) as usize;
    let Some(byte) = bytes.get_mut(position) else { return false };
    *byte ^= 1 << random.below(8);
    true
}

/// Damages some whole entries and gives each a right checksum, as memory does that fails before the checksum is taken:
/// a bit of the value flips, or the value is another entry's. Foyer takes such an entry for good.
pub fn damage_entries(dir: &Path, choice: u64) -> bool {
    let mut random = Stream::new(choice, "cache-entry-damage");
    let mut files = read_files(dir);
    let mut values: Vec<Vec<u8>> = Vec::new();
    for bytes in files.values() {
        values.extend(bytes.chunks(PAGE_BYTES).enumerate().filter_map(|(page, _)| {
            let entry = Entry::at(bytes, page * PAGE_BYTES)?;
            bytes.get(entry.value()).map(<[u8]>::to_vec)
        }));
    }
    let mut changed = false;
    for (path, bytes) in &mut files {
        for start in (0..bytes.len()).step_by(PAGE_BYTES) {
            let Some(entry) = Entry::at(bytes, start).filter(|_| random.chance(0.5)) else { continue };
            let other = random.pick(&values).filter(|_| random.chance(0.3));
            changed |= match other.filter(|other| other.len() == entry.value_len) {
                Some(other) => entry.replace(bytes, other),
                None => entry.flip(bytes, &mut random),
            };
        }
        if std::fs::write(path, bytes).is_err() {
            return false;
        }
    }
    changed
}

/// Where a whole entry lies in a device file.
#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    key_len: usize,
    value_len: usize,
}

impl Entry {
    /// The entry that begins at `start`, if one does and its checksum is right.
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.get(start..)?.first_chunk()?;
        let len = |at: usize| Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?) as usize);
        let entry = Self { start, key_len: len(0)?, value_len: len(4)? };
        let right = header.get(MAGIC_AT..)?.starts_with(&MAGIC)
            && header.get(CHECKSUM_AT..MAGIC_AT)? == entry.checksum(bytes)?.to_be_bytes();
        right.then_some(entry)
    }

    fn value(&self) -> std::ops::Range<usize> {
        let start = self.start.saturating_add(HEADER_BYTES);
        start..start.saturating_add(self.value_len)
    }

    fn checksum(&self, bytes: &[u8]) -> Option<u64> {
        let value = self.value();
        let mut hasher = XxHash64::with_seed(0);
        hasher.write(bytes.get(value.start..value.end.saturating_add(self.key_len))?);
        Some(hasher.finish())
    }

    fn flip(&self, bytes: &mut [u8], random: &mut Stream) -> bool {
        bytes.get_mut(self.value()).is_some_and(|value| flip(value, random)) && self.seal(bytes)
    }

    fn replace(&self, bytes: &mut [u8], other: &[u8]) -> bool {
        let Some(value) = bytes.get_mut(self.value()).filter(|value| *value != other) else { return false };
        value.copy_from_slice(other);
        self.seal(bytes)
    }

    fn seal(&self, bytes: &mut [u8]) -> bool {
        let Some(checksum) = self.checksum(bytes) else { return false };
        let at = self.start + CHECKSUM_AT;
        let field = bytes.get_mut(at..at + size_of::<u64>());
        field.map(|field| field.copy_from_slice(&checksum.to_be_bytes())).is_some()
    }
}
