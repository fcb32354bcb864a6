//! What a client does next, drawn by weight.

use super::client::Client;
use super::setup::Action;
use crate::model::{Daemon, LEN_MIN};
use bettong_wire::request::{HeadValue, Level, ListKind, Target, Tier};
use bettong_wire::{BlockHash, BlockKey, Part, SidecarKey};
use std::ops::Range;
use std::time::Duration;

/// How long a reader holds on to what a look-up answered.
const HELD: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(8);

/// The hashes of chain `number`. The first two blocks are those of every chain, as a system prompt would be.
pub fn chain(number: usize, blocks: usize) -> Vec<BlockHash> {
    let mut hash = BlockHash([7; 32]);
    (0..blocks)
        .map(|at| {
            let inputs = if at < 2 { format!("shared {at}") } else { format!("chain {number} block {at}") };
            hash = hash.child(inputs.as_bytes());
            hash
        })
        .collect()
}

pub fn sidecar(number: usize, blocks: usize) -> SidecarKey {
    let tip = chain(number, blocks).last().copied().unwrap_or(BlockHash([0; 32]));
    SidecarKey::derive(&tip, format!("tail {number}").as_bytes())
}

impl Client {
    fn daemon(&mut self) -> Option<Daemon> {
        let mut daemons = self.shared.daemons.lock().clone();
        // Nobody goes on asking one that never returns, once in a while apart.
        if self.random.chance(0.95) {
            let retired = self.shared.retired();
            let there = |daemon: &Daemon| !self.shared.cluster.is_gone(&daemon.name);
            daemons.retain(|daemon| there(daemon) && !retired.contains(&daemon.node_id));
        }
        self.random.pick(&daemons).cloned()
    }

