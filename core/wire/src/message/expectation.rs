//! What an answer must be to be one to its request.

use super::op::Op;
use super::response::ResponseHead;
use crate::error::DecodeError;
use crate::request::Request;
use crate::response::{Answer, Chain, Outcome};

/// What is remembered of a request until it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expectation {
    op: Op,
    shape: Shape,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Shape {
    Any,
    /// The whole value.
    Whole,
    /// So many items, or, where `fewer`, at most so many.
    Items {
        asked: usize,
        fewer: bool,
    },
    /// Blocks `from` to at most `asked`.
    Chain {
        from: u32,
        asked: usize,
        sidecar: bool,
    },
}

impl Expectation {
    pub fn of(request: &Request) -> Self {
        let items = |asked, fewer| Shape::Items { asked, fewer };
        let shape = match request {
            Request::Get(get) if get.range.is_none() => Shape::Whole,
            Request::GetSidecar(_) => Shape::Whole,
            Request::GetMany(body) => items(body.targets.len(), false),
            Request::GetBlocks(body) => items(body.keys.len(), body.leading),
            Request::PutBlocks(body) => items(body.blocks.len(), false),
            Request::RestoreChain(body) => {
                Shape::Chain { from: body.from, asked: body.hashes.len(), sidecar: body.sidecar.is_some() }
            }
            _ => Shape::Any,
        };
        Self { op: request.op(), shape }
    }

    pub fn op(&self) -> Op {
        self.op
    }

    /// Whether an answer is one to the request.
    pub fn check(&self, answer: &ResponseHead) -> Result<(), DecodeError> {
        if let Some(op) = answer.op.filter(|op| *op != self.op) {
            let must = "that of its request";
            return Err(DecodeError::Invalid { what: "the operation of an answer", got: op.code().into(), must });
        }
        match (&self.shape, &answer.outcome, answer.payload_lens.as_slice()) {
            (Shape::Items { asked, fewer }, Outcome::Ok(Answer::Items(items)), _) => batch(*asked, *fewer, items.len()),
            (Shape::Items { asked, fewer }, Outcome::Ok(Answer::StoredBatch(stored)), _) => {
                batch(*asked, *fewer, stored.len())
            }
            (Shape::Whole, Outcome::Ok(Answer::Hit(hit)), [len]) if *len != hit.total_len => {
                Err(DecodeError::LengthMismatch { what: "a whole value", said: hit.total_len, got: *len })
            }
            (Shape::Chain { from, asked, sidecar }, Outcome::Ok(Answer::Chain(answered)), _) => {
                chain(*from, *asked, *sidecar, answered)
            }
            _ => Ok(()),
        }
    }
}

fn batch(asked: usize, fewer: bool, got: usize) -> Result<(), DecodeError> {
    if got > asked || (got < asked && !fewer) {
        let (said, got) = (asked as u64, got as u64);
        return Err(DecodeError::LengthMismatch { what: "the answer to a batch (in items)", said, got });
    }
    Ok(())
}

fn chain(from: u32, asked: usize, sidecar: bool, answered: &Chain) -> Result<(), DecodeError> {
    let invalid = |what, got: u32, must| Err(DecodeError::Invalid { what, got: got.into(), must });
    let Chain { blocks, end, hits, sidecar: brought } = answered;
    if *blocks as usize > asked {
        return invalid("the blocks of a chain that are present", *blocks, "at most those asked for");
    }
    if *end < from || *end > (*blocks).max(from) {
        return invalid(
            "the end of what is brought of a chain",
            *end,
            "between the first block asked for and the last present",
        );
    }
    if *end == from && !hits.is_empty() {
        return invalid("the end of what is brought of a chain", *end, "behind what is brought");
    }
    if brought.is_some() && !(sidecar && *end as usize == asked && *blocks == *end) {
        return invalid("the sidecar of a chain", 1, "asked for, and behind all of its blocks");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BlockHash, PutId, SidecarKey};
    use crate::request::{NsHandle, ReadLimits, RestoreChain, Tier};
    use crate::response::{Hit, ItemOutcome, MissReason};

    /// Whoever believed one of these would take values for those of other blocks, or ask for ever.
    #[test]
    fn an_answer_about_a_chain_stays_within_what_was_asked() {
        let request = |sidecar| {
            Expectation::of(&Request::RestoreChain(RestoreChain {
                ns: NsHandle(0),
                hashes: vec![BlockHash([1; 32]); 4],
                parts: Vec::new(),
                from: 2,
                sidecar,
                bytes_max: 0,
                limits: ReadLimits::default(),
            }))
        };
        let expects = |sidecar, blocks, end, hits: usize, brought: bool| {
            let put_id = PutId { life: 1, counter: 1 };
            let hit = Hit { total_len: 0, put_id, tier: Tier::Memory, expires_at_ms: 0 };
            let tail = brought.then_some(ItemOutcome::Miss(MissReason::Absent));
            let chain = Chain { blocks, end, hits: vec![hit; hits], sidecar: tail };
            let outcome = Outcome::Ok(Answer::Chain(chain));
            request(sidecar).check(&ResponseHead { op: Some(Op::RestoreChain), outcome, payload_lens: vec![0; hits] })
        };
        let asked = Some(SidecarKey([9; 32]));
        for (sidecar, blocks, end, hits, brought) in
            [(None, 4, 3, 1, false), (None, 1, 2, 0, false), (asked, 4, 4, 2, true), (asked, 4, 4, 2, false)]
        {
            assert_eq!(expects(sidecar, blocks, end, hits, brought), Ok(()));
        }
        for (sidecar, blocks, end, hits, brought) in [
            (None, 5, 4, 2, false),
            (None, 4, 5, 3, false),
            (None, 4, 1, 0, false),
            (None, 4, 2, 1, false),
            (None, 4, 4, 2, true),
            (asked, 4, 3, 1, true),
            (asked, 3, 3, 1, true),
        ] {
            let what = format!("{blocks} {end} {hits} {brought}");
            assert!(expects(sidecar, blocks, end, hits, brought).is_err(), "{what}");
        }
    }
}
