//! The service loop: one request in, one answer out, the same for every door.

use super::half_sent::HalfSent;
use super::{Deadline, OpenNamespace, Peer, Service};
use crate::index::Entry;
use crate::keys::{Key, NsNum};
use crate::store::{Patience, PutSpec, ReadOutcome, Slice, Store};
use crate::world::{Mono, World};
use bettong_wire::limits::{BATCH_ITEMS_MAX, FRAME_BYTES_MAX, OPEN_NAMESPACES_MAX};
use bettong_wire::request::{
    Clear, Exists, Get, GetBlocks, GetMany, GetSidecar, Maintain, NsHandle, Open, PublishHead, Put, PutBlocks,
    PutSidecar, ReadLimits, Restore, Target, Tier,
};
use bettong_wire::response::{Answer, Hit, ItemOutcome, Opened, Outcome, SessionLimits, Stored};
use bettong_wire::{BlockKey, ErrorKind, MissReason, Payload, Request, Response, ServiceError, SidecarKey, WriteBuf};
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Version of the protocol that this service speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Look-ups (hashes times parts) of one request: some tens of milliseconds.
pub(super) const LOOKUP_CHECKS_MAX: usize = 1 << 19;
/// Items of one batch that are read at once.
const READS_AT_ONCE: usize = 16;
/// How much earlier than its caller a put gives up waiting for room, at most.
const BUSY_BEFORE: Duration = Duration::from_millis(200);
/// Requests of one session under way at once, as OPEN says.
const REQUESTS_INFLIGHT_MAX: u32 = 256;

/// The service over one store.
#[derive(Clone)]
pub struct StoreService<W: World> {
    store: Store<W>,
    half_sent: HalfSent,
    /// What STATS tells operators besides, by name.
    facts: BTreeMap<&'static str, Facts>,
}

/// Something that STATS tells operators.
pub type Facts = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

pub(super) type Answered = Result<Response, ServiceError>;

/// What each namespace keeps is nobody's business but the operator's.
fn hide_others(stats: &mut serde_json::Value) {
    if let Some(object) = stats.get_mut("object").and_then(serde_json::Value::as_object_mut) {
        object.remove("namespaces");
    }
}

pub(super) fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(ErrorKind::Invalid, message)
}

impl<W: World> StoreService<W> {
    pub fn new(store: Store<W>) -> Self {
        let half_sent = HalfSent::new(store.half_sent_bytes_max());
        Self { store, half_sent, facts: BTreeMap::new() }
    }

    /// The same, where STATS tells operators `facts` too, under `name`.
    #[must_use]
    pub fn with_facts(mut self, name: &'static str, facts: Facts) -> Self {
        self.facts.insert(name, facts);
        self
    }

    pub fn store(&self) -> &Store<W> {
        &self.store
    }

