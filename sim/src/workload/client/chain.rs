//! Prompts: their blocks, asked for together, and their heads.

use super::{Client, Heard, brief, ending_of};
use crate::model::{Daemon, Ending, Span, ValueKey};
use crate::oracle;
use crate::workload::setup::PARTS;
use crate::world::elapsed;
use bettong_wire::request::*;
use bettong_wire::response::{Answer, Chain, Head, ItemOutcome, Outcome};
use bettong_wire::{BlockHash, BlockKey, MissReason, Part, Request, Response, SidecarKey};

/// What one answer brings of a prompt: about two blocks.
const BYTES_AT_ONCE: u64 = 12 << 10;

impl Client {
    pub async fn put_blocks(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        hashes: &[BlockHash],
        level: Level,
        len: u64,
    ) -> bool {
        let keys = hashes.iter().flat_map(|hash| PARTS.map(|part| BlockKey { hash: *hash, part: Part(part) }));
        let mut attempts = Vec::new();
        let mut blocks = Vec::new();
        let mut body = Vec::new();
        for (at, key) in keys.enumerate() {
            let value = Self::key(namespace, &Target::Block(key));
            let id = self.begin_put(daemon, value, level, len, 0);
            let parent = (at / PARTS.len()).checked_sub(1).and_then(|at| hashes.get(at)).copied();
            blocks.push(BlockPut { key, parent, sequence: (at / PARTS.len()) as u32, len });
            body.push(self.bytes(id).into());
            attempts.push(id);
        }
        self.shared.model.lock().begin_batch(&attempts);
        let heard = self.ask(daemon, namespace, body, |ns| Request::PutBlocks(PutBlocks { ns, level, blocks })).await;
        let stored = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::StoredBatch(stored)), .. }) => Some(stored.clone()),
            _ => None,
        };
        let ending = if stored.is_some() { Ending::Done } else { ending_of(&heard) };
        self.trace(
            daemon,
            format_args!("put-blocks ns{namespace} {} {level:?} -> {ending:?}{}", attempts.len(), heard.trouble()),
        );
        for (at, id) in attempts.iter().enumerate() {
            let stored =
                stored.as_ref().and_then(|stored| stored.get(at)).map(|stored| (stored.put_id, stored.already));
            self.end_put(daemon, *id, ending, stored);
        }
        ending == Ending::Done
    }

    pub async fn get_blocks(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash], leading: bool) {
        let keys: Vec<_> =
            hashes.iter().flat_map(|hash| PARTS.map(|part| BlockKey { hash: *hash, part: Part(part) })).collect();
        let (asked, limits) = (keys.clone(), self.limits());
        let invoked = elapsed();
        let heard = self
            .ask(daemon, namespace, Vec::new(), |ns| Request::GetBlocks(GetBlocks { ns, keys, leading, limits }))
            .await;
        let span = Span { invoked, ended: Some(elapsed()) };
        let values: Vec<_> = asked.iter().map(|key| Self::key(namespace, &Target::Block(*key))).collect();
        match heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Items(items)), payloads }) => {
                let complete = items.len() == values.len() || (leading && items.len() < values.len());
                self.judge(daemon, span, |_| match complete {
                    true => Ok(()),
                    false => oracle::no("O4", format!("{} of {} blocks are answered", items.len(), values.len())),
                });
                self.items(daemon, span, values, &items, &payloads);
            }
            Heard::Answer(Response { outcome: Outcome::Miss(reason), .. }) => {
                self.trace(daemon, format_args!("get-blocks ns{namespace} -> miss {}", reason.as_str()));
                self.one_is_missed(daemon, span, &values, reason);
            }
            _ => {}
        }
    }

    /// The reason is one block's; it must be allowed for at least one of them.
    fn one_is_missed(&mut self, daemon: &Daemon, span: Span, values: &[ValueKey], reason: MissReason) {
        let hurried = self.hurry_us > 0;
        self.judge(daemon, span, |seen| {
            let mut verdicts = values.iter().map(|key| oracle::miss::check(seen, key, reason, hurried));
            if verdicts.any(|verdict| verdict.is_ok()) {
                return Ok(());
            }
            let (blocks, reason) = (values.len(), reason.as_str());
            oracle::no("O15", format!("all of {blocks} blocks are acknowledged, and one is a miss: {reason}"))
        });
    }

    /// Brings a prompt part by part.
    pub async fn bring(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        hashes: &[BlockHash],
        sidecar: Option<SidecarKey>,
    ) {
        let (mut from, limits) = (0, self.limits());
        // Each part brings a block, and the sidecar may come behind them all.
        for _ in 0..=hashes.len() {
            let restore = RestoreChain {
                ns: NsHandle(0),
                hashes: hashes.to_vec(),
                parts: Vec::new(),
                from,
                sidecar,
                bytes_max: BYTES_AT_ONCE,
                limits,
            };
            let invoked = elapsed();
            let heard = self
                .ask(daemon, namespace, Vec::new(), |ns| Request::RestoreChain(RestoreChain { ns, ..restore }))
                .await;
            let span = Span { invoked, ended: Some(elapsed()) };
            let keys = |blocks: &[BlockHash]| -> Vec<ValueKey> {
                let keys = blocks.iter().flat_map(|hash| PARTS.map(|part| BlockKey { hash: *hash, part: Part(part) }));
                keys.map(|key| Self::key(namespace, &Target::Block(key))).collect()
            };
            let rest = hashes.get(from as usize..).unwrap_or_default();
            let (chain, payloads) = match heard {
                Heard::Answer(Response { outcome: Outcome::Ok(Answer::Chain(chain)), payloads }) => (chain, payloads),
                Heard::Answer(Response { outcome: Outcome::Miss(reason), .. }) => {
                    self.trace(daemon, format_args!("bring ns{namespace} {from} -> miss {}", reason.as_str()));
                    self.one_is_missed(daemon, span, &keys(rest), reason);
                    return;
                }
                _ => return,
            };
            let Chain { blocks, end, hits, sidecar: tail } = chain;
            self.trace(daemon, format_args!("bring ns{namespace} {from} of {} -> {end} of {blocks}", hashes.len()));
            self.shared.cluster.run().state_reached("sim part of a prompt brought");
            self.judge(daemon, span, |seen| oracle::prefix::check(seen, namespace, hashes, &PARTS, blocks));
            let brought = rest.get(..end.saturating_sub(from) as usize).unwrap_or_default();
            let mut values = keys(brought);
            self.judge(daemon, span, |_| match values.len() == hits.len() {
                true => Ok(()),
                false => oracle::no("O4", format!("{} of {} values of a chain are brought", hits.len(), values.len())),
            });
            values.extend(sidecar.filter(|_| tail.is_some()).map(|key| Self::key(namespace, &Target::Sidecar(key))));
            let is_last = end >= blocks && (sidecar.is_none() || tail.is_some() || (blocks as usize) < hashes.len());
            let items: Vec<_> = hits.into_iter().map(ItemOutcome::Hit).chain(tail).collect();
            self.items(daemon, span, values, &items, &payloads);
            if is_last || (end == from && items.is_empty()) {
                return;
            }
            from = end;
        }
    }

    pub async fn restore(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash]) {
        let keys: Vec<_> = hashes.iter().map(|hash| BlockKey { hash: *hash, part: Part(0) }).collect();
        let asked: Vec<_> = keys.iter().map(|key| Self::key(namespace, &Target::Block(*key))).collect();
        let limits = self.limits();
        let invoked = elapsed();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Restore(Restore { ns, keys, limits })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Warmed { count }), .. }) = heard {
            self.trace(daemon, format_args!("restore ns{namespace} {count} of {}", asked.len()));
            self.judge(daemon, span, |seen| oracle::prefix::restored(seen, &asked, count));
        }
    }

    pub async fn lookup(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash]) -> Option<u32> {
        let (asked, parts) = (hashes.to_vec(), Vec::new());
        let invoked = elapsed();
        let heard = self
            .ask(daemon, namespace, Vec::new(), |ns| {
                Request::LookupBlockPrefix(LookupBlockPrefix { ns, hashes: asked, parts })
            })
            .await;
        let span = Span { invoked, ended: Some(elapsed()) };
        let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Prefix { blocks }), .. }) = heard else {
            return None;
        };
        self.trace(daemon, format_args!("lookup ns{namespace} {} -> {blocks}", hashes.len()));
        self.judge(daemon, span, |seen| oracle::prefix::check(seen, namespace, hashes, &PARTS, blocks));
        Some(blocks)
    }

    pub async fn get_head(&mut self, daemon: &Daemon, namespace: usize, name: &str) -> Option<Head> {
        let invoked = elapsed();
        let owned = name.to_owned();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::GetHead(GetHead { ns, name: owned })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        self.heads_refused(&heard);
        let head = match heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Head(head)), .. }) => Some(head),
            Heard::Answer(Response { outcome: Outcome::Miss(MissReason::Absent), .. }) => None,
            _ => return None,
        };
        let generation = head.as_ref().map(|head| head.generation);
        self.shared.model.lock().end_head_read(namespace, name, generation.unwrap_or(0), span);
        self.trace(daemon, format_args!("get-head ns{namespace}/{name} -> {generation:?}"));
        self.judge(daemon, span, |seen| oracle::head::check_read(seen, namespace, name, head.as_ref()));
        Some(head.unwrap_or(Head { generation: 0, value: None }))
    }

    pub async fn publish(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        name: &str,
        expected: u64,
        value: Option<HeadValue>,
        chain: Vec<BlockHash>,
    ) {
        let at = self.shared.model.lock().begin_publish(namespace, name, expected + 1, value.clone(), elapsed());
        let owned = name.to_owned();
        let invoked = elapsed();
        let heard = self
            .ask(daemon, namespace, Vec::new(), |ns| {
                Request::PublishHead(PublishHead { ns, name: owned, expected, value, chain })
            })
            .await;
        self.heads_refused(&heard);
        let span = Span { invoked, ended: Some(elapsed()) };
        let published = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Published { generation }), .. }) => Some(*generation),
            _ => None,
        };
        // A conflict is `retry` as well; the generation may still be ours.
        let ending = if published.is_some() { Ending::Done } else { ending_of(&heard) };
        self.trace(
            daemon,
            format_args!(
                "publish ns{namespace}/{name} after {expected} -> {ending:?} {published:?}{}",
                heard.trouble()
            ),
        );
        self.shared.model.lock().end_publish(namespace, name, at, ending, elapsed());
        if let Some(generation) = published {
            self.judge(daemon, span, |seen| oracle::head::check_published(seen, namespace, name, at, generation));
        }
    }

    /// Where the object store does not obey conditions on writes, heads are `unavailable`, and the answer says why.
    fn heads_refused(&self, heard: &Heard) {
        let run = self.shared.cluster.run();
        let Heard::Answer(Response { outcome, .. }) = heard else { return };
        if run.plan().conditional_writes {
            return;
        }
        match outcome {
            Outcome::Error(error) if error.message.contains("only if it is absent") => {
                run.state_reached("sim head refused for want of conditional writes");
            }
            // The connection's own, or the node's.
            Outcome::Error(_) => {}
            Outcome::Ok(_) | Outcome::Miss(_) => {
                run.fail("O11", format!("heads are not available, and one is answered {}", brief(outcome)));
            }
        }
    }
}
