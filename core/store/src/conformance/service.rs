//! The service against a model: one `Operation` enum and one reference model, whatever the door.
//!
//! Sequential and without faults: every answer is determined. What holds under faults and concurrency is the
//! simulator's to check.

use super::Verdict;
use bettong_wire::request::{
    BlockPut, Clear, Delete, Exists, Get, GetBlocks, GetHead, GetMany, HeadValue, Level, List, ListKind,
    LookupBlockPrefix, Maintain, NsHandle, PartAsk, PublishHead, Put, PutBlocks, ReadLimits, RestoreChain, Target,
    Task, Tier,
};
use bettong_wire::response::{Answer, Head, ItemOutcome, ListName, Outcome};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, Part, Payload, Request, Response, SidecarKey};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

/// Keys are few, so that operations meet.
const KEYS: u8 = 6;
/// Slices of one scrub: far more than the few values need.
const SLICES_MAX: usize = 1000;
/// Parts of the namespace's identity that the suite expects: 0 and 1.
pub const PARTS: [u16; 2] = [0, 1];

/// One step of a history. Every combination of numbers is a legal step: they are reduced to the few keys there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Operation {
    PutPlain {
        key: u8,
        level: u8,
        len: u16,
        fill: u8,
    },
    PutBlock {
        key: u8,
        level: u8,
        len: u16,
        fill: u8,
    },
    PutBatch {
        first: u8,
        count: u8,
        len: u16,
        fill: u8,
    },
    Get {
        target: u8,
    },
    GetRange {
        target: u8,
        offset: u16,
        len: u16,
    },
    GetMany {
        first: u8,
        count: u8,
    },
    GetBlocks {
        first: u8,
        count: u8,
        leading: bool,
    },
    Exists {
        target: u8,
    },
    Delete {
        target: u8,
    },
    Lookup {
        first: u8,
        count: u8,
        last_n: u8,
    },
    RestoreChain {
        first: u8,
        count: u8,
        from: u8,
        last_n: u8,
        bytes: u8,
    },
    List {
        blocks: bool,
        limit: u8,
    },
    ClearMemory,
    ClearDisk,
    ClearObject,
    Publish {
        name: u8,
        expected: u8,
        blocks: u8,
        tombstone: bool,
    },
    GetHead {
        name: u8,
    },
    /// A whole scrub, slice by slice: it finds nothing to do.
    Scrub {
        dry_run: bool,
        bound_ms: u8,
    },
    /// Close the store and open it again: what was not durable is gone.
    Restart,
}

/// A store behind some door.
pub trait Subject {
    /// Sends one request in the session whose namespace is open.
    fn call(&mut self, request: Request, body: Vec<Payload>) -> impl Future<Output = Response>;

    /// Closes the store and opens it again, with a new session.
    fn restart(&mut self) -> impl Future<Output = ()>;

    /// The handle of the open namespace.
    fn namespace(&self) -> NsHandle;
}

const LEVELS: [Level; 3] = [Level::Memory, Level::Journal, Level::Object];

#[derive(Clone, PartialEq, Eq, Debug)]
struct Value {
    bytes: Vec<u8>,
    level: Level,
}

#[derive(Default)]
struct Model {
    values: BTreeMap<Target, Value>,
    evicted: BTreeSet<Target>,
    heads: BTreeMap<String, (u64, Option<HeadValue>)>,
}

fn plain(key: u8) -> Target {
    Target::Plain(format!("key/{}", key % KEYS))
}

fn block_key(key: u8) -> BlockKey {
    let key = key % (KEYS * 2);
    BlockKey { hash: BlockHash([key / 2; 32]), part: Part(PARTS[usize::from(key % 2)]) }
}

fn target(target: u8) -> Target {
    let target = target % (KEYS * 3);
    if target < KEYS { plain(target) } else { Target::Block(block_key(target - KEYS)) }
}

fn hashes(first: u8, count: u8) -> Vec<BlockHash> {
    (0..count % 8).map(|n| BlockHash([first.wrapping_add(n) % KEYS; 32])).collect()
}