    async fn answer(&self, peer: &Peer, request: Request, body: Vec<Payload>, deadline: Deadline) -> Answered {
        check_body(&request, &body)?;
        if let Some(fate) = self.store.ended()
            && !matches!(request, Request::Ping | Request::Stats | Request::Close { .. } | Request::Cancel { .. })
        {
            return Err(ServiceError::new(ErrorKind::Unavailable, format!("this node has ended: {fate}")));
        }
        // What is not a read of one value has a place of its own: the call as a whole is as large as its largest part, and a
        // hit in memory would have to make room for it.
        match request {
            Request::Ping => Ok(Response::ok(Answer::Pong)),
            Request::Open(open) => Box::pin(self.open(peer, *open, deadline)).await,
            Request::Close { ns } => close(peer, ns),
            Request::Put(put) => Box::pin(self.put(peer, put, body, deadline)).await,
            Request::PutSidecar(put) => Box::pin(self.put_sidecar(peer, put, body, deadline)).await,
            Request::PutBlocks(batch) => Box::pin(self.put_blocks(peer, batch, body, deadline)).await,
            Request::Get(get) => self.get(peer, get, deadline).await,
            Request::GetSidecar(get) => self.get_sidecar(peer, get, deadline).await,
            Request::GetMany(get) => Box::pin(self.get_many(peer, get, deadline)).await,
            Request::GetBlocks(get) => Box::pin(self.get_blocks(peer, get, deadline)).await,
            Request::Restore(restore) => Box::pin(self.restore(peer, restore, deadline)).await,
            Request::Exists(exists) => self.exists(peer, &exists),
            Request::LookupBlockPrefix(lookup) => self.lookup(peer, &lookup),
            Request::List(list) => {
                let (ns, _) = self.namespace(peer, list.ns)?;
                let page = self.store.list(ns, list.kind, &list.prefix, &list.cursor, list.limit)?;
                Ok(Response::ok(Answer::Page(page)))
            }
            Request::Delete(delete) => {
                let (_, open) = self.namespace(peer, delete.ns)?;
                check_target(&open, &delete.target)?;
                let ns = self.store.number_for_writes(&peer.tenant, open.id)?;
                let key = Key::of(ns, &delete.target);
                let existed = Box::pin(self.bounded(deadline, self.store.delete(&key))).await??;
                Ok(Response::ok(Answer::Removed { count: u64::from(existed) }))
            }
            Request::Clear(clear) => Box::pin(self.clear(peer, &clear, deadline)).await,
            Request::PublishHead(publish) => Box::pin(self.publish(peer, publish, deadline)).await,
            Request::GetHead(get) => {
                let (ns, open) = self.namespace(peer, get.ns)?;
                let parts = open.parts.as_deref().unwrap_or_default();
                let head =
                    Box::pin(self.bounded(deadline, self.store.get_head(open.id, ns, parts, &get.name))).await??;
                Ok(head.map_or_else(Response::miss, |head| Response::ok(Answer::Head(head))))
            }
            Request::RestoreChain(restore) => Box::pin(self.restore_chain(peer, restore, deadline)).await,
            Request::Stats => {
                let mut document = self.store.stats();
                match document.as_object_mut() {
                    Some(document) if peer.rights.admin => {
                        document.extend(self.facts.iter().map(|(name, facts)| ((*name).to_owned(), facts())));
                    }
                    _ => hide_others(&mut document),
                }
                let text = serde_json::to_vec(&document)
                    .map_err(|error| ServiceError::new(ErrorKind::Internal, error.to_string()))?;
                Ok(Response::with_payloads(Answer::Stats, vec![text.into()]))
            }
            Request::Maintain(maintain) => Box::pin(self.maintain(peer, maintain, deadline)).await,
            // A door that keeps requests in flight cancels them itself; here nothing is.
            Request::Cancel { .. } => Ok(Response::ok(Answer::Cancelled)),
        }
    }

    async fn open(&self, peer: &Peer, open: Open, deadline: Deadline) -> Answered {
        if open.protocol_version != PROTOCOL_VERSION {
            let (asked, spoken) = (open.protocol_version, PROTOCOL_VERSION);
            return Err(invalid(format!("protocol version {asked} is asked for, this daemon speaks {spoken}")));
        }
        if open.tenant != peer.tenant {
            let message = format!("this session belongs to tenant `{}`, not to `{}`", peer.tenant, open.tenant);
            return Err(ServiceError::new(ErrorKind::Denied, message));
        }
        // Dropped at the deadline: the next open finds what this one wrote, or writes the same.
        let opening = self.store.open_namespace(&open.tenant, &open.namespace, open.identity.as_ref());
        let id = self.bounded(deadline, opening).await??;
        let parts = open.identity.map(|identity| Arc::from(identity.parts));
        let opened = OpenNamespace { id, name: open.namespace.into(), parts };
        let mut sessions = peer.sessions.lock();
        if sessions.open.iter().flatten().count() >= OPEN_NAMESPACES_MAX {
            let message = format!("this session holds {OPEN_NAMESPACES_MAX} namespaces open, which is the limit");
            return Err(ServiceError::busy(message, 0));
        }
        let at = sessions.open.iter().position(Option::is_none).unwrap_or_else(|| {
            sessions.open.push(None);
            sessions.open.len() - 1
        });
        let parts = opened.parts.as_deref().unwrap_or(&[]).to_vec();
        if let Some(slot) = sessions.open.get_mut(at) {
            *slot = Some(opened);
        }
        let ns = NsHandle(u32::try_from(at).unwrap_or(u32::MAX));
        Ok(Response::ok(Answer::Opened(Opened {
            ns,
            namespace_id: id,
            protocol_version: PROTOCOL_VERSION,
            parts,
            payload_crc: open.payload_crc,
            limits: SessionLimits {
                frame_bytes_max: FRAME_BYTES_MAX,
                payload_bytes_max: self.store.payload_bytes_max(),
                batch_items_max: BATCH_ITEMS_MAX as u32,
                requests_inflight_max: REQUESTS_INFLIGHT_MAX,
            },
        })))
    }

