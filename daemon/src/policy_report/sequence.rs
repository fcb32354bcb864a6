//! A trace as the simulated caches see it: blocks by number.

use crate::trace::TraceRequest;
use std::collections::BTreeMap;

/// One block of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockRef {
    /// Dense, from zero: equal numbers are the same block behind the same prefix.
    pub number: u32,
    pub parent: Option<u32>,
    /// Position in its chain, from zero.
    pub sequence: u32,
    /// The request that it is of.
    pub request: u32,
}

/// All requests.
#[derive(Debug)]
pub struct Sequence {
    blocks: Vec<BlockRef>,
    /// Where each request ends in `blocks`.
    ends: Vec<usize>,
    distinct: usize,
}

impl Sequence {
    pub fn of(requests: &[TraceRequest]) -> Self {
        let mut numbers: BTreeMap<(Option<u32>, u64), u32> = BTreeMap::new();
        let mut sequence = Self { blocks: Vec::new(), ends: Vec::new(), distinct: 0 };
        for (request, of) in (0_u32..).zip(requests) {
            let mut parent = None;
            for (position, id) in (0_u32..).zip(&of.ids) {
                let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                let number = *numbers.entry((parent, *id)).or_insert(next);
                sequence.blocks.push(BlockRef { number, parent, sequence: position, request });
                parent = Some(number);
            }
            sequence.ends.push(sequence.blocks.len());
        }
        sequence.distinct = numbers.len();
        sequence
    }

    pub fn requests(&self) -> impl Iterator<Item = &[BlockRef]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.blocks.get(begin..*end).unwrap_or_default())
    }

    /// Different blocks.
    pub fn distinct(&self) -> usize {
        self.distinct
    }

    /// Blocks of all requests.
    pub fn references(&self) -> u64 {
        self.blocks.len() as u64
    }
}