fn asked_parts(last_n: u8) -> Vec<PartAsk> {
    match last_n {
        0 => Vec::new(),
        n => vec![PartAsk { part: Part(0), last_n: 0 }, PartAsk { part: Part(1), last_n: n.into() }],
    }
}

fn bytes(len: u16, fill: u8) -> Vec<u8> {
    (0..len % 5000).map(|n| fill.wrapping_add((n / 100) as u8)).collect()
}

/// Runs a history and compares every answer with the model's.
pub async fn run<S: Subject>(subject: &mut S, operations: &[Operation]) -> Verdict {
    let mut model = Model::default();
    for (at, operation) in operations.iter().enumerate() {
        model
            .step(subject, *operation)
            .await
            .map_err(|wrong| format!("step {at} of {operations:?}: {operation:?}: {wrong}"))?;
    }
    Ok(())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, the model says {expected:?}")) }
}

impl Model {
    async fn step<S: Subject>(&mut self, subject: &mut S, operation: Operation) -> Verdict {
        let ns = subject.namespace();
        match operation {
            Operation::PutPlain { key, level, len, fill } => {
                self.put(subject, plain(key), LEVELS[usize::from(level % 3)], bytes(len, fill)).await
            }
            Operation::PutBlock { key, level, len, fill } => {
                self.put(subject, Target::Block(block_key(key)), LEVELS[usize::from(level % 3)], bytes(len, fill)).await
            }
            Operation::PutBatch { first, count, len, fill } => {
                self.put_batch(subject, first, count % 6 + 1, &bytes(len, fill)).await
            }
            Operation::Get { target: at } => self.get(subject, target(at), None).await,
            Operation::GetRange { target: at, offset, len } => {
                self.get(subject, target(at), Some((u64::from(offset % 5000), u64::from(len)))).await
            }
            Operation::GetMany { first, count } => self.get_many(subject, first, count % 6 + 1).await,
            Operation::GetBlocks { first, count, leading } => {
                self.get_blocks(subject, first, count % 6 + 1, leading).await
            }
            Operation::Exists { target: at } => {
                let response =
                    subject.call(Request::Exists(Exists { ns, target: target(at) }), Vec::new()).await.outcome;
                let expected = match self.find(&target(at)) {
                    Ok(value) => Outcome::Ok(Answer::Exists { len: value.bytes.len() as u64, expires_at_ms: 0 }),
                    Err(reason) => Outcome::Miss(reason),
                };
                equal("EXISTS", &response, &expected)
            }
            Operation::Delete { target: at } => {
                let response = subject.call(Request::Delete(Delete { ns, target: target(at) }), Vec::new()).await;
                self.evicted.remove(&target(at));
                let count = u64::from(self.values.remove(&target(at)).is_some());
                equal("DELETE", &response.outcome, &Outcome::Ok(Answer::Removed { count }))
            }
            Operation::Lookup { first, count, last_n } => self.lookup(subject, first, count, last_n % 4).await,
            Operation::RestoreChain { first, count, from, last_n, bytes } => {
                let hashes = hashes(first, count);
                let from = u32::from(from) % (hashes.len() as u32 + 1);
                let bytes_max = u64::from(bytes) * 64;
                self.restore_chain(subject, hashes, from, last_n % 4, bytes_max).await
            }
            Operation::List { blocks, limit } => self.list(subject, blocks, u32::from(limit % 4 + 1)).await,
            Operation::ClearMemory => {
                let request = Request::Clear(Clear { ns, tier: Tier::Memory });
                expect_removed(&subject.call(request, Vec::new()).await)?;
                let lost: Vec<Target> = self
                    .values
                    .iter()
                    .filter(|(_, value)| value.level == Level::Memory)
                    .map(|(target, _)| target.clone())
                    .collect();
                for target in lost {
                    self.values.remove(&target);
                    self.evicted.insert(target);
                }
                Ok(())
            }
            Operation::ClearDisk => {
                let request = Request::Clear(Clear { ns, tier: Tier::Disk });
                expect_removed(&subject.call(request, Vec::new()).await)
            }
            Operation::ClearObject => {
                let response = subject.call(Request::Clear(Clear { ns, tier: Tier::Object }), Vec::new()).await;
                let count = self.values.len() as u64;
                self.evicted.retain(|target| !self.values.contains_key(target));
                self.values.clear();
                equal("CLEAR", &response.outcome, &Outcome::Ok(Answer::Removed { count }))
            }
            Operation::Publish { name, expected, blocks, tombstone } => {
                self.publish(subject, name % 2, u64::from(expected % 3), blocks, tombstone).await
            }
            Operation::GetHead { name } => self.get_head(subject, name % 2).await,
            Operation::Scrub { dry_run, bound_ms } => scrub(subject, dry_run, u32::from(bound_ms) + 1).await,
            Operation::Restart => {
                subject.restart().await;
                self.values.retain(|_, value| value.level > Level::Memory);
                self.evicted.clear();
                Ok(())
            }
        }
    }