    fn action(&mut self) -> Option<Action> {
        let weights = self.shared.setup.weights.clone();
        let mut at = self.random.below(weights.iter().map(|(_, weight)| weight).sum());
        weights.into_iter().find_map(|(action, weight)| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here.then_some(action)
        })
    }

    fn level(&mut self) -> Level {
        if self.random.chance(self.shared.setup.memory_share) {
            return Level::Memory;
        }
        self.durable_level()
    }

    fn durable_level(&mut self) -> Level {
        if self.random.chance(self.shared.setup.journal_share) { Level::Journal } else { Level::Object }
    }

    fn len(&mut self) -> u64 {
        let max = self.shared.setup.len_max;
        if self.random.chance(self.shared.setup.nameless_share) {
            return self.random.below(3);
        }
        if self.random.chance(0.2) { max } else { self.random.within(LEN_MIN..max) }
    }

    fn hashes(&mut self) -> (usize, Vec<BlockHash>) {
        let number = self.random.below(self.shared.setup.chains as u64) as usize;
        (number, chain(number, self.shared.setup.chain_blocks))
    }

    fn target(&mut self) -> Target {
        let (number, hashes) = self.hashes();
        let part = Part(self.random.below(2) as u16);
        match self.random.below(10) {
            0..5 => Target::Plain(format!("key-{}", self.random.below(self.shared.setup.plain_keys))),
            5..9 => {
                let hash = self.random.pick(&hashes).copied().unwrap_or(BlockHash([0; 32]));
                Target::Block(BlockKey { hash, part })
            }
            _ => Target::Sidecar(sidecar(number, hashes.len())),
        }
    }

    /// The hashes, with one among them that nobody ever puts.
    fn with_a_gap(&mut self, mut hashes: Vec<BlockHash>) -> Vec<BlockHash> {
        let at = self.random.below(hashes.len() as u64) as usize;
        let stranger = BlockHash([9; 32]).child(&self.random.draw().to_le_bytes());
        hashes.get_mut(at).into_iter().for_each(|hash| *hash = stranger);
        hashes
    }

    /// One step of the workload.
    pub async fn step(&mut self) {
        let (Some(daemon), Some(action)) = (self.daemon(), self.action()) else { return };
        let namespace = self.random.below(self.shared.setup.namespaces as u64) as usize;
        let target = self.target();
        let (number, hashes) = self.hashes();
        self.hurry_us = if self.random.chance(0.1) { self.random.within(1..200_000) as u32 } else { 0 };
        match action {
            Action::Put => {
                let (level, len) = (self.level(), self.len());
                let share = self.shared.setup.ttl_share;
                let expires = matches!(target, Target::Plain(_)) && self.random.chance(share);
                let ttl_ms = if expires { self.random.within(50..20_000) } else { 0 };
                self.put(&daemon, namespace, target, level, len, ttl_ms).await;
            }
            Action::Get => {
                self.get(&daemon, namespace, target, None).await;
            }
            Action::GetRange => {
                let range = (self.random.below(200), self.random.below(2_000));
                self.get(&daemon, namespace, target, Some(range)).await;
            }
            Action::GetMany => {
                let targets = (0..self.random.within(1..6)).map(|_| self.target()).collect();
                self.get_many(&daemon, namespace, targets).await;
            }
            Action::Exists => self.exists(&daemon, namespace, target).await,
            Action::Delete => self.delete(&daemon, namespace, target).await,
            Action::PutBlocks => {
                let (level, len) = (self.level(), self.len());
                self.put_blocks(&daemon, namespace, &hashes, level, len).await;
            }
            Action::Lookup => {
                let hashes = if self.random.chance(0.3) { self.with_a_gap(hashes) } else { hashes };
                self.lookup(&daemon, namespace, &hashes).await;
            }
            Action::GetBlocks => {
                let leading = self.random.chance(0.5);
                self.get_blocks(&daemon, namespace, &hashes, leading).await;
            }
            Action::Restore => self.restore(&daemon, namespace, &hashes).await,
            Action::SaveChain => self.save(&daemon, namespace, number, &hashes).await,
            Action::RestoreChain => self.load(&daemon, namespace, number, &hashes).await,
            Action::Head => {
                self.get_head(&daemon, namespace, &head_name(number)).await;
            }
            Action::List => {
                let kind = self.random.pick(&[ListKind::Plain, ListKind::Blocks, ListKind::Sidecars]).copied();
                self.list(&daemon, namespace, kind.unwrap_or(ListKind::Plain)).await;
            }
            Action::Clear => {
                let tier = self.random.pick(&[Tier::Memory, Tier::Disk]).copied().unwrap_or(Tier::Memory);
                self.clear(&daemon, namespace, tier).await;
            }
            Action::HeldLookup => self.read_late(&daemon, namespace, &hashes).await,
            Action::AtOnce if self.shares_memory() && self.random.chance(0.4) => {
                let puts = (0..self.random.within(2..8)).map(|_| (self.target(), self.level(), self.len()));
                // A sidecar is put by another request.
                let puts = puts.filter(|(target, ..)| !matches!(target, Target::Sidecar(_))).collect();
                self.put_at_once(&daemon, namespace, puts).await;
            }
            Action::AtOnce => {
                // More than a small ring has room for.
                let most = if self.shares_memory() { 20 } else { 8 };
                let targets = (0..self.random.within(2..most)).map(|_| self.target()).collect();
                self.get_at_once(&daemon, namespace, targets).await;
            }
            Action::Contest => self.contest(&daemon).await,
            Action::Stats => self.stats(&daemon).await,
            Action::Hostile => match self.random.below(4) {
                0 => self.impostor(&daemon, namespace).await,
                1 => self.rootless_head(&daemon, namespace).await,
                _ => {
                    let hash = hashes.first().copied().unwrap_or(BlockHash([0; 32]));
                    self.hostile(&daemon, namespace, hash).await;
                }
            },
        }
    }

    /// Saves a prompt as an engine does: what is missing of its blocks, the sidecar, the head last.
    async fn save(&mut self, daemon: &Daemon, namespace: usize, number: usize, hashes: &[BlockHash]) {
        let Some(there) = self.lookup(daemon, namespace, hashes).await else { return };
        let len = self.len();
        let level = self.durable_level();
        if (there as usize) < hashes.len() && !self.put_blocks(daemon, namespace, hashes, level, len).await {
            return;
        }
        let key = sidecar(number, hashes.len());
        if !self.put(daemon, namespace, Target::Sidecar(key), level, len, 0).await {
            return;
        }
        let name = head_name(number);
        let generation = match self.get_head(daemon, namespace, &name).await {
            Some(head) => head.generation,
            None if self.shared.cluster.run().plan().conditional_writes => return,
            None => 0,
        };
        let tip = hashes.last().copied().unwrap_or(BlockHash([0; 32]));
        let value = HeadValue { tip, length: hashes.len() as u32, sidecar: Some(key) };
        self.publish(daemon, namespace, &name, generation, Some(value), hashes.to_vec()).await;
    }

    /// Looks up, holds on to the answer while others change what it was about, and reads by it.
    async fn read_late(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash]) {
        let Some(there) = self.lookup(daemon, namespace, hashes).await else { return };
        let held = hashes.iter().copied().take(there as usize).collect::<Vec<_>>();
        let pause = self.random.duration(&HELD);
        madsim::time::sleep(pause).await;
        if !held.is_empty() {
            self.get_blocks(daemon, namespace, &held, true).await;
        }
    }

    /// Restores a prompt by its name.
    async fn load(&mut self, daemon: &Daemon, namespace: usize, number: usize, hashes: &[BlockHash]) {
        let Some(head) = self.get_head(daemon, namespace, &head_name(number)).await else { return };
        if let Some(value) = head.value {
            if number.is_multiple_of(2) {
                return self.bring(daemon, namespace, hashes, value.sidecar).await;
            }
            self.lookup(daemon, namespace, hashes).await;
            self.get_blocks(daemon, namespace, hashes, true).await;
            if let Some(key) = value.sidecar {
                self.get(daemon, namespace, Target::Sidecar(key), None).await;
            }
        }
    }
}

fn head_name(number: usize) -> String {
    format!("conversation-{number}")
}
