//! Reads that answer something else than what was written: bits that flip for ever, and bytes of another place.

use super::{Contents, SECTOR_BYTES, SimDisk, State};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// What the disks of all nodes lie on, side by side: a read that goes astray may end up on any of them.
#[derive(Clone, Default)]
pub struct Volume(Arc<Mutex<Vec<Arc<Mutex<State>>>>>);

impl Volume {
    pub(super) fn join(&self, disk: &Arc<Mutex<State>>) {
        self.0.lock().push(disk.clone());
    }

    /// What a read of so many bytes at `offset` answers that ends up in another sector: of any file of any disk, those
    /// that have no name any more included. Behind the end of a file lie zeros.
    pub(super) fn astray(&self, offset: u64, len: usize, choice: u64) -> Option<Bytes> {
        let disks = self.0.lock();
        let mut places: Vec<(usize, u64, usize)> = Vec::new();
        for (at, disk) in disks.iter().enumerate() {
            let disk = disk.lock();
            let sectors = disk.files.iter().map(|(file, held)| (at, *file, held.bytes.len().div_ceil(SECTOR_BYTES)));
            places.extend(sectors);
        }
        let all: usize = places.iter().map(|(_, _, sectors)| sectors).sum();
        let mut sector = usize::try_from(choice.checked_rem(all as u64)?).ok()?;
        for (disk, file, sectors) in places {
            if sector >= sectors {
                sector -= sectors;
                continue;
            }
            let disk = disks.get(disk)?.lock();
            let start = sector * SECTOR_BYTES + usize::try_from(offset).ok()? % SECTOR_BYTES;
            let there = disk.files.get(&file)?.bytes.iter().skip(start).copied();
            return Some(there.chain(std::iter::repeat(0)).take(len).collect());
        }
        None
    }
}

/// Flips one bit of the sectors that a read of `range` touches. Answers whether the read sees it.
pub(super) fn rot(bytes: &mut [u8], range: &Range<usize>, choice: u64) -> bool {
    let start = range.start / SECTOR_BYTES * SECTOR_BYTES;
    let end = range.end.next_multiple_of(SECTOR_BYTES).min(bytes.len());
    let sectors = end.saturating_sub(start);
    let Some(at) = choice.checked_rem(sectors as u64) else { return false };
    let at = start + at as usize;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (choice >> 61);
    }
    range.contains(&at)
}

/// What befalls the files of a node that is down. Each says whether it changed anything.
impl SimDisk {
    /// Flips one bit of a file.
    pub fn flip(&self, name: &str, choice: u64) -> bool {
        self.flip_within(name, 0..u64::MAX, choice)
    }

    /// Flips one bit of a range of a file.
    pub fn flip_within(&self, name: &str, range: Range<u64>, choice: u64) -> bool {
        let mut state = self.state.lock();
        let Ok(contents) = state.file_mut(name) else { return false };
        let all = contents.bytes.len() as u64;
        let (start, end) = (range.start.min(all), range.end.min(all));
        let Some(at) = choice.checked_rem(end - start) else { return false };
        let byte = usize::try_from(start + at).ok().and_then(|at| contents.bytes.get_mut(at));
        byte.map(|byte| *byte ^= 1 << (choice >> 61)).is_some()
    }

    /// A file is gone for good.
    pub fn lose(&self, name: &str) -> bool {
        let mut state = self.state.lock();
        state.durable_names.remove(name);
        state.names.remove(name).is_some()
    }

    /// A file ends at `len`, for good.
    pub fn cut(&self, name: &str, len: u64) -> bool {
        let mut state = self.state.lock();
        let Ok(contents) = state.file_mut(name) else { return false };
        let Some(len) = usize::try_from(len).ok().filter(|len| *len < contents.bytes.len()) else { return false };
        contents.bytes.truncate(len);
        contents.synced = contents.synced.min(len);
        contents.doomed.iter_mut().for_each(|doomed| doomed.end = doomed.end.min(len));
        contents.doomed.retain(|doomed| !doomed.is_empty());
        true
    }

    /// A file is there that was not.
    pub fn plant(&self, name: &str, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        if state.names.contains_key(name) {
            return false;
        }
        state.files_made += 1;
        let file = state.files_made;
        let contents = Contents { bytes: bytes.to_vec(), synced: bytes.len(), doomed: Vec::new() };
        state.files.insert(file, contents);
        state.names.insert(name.to_owned(), file);
        state.durable_names.insert(name.to_owned(), file);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(files: &[&[u8]]) -> Arc<Mutex<State>> {
        let contents = |bytes: &[u8]| Contents { bytes: bytes.to_vec(), synced: bytes.len(), doomed: Vec::new() };
        let files = files.iter().enumerate().map(|(at, bytes)| (at as u64, contents(bytes))).collect();
        Arc::new(Mutex::new(State { files, ..State::default() }))
    }

    #[test]
    fn rot_stays_within_the_sectors_that_are_read() {
        for choice in 0..10_000_u64 {
            let mut bytes = vec![0; 4 * SECTOR_BYTES + 100];
            let range = SECTOR_BYTES + 10..SECTOR_BYTES + 20;
            let seen = rot(&mut bytes, &range, choice.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let flipped: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            assert_eq!(flipped.len(), 1);
            assert!((SECTOR_BYTES..2 * SECTOR_BYTES).contains(&flipped[0]));
            assert_eq!(seen, range.contains(&flipped[0]));
        }
        assert!(!rot(&mut [], &(0..0), 7));
    }

    #[test]
    fn a_read_astray_has_the_right_length_and_the_bytes_of_a_sector_somewhere() {
        let volume = Volume::default();
        assert_eq!(volume.astray(0, 4, 3), None);
        let long: Vec<u8> = [1, 2].iter().flat_map(|byte| vec![*byte; SECTOR_BYTES]).collect();
        volume.join(&disk(&[&long, b""]));
        volume.join(&disk(&[b"neighbour"]));
        let read = |choice| volume.astray(SECTOR_BYTES as u64 + 1, 3, choice).unwrap().to_vec();
        assert_eq!([read(0), read(1), read(2)], [vec![1; 3], vec![2; 3], b"eig".to_vec()]);
        assert_eq!(volume.astray(6, 5, 2).unwrap().as_ref(), b"our\0\0");
    }
}