    fn find(&self, target: &Target) -> Result<&Value, MissReason> {
        let evicted = self.evicted.contains(target);
        self.values.get(target).ok_or(if evicted { MissReason::Evicted } else { MissReason::Absent })
    }

    /// What a put leaves behind; true where it was there already. Blocks are immutable, and a lower level never replaces
    /// a higher one.
    ///
    /// A journaled value reaches level `object` at a moment of its own: whether it satisfies a put at that level is
    /// then the store's to say.
    fn apply(&mut self, target: Target, level: Level, bytes: Vec<u8>, said: bool) -> bool {
        let held = self.values.get(&target).filter(|_| !matches!(target, Target::Plain(_))).map(|held| held.level);
        let already = match (held, level) {
            (Some(Level::Journal), Level::Object) => said,
            (held, level) => held.is_some_and(|held| held >= level),
        };
        match self.values.get_mut(&target) {
            Some(value) if already => value.level = value.level.max(level),
            _ => {
                self.evicted.remove(&target);
                self.values.insert(target, Value { bytes, level });
            }
        }
        already
    }

    async fn put<S: Subject>(&mut self, subject: &mut S, target: Target, level: Level, bytes: Vec<u8>) -> Verdict {
        let put = Put {
            ns: subject.namespace(),
            target: target.clone(),
            level,
            ttl_ms: 0,
            parent: None,
            sequence: 0,
            len: bytes.len() as u64,
        };
        let response = subject.call(Request::Put(put), vec![bytes.clone().into()]).await;
        match response.outcome {
            Outcome::Ok(Answer::Stored(stored)) => {
                let already = self.apply(target, level, bytes, stored.already);
                equal("already", &stored.already, &already)
            }
            other => Err(format!("{other:?}")),
        }
    }

    async fn put_batch<S: Subject>(&mut self, subject: &mut S, first: u8, count: u8, bytes: &[u8]) -> Verdict {
        let len = bytes.len() as u64;
        let keys: Vec<BlockKey> = (0..count).map(|n| block_key(first.wrapping_add(n))).collect();
        let blocks = keys.iter().map(|key| BlockPut { key: *key, parent: None, sequence: 0, len }).collect();
        let request = PutBlocks { ns: subject.namespace(), level: Level::Object, blocks };
        let body = keys.iter().map(|_| bytes.to_vec().into()).collect();
        let response = subject.call(Request::PutBlocks(request), body).await;
        match response.outcome {
            Outcome::Ok(Answer::StoredBatch(stored)) => {
                let expected = keys.iter().zip(&stored).map(|(key, stored)| {
                    self.apply(Target::Block(*key), Level::Object, bytes.to_vec(), stored.already)
                });
                let expected: Vec<bool> = expected.collect();
                equal("already", &stored.iter().map(|stored| stored.already).collect(), &expected)
            }
            other => Err(format!("{other:?}")),
        }
    }