    fn namespace(&self, peer: &Peer, ns: NsHandle) -> Result<(NsNum, OpenNamespace), ServiceError> {
        let sessions = peer.sessions.lock();
        let open = usize::try_from(ns.0).ok().and_then(|at| sessions.open.get(at)).and_then(Option::as_ref);
        let open = open.ok_or_else(|| invalid(format!("namespace handle {} is not open in this session", ns.0)))?;
        Ok((self.store.namespace_number(open.id), open.clone()))
    }

    /// The namespace, for an operation on blocks: it must have been opened with a model identity.
    pub(super) fn blocks(&self, peer: &Peer, ns: NsHandle) -> Result<(NsNum, Arc<[u16]>), ServiceError> {
        let (number, open) = self.namespace(peer, ns)?;
        let parts = open.parts.ok_or_else(|| no_identity(&open.name))?;
        Ok((number, parts))
    }

    fn expires_at(&self, ttl_ms: u64) -> Result<u64, ServiceError> {
        if ttl_ms == 0 {
            return Ok(0);
        }
        let at = self.store.wall_ms().checked_add(ttl_ms);
        at.ok_or_else(|| invalid(format!("a time to live of {ttl_ms} ms ends after the end of time")))
    }

    /// Waits for work that goes on by itself, until the deadline.
    async fn bounded<T>(&self, deadline: Deadline, work: impl Future<Output = T>) -> Result<T, ServiceError> {
        let left = deadline.0.since(self.now());
        self.store.within(left, work).await.ok_or_else(|| {
            let trouble = self.store.index_takes_writes().err().map_or_else(String::new, |error| format!(": {error}"));
            let text = format!("the deadline passed; the outcome of the request is not known{trouble}");
            ServiceError::new(ErrorKind::Retry, text)
        })
    }

    async fn put(&self, peer: &Peer, put: Put, body: Vec<Payload>, deadline: Deadline) -> Answered {
        let (_, open) = self.namespace(peer, put.ns)?;
        check_target(&open, &put.target)?;
        let ns = self.store.number_for_writes(&peer.tenant, open.id)?;
        let spec = PutSpec {
            ns,
            target: put.target,
            level: put.level,
            expires_at_ms: self.expires_at(put.ttl_ms)?,
            parent: put.parent,
            sequence: put.sequence,
        };
        let payload = body.into_iter().next().unwrap_or_default();
        let stored = self.put_until(spec, payload, deadline).await?;
        Ok(Response::ok(Answer::Stored(stored)))
    }

    async fn put_until(&self, spec: PutSpec, payload: Payload, deadline: Deadline) -> Result<Stored, ServiceError> {
        let stored = self.put_all_until(vec![(spec, payload)], deadline).await?;
        stored.into_iter().next().ok_or_else(|| ServiceError::new(ErrorKind::Internal, "a put without an answer"))
    }

    /// Puts wait for room in a full journal a little less than their caller does, so that it hears `busy` and not that
    /// the outcome is unknown.
    async fn put_all_until(
        &self,
        puts: Vec<(PutSpec, Payload)>,
        deadline: Deadline,
    ) -> Result<Vec<Stored>, ServiceError> {
        let left = deadline.0.since(self.now());
        let until = self.now().plus(left - (left / 10).min(BUSY_BEFORE));
        Ok(self.bounded(deadline, self.store.put_batch_until(puts, until)).await??)
    }

