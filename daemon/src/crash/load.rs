//! What a client does until the daemon dies under it.

use super::dice::Dice;
use super::ledger::{Ledger, Name, bytes};
use crate::exit::{Failure, Outcome};
use crate::remote::Remote;
use bettong_wire::request::{BlockPut, Level, Target};
use bettong_wire::{BlockHash, BlockKey};
use bytes::Bytes;
use parking_lot::Mutex;

/// Plain keys that one client writes; no other client touches them.
const PLAIN_KEYS: u64 = 8;
/// Blocks of one batch, at most.
const BATCH_MAX: u64 = 6;

/// One connection with its own names.
pub struct Client<'a> {
    /// Which of the connections this is.
    pub number: u64,
    pub round: u64,
    pub remote: &'a Remote,
    pub ledger: &'a Mutex<Ledger>,
    pub levels: &'a [Level],
    pub dice: Dice,
    /// Names of this round that may be deleted.
    pub mine: Vec<Name>,
}

impl Client<'_> {
    /// Works until an error: after one, nobody knows what became of the last operation.
    pub async fn work(mut self) -> Failure {
        loop {
            if let Err(failure) = self.step().await {
                return failure;
            }
        }
    }

    async fn step(&mut self) -> Outcome {
        let level = self.dice.pick(self.levels).copied().unwrap_or(Level::Object);
        match self.dice.below(10) {
            0..4 => self.put_blocks(1, level).await,
            4..6 => {
                let blocks = 2 + self.dice.below(BATCH_MAX - 1);
                self.put_blocks(blocks, level).await
            }
            6 => self.put_sidecar(level).await,
            7..9 => self.put_plain(level).await,
            _ => self.delete().await,
        }
    }

    async fn put_blocks(&mut self, blocks: u64, level: Level) -> Outcome {
        let names: Vec<Name> = {
            let mut ledger = self.ledger.lock();
            let names: Vec<Name> = (0..blocks).map(|_| Name::Block(ledger.number())).collect();
            ledger.begin_batch(&names, self.round);
            names
        };
        let puts = names.iter().enumerate().filter_map(|(at, name)| {
            let Target::Block(key) = name.target() else { return None };
            let bytes = Bytes::from(bytes(name.number()));
            Some((put(key, at, bytes.len()), bytes))
        });
        self.remote.put_blocks(puts.collect(), level).await?;
        {
            let mut ledger = self.ledger.lock();
            ledger.acknowledge_batch(&names);
            ledger.put_at(level, names.len());
        }
        self.mine.extend(names);
        Ok(())
    }

    async fn put_sidecar(&mut self, level: Level) -> Outcome {
        let value = self.ledger.lock().number();
        let name = Name::Sidecar(value);
        let Target::Sidecar(key) = name.target() else { return Ok(()) };
        self.ledger.lock().begin(name, Some(value), self.round);
        self.remote.put_sidecar(key, BlockHash([1; 32]), Bytes::from(bytes(value)), level).await?;
        {
            let mut ledger = self.ledger.lock();
            ledger.acknowledge(name, Some(value));
            ledger.put_at(level, 1);
        }
        self.mine.push(name);
        Ok(())
    }

    async fn put_plain(&mut self, level: Level) -> Outcome {
        let name = Name::Plain(self.number * PLAIN_KEYS + self.dice.below(PLAIN_KEYS));
        let Target::Plain(key) = name.target() else { return Ok(()) };
        let value = self.ledger.lock().number();
        self.ledger.lock().begin(name, Some(value), self.round);
        self.remote.put_plain(&key, Bytes::from(bytes(value)), level, 0).await?;
        {
            let mut ledger = self.ledger.lock();
            ledger.acknowledge(name, Some(value));
            ledger.put_at(level, 1);
        }
        self.mine.push(name);
        Ok(())
    }

    async fn delete(&mut self) -> Outcome {
        let Some(name) = self.dice.pick(&self.mine).copied() else { return Ok(()) };
        self.ledger.lock().begin(name, None, self.round);
        self.remote.delete(name.target()).await?;
        self.ledger.lock().acknowledge(name, None);
        self.mine.retain(|held| *held != name);
        Ok(())
    }
}

fn put(key: BlockKey, at: usize, len: usize) -> BlockPut {
    BlockPut { key, parent: None, sequence: u32::try_from(at).unwrap_or(u32::MAX), len: len as u64 }
}
