//! The ledger: what every name may hold, given what was asked and what was acknowledged before the daemon died.

use crate::trace::payload;
use bettong_wire::request::{Level, Target};
use bettong_wire::{BlockHash, BlockKey, MissReason, Part, SidecarKey};
use std::collections::{BTreeMap, BTreeSet};

/// Smallest and largest value, in bytes.
const LEN: std::ops::Range<u64> = 64..12_000;

/// Something that the crash test stores. Blocks and sidecars are written once; plain keys again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Block(u64),
    Sidecar(u64),
    Plain(u64),
}

/// What every plain key begins with.
const PLAIN: &str = "crash-test-";

impl Name {
    pub fn target(self) -> Target {
        let hash = |kind: &str, number: u64| *blake3::hash(format!("{kind} {number}").as_bytes()).as_bytes();
        match self {
            Self::Block(number) => Target::Block(BlockKey { hash: BlockHash(hash("block", number)), part: Part(0) }),
            Self::Sidecar(number) => Target::Sidecar(SidecarKey(hash("sidecar", number))),
            Self::Plain(number) => Target::Plain(format!("{PLAIN}{number}")),
        }
    }

    /// Of a block or a sidecar also the number of its only value.
    pub fn number(self) -> u64 {
        match self {
            Self::Block(number) | Self::Sidecar(number) | Self::Plain(number) => number,
        }
    }

    pub fn of_plain(key: &str) -> Option<Self> {
        key.strip_prefix(PLAIN)?.parse().ok().map(Self::Plain)
    }
}

/// The bytes of a value: they follow from its number, so that verifying is recomputing.
pub fn bytes(value: u64) -> Vec<u8> {
    payload::block(value, len(value))
}

fn len(value: u64) -> usize {
    (LEN.start + payload::mix(value) % (LEN.end - LEN.start)) as usize
}

/// What became of one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What was acknowledged is there, byte for byte, or is absent because its delete was acknowledged.
    Right,
    /// Nobody was told what became of it; it is whole.
    Whole,
    /// Nobody was told what became of it; it is absent.
    Absent,
    /// Acknowledged, and not there.
    Lost(MissReason),
    /// Deleted, and there again.
    Returned,
    /// Bytes that this name never had, or had before.
    Wrong,
}

#[derive(Debug, Clone)]
struct State {
    /// Values that it may hold; `None` is that it is absent.
    allowed: BTreeSet<Option<u64>>,
    /// The round that last touched it.
    round: u64,
}

