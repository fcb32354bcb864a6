//! Lives and packs as small integers: an entry of the map names them by four bytes instead of eight or sixteen.

use bettong_wire::PutId;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// The numbers of one map.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Grows by one for each start of a node whose values are in the map.
    lives: Vec<u64>,
    by_life: BTreeMap<u64, u32>,
    /// Number of a pack less one; free ones have no entries.
    packs: Vec<Pack>,
    by_pack: HashTable<u32>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Pack {
    counter: u64,
    life: u32,
    /// Entries of the map that are in it.
    entries: u32,
}

impl Numbers {
    pub fn life(&mut self, life: u64) -> u32 {
        *self.by_life.entry(life).or_insert_with(|| {
            self.lives.push(life);
            (self.lives.len() - 1) as u32
        })
    }

    pub fn life_of(&self, number: u32) -> u64 {
        self.lives.get(number as usize).copied().unwrap_or(0)
    }

    /// The number of a pack, for one more entry that is in it. Never zero.
    pub fn enter(&mut self, pack: PutId) -> u32 {
        let life = self.life(pack.life);
        let hash = hash(life, pack.counter);
        let is = |number: &u32, packs: &[Pack]| {
            packs.get(*number as usize - 1).is_some_and(|held| (held.life, held.counter) == (life, pack.counter))
        };
        if let Some(number) = self.by_pack.find(hash, |number| is(number, &self.packs)).copied() {
            self.packs[number as usize - 1].entries += 1;
            return number;
        }
        let held = Pack { counter: pack.counter, life, entries: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.packs[number as usize - 1] = held;
                number
            }
            None => {
                self.packs.push(held);
                self.packs.len() as u32
            }
        };
        let packs = &self.packs;
        self.by_pack.insert_unique(hash, number, |number| {
            packs.get(*number as usize - 1).map_or(0, |held| self::hash(held.life, held.counter))
        });
        number
    }

    /// One entry less is in the pack of this number; zero is none.
    pub fn leave(&mut self, number: u32) {
        let Some(held) = number.checked_sub(1).and_then(|at| self.packs.get_mut(at as usize)) else { return };
        held.entries = held.entries.saturating_sub(1);
        if held.entries == 0
            && let Ok(found) = self.by_pack.find_entry(hash(held.life, held.counter), |at| *at == number)
        {
            found.remove();
            self.free.push(number);
        }
    }

    /// The pack of a number; `None` for zero.
    pub fn pack_of(&self, number: u32) -> Option<PutId> {
        let held = self.packs.get(number.checked_sub(1)? as usize)?;
        Some(PutId { life: self.life_of(held.life), counter: held.counter })
    }

    /// Bytes that packs take.
    pub fn bytes(&self) -> usize {
        self.packs.capacity() * size_of::<Pack>()
            + self.by_pack.allocation_size()
            + self.free.capacity() * size_of::<u32>()
    }

    #[cfg(test)]
    fn packs(&self) -> usize {
        self.by_pack.len()
    }
}

/// Not keyed: this node draws the put ids of its packs, and a peer that chose its own would slow its reader down only.
fn hash(life: u32, counter: u64) -> u64 {
    let mixed = (counter ^ (u64::from(life) << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_has_one_number_as_long_as_something_is_in_it() {
        let mut numbers = Numbers::default();
        let pack = |counter| PutId { life: 9, counter };
        let first = numbers.enter(pack(1));
        assert_eq!(numbers.enter(pack(1)), first);
        let second = numbers.enter(pack(2));
        assert_eq!((numbers.pack_of(first), numbers.pack_of(second)), (Some(pack(1)), Some(pack(2))));
        assert_eq!(numbers.pack_of(0), None);
        numbers.leave(0);
        numbers.leave(first);
        assert_eq!(numbers.pack_of(first), Some(pack(1)));
        numbers.leave(first);
        assert_eq!(numbers.packs(), 1);
        assert_eq!(numbers.enter(pack(3)), first, "a number is used again");
        assert_eq!(numbers.pack_of(first), Some(pack(3)));
        for counter in 10..1000 {
            let number = numbers.enter(pack(counter));
            assert_eq!(numbers.pack_of(number), Some(pack(counter)));
        }
        assert_eq!(numbers.packs(), 992);
    }
}