    async fn get<S: Subject>(&self, subject: &mut S, target: Target, range: Option<(u64, u64)>) -> Verdict {
        let get = Get { ns: subject.namespace(), target: target.clone(), range, limits: ReadLimits::default() };
        let response = subject.call(Request::Get(get), Vec::new()).await;
        let value = match self.find(&target) {
            Ok(value) => value,
            Err(reason) => return equal("GET", &response.outcome, &Outcome::Miss(reason)),
        };
        let total = value.bytes.len() as u64;
        let (offset, len) = range.unwrap_or((0, total));
        if offset > total {
            return match response.outcome {
                Outcome::Error(error) => equal("the error", &error.kind, &ErrorKind::Invalid),
                other => Err(format!("{other:?}")),
            };
        }
        let end = offset.saturating_add(len).min(total);
        match response.outcome {
            Outcome::Ok(Answer::Hit(hit)) => {
                equal("the total length", &hit.total_len, &total)?;
                expect_bytes(&response.payloads, &[&value.bytes[offset as usize..end as usize]])
            }
            other => Err(format!("{other:?}, the model has {total} bytes")),
        }
    }

    async fn get_many<S: Subject>(&self, subject: &mut S, first: u8, count: u8) -> Verdict {
        let targets: Vec<Target> = (0..count).map(|n| target(first.wrapping_add(n))).collect();
        let request = GetMany { ns: subject.namespace(), targets: targets.clone(), limits: ReadLimits::default() };
        let response = subject.call(Request::GetMany(request), Vec::new()).await;
        let found: Vec<_> = targets.iter().map(|target| self.find(target)).collect();
        self.expect_items(&response, &found)
    }

    async fn get_blocks<S: Subject>(&self, subject: &mut S, first: u8, count: u8, leading: bool) -> Verdict {
        let keys: Vec<BlockKey> = (0..count).map(|n| block_key(first.wrapping_add(n))).collect();
        let limits = ReadLimits::default();
        let request = GetBlocks { ns: subject.namespace(), keys: keys.clone(), leading, limits };
        let response = subject.call(Request::GetBlocks(request), Vec::new()).await;
        let mut found: Vec<_> = keys.iter().map(|key| self.find(&Target::Block(*key))).collect();
        match found.iter().enumerate().find_map(|(at, found)| found.err().map(|reason| (at, reason))) {
            Some((_, reason)) if !leading => equal("GET_KV_BLOCKS", &response.outcome, &Outcome::Miss(reason)),
            Some((at, _)) => {
                found.truncate(at);
                self.expect_items(&response, &found)
            }
            None => self.expect_items(&response, &found),
        }
    }

    fn expect_items(&self, response: &Response, found: &[Result<&Value, MissReason>]) -> Verdict {
        let Outcome::Ok(Answer::Items(items)) = &response.outcome else {
            return Err(format!("{:?}", response.outcome));
        };
        let misses = |item: &ItemOutcome| match item {
            ItemOutcome::Hit(_) => None,
            ItemOutcome::Miss(reason) => Some(*reason),
        };
        equal(
            "the items",
            &items.iter().map(misses).collect::<Vec<_>>(),
            &found.iter().map(|found| found.err()).collect(),
        )?;
        let bytes: Vec<&[u8]> = found.iter().flatten().map(|value| value.bytes.as_slice()).collect();
        expect_bytes(&response.payloads, &bytes)
    }

    fn has(&self, hash: BlockHash, part: u16) -> bool {
        self.values.contains_key(&Target::Block(BlockKey { hash, part: Part(part) }))
    }

    async fn lookup<S: Subject>(&self, subject: &mut S, first: u8, count: u8, last_n: u8) -> Verdict {
        let hashes = hashes(first, count);
        let longest = self.longest(&hashes, last_n);
        let request = LookupBlockPrefix { ns: subject.namespace(), hashes, parts: asked_parts(last_n) };
        let response = subject.call(Request::LookupBlockPrefix(request), Vec::new()).await;
        equal("LOOKUP", &response.outcome, &Outcome::Ok(Answer::Prefix { blocks: longest as u32 }))
    }

    /// The longest prefix that has part 0 wholly, and part 1 in its last n blocks, or wholly where that is 0.
    fn longest(&self, hashes: &[BlockHash], last_n: u8) -> usize {
        let window = if last_n == 0 { hashes.len() } else { usize::from(last_n) };
        let whole = |end: usize| {
            hashes[..end].iter().all(|hash| self.has(*hash, 0))
                && hashes[end.saturating_sub(window)..end].iter().all(|hash| self.has(*hash, 1))
        };
        (0..=hashes.len()).rev().find(|end| whole(*end)).unwrap_or(0)
    }

