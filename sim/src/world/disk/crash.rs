//! What a death leaves on the disk. Where only the process dies the kernel keeps what was written, synced or not; where
//! the power fails too, what was not synced is lost, torn or reordered.

use super::{Contents, Names, Pending, SECTOR_BYTES, SNAPSHOTS_MAX, SimDisk, State};
use crate::random::Stream;
use std::collections::BTreeMap;

/// Deaths that are the process's alone, of all.
const PROCESS_ONLY: f64 = 0.3;

/// What a death took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// The process died and the machine did not.
    pub process_only: bool,
    /// A file kept a part of its unsynced bytes.
    pub torn: bool,
    /// A file lost all its unsynced bytes.
    pub data: bool,
    /// A name that was made, changed or removed is as it was.
    pub names: bool,
    /// Something later is kept, something earlier is not.
    pub reordered: bool,
}

impl Contents {
    /// A sync failed: its data is gone, at once or, where it is still `readable`, at the next death.
    pub(super) fn lose_unsynced(&mut self, readable: bool) {
        if readable {
            self.doomed.push(self.synced..self.bytes.len());
            self.synced = self.bytes.len();
        } else {
            self.bytes.truncate(self.synced);
        }
    }

    /// The kernel forgets the pages of failed syncs: they read as zeros.
    fn forget_doomed(&mut self) {
        for range in std::mem::take(&mut self.doomed) {
            self.bytes.get_mut(range).into_iter().flatten().for_each(|byte| *byte = 0);
        }
    }

    /// Of the unsynced bytes a random length is kept, and of its sectors a random subset; lost ones read as zeros.
    fn tear(&mut self, random: &mut Stream, losses: &mut Losses) {
        let unsynced = self.bytes.len() - self.synced;
        let kept = if random.chance(0.25) { 0 } else { random.below(unsynced as u64 + 1) as usize };
        let kept = self.synced + kept;
        let cut = kept < self.bytes.len();
        self.bytes.truncate(kept);
        let synced = self.synced;
        let (mut zeroed, mut reordered) = (false, false);
        for (index, sector) in self.bytes.chunks_mut(SECTOR_BYTES).enumerate() {
            let start = index * SECTOR_BYTES;
            if start + sector.len() <= synced {
                continue;
            }
            if random.chance(0.3) {
                let unsynced = sector.iter_mut().skip(synced.saturating_sub(start));
                unsynced.for_each(|byte| *byte = 0);
                zeroed = true;
            } else {
                reordered |= zeroed;
            }
        }
        losses.reordered |= reordered;
        losses.data |= unsynced > 0 && kept == synced;
        losses.torn |= kept > synced && (cut || zeroed);
        self.synced = self.bytes.len();
    }
}

impl State {
    fn remember(&mut self) {
        if self.snapshots.len() == SNAPSHOTS_MAX {
            self.snapshots.remove(0);
        }
        let durable = |contents: &Contents| {
            let bytes = contents.bytes.iter().take(contents.synced).copied().collect();
            Contents { bytes, synced: contents.synced, doomed: Vec::new() }
        };
        let files: BTreeMap<u64, Contents> =
            self.files.iter().map(|(file, contents)| (*file, durable(contents))).collect();
        self.snapshots.push((self.durable_names.clone(), files));
    }

    /// What is left after a power failure.
    fn power_fails(&mut self, random: &mut Stream) -> Losses {
        let mut losses = Losses::default();
        let as_seen: Names = self.names.clone();
        for change in std::mem::take(&mut self.pending) {
            let kept = random.chance(0.5);
            losses.reordered |= kept && losses.names;
            losses.names |= !kept;
            if kept {
                Pending::apply(&change, &mut self.durable_names);
            }
        }
        losses.names &= self.durable_names != as_seen;
        self.names = self.durable_names.clone();
        for contents in self.files.values_mut() {
            contents.tear(random, &mut losses);
        }
        losses
    }
}

impl SimDisk {
    /// The node is dead; mostly its power failed too.
    pub fn crash(&self, random: &mut Stream) -> Losses {
        let mut state = self.state.lock();
        state.files.values_mut().for_each(Contents::forget_doomed);
        let losses = match random.chance(PROCESS_ONLY) {
            true => Losses { process_only: true, ..Losses::default() },
            false => state.power_fails(random),
        };
        state.remember();
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(unsynced: usize) -> Contents {
        Contents { bytes: vec![7; 100 + unsynced], synced: 100, doomed: Vec::new() }
    }

    #[test]
    fn a_power_failure_keeps_what_is_synced_and_loses_the_rest_in_every_way() {
        let mut met = [0; 3];
        for seed in 0..200 {
            let mut random = Stream::new(seed, "tear");
            let (mut file, mut losses) = (contents(3 * SECTOR_BYTES), Losses::default());
            file.tear(&mut random, &mut losses);
            assert!(file.bytes.starts_with(&[7; 100]) && file.synced == file.bytes.len());
            for (met, lost) in met.iter_mut().zip([losses.torn, losses.data, losses.reordered]) {
                *met += u32::from(lost);
            }
        }
        assert!(met[0] > 100 && met[1] > 0 && met[2] > 10, "{met:?}");
    }

    #[test]
    fn what_a_failed_sync_gave_up_is_read_until_the_next_death() {
        let mut file = contents(50);
        file.lose_unsynced(true);
        assert_eq!((file.bytes.len(), file.synced), (150, 150));
        file.bytes.extend([8; 10]);
        file.synced = file.bytes.len();
        file.forget_doomed();
        assert!(file.bytes[100..150].iter().all(|byte| *byte == 0) && file.bytes.ends_with(&[8; 10]));
        let mut file = contents(50);
        file.lose_unsynced(false);
        assert_eq!(file.bytes.len(), 100);
    }
}
