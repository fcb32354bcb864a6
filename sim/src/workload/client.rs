//! A client: asks, tells the model, and has every answer judged.

use super::Shared;
use super::remote::{Opening, Remote};
use super::setup::PARTS;
use crate::model::{Daemon, Ending, Span, ValueKey};
use crate::oracle::{self, Seen, Verdict};
use crate::random::Stream;
use crate::trace::digest;
use crate::world::elapsed;
use bettong_wire::request::*;
use bettong_wire::response::{Answer, Head, Hit, ItemOutcome, ListName, Outcome};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, Part, Payload, PutId, Request, Response};
use futures::future::{Either, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A request that nobody answered within this time after its deadline is forgotten.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Client {
    pub name: String,
    pub shared: Arc<Shared>,
    pub random: Stream,
    /// Handles of open namespaces, with the daemon's life that gave them.
    handles: BTreeMap<(String, usize), (u64, NsHandle)>,
    /// Questions that reached a daemon.
    pub operations: u64,
    /// Comes over the network; through the embedded door otherwise.
    remote: Option<Remote>,
}

/// How a question ended.
pub enum Heard {
    Answer(Response),
    /// The daemon is not there, died, or would not open the namespace; the question may have been heard.
    Nothing {
        asked: bool,
    },
}

impl Client {
    pub fn new(name: String, shared: Arc<Shared>) -> Self {
        let random = Stream::new(shared.cluster.run().seed(), &format!("client/{name}"));
        Self { name, shared, random, handles: BTreeMap::new(), operations: 0, remote: None }
    }

    /// A client that comes over the network.
    pub fn remote(name: String, shared: Arc<Shared>) -> Self {
        let mut client = Self::new(name, shared);
        let call_timeout = Duration::from_millis(client.random.within(1_000..12_000));
        client.remote = Some(Remote::new(client.random.draw(), call_timeout));
        client
    }

    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    fn trace(&self, daemon: &Daemon, what: std::fmt::Arguments<'_>) {
        self.shared.cluster.run().trace(&self.name, format_args!("@{} {what}", daemon.name));
    }

    /// Asks `daemon` in `namespace`. The request is built with the handle that this session has for it.
    pub async fn ask(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        body: Vec<Payload>,
        build: impl FnOnce(NsHandle) -> Request,
    ) -> Heard {
        if self.remote.is_some() {
            return self.ask_remotely(daemon, namespace, body, build(NsHandle(0))).await;
        }
        let nothing = Heard::Nothing { asked: false };
        let Some(door) = self.shared.doors.of(&daemon.name) else {
            madsim::time::sleep(Duration::from_millis(50)).await;
            return nothing;
        };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let deadline = Duration::from_millis(self.random.within(200..12_000));
        let slot = (daemon.name.clone(), namespace);
        let known = self.handles.get(&slot).filter(|(life, _)| *life == door.life).map(|(_, handle)| *handle);
        let handle = match known {
            Some(handle) => handle,
            None => {
                let open = Request::Open(Open {
                    protocol_version: 1,
                    tenant: tenant.clone(),
                    token: String::new(),
                    namespace: name,
                    identity: Some(self.shared.setup.identity()),
                    payload_crc: false,
                });
                let opened = self.wait(door.call(&self.name, &tenant, open, Vec::new(), deadline), deadline).await;
                match opened.map(|response| response.outcome) {
                    Some(Outcome::Ok(Answer::Opened(opened))) => {
                        self.handles.insert(slot, (door.life, opened.ns));
                        opened.ns
                    }
                    Some(other) => {
                        self.trace(daemon, format_args!("open ns{namespace} -> {}", brief(&other)));
                        return nothing;
                    }
                    None => return nothing,
                }
            }
        };
        let answer = self.wait(door.call(&self.name, &tenant, build(handle), body, deadline), deadline).await;
        self.operations += 1;
        self.shared.cluster.run().count(|counters| counters.operations += 1);
        answer.map_or(Heard::Nothing { asked: true }, Heard::Answer)
    }

    async fn ask_remotely(&mut self, daemon: &Daemon, namespace: usize, body: Vec<Payload>, request: Request) -> Heard {
        let Some(remote) = &mut self.remote else { return Heard::Nothing { asked: false } };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let identity = self.shared.setup.identity();
        let address = self.shared.cluster.address(&daemon.name);
        let opening = Opening { number: namespace, tenant, name, identity };
        let ask = remote.ask(daemon, &address, opening, request, body);
        let run = self.shared.cluster.run();
        let heard = match select(pin!(ask), pin!(madsim::time::sleep(PATIENCE))).await {
            Either::Left((heard, _)) => heard,
            Either::Right(_) => {
                // The library promises an answer within its time limit, whatever the network does.
                run.stuck(format!("O8: a call of {} to {} did not end", self.name, daemon.name));
                Heard::Nothing { asked: true }
            }
        };
        if !matches!(heard, Heard::Nothing { asked: false }) {
            self.operations += 1;
            run.count(|counters| counters.operations += 1);
            run.state_reached("sim call over the network");
        }
        heard
    }

    /// How an attempt ended. The library repeats what may be repeated: after an attempt whose outcome nobody knows, a
    /// refusal of the next one says nothing of the first.
    fn ending(&self, heard: &Heard) -> Ending {
        let passing = |kind| matches!(kind, ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::Declined);
        match heard {
            Heard::Answer(Response { outcome: Outcome::Error(error), .. })
                if self.is_remote() && passing(error.kind) =>
            {
                Ending::Unknown
            }
            heard => ending_of(heard),
        }
    }

    /// Waits for an answer, but not for ever. A daemon that is up and answers nothing at all is stuck.
    async fn wait(&self, call: impl Future<Output = Option<Response>>, deadline: Duration) -> Option<Response> {
        let run = self.shared.cluster.run();
        match select(pin!(call), pin!(madsim::time::sleep(deadline + PATIENCE))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                if run.faults_stopped() {
                    run.stuck(format!("{} waits {} s beyond its deadline", self.name, PATIENCE.as_secs()));
                } else {
                    run.state_reached("sim client gave up");
                }
                None
            }
        }
    }

    /// Judges an answer; a wrong one ends the run.
    pub fn judge(&self, daemon: &Daemon, span: Span, judge: impl FnOnce(Seen<'_>) -> Verdict) {
        let run = self.shared.cluster.run();
        let settled = self.shared.settled.load(Ordering::Relaxed);
        let mut model = self.shared.model.lock();
        model.set_damaged(run.damaged());
        let peers_know_after = settled.then_some(Duration::ZERO);
        let verdict = judge(Seen { model: &model, daemon, span, calm: settled, peers_know_after });
        drop(model);
        if let Err(no) = verdict {
            run.fail(no.oracle, format!("{} (asked at {:.6} by {})", no.what, span.invoked.as_secs_f64(), self.name));
        }
    }

    fn key(namespace: usize, target: &Target) -> ValueKey {
        ValueKey { namespace, target: target.clone() }
    }

    pub async fn put(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        target: Target,
        level: Level,
        len: u64,
        ttl_ms: u64,
    ) -> bool {
        let key = Self::key(namespace, &target);
        let id = self.shared.model.lock().begin_put(daemon, key.clone(), level, len, ttl_ms, elapsed());
        let payload = self.bytes(id);
        let heard = self
            .ask(daemon, namespace, vec![payload.into()], |ns| match target {
                Target::Sidecar(key) if ttl_ms == 0 => {
                    Request::PutSidecar(PutSidecar { ns, key, tip: BlockHash([1; 32]), level, len })
                }
                target => Request::Put(Put { ns, target, level, ttl_ms, parent: None, sequence: 0, len }),
            })
            .await;
        let (ending, stored) = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Stored(stored)), .. }) => {
                (Ending::Done, Some((stored.put_id, stored.already)))
            }
            heard => (self.ending(heard), None),
        };
        self.trace(daemon, format_args!("put {key} {level:?} attempt {id} of {len} -> {ending:?} {stored:?}"));
        self.end_put(daemon, id, ending, stored);
        ending == Ending::Done
    }

    fn bytes(&self, id: u64) -> Vec<u8> {
        self.shared.model.lock().attempt(id).map(|attempt| attempt.bytes()).unwrap_or_default()
    }

    fn end_put(&self, daemon: &Daemon, id: u64, ending: Ending, stored: Option<(PutId, bool)>) {
        let now = elapsed();
        let (key, span) = {
            let mut model = self.shared.model.lock();
            model.end_put(id, ending, stored, now);
            let Some(attempt) = model.attempt(id) else { return };
            (attempt.key.clone(), attempt.span)
        };
        if let Some((put_id, true)) = stored {
            // What is said to be there already must not be dead.
            self.judge(daemon, span, |seen| oracle::hit::deleted(seen, &key, put_id));
        }
    }

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
            let id = self.shared.model.lock().begin_put(daemon, value, level, len, 0, elapsed());
            let parent = (at / PARTS.len()).checked_sub(1).and_then(|at| hashes.get(at)).copied();
            blocks.push(BlockPut { key, parent, sequence: (at / PARTS.len()) as u32, len });
            body.push(self.bytes(id).into());
            attempts.push(id);
        }
        let heard = self.ask(daemon, namespace, body, |ns| Request::PutBlocks(PutBlocks { ns, level, blocks })).await;
        let stored = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::StoredBatch(stored)), .. }) => Some(stored.clone()),
            _ => None,
        };
        let ending = if stored.is_some() { Ending::Done } else { self.ending(&heard) };
        self.trace(daemon, format_args!("put-blocks ns{namespace} {} {level:?} -> {ending:?}", attempts.len()));
        for (at, id) in attempts.iter().enumerate() {
            let stored =
                stored.as_ref().and_then(|stored| stored.get(at)).map(|stored| (stored.put_id, stored.already));
            self.end_put(daemon, *id, ending, stored);
        }
        ending == Ending::Done
    }

    /// Reads one value. `None` where nothing was heard.
    pub async fn get(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        target: Target,
        range: Option<(u64, u64)>,
    ) -> Option<Result<(), MissReason>> {
        let key = Self::key(namespace, &target);
        let invoked = elapsed();
        let limits = ReadLimits::default();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Get(Get { ns, target, range, limits })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        let Heard::Answer(response) = heard else { return None };
        match &response.outcome {
            Outcome::Ok(Answer::Hit(hit)) => {
                let payload = response.payloads.first().cloned().unwrap_or_default();
                self.hit(daemon, span, &key, hit, &payload, range);
                Some(Ok(()))
            }
            Outcome::Miss(reason) => {
                self.miss(daemon, span, &key, *reason);
                Some(Err(*reason))
            }
            other => {
                self.trace(daemon, format_args!("get {key} -> {}", brief(other)));
                self.expect(other, &[ErrorKind::Invalid], range.is_some(), "get");
                None
            }
        }
    }

    fn hit(
        &self,
        daemon: &Daemon,
        span: Span,
        key: &ValueKey,
        hit: &Hit,
        payload: &Payload,
        range: Option<(u64, u64)>,
    ) {
        let bytes = payload.as_ref();
        self.trace(daemon, format_args!("get {key} -> hit {:?} {} {}", hit.tier, hit.put_id, digest(bytes)));
        self.judge(daemon, span, |seen| oracle::hit::check(seen, key, hit, bytes, range));
    }

    fn miss(&self, daemon: &Daemon, span: Span, key: &ValueKey, reason: MissReason) {
        self.trace(daemon, format_args!("get {key} -> miss {}", reason.as_str()));
        self.judge(daemon, span, |seen| oracle::miss::check(seen, key, reason));
    }

    pub async fn get_many(&mut self, daemon: &Daemon, namespace: usize, targets: Vec<Target>) {
        let invoked = elapsed();
        let (asked, limits) = (targets.clone(), ReadLimits::default());
        let heard =
            self.ask(daemon, namespace, Vec::new(), |ns| Request::GetMany(GetMany { ns, targets, limits })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Items(items)), payloads }) = heard {
            let keys = asked.iter().map(|target| Self::key(namespace, target));
            self.items(daemon, span, keys.collect(), &items, &payloads);
        }
    }

    fn items(&self, daemon: &Daemon, span: Span, keys: Vec<ValueKey>, items: &[ItemOutcome], payloads: &[Payload]) {
        let mut payloads = payloads.iter();
        for (key, item) in keys.iter().zip(items) {
            match item {
                ItemOutcome::Hit(hit) => {
                    let payload = payloads.next().cloned().unwrap_or_default();
                    self.hit(daemon, span, key, hit, &payload, None);
                }
                ItemOutcome::Miss(reason) => self.miss(daemon, span, key, *reason),
            }
        }
    }

    pub async fn get_blocks(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash], leading: bool) {
        let keys: Vec<_> =
            hashes.iter().flat_map(|hash| PARTS.map(|part| BlockKey { hash: *hash, part: Part(part) })).collect();
        let (asked, limits) = (keys.clone(), ReadLimits::default());
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
                // The reason is one block's; it must be allowed for at least one of them.
                self.judge(daemon, span, |seen| {
                    let mut verdicts = values.iter().map(|key| oracle::miss::check(seen, key, reason));
                    if verdicts.any(|verdict| verdict.is_ok()) {
                        Ok(())
                    } else {
                        oracle::no(
                            "O15",
                            format!(
                                "all of {} blocks are acknowledged, and one is a miss: {}",
                                values.len(),
                                reason.as_str()
                            ),
                        )
                    }
                });
            }
            _ => {}
        }
    }

    pub async fn restore(&mut self, daemon: &Daemon, namespace: usize, hashes: &[BlockHash]) {
        let keys: Vec<_> = hashes.iter().map(|hash| BlockKey { hash: *hash, part: Part(0) }).collect();
        let (asked, limits) = (keys.len(), ReadLimits::default());
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Restore(Restore { ns, keys, limits })).await;
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Warmed { count }), .. }) = heard {
            self.trace(daemon, format_args!("restore ns{namespace} {count} of {asked}"));
        }
    }

    pub async fn exists(&mut self, daemon: &Daemon, namespace: usize, target: Target) {
        let key = Self::key(namespace, &target);
        let invoked = elapsed();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Exists(Exists { ns, target })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        match heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Exists { len, .. }), .. }) => {
                self.trace(daemon, format_args!("exists {key} -> {len}"));
                self.judge(daemon, span, |seen| match seen.model.possible(&key).any(|attempt| attempt.len == len) {
                    true => Ok(()),
                    false => oracle::no("O1", format!("{key} is said to have {len} bytes: no put had")),
                });
            }
            Heard::Answer(Response { outcome: Outcome::Miss(reason), .. }) => self.miss(daemon, span, &key, reason),
            _ => {}
        }
    }

    pub async fn delete(&mut self, daemon: &Daemon, namespace: usize, target: Target) {
        let key = Self::key(namespace, &target);
        let at = self.shared.model.lock().begin_delete(daemon, &key, elapsed());
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Delete(Delete { ns, target })).await;
        let ending = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Removed { .. }), .. }) => Ending::Done,
            heard => self.ending(heard),
        };
        self.trace(daemon, format_args!("delete {key} -> {ending:?}"));
        if ending == Ending::Unknown && self.is_remote() {
            // It may still be on its way to the daemon: for the model it never ends.
            return;
        }
        self.shared.model.lock().end_delete(&key, at, ending, elapsed());
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
        let head = match heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Head(head)), .. }) => Some(head),
            Heard::Answer(Response { outcome: Outcome::Miss(MissReason::Absent), .. }) => None,
            _ => return None,
        };
        let generation = head.as_ref().map(|head| head.generation);
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
        let span = Span { invoked, ended: Some(elapsed()) };
        let published = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Published { generation }), .. }) => Some(*generation),
            _ => None,
        };
        // A conflict is `retry` as well; the generation may still be ours.
        let ending = if published.is_some() { Ending::Done } else { self.ending(&heard) };
        self.trace(daemon, format_args!("publish ns{namespace}/{name} after {expected} -> {ending:?} {published:?}"));
        self.shared.model.lock().end_publish(namespace, name, at, ending, elapsed());
        if let Some(generation) = published {
            self.judge(daemon, span, |seen| oracle::head::check_published(seen, namespace, name, at, generation));
        }
    }

    /// Every entry that LIST shows, over all its pages; `None` where it broke off.
    pub async fn list(&mut self, daemon: &Daemon, namespace: usize, kind: ListKind) -> Option<Vec<(ValueKey, PutId)>> {
        let mut found: Vec<(ValueKey, PutId)> = Vec::new();
        let mut cursor = Vec::new();
        let limit = 1 + self.random.below(20) as u32;
        loop {
            let invoked = elapsed();
            let from = cursor.clone();
            let heard = self
                .ask(daemon, namespace, Vec::new(), |ns| {
                    Request::List(List { ns, kind, prefix: String::new(), cursor: from, limit })
                })
                .await;
            let span = Span { invoked, ended: Some(elapsed()) };
            let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Page(page)), .. }) = heard else { return None };
            self.trace(daemon, format_args!("list ns{namespace} {kind:?} -> {}", page.entries.len()));
            for entry in &page.entries {
                let target = match &entry.name {
                    ListName::Plain(key) => Target::Plain(key.clone()),
                    ListName::Block(key) => Target::Block(*key),
                    ListName::Sidecar(key) => Target::Sidecar(*key),
                };
                let key = ValueKey { namespace, target };
                self.judge(daemon, span, |seen| {
                    oracle::hit::deleted(seen, &key, entry.put_id)?;
                    match seen.model.possible(&key).any(|attempt| attempt.len == entry.len) {
                        true => Ok(()),
                        false => oracle::no("O1", format!("{key} is listed with {} bytes: no put had", entry.len)),
                    }
                });
                found.push((key, entry.put_id));
            }
            if page.cursor.is_empty() {
                return Some(found);
            }
            cursor = page.cursor;
        }
    }

    pub async fn clear(&mut self, daemon: &Daemon, namespace: usize, tier: Tier) {
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Clear(Clear { ns, tier })).await;
        if let Heard::Answer(response) = heard {
            self.trace(daemon, format_args!("clear ns{namespace} {tier:?} -> {}", brief(&response.outcome)));
            if tier == Tier::Object {
                self.expect(
                    &response.outcome,
                    &[ErrorKind::Denied],
                    true,
                    "clear of the object tier without the right",
                );
            }
        }
    }

    pub async fn stats(&mut self, daemon: &Daemon) {
        let heard = self.ask(daemon, 0, Vec::new(), |_| Request::Stats).await;
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Stats), payloads }) = heard {
            let document = payloads.first().map(|payload| serde_json::from_slice(payload.as_ref()));
            let span = Span { invoked: elapsed(), ended: None };
            self.judge(daemon, span, |_| match document {
                Some(Ok(document)) => oracle::budget::check(&daemon.name, &document),
                _ => oracle::no("O7", "STATS is no JSON document"),
            });
        }
    }

    /// Something that must be refused, and leave no trace.
    pub async fn hostile(&mut self, daemon: &Daemon, namespace: usize, hash: BlockHash) {
        if self.is_remote() {
            // The library would not even send it.
            return;
        }
        let too_long = self.shared.setup.len_max + 1;
        let choice = self.random.below(6);
        let unknown_part = Target::Block(BlockKey { hash, part: Part(999) });
        let limits = ReadLimits::default();
        let body = if choice == 0 { vec![vec![0; too_long as usize].into()] } else { Vec::new() };
        let heard = self
            .ask(daemon, namespace, body, |ns| match choice {
                0 => Request::Put(Put {
                    ns,
                    target: Target::Plain("too-long".into()),
                    level: Level::Object,
                    ttl_ms: 0,
                    parent: None,
                    sequence: 0,
                    len: too_long,
                }),
                1 => Request::Get(Get { ns, target: unknown_part, range: None, limits }),
                2 => Request::Delete(Delete { ns: NsHandle(u32::MAX), target: Target::Plain("x".into()) }),
                3 => Request::Put(Put {
                    ns,
                    target: Target::Plain("x".repeat(1025)),
                    level: Level::Object,
                    ttl_ms: 0,
                    parent: None,
                    sequence: 0,
                    len: 0,
                }),
                4 => Request::GetMany(GetMany { ns, targets: vec![Target::Plain("x".into()); 1025], limits }),
                _ => Request::Clear(Clear { ns, tier: Tier::Object }),
            })
            .await;
        if let Heard::Answer(response) = heard {
            let allowed = [ErrorKind::Invalid, ErrorKind::TooLarge, ErrorKind::Denied];
            self.trace(daemon, format_args!("hostile {choice} -> {}", brief(&response.outcome)));
            self.expect(&response.outcome, &allowed, true, "a hostile request");
        }
    }

    /// An error other than these, or none where one `must` be, is wrong. Errors that pass by themselves are always right.
    fn expect(&self, outcome: &Outcome, allowed: &[ErrorKind], must: bool, what: &str) {
        let passing = [ErrorKind::Retry, ErrorKind::Busy, ErrorKind::Unavailable];
        let right = match outcome {
            Outcome::Error(error) => allowed.contains(&error.kind) || passing.contains(&error.kind),
            _ => !must,
        };
        if !right {
            self.shared.cluster.run().fail("O3", format!("{what} is answered {}", brief(outcome)));
        }
    }
}

fn ending_of(heard: &Heard) -> Ending {
    match heard {
        Heard::Nothing { asked: false } => Ending::Refused,
        Heard::Nothing { asked: true } => Ending::Unknown,
        Heard::Answer(response) => match &response.outcome {
            Outcome::Error(error) => Ending::of_error(error.kind),
            _ => Ending::Unknown,
        },
    }
}

fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(answer) => format!("{answer:?}").chars().take(60).collect(),
        Outcome::Miss(reason) => format!("miss {}", reason.as_str()),
        Outcome::Error(error) => format!("{:?}: {}", error.kind, error.message),
    }
}