    /// One answer: as many blocks as `bytes_max` allows, and one of any length. There never is a sidecar.
    async fn restore_chain<S: Subject>(
        &self,
        subject: &mut S,
        hashes: Vec<BlockHash>,
        from: u32,
        last_n: u8,
        bytes_max: u64,
    ) -> Verdict {
        let blocks = self.longest(&hashes, last_n);
        let bytes_of = |hash: &BlockHash, part| {
            self.values
                .get(&Target::Block(BlockKey { hash: *hash, part: Part(part) }))
                .map(|value| value.bytes.as_slice())
        };
        let (mut end, mut brought, mut sum) = (from as usize, Vec::new(), 0);
        while end < blocks {
            let in_window = last_n == 0 || end + usize::from(last_n) >= blocks;
            let parts = [Some(0), in_window.then_some(1)].into_iter().flatten();
            let block: Vec<&[u8]> = parts.filter_map(|part| bytes_of(&hashes[end], part)).collect();
            sum += block.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
            if end > from as usize && bytes_max > 0 && sum > bytes_max {
                break;
            }
            brought.extend(block);
            end += 1;
        }
        let is_whole = end == hashes.len() && blocks == hashes.len();
        let request = RestoreChain {
            ns: subject.namespace(),
            hashes,
            parts: asked_parts(last_n),
            from,
            sidecar: Some(SidecarKey([9; 32])),
            bytes_max,
            limits: ReadLimits::default(),
        };
        let response = subject.call(Request::RestoreChain(request), Vec::new()).await;
        let Outcome::Ok(Answer::Chain(chain)) = &response.outcome else {
            return Err(format!("{:?}", response.outcome));
        };
        equal("the blocks and the end of a chain", &(chain.blocks, chain.end), &(blocks as u32, end as u32))?;
        equal("the hits of a chain", &chain.hits.len(), &brought.len())?;
        let none = is_whole.then_some(ItemOutcome::Miss(MissReason::Absent));
        equal("the sidecar of a chain", &chain.sidecar, &none)?;
        expect_bytes(&response.payloads, &brought)
    }

    async fn list<S: Subject>(&self, subject: &mut S, blocks: bool, limit: u32) -> Verdict {
        let kind = if blocks { ListKind::Blocks } else { ListKind::Plain };
        let mut found = Vec::new();
        let mut cursor = Vec::new();
        loop {
            let list = List { ns: subject.namespace(), kind, prefix: String::new(), cursor, limit };
            match subject.call(Request::List(list), Vec::new()).await.outcome {
                Outcome::Ok(Answer::Page(page)) if page.entries.len() <= limit as usize => {
                    found.extend(page.entries.into_iter().map(|entry| match entry.name {
                        ListName::Plain(key) => (Target::Plain(key), entry.len),
                        ListName::Block(key) => (Target::Block(key), entry.len),
                        ListName::Sidecar(key) => (Target::Sidecar(key), entry.len),
                    }));
                    cursor = page.cursor;
                }
                other => return Err(format!("{other:?}")),
            }
            if cursor.is_empty() {
                break;
            }
        }
        if blocks {
            found.sort();
        }
        let wanted = |target: &Target| blocks == matches!(target, Target::Block(_));
        let held = self.values.iter().filter(|(target, _)| wanted(target));
        equal("LIST", &found, &held.map(|(target, value)| (target.clone(), value.bytes.len() as u64)).collect())
    }