    async fn put_sidecar(&self, peer: &Peer, put: PutSidecar, body: Vec<Payload>, deadline: Deadline) -> Answered {
        let (ns, _) = self.blocks(peer, put.ns)?;
        let spec = PutSpec {
            ns,
            target: Target::Sidecar(put.key),
            level: put.level,
            expires_at_ms: 0,
            parent: Some(put.tip),
            sequence: 0,
        };
        let payload = body.into_iter().next().unwrap_or_default();
        let stored = self.put_until(spec, payload, deadline).await?;
        Ok(Response::ok(Answer::Stored(stored)))
    }

    async fn put_blocks(&self, peer: &Peer, batch: PutBlocks, body: Vec<Payload>, deadline: Deadline) -> Answered {
        let (ns, parts) = self.blocks(peer, batch.ns)?;
        check_batch(batch.blocks.len())?;
        for block in &batch.blocks {
            check_part(&parts, block.key)?;
        }
        let puts = batch.blocks.iter().zip(body).map(|(block, payload)| {
            let spec = PutSpec {
                ns,
                target: Target::Block(block.key),
                level: batch.level,
                expires_at_ms: 0,
                parent: block.parent,
                sequence: block.sequence,
            };
            (spec, payload)
        });
        let stored = self.put_all_until(puts.collect(), deadline).await?;
        Ok(Response::ok(Answer::StoredBatch(stored)))
    }

    pub(super) fn patience(&self, limits: ReadLimits, deadline: Deadline) -> Patience {
        let decline_over = (limits.decline_over_us > 0).then(|| Duration::from_micros(limits.decline_over_us.into()));
        if limits.deadline_ms == 0 {
            return Patience { deadline, decline_over };
        }
        let asked = self.now().plus(Duration::from_millis(limits.deadline_ms.into()));
        Patience { deadline: deadline.min(Deadline(asked)), decline_over }
    }

    async fn get(&self, peer: &Peer, get: Get, deadline: Deadline) -> Answered {
        let Some(key) = self.read_key(peer, get.ns, &get.target)? else {
            return Ok(Response::miss(MissReason::Identity));
        };
        let outcome = self.store.get(&key, self.patience(get.limits, deadline)).await;
        self.brought(get.range, outcome)
    }

    /// What a get names; `None` where the namespace cannot have it.
    fn read_key(&self, peer: &Peer, ns: NsHandle, target: &Target) -> Result<Option<Key>, ServiceError> {
        let (ns, open) = self.namespace(peer, ns)?;
        if open.parts.is_none() && !matches!(target, Target::Plain(_)) {
            return Ok(None);
        }
        check_target(&open, target)?;
        Ok(Some(Key::of(ns, target)))
    }

    /// The answer to a get: its value, or the bytes `range`, offset and length, of it.
    fn brought(&self, range: Option<(u64, u64)>, outcome: ReadOutcome) -> Answered {
        let (hit, payload) = match outcome {
            ReadOutcome::Hit { payload, entry, tier } => (hit(&entry, tier), payload),
            ReadOutcome::Miss(reason) => return Ok(Response::miss(reason)),
        };
        let payload = match range {
            None => payload,
            Some((offset, len)) => {
                let total = hit.total_len;
                let behind = || invalid(format!("the range starts at {offset}, the value has {total} bytes"));
                let len = len.min(total.checked_sub(offset).ok_or_else(behind)?);
                let range = payload.slice(offset, len).ok_or_else(behind)?;
                // A slice would hold the whole value until the peer has read its part.
                if is_copied(len, total) { self.copied(&range)? } else { range }
            }
        };
        Ok(Response::with_payloads(Answer::Hit(hit), vec![payload]))
    }

    fn copied(&self, payload: &Payload) -> Result<Payload, ServiceError> {
        let mut buf = self.store.reserve(payload.len() as u64)?;
        buf.unfilled().put_slice(payload.as_ref());
        buf.seal().ok_or_else(|| ServiceError::new(ErrorKind::Internal, "a filled buffer does not seal"))
    }

