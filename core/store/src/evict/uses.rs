//! Uses on their way to whoever keeps account of them: noted by every hit, so in nanoseconds, and collected now and then.

use parking_lot::Mutex;

/// Buffers that uses are spread over, so that threads seldom meet. A power of two.
const SHARDS: usize = 16;

/// Uses that one buffer holds; more are lost until it is collected. All together half a MiB.
const SHARD_MAX: usize = 4096;

/// Names that were used, in 64 bits each. Bounded: where more is used than is collected, uses are lost, and an order of
/// eviction that rests on a sample of them is as good.
#[derive(Debug, Default)]
pub struct Uses {
    shards: [Shard; SHARDS],
}

/// A cache line of its own, so that no two are written by different threads at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Vec<u64>>);

impl Uses {
    /// Notes a use. True where it is time to collect.
    pub fn note(&self, name: u64) -> bool {
        // Names are uniform in all their bits.
        let mut shard = self.shards[name as usize % SHARDS].0.lock();
        if shard.len() < SHARD_MAX {
            shard.push(name);
        }
        shard.len() == SHARD_MAX / 2
    }

    /// Takes what was noted since the last call: each name once, in order of names, with the number of its uses.
    pub fn collect(&self) -> Vec<(u64, u32)> {
        let mut names: Vec<u64> = Vec::new();
        for shard in &self.shards {
            names.append(&mut shard.0.lock());
        }
        names.sort_unstable();
        names.chunk_by(|a, b| a == b).filter_map(|same| Some((*same.first()?, same.len() as u32))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_and_bounded() {
        let uses = Uses::default();
        assert!(uses.collect().is_empty());
        for name in [7, 5, 7, 7] {
            assert!(!uses.note(name));
        }
        assert_eq!(uses.collect(), [(5, 1), (7, 3)]);
        let due = (0..SHARD_MAX as u64 * 2).filter(|_| uses.note(32)).count();
        assert_eq!((due, uses.collect()), (1, vec![(32, SHARD_MAX as u32)]));
        assert!(uses.collect().is_empty());
    }
}