    async fn publish<S: Subject>(
        &mut self,
        subject: &mut S,
        name: u8,
        expected: u64,
        blocks: u8,
        tombstone: bool,
    ) -> Verdict {
        let name = format!("head {name}");
        let mut chain = hashes(0, blocks % 4 + 1);
        let value = match chain.last() {
            Some(tip) if !tombstone => Some(HeadValue { tip: *tip, length: chain.len() as u32, sidecar: None }),
            _ => None,
        };
        if tombstone {
            chain.clear();
        }
        let ns = subject.namespace();
        let request = PublishHead { ns, name: name.clone(), expected, value: value.clone(), chain: chain.clone() };
        let response = subject.call(Request::PublishHead(request), Vec::new()).await;
        let durable = |hash: &BlockHash| {
            PARTS.iter().all(|part| {
                let target = Target::Block(BlockKey { hash: *hash, part: Part(*part) });
                self.values.get(&target).is_some_and(|value| value.level > Level::Memory)
            })
        };
        let newest = self.heads.get(&name).map_or(0, |(generation, _)| *generation);
        let refused = if !chain.iter().all(durable) {
            Some(ErrorKind::Invalid)
        } else if newest != expected {
            Some(ErrorKind::Retry)
        } else {
            None
        };
        match (refused, response.outcome) {
            (Some(kind), Outcome::Error(error)) => equal("the error", &error.kind, &kind),
            (None, Outcome::Ok(Answer::Published { generation })) => {
                self.heads.insert(name, (expected + 1, value));
                equal("the generation", &generation, &(expected + 1))
            }
            (refused, other) => Err(format!("{other:?}, the model refuses with {refused:?}")),
        }
    }

    fn has_all_parts(&self, hash: BlockHash) -> bool {
        PARTS.iter().all(|part| self.values.contains_key(&Target::Block(BlockKey { hash, part: Part(*part) })))
    }

    async fn get_head<S: Subject>(&self, subject: &mut S, name: u8) -> Verdict {
        let name = format!("head {name}");
        let get = GetHead { ns: subject.namespace(), name: name.clone() };
        let response = subject.call(Request::GetHead(get), Vec::new()).await;
        match (self.heads.get(&name), response.outcome) {
            (None, outcome) => equal("GET_HEAD", &outcome, &Outcome::Miss(MissReason::Absent)),
            // Its tip was deleted: once the object is removed, the head has no value.
            (Some((generation, Some(value))), Outcome::Ok(Answer::Head(Head { generation: got, value: None })))
                if !self.has_all_parts(value.tip) =>
            {
                equal("the generation", &got, generation)
            }
            (Some((generation, value)), Outcome::Ok(Answer::Head(head))) => {
                equal("the head", &(head.generation, head.value), &(*generation, value.clone()))
            }
            (Some(held), other) => Err(format!("{other:?}, the model has {held:?}")),
        }
    }
}

/// Sequential and without faults nothing is an orphan and nothing is damaged.
async fn scrub<S: Subject>(subject: &mut S, dry_run: bool, bound_ms: u32) -> Verdict {
    let mut cursor = Vec::new();
    for _ in 0..SLICES_MAX {
        let maintain = Maintain { task: Task::Scrub, dry_run, cursor, argument: String::new(), bound_ms };
        let response = subject.call(Request::Maintain(maintain), Vec::new()).await;
        match response.outcome {
            Outcome::Ok(Answer::Maintained { cursor: next }) if response.payloads.len() == 1 => cursor = next,
            other => return Err(format!("{other:?}")),
        }
        let text = String::from_utf8_lossy(response.payloads[0].as_ref()).into_owned();
        for found in ["orphans", "damaged", "quarantined"] {
            if text.contains(&format!("\"{found}\":")) {
                return Err(format!("a scrub found something: {text}"));
            }
        }
        if cursor.is_empty() {
            return Ok(());
        }
    }
    Err(format!("a scrub has not ended after {SLICES_MAX} slices"))
}

fn expect_removed(response: &Response) -> Verdict {
    match &response.outcome {
        Outcome::Ok(Answer::Removed { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn expect_bytes(found: &[Payload], expected: &[&[u8]]) -> Verdict {
    let same = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.as_ref() == *b);
    if same {
        return Ok(());
    }
    let lens = |lens: &mut dyn Iterator<Item = usize>| lens.collect::<Vec<_>>();
    let (found, expected) = (lens(&mut found.iter().map(Payload::len)), lens(&mut expected.iter().map(|b| b.len())));
    Err(format!("the payloads differ from the model's: lengths {found:?}, expected {expected:?}"))
}