    async fn get_sidecar(&self, peer: &Peer, get: GetSidecar, deadline: Deadline) -> Answered {
        let get = Get { ns: get.ns, target: Target::Sidecar(get.key), range: None, limits: get.limits };
        self.get(peer, get, deadline).await
    }

    async fn get_many(&self, peer: &Peer, get: GetMany, deadline: Deadline) -> Answered {
        let (ns, open) = self.namespace(peer, get.ns)?;
        check_batch(get.targets.len())?;
        for target in get.targets.iter().filter(|_| open.parts.is_some()) {
            check_target(&open, target)?;
        }
        let reachable = |target: &Target| open.parts.is_some() || matches!(target, Target::Plain(_));
        let keys = get.targets.iter().map(|target| reachable(target).then(|| Key::of(ns, target))).collect();
        let read = self.read_all(keys, self.patience(get.limits, deadline)).await;
        Ok(items(read))
    }

    async fn get_blocks(&self, peer: &Peer, get: GetBlocks, deadline: Deadline) -> Answered {
        let (ns, parts) = self.blocks(peer, get.ns)?;
        check_batch(get.keys.len())?;
        for key in &get.keys {
            check_part(&parts, *key)?;
        }
        let keys = get.keys.iter().map(|key| Some(Key::block(ns, *key))).collect();
        let mut read = self.read_all(keys, self.patience(get.limits, deadline)).await;
        let miss = read.iter().enumerate().find_map(|(at, outcome)| match outcome {
            ReadOutcome::Miss(reason) => Some((at, *reason)),
            ReadOutcome::Hit { .. } => None,
        });
        match miss {
            Some((_, reason)) if !get.leading => Ok(Response::miss(reason)),
            Some((at, _)) => {
                read.truncate(at);
                Ok(items(read))
            }
            None => Ok(items(read)),
        }
    }

    /// Reads several values at once, in order; `None` stands for one that the session may not reach.
    pub(super) async fn read_all(&self, keys: Vec<Option<Key>>, patience: Patience) -> Vec<ReadOutcome> {
        let read = |key: Option<Key>| async move {
            match key {
                Some(key) => self.store.get(&key, patience).await,
                None => ReadOutcome::Miss(MissReason::Identity),
            }
        };
        let reads: Vec<_> = keys.into_iter().map(read).collect();
        stream::iter(reads).buffered(READS_AT_ONCE).collect().await
    }

    async fn restore(&self, peer: &Peer, restore: Restore, deadline: Deadline) -> Answered {
        let (ns, parts) = self.blocks(peer, restore.ns)?;
        check_batch(restore.keys.len())?;
        for key in &restore.keys {
            check_part(&parts, *key)?;
        }
        let patience = self.patience(restore.limits, deadline);
        // Nobody is given the bytes: each value is let go as soon as a tier of this host has it.
        let warm = |key: BlockKey| async move {
            matches!(self.store.get(&Key::block(ns, key), patience).await, ReadOutcome::Hit { .. })
        };
        let reads: Vec<_> = restore.keys.into_iter().map(warm).collect();
        let warmed = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        let count = warmed.fold(0, |count, warm| async move { count + u32::from(warm) }).await;
        Ok(Response::ok(Answer::Warmed { count }))
    }

    fn exists(&self, peer: &Peer, exists: &Exists) -> Answered {
        let (ns, open) = self.namespace(peer, exists.ns)?;
        if open.parts.is_none() && !matches!(exists.target, Target::Plain(_)) {
            return Ok(Response::miss(MissReason::Identity));
        }
        check_target(&open, &exists.target)?;
        Ok(match self.store.exists(&Key::of(ns, &exists.target)) {
            Ok(entry) => Response::ok(Answer::Exists { len: entry.raw_len.into(), expires_at_ms: entry.expires_at_ms }),
            Err(reason) => Response::miss(reason),
        })
    }