/// Names, what they may hold, and the batches of which nobody knows whether they were stored.
#[derive(Debug, Default)]
pub struct Ledger {
    states: BTreeMap<Name, State>,
    batches: Vec<Vec<Name>>,
    values: u64,
    pub acknowledged: u64,
    pub asked: u64,
    /// Of the acknowledged puts, by level.
    by_level: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// A number that was not given out before.
    pub fn number(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// A put of `value` (or a delete, where it is `None`) is about to be asked: from now on it may have happened.
    pub fn begin(&mut self, name: Name, value: Option<u64>, round: u64) {
        let state = self.states.entry(name).or_insert_with(|| State { allowed: [None].into(), round });
        state.allowed.insert(value);
        state.round = round;
        self.asked += 1;
    }

    /// It was acknowledged. Nobody else changes the name meanwhile.
    pub fn acknowledge(&mut self, name: Name, value: Option<u64>) {
        if let Some(state) = self.states.get_mut(&name) {
            state.allowed = [value].into();
            self.acknowledged += 1;
        }
    }

    /// A batch is about to be asked: all of it will be there, or nothing.
    pub fn begin_batch(&mut self, names: &[Name], round: u64) {
        names.iter().for_each(|name| self.begin(*name, Some(name.number()), round));
        self.batches.push(names.to_vec());
    }

    pub fn acknowledge_batch(&mut self, names: &[Name]) {
        names.iter().for_each(|name| self.acknowledge(*name, Some(name.number())));
        self.batches.retain(|batch| batch != names);
    }

    /// So many puts of `level` were acknowledged.
    pub fn put_at(&mut self, level: Level, puts: usize) {
        let name = match level {
            Level::Memory => "memory",
            Level::Journal => "journal",
            Level::Object => "object",
        };
        *self.by_level.entry(name).or_default() += puts as u64;
    }

    pub fn by_level(&self) -> &BTreeMap<&'static str, u64> {
        &self.by_level
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Every name, with the round that last touched it.
    pub fn names(&self) -> impl Iterator<Item = (Name, u64)> {
        self.states.iter().map(|(name, state)| (*name, state.round))
    }

    /// Judges one reading; from now on the name holds what was read.
    pub fn judge(&mut self, name: Name, read: Result<&[u8], MissReason>) -> Found {
        let Some(state) = self.states.get_mut(&name) else { return Found::Wrong };
        let certain = state.allowed.len() == 1;
        match read {
            Ok(bytes) => {
                let is = |value: &Option<u64>| value.is_some_and(|value| payload::is_block(value, len(value), bytes));
                match state.allowed.iter().copied().find(is) {
                    Some(value) => {
                        state.allowed = [value].into();
                        if certain { Found::Right } else { Found::Whole }
                    }
                    None if certain && state.allowed.contains(&None) => Found::Returned,
                    None => Found::Wrong,
                }
            }
            Err(MissReason::Absent) if state.allowed.contains(&None) => {
                state.allowed = [None].into();
                if certain { Found::Right } else { Found::Absent }
            }
            Err(reason) => Found::Lost(reason),
        }
    }

    /// Once every name of them was read after a restart: batches of which a part is there. Forgets them all.
    pub fn split_batches(&mut self) -> Vec<Vec<Name>> {
        let batches = std::mem::take(&mut self.batches);
        let there = |name: &Name| self.states.get(name).is_some_and(|state| !state.allowed.contains(&None));
        batches.into_iter().filter(|batch| batch.iter().any(there) && !batch.iter().all(there)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_must_be_there_and_what_is_in_doubt_is_whole_or_absent() {
        let mut ledger = Ledger::default();
        let name = Name::Plain(1);
        ledger.begin(name, Some(10), 1);
        assert_eq!(ledger.clone_of(name).judge(name, Err(MissReason::Absent)), Found::Absent);
        assert_eq!(ledger.clone_of(name).judge(name, Ok(&bytes(10))), Found::Whole);
        assert_eq!(ledger.clone_of(name).judge(name, Ok(&bytes(11))), Found::Wrong);
        ledger.acknowledge(name, Some(10));
        assert_eq!(ledger.judge(name, Ok(&bytes(10))), Found::Right);
        assert_eq!(ledger.judge(name, Err(MissReason::Absent)), Found::Lost(MissReason::Absent));
        assert_eq!(ledger.judge(name, Err(MissReason::Corrupt)), Found::Lost(MissReason::Corrupt));
        ledger.begin(name, Some(11), 2);
        assert_eq!(ledger.judge(name, Ok(&bytes(10))), Found::Whole);
        assert_eq!(ledger.judge(name, Ok(&bytes(11))), Found::Wrong, "once read as not there, it stays so");
    }

    #[test]
    fn a_deleted_name_stays_deleted() {
        let mut ledger = Ledger::default();
        let name = Name::Block(1);
        ledger.begin(name, Some(1), 1);
        ledger.acknowledge(name, Some(1));
        ledger.begin(name, None, 1);
        assert_eq!(ledger.clone_of(name).judge(name, Ok(&bytes(1))), Found::Whole);
        ledger.acknowledge(name, None);
        assert_eq!(ledger.judge(name, Err(MissReason::Absent)), Found::Right);
        assert_eq!(ledger.judge(name, Ok(&bytes(1))), Found::Returned);
    }

    #[test]
    fn half_a_batch_is_noticed() {
        for (there, split) in [(0, 0), (1, 1), (2, 0)] {
            let mut ledger = Ledger::default();
            let names = [Name::Block(1), Name::Block(2)];
            ledger.begin_batch(&names, 1);
            for (at, name) in names.into_iter().enumerate() {
                let held = bytes(at as u64 + 1);
                ledger.judge(name, if at < there { Ok(&held) } else { Err(MissReason::Absent) });
            }
            assert_eq!((ledger.split_batches().len(), ledger.split_batches().len()), (split, 0));
        }
    }

    impl Ledger {
        /// Another ledger that knows the same of one name.
        fn clone_of(&self, name: Name) -> Self {
            let states = self.states.get(&name).map(|state| (name, state.clone()));
            Self { states: states.into_iter().collect(), ..Self::default() }
        }
    }
}
