//! What is known of recency at a start: the accounts are filled, by the signal journal, before the node says ready.

use super::Store;
use crate::index::map::Cursor;
use crate::index::{Entry, NodeNum};
use crate::keys::Key;
use crate::observe::State;
use crate::world::World;
use bettong_wire::envelope::Kind;
use bettong_wire::request::Level;

/// Slots of the map that one step looks at.
const SLOTS_A_STEP: usize = 4096;

/// A block by what its children know of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tagged {
    ns: u32,
    tag: u32,
    part: u16,
    sequence: u32,
    name: u64,
}

/// The blocks of this node, ordered so that a child finds its parent by the tag that the index keeps of it.
struct Parents(Vec<Tagged>);

impl Parents {
    fn of(&self, key: &Key, entry: &Entry) -> Option<u64> {
        let (ns, tag) = (key.ns.0, entry.parent_tag);
        if tag == 0 || key.kind == Kind::Plain {
            return None;
        }
        let from = self.0.partition_point(|block| (block.ns, block.tag) < (ns, tag));
        let mut with_tag = self.0.iter().skip(from).take_while(|block| (block.ns, block.tag) == (ns, tag));
        match key.kind {
            Kind::Block => {
                let before = entry.sequence.checked_sub(1)?;
                with_tag.find(|block| block.part == key.part.0 && block.sequence == before)
            }
            // The first part of its tip.
            _ => with_tag.next(),
        }
        .map(|block| block.name)
    }
}

impl<W: World> Store<W> {
    /// Reads the signal journal, and fills the accounts with what is there, in the order of last uses. What nothing is
    /// known of was used before everything else.
    pub(super) async fn recall(&self) {
        let shared = &self.shared;
        let pasts = self.open_signals().await;
        let (wall_ms, stamp) = (shared.wall_ms(), shared.stamp());
        let mut blocks = Vec::new();
        let mut names = Vec::new();
        let mut known = 0_u64;
        self.each_own(|key, entry| {
            let past = self.past_of(&pasts, &key);
            known += u64::from(past.is_some());
            let age_s = past.map(|past| wall_ms.saturating_sub(past.wall_ms) / 1000);
            let age_s = age_s.and_then(|age_s| u32::try_from(age_s).ok());
            shared.map.touch(&key, age_s.map_or(0, |age_s| stamp.saturating_sub(age_s)));
            if !shared.has_budgets {
                return;
            }
            let name = shared.map.name(&key);
            let (last, uses) = past.map_or((0, 1), |past| (past.last, past.uses));
            let before = u8::try_from(uses.saturating_sub(1)).unwrap_or(u8::MAX);
            names.push((last, shared.order(entry.put_id), name, before));
            if key.kind == Kind::Block {
                let tag = super::put::tag(&bettong_wire::BlockHash(key.hash));
                blocks.push(Tagged { ns: key.ns.0, tag, part: key.part.0, sequence: entry.sequence, name });
            }
        });
        shared.world.reached_if(known > 0, State::RecencyRecovered);
        tracing::debug!(known, "recency is recovered");
        blocks.sort_unstable();
        names.sort_unstable();
        let parents = Parents(blocks);
        let mut accounts = shared.accounts.lock();
        for (_, _, name, uses) in names {
            let Some((key, entry)) = shared.map.named(name) else { continue };
            let block = self.block_of(&key, &entry, parents.of(&key, &entry));
            accounts.open(key.ns, || self.namespace_budget(key.ns));
            accounts.restore(key.ns, block, uses);
        }
    }

    /// This node's entries that are not in memory only.
    fn each_own(&self, mut each: impl FnMut(Key, Entry)) {
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.shared.map.walk(at, SLOTS_A_STEP, |key, entry| {
                if entry.node == NodeNum::SELF && entry.level > Level::Memory {
                    each(key, entry);
                }
                true
            });
        }
    }
}
