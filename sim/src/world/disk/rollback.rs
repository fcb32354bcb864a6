//! Stale but valid: what a cloned machine, a restored backup or a volume that forgot a write brings back.

use super::{Names, SECTOR_BYTES, SimDisk, State};
use crate::random::Stream;

/// The unit in which files go back: what a file system writes at once.
const PAGE_BYTES: usize = 8 * SECTOR_BYTES;

impl State {
    /// An older durable state, chosen by `choice`: names, and the bytes of the files.
    fn older(&self, choice: u64) -> Option<(Names, std::collections::BTreeMap<u64, super::Contents>)> {
        let older = self.snapshots.len().saturating_sub(1);
        let at = choice.checked_rem(older as u64)?;
        self.snapshots.get(usize::try_from(at).ok()?).cloned()
    }
}

impl SimDisk {
    /// The whole disk goes back to an older durable state. False where there is none.
    pub fn roll_back(&self, choice: u64) -> bool {
        let mut state = self.state.lock();
        let Some((names, files)) = state.older(choice) else { return false };
        state.names.clone_from(&names);
        state.durable_names = names;
        state.files = files;
        state.pending.clear();
        true
    }

    /// One file goes back to what its name held in an older durable state. False where that makes no difference.
    pub fn roll_back_file(&self, choice: u64) -> bool {
        let mut random = Stream::new(choice, "roll-back-file");
        let mut state = self.state.lock();
        let Some((names, files)) = state.older(random.draw()) else { return false };
        let then = |name: &String| names.get(name).and_then(|file| files.get(file));
        let differs = |(name, file): &(&String, &u64)| {
            let now = state.files.get(file).map(|contents| contents.bytes.as_slice());
            then(name).is_some_and(|then| Some(then.bytes.as_slice()) != now)
        };
        let differing: Vec<(String, u64)> =
            state.names.iter().filter(differs).map(|(name, file)| (name.clone(), *file)).collect();
        let Some((name, file)) = random.pick(&differing) else { return false };
        let Some(old) = then(name).cloned() else { return false };
        state.files.insert(*file, old);
        true
    }

    /// Some pages of the files below `dir` go back to what they were in an older durable state: to nothing, where they
    /// were not there yet. False where that makes no difference.
    pub fn roll_back_pages(&self, dir: &str, choice: u64) -> bool {
        let mut random = Stream::new(choice, "roll-back-pages");
        let mut state = self.state.lock();
        let Some((names, files)) = state.older(random.draw()) else { return false };
        let below: Vec<(String, u64)> = state.names.iter().map(|(name, file)| (name.clone(), *file)).collect();
        let mut changed = false;
        for (name, file) in below.iter().filter(|(name, _)| name.starts_with(dir)) {
            let old = names.get(name).and_then(|file| files.get(file)).map(|old| old.bytes.clone()).unwrap_or_default();
            let Some(contents) = state.files.get_mut(file) else { continue };
            for (at, page) in contents.bytes.chunks_mut(PAGE_BYTES).enumerate() {
                let start = at * PAGE_BYTES;
                let then = old.iter().skip(start).copied().chain(std::iter::repeat(0)).take(page.len());
                let then: Vec<u8> = then.collect();
                if then != page && random.chance(0.2) {
                    page.copy_from_slice(&then);
                    changed = true;
                }
            }
        }
        changed
    }
}