    async fn clear(&self, peer: &Peer, clear: &Clear, deadline: Deadline) -> Answered {
        let (ns, open) = self.namespace(peer, clear.ns)?;
        if clear.tier == Tier::Object && !peer.rights.admin {
            let message = format!("clearing the object tier of namespace `{}` needs the admin right", open.name);
            return Err(ServiceError::new(ErrorKind::Denied, message));
        }
        let count = self.bounded(deadline, self.store.clear(ns, clear.tier)).await??;
        Ok(Response::ok(Answer::Removed { count }))
    }

    async fn maintain(&self, peer: &Peer, maintain: Maintain, deadline: Deadline) -> Answered {
        let Maintain { task, dry_run, cursor, argument, bound_ms } = maintain;
        if !peer.rights.admin {
            let message = format!("task {} concerns the whole node and needs the admin right", task.as_str());
            return Err(ServiceError::new(ErrorKind::Denied, message));
        }
        let now = self.now();
        let until = now.plus(Duration::from_millis(bound_ms.into()).min(deadline.0.since(now) / 2));
        let slice = Slice { until, dry_run };
        // Of a slice that a deadline cuts, the work goes on: it is repeated from the cursor that it began with.
        let store = self.store.clone();
        let work = async move { store.maintain(task, &argument, &cursor, slice).await };
        let (cursor, report) = self.bounded(deadline, self.store.detached(work)).await???;
        let text = serde_json::to_vec(&report.to_json())
            .map_err(|error| ServiceError::new(ErrorKind::Internal, error.to_string()))?;
        Ok(Response::with_payloads(Answer::Maintained { cursor }, vec![text.into()]))
    }

    async fn publish(&self, peer: &Peer, publish: PublishHead, deadline: Deadline) -> Answered {
        let (ns, parts) = self.blocks(peer, publish.ns)?;
        let PublishHead { name, expected, value, chain, .. } = publish;
        let checks = chain.len().saturating_mul(parts.len());
        if checks > LOOKUP_CHECKS_MAX {
            let (blocks, parts) = (chain.len(), parts.len());
            let message =
                format!("a chain of {blocks} blocks of {parts} parts is over the limit of {LOOKUP_CHECKS_MAX}");
            return Err(ServiceError::too_large(message, LOOKUP_CHECKS_MAX as u64));
        }
        let published = self.store.publish_head(ns, &parts, &name, expected, value.as_ref(), &chain);
        let generation = self.bounded(deadline, published).await??;
        Ok(Response::ok(Answer::Published { generation }))
    }
}

impl<W: World> Service for StoreService<W> {
    fn reserve(&self, peer: &Peer, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
        self.half_sent.reserve(peer, lens, |len| self.store.reserve(len))
    }

    fn reserve_archive(&self, peer: &Peer, len: u32) -> Result<Box<dyn WriteBuf>, ServiceError> {
        self.half_sent.reserve_archive(peer, len.into())
    }

    fn weigh(&self, peer: &Peer, request: &Request) -> u64 {
        let number = |ns| self.namespace(peer, ns).map(|(ns, _)| ns).ok();
        let weight = |key: Key| self.store.weight(&key);
        let weighed = match request {
            Request::Get(get) => number(get.ns).map(|ns| {
                let whole = weight(Key::of(ns, &get.target));
                get.range.map_or(whole, |(_, len)| if is_copied(len, whole) { len } else { whole })
            }),
            Request::GetSidecar(get) => number(get.ns).map(|ns| weight(Key::of(ns, &Target::Sidecar(get.key)))),
            Request::GetMany(get) => {
                number(get.ns).map(|ns| get.targets.iter().map(|target| weight(Key::of(ns, target))).sum())
            }
            Request::GetBlocks(get) => {
                number(get.ns).map(|ns| get.keys.iter().map(|key| weight(Key::block(ns, *key))).sum())
            }
            Request::RestoreChain(restore) => self.weigh_chain(peer, restore).ok(),
            _ => None,
        };
        weighed.unwrap_or(0)
    }

    async fn call(&self, peer: &Peer, request: Request, body: Vec<Payload>, deadline: Deadline) -> Response {
        match Box::pin(self.answer(peer, request, body, deadline)).await {
            Ok(response) => response,
            Err(error) => Response { outcome: Outcome::Error(error), payloads: Vec::new() },
        }
    }

