//! A prompt from the store: its blocks part by part, in order, and its sidecar.

use crate::client::unexpected;
use crate::namespace::{Got, NS, Namespace, Value, hit_value};
use bettong_wire::request::{PartAsk, ReadLimits, RestoreChain};
use bettong_wire::response::{Answer, Chain, ItemOutcome, MissReason, Outcome};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, Part, Request, Response, ServiceError, SidecarKey};

/// What is wanted of a prompt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChainAsk {
    /// The chain, first block first.
    pub hashes: Vec<BlockHash>,
    /// Empty means all parts of the namespace's identity, each whole. Of a part that asks for the last n blocks, the last n of
    /// those that are present are brought.
    pub parts: Vec<PartAsk>,
    /// The first block whose bytes are wanted: those before it are here.
    pub from: u32,
    /// Wanted where the whole chain is present.
    pub sidecar: Option<SidecarKey>,
    /// Bytes of blocks to bring at once, if more than one block has them; 0 leaves it to the daemon.
    pub bytes_at_once: u64,
    pub limits: ReadLimits,
}

/// Some blocks of a prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainPart {
    /// How many leading blocks are present: fewer than a part before said, where some of them went meanwhile.
    pub blocks: u32,
    /// The blocks `first` to `end`, without `end`, are in `values`.
    pub first: u32,
    pub end: u32,
    /// Block after block, of each its parts in the order in which they were asked for.
    pub values: Vec<(BlockKey, Value)>,
    /// With the last blocks, where it was asked for and all of them are present.
    pub sidecar: Option<Got<Value>>,
    /// Why no more is brought of blocks that are present.
    pub missed: Option<MissReason>,
}

/// A prompt on its way: ask for the next part once the last one is used, and nothing piles up.
pub struct ChainRestore {
    namespace: Namespace,
    ask: ChainAsk,
    /// The first block that has not been brought.
    next: u32,
    /// Blocks that are present, once that is known.
    blocks: Option<u32>,
    is_over: bool,
}

impl ChainRestore {
    pub(crate) fn new(namespace: Namespace, ask: ChainAsk) -> Self {
        let next = ask.from;
        Self { namespace, ask, next, blocks: None, is_over: false }
    }

    /// The next part, or `None` after the last. After an error the same part is asked for again by the next call; with
    /// `ErrorKind::Retry` because the chain became shorter, which only chains with a `last_n` say, begin again: other blocks are
    /// needed now.
    pub async fn next_part(&mut self) -> Result<Option<ChainPart>, ServiceError> {
        while !self.is_over {
            let ask = &self.ask;
            let request = RestoreChain {
                ns: NS,
                hashes: ask.hashes.clone(),
                parts: ask.parts.clone(),
                from: self.next,
                sidecar: ask.sidecar,
                bytes_max: ask.bytes_at_once,
                limits: ask.limits,
            };
            let response = self.namespace.call(Request::RestoreChain(request), Vec::new()).await?;
            if let Some(part) = self.take(response)? {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// What an answer brings; `None` where the chain is shorter than it seemed and other blocks are to be asked for.
    fn take(&mut self, response: Response) -> Result<Option<ChainPart>, ServiceError> {
        let Response { outcome, payloads } = response;
        let chain = match outcome {
            Outcome::Ok(Answer::Chain(chain)) => chain,
            Outcome::Miss(reason) => {
                self.is_over = true;
                let (first, blocks) = (self.next, self.blocks.unwrap_or(self.next));
                let (values, sidecar, missed) = (Vec::new(), None, Some(reason));
                return Ok(Some(ChainPart { blocks, first, end: first, values, sidecar, missed }));
            }
            other => return Err(unexpected("a restore of a chain", other)),
        };
        let brings_nothing = chain.end == self.next && chain.end < chain.blocks;
        let is_shorter = brings_nothing || self.blocks.is_some_and(|blocks| chain.blocks < blocks);
        if is_shorter && self.ask.parts.iter().any(|ask| ask.last_n > 0) {
            return self.shorten(chain.blocks).map(|()| None);
        }
        let keys = self.keys(&chain);
        let Chain { blocks, end, hits, sidecar } = chain;
        let mut payloads = payloads.into_iter();
        let mut take = |hit| payloads.next().map(|bytes| hit_value(hit, bytes));
        let values: Option<Vec<Value>> = hits.into_iter().map(&mut take).collect();
        let sidecar = match sidecar {
            None => None,
            Some(ItemOutcome::Miss(reason)) => Some(Got::Miss(reason)),
            Some(ItemOutcome::Hit(hit)) => take(hit).map(Got::Hit),
        };
        let Some(values) = values.filter(|values| values.len() == keys.len()) else {
            let text = format!("{} values of a chain were to be brought, others were", keys.len());
            return Err(ServiceError::new(ErrorKind::Internal, text));
        };
        let first = std::mem::replace(&mut self.next, end);
        self.blocks = Some(blocks);
        let waits_for_sidecar =
            self.ask.sidecar.is_some() && sidecar.is_none() && blocks as usize == self.ask.hashes.len();
        // What brings nothing on is not asked for again.
        self.is_over = (end >= blocks && !waits_for_sidecar) || (end == first && sidecar.is_none());
        let values = keys.into_iter().zip(values).collect();
        Ok(Some(ChainPart { blocks, first, end, values, sidecar, missed: None }))
    }

    /// Goes on with the leading `blocks`, where nothing has been brought yet.
    fn shorten(&mut self, blocks: u32) -> Result<(), ServiceError> {
        let left = blocks.max(self.ask.from) as usize;
        if self.next > self.ask.from || left >= self.ask.hashes.len() {
            self.is_over = true;
            let text = format!("the chain has become shorter, {blocks} blocks: begin again");
            return Err(ServiceError::new(ErrorKind::Retry, text));
        }
        self.ask.hashes.truncate(left);
        self.ask.sidecar = None;
        Ok(())
    }

    /// The names of what `chain` brings, in order.
    fn keys(&self, chain: &Chain) -> Vec<BlockKey> {
        let whole = |part: &u16| PartAsk { part: Part(*part), last_n: 0 };
        let parts: Vec<PartAsk> = match self.ask.parts.as_slice() {
            [] => self.namespace.parts().iter().map(whole).collect(),
            asked => asked.to_vec(),
        };
        let counts = |ask: &&PartAsk, at: u32| ask.last_n == 0 || at.saturating_add(ask.last_n) >= chain.blocks;
        let (from, end) = (self.next as usize, chain.end as usize);
        let blocks = self.ask.hashes.iter().zip(0_u32..).take(end).skip(from);
        let key = |hash: &BlockHash, ask: &PartAsk| BlockKey { hash: *hash, part: ask.part };
        blocks
            .flat_map(|(hash, at)| {
                parts.iter().filter(|ask| counts(ask, at)).map(|ask| key(hash, ask)).collect::<Vec<_>>()
            })
            .collect()
    }
}