    fn at_once(&self, peer: &Peer, request: &Request) -> Option<Response> {
        let Request::Get(Get { ns, target, range, .. }) = request else { return None };
        if self.store.ended().is_some() {
            return None;
        }
        // What is wrong with the request is said on the long way.
        let key = self.read_key(peer, *ns, target).ok()??;
        let answered = self.brought(*range, self.store.hit_in_memory(&key)?);
        Some(answered.unwrap_or_else(Response::error))
    }

    fn now(&self) -> Mono {
        self.store.mono()
    }
}

/// Whether a range of `len` bytes is so short that it is copied out of its value.
fn is_copied(len: u64, whole: u64) -> bool {
    len <= whole / 2
}

fn close(peer: &Peer, ns: NsHandle) -> Answered {
    let mut sessions = peer.sessions.lock();
    let slot = usize::try_from(ns.0).ok().and_then(|at| sessions.open.get_mut(at)).filter(|slot| slot.is_some());
    match slot {
        Some(slot) => {
            *slot = None;
            Ok(Response::ok(Answer::Closed))
        }
        None => Err(invalid(format!("namespace handle {} is not open in this session", ns.0))),
    }
}

fn check_body(request: &Request, body: &[Payload]) -> Result<(), ServiceError> {
    let said = request.payload_lens();
    let got: Vec<u64> = body.iter().map(|payload| payload.len() as u64).collect();
    if said != got {
        return Err(invalid(format!("the request says payloads of {said:?} bytes, {got:?} came")));
    }
    Ok(())
}

fn check_batch(items: usize) -> Result<(), ServiceError> {
    if items == 0 || items > BATCH_ITEMS_MAX {
        let message = format!("a batch of {items} items is not within 1 to {BATCH_ITEMS_MAX}");
        return Err(ServiceError::too_large(message, BATCH_ITEMS_MAX as u64));
    }
    Ok(())
}

fn no_identity(name: &str) -> ServiceError {
    invalid(format!("namespace `{name}` was opened without a model identity: its blocks are not reachable"))
}

pub(super) fn unknown_part(parts: &[u16], part: u16) -> ServiceError {
    invalid(format!("part {part} is not one of the namespace's parts {parts:?}"))
}

fn check_part(parts: &[u16], key: BlockKey) -> Result<(), ServiceError> {
    if parts.contains(&key.part.0) { Ok(()) } else { Err(unknown_part(parts, key.part.0)) }
}

fn check_target(open: &OpenNamespace, target: &Target) -> Result<(), ServiceError> {
    let parts = || open.parts.as_deref().ok_or_else(|| no_identity(&open.name));
    match target {
        Target::Plain(key) if key.is_empty() || key.len() > bettong_wire::limits::PLAIN_KEY_BYTES_MAX => {
            let (len, limit) = (key.len(), bettong_wire::limits::PLAIN_KEY_BYTES_MAX);
            Err(invalid(format!("a plain key of {len} bytes is not within 1 to {limit}")))
        }
        Target::Plain(_) => Ok(()),
        Target::Block(key) => check_part(parts()?, *key),
        Target::Sidecar(SidecarKey(_)) => parts().map(|_| ()),
    }
}

pub(super) fn hit(entry: &Entry, tier: Tier) -> Hit {
    Hit { total_len: entry.raw_len.into(), put_id: entry.put_id, tier, expires_at_ms: entry.expires_at_ms }
}

fn items(read: Vec<ReadOutcome>) -> Response {
    let mut payloads = Vec::new();
    let outcomes = read
        .into_iter()
        .map(|outcome| match outcome {
            ReadOutcome::Hit { payload, entry, tier } => {
                payloads.push(payload);
                ItemOutcome::Hit(hit(&entry, tier))
            }
            ReadOutcome::Miss(reason) => ItemOutcome::Miss(reason),
        })
        .collect();
    Response::with_payloads(Answer::Items(outcomes), payloads)
}
