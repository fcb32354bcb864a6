//! One open namespace: the typed calls.

use crate::call::{Body, NamespaceKey};
use crate::client::{Client, unexpected};
use crate::put_buffer::PutBuffer;
use crate::restore::{ChainAsk, ChainRestore};
use bettong_wire::limits::BATCH_ITEMS_MAX;
use bettong_wire::request::*;
use bettong_wire::response::*;
use bettong_wire::{
    BlockHash, BlockKey, ErrorKind, NamespaceId, Payload, PutId, Request, Response, ServiceError, SidecarKey,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A hit, or a miss with its true reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Got<T> {
    Hit(T),
    Miss(MissReason),
}

impl<T> Got<T> {
    /// The hit, if it is one.
    pub fn hit(self) -> Option<T> {
        match self {
            Self::Hit(value) => Some(value),
            Self::Miss(_) => None,
        }
    }
}

/// A value, or the asked range of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    pub bytes: Payload,
    /// Length of the whole value, in bytes.
    pub total_len: u64,
    pub put_id: PutId,
    /// The tier that served it.
    pub tier: Tier,
    /// Unix milliseconds; 0 means never.
    pub expires_at_ms: u64,
}

/// What EXISTS knows of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Existing {
    /// In bytes.
    pub len: u64,
    /// Unix milliseconds; 0 means never.
    pub expires_at_ms: u64,
}

/// A block's place in its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The previous block; `None` for the first.
    pub parent: Option<BlockHash>,
    /// Position, from 0.
    pub sequence: u32,
}

/// One block of a batch put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockToPut {
    pub key: BlockKey,
    pub place: Place,
    pub bytes: Payload,
}

/// An open namespace. It stays open across lost connections, until `close` or until the last clone is dropped.
#[derive(Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    key: NamespaceKey,
    opened: Opened,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.client.forget(self.key);
    }
}

/// Any handle: the session puts in the one that the current connection gave.
pub(crate) const NS: NsHandle = NsHandle(0);

impl Namespace {
    pub(crate) fn new(client: Client, key: NamespaceKey, opened: Opened) -> Self {
        Self { inner: Arc::new(Inner { client, key, opened }) }
    }

    pub fn id(&self) -> NamespaceId {
        self.inner.opened.namespace_id
    }

    /// The parts of the namespace's model identity; empty where it was opened without one.
    pub fn parts(&self) -> &[u16] {
        &self.inner.opened.parts
    }

    /// What the daemon allows this client.
    pub fn limits(&self) -> &SessionLimits {
        &self.inner.opened.limits
    }

    pub(crate) async fn call(&self, request: Request, payloads: Vec<Payload>) -> Result<Response, ServiceError> {
        self.inner.client.call(Some(self.inner.key), request, payloads).await
    }

    async fn put(
        &self,
        target: Target,
        place: Place,
        bytes: Payload,
        level: Level,
        ttl: Option<Duration>,
    ) -> Result<Stored, ServiceError> {
        let request = put(target, place, bytes.len(), level, ttl);
        stored(self.call(request, vec![bytes]).await?)
    }

    /// Puts a mutable value, visible on this daemon. Not repeated: after `ErrorKind::Retry` the outcome is unknown.
    pub async fn put_plain(
        &self,
        key: &str,
        value: impl Into<Payload>,
        level: Level,
        ttl: Option<Duration>,
    ) -> Result<Stored, ServiceError> {
        self.put(Target::Plain(key.to_owned()), Place::default(), value.into(), level, ttl).await
    }

    /// Puts an immutable block, visible on every node of the bucket.
    pub async fn put_block(
        &self,
        key: BlockKey,
        place: Place,
        bytes: impl Into<Payload>,
        level: Level,
        ttl: Option<Duration>,
    ) -> Result<Stored, ServiceError> {
        self.put(Target::Block(key), place, bytes.into(), level, ttl).await
    }

    /// Room for a block that is to be put by `put_block_from`.
    pub fn reserve_put(&self, len: usize) -> Result<PutBuffer, ServiceError> {
        self.inner.client.reserve_put(len)
    }

    /// Puts the immutable block that `buffer` was filled with. Through shared memory this is not repeated, since the bytes are
    /// gone once they are sent: after `ErrorKind::Retry` and `ErrorKind::Busy` fill another buffer.
    pub async fn put_block_from(
        &self,
        key: BlockKey,
        place: Place,
        buffer: PutBuffer,
        level: Level,
        ttl: Option<Duration>,
    ) -> Result<Stored, ServiceError> {
        let request = put(Target::Block(key), place, buffer.len(), level, ttl);
        let Inner { client, key, .. } = &*self.inner;
        stored(match buffer.into_body() {
            Body::Payloads(payloads) => client.call(Some(*key), request, payloads).await?,
            #[cfg(all(target_os = "linux", not(madsim)))]
            body @ Body::Staged(_) => client.call_once(*key, request, body).await?,
        })
    }

    async fn get(
        &self,
        target: Target,
        range: Option<(u64, u64)>,
        limits: ReadLimits,
    ) -> Result<Got<Value>, ServiceError> {
        value(self.call(Request::Get(Get { ns: NS, target, range, limits }), Vec::new()).await?)
    }

    pub async fn get_plain(&self, key: &str, limits: ReadLimits) -> Result<Got<Value>, ServiceError> {
        self.get(Target::Plain(key.to_owned()), None, limits).await
    }

    pub async fn get_block(&self, key: BlockKey, limits: ReadLimits) -> Result<Got<Value>, ServiceError> {
        self.get(Target::Block(key), None, limits).await
    }

    /// At most `len` bytes from `offset` on; fewer at the value's end. An offset behind the end is invalid.
    pub async fn get_range(
        &self,
        target: Target,
        offset: u64,
        len: u64,
        limits: ReadLimits,
    ) -> Result<Got<Value>, ServiceError> {
        self.get(target, Some((offset, len)), limits).await
    }

    /// Whether a value is there. Its bytes are not loaded.
    pub async fn exists(&self, target: Target) -> Result<Got<Existing>, ServiceError> {
        let response = self.call(Request::Exists(Exists { ns: NS, target }), Vec::new()).await?;
        match response.outcome {
            Outcome::Ok(Answer::Exists { len, expires_at_ms }) => Ok(Got::Hit(Existing { len, expires_at_ms })),
            Outcome::Miss(reason) => Ok(Got::Miss(reason)),
            other => Err(unexpected("an exists", other)),
        }
    }

    /// Deletes a value by name. Answers how many there were: 0 or 1.
    pub async fn delete(&self, target: Target) -> Result<u64, ServiceError> {
        removed(self.call(Request::Delete(Delete { ns: NS, target }), Vec::new()).await?)
    }

    /// Each target for itself, in order.
    pub async fn get_many(&self, targets: Vec<Target>, limits: ReadLimits) -> Result<Vec<Got<Value>>, ServiceError> {
        let mut values = Vec::with_capacity(targets.len());
        let ask = |targets| Request::GetMany(GetMany { ns: NS, targets, limits });
        let mut parts = Parts::new(self, targets);
        while let Some(response) = parts.next(ask).await? {
            values.extend(items(response)?);
        }
        Ok(values)
    }

    /// One page of names. `cursor` is the one of the page before, empty for the first.
    pub async fn list(
        &self,
        kind: ListKind,
        prefix: &str,
        cursor: Vec<u8>,
        limit: u32,
    ) -> Result<ListPage, ServiceError> {
        let list = List { ns: NS, kind, prefix: prefix.to_owned(), cursor, limit };
        match self.call(Request::List(list), Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Page(page)) => Ok(page),
            other => Err(unexpected("a list", other)),
        }
    }

    /// How many leading hashes are present, in all parts (`parts` empty) or in the asked ones.
    pub async fn lookup_prefix(&self, hashes: Vec<BlockHash>, parts: Vec<PartAsk>) -> Result<u32, ServiceError> {
        let lookup = LookupBlockPrefix { ns: NS, hashes, parts };
        match self.call(Request::LookupBlockPrefix(lookup), Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Prefix { blocks }) => Ok(blocks),
            other => Err(unexpected("a look-up", other)),
        }
    }

    /// All blocks or, where one is missing, a miss with its reason; with `leading`, those before the first that is
    /// missing.
    pub async fn get_blocks(
        &self,
        keys: Vec<BlockKey>,
        leading: bool,
        limits: ReadLimits,
    ) -> Result<Got<Vec<Value>>, ServiceError> {
        let mut values = Vec::new();
        let ask = |keys| Request::GetBlocks(GetBlocks { ns: NS, keys, leading, limits });
        let mut parts = Parts::new(self, keys);
        while let Some(response) = parts.next(ask).await? {
            if let Outcome::Miss(reason) = response.outcome {
                return Ok(Got::Miss(reason));
            }
            for item in items(response)? {
                match item {
                    Got::Hit(value) => values.push(value),
                    Got::Miss(_) if leading => return Ok(Got::Hit(values)),
                    Got::Miss(reason) => return Ok(Got::Miss(reason)),
                }
            }
            if values.len() < parts.asked {
                return Ok(Got::Hit(values));
            }
        }
        Ok(Got::Hit(values))
    }

    /// All or nothing in the index.
    pub async fn put_blocks(&self, blocks: Vec<BlockToPut>, level: Level) -> Result<Vec<Stored>, ServiceError> {
        let (mut puts, mut payloads) = (Vec::with_capacity(blocks.len()), Vec::with_capacity(blocks.len()));
        for BlockToPut { key, place: Place { parent, sequence }, bytes } in blocks {
            puts.push(BlockPut { key, parent, sequence, len: bytes.len() as u64 });
            payloads.push(bytes);
        }
        let response = self.call(Request::PutBlocks(PutBlocks { ns: NS, level, blocks: puts }), payloads).await?;
        match response.outcome {
            Outcome::Ok(Answer::StoredBatch(stored)) => Ok(stored),
            other => Err(unexpected("a put of blocks", other)),
        }
    }

    /// Puts the tail that does not fill a block. Answers the sidecar's key beside what was stored.
    pub async fn put_sidecar(
        &self,
        key: SidecarKey,
        tip: BlockHash,
        bytes: impl Into<Payload>,
        level: Level,
    ) -> Result<Stored, ServiceError> {
        let bytes = bytes.into();
        let put = PutSidecar { ns: NS, key, tip, level, len: bytes.len() as u64 };
        stored(self.call(Request::PutSidecar(put), vec![bytes]).await?)
    }

    pub async fn get_sidecar(&self, key: SidecarKey, limits: ReadLimits) -> Result<Got<Value>, ServiceError> {
        value(self.call(Request::GetSidecar(GetSidecar { ns: NS, key, limits }), Vec::new()).await?)
    }

    /// Creates generation `expected + 1` of head `name`. Not repeated: after `ErrorKind::Retry` read the head.
    pub async fn publish_head(
        &self,
        name: &str,
        expected: u64,
        value: Option<HeadValue>,
        chain: Vec<BlockHash>,
    ) -> Result<u64, ServiceError> {
        let publish = PublishHead { ns: NS, name: name.to_owned(), expected, value, chain };
        match self.call(Request::PublishHead(publish), Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Published { generation }) => Ok(generation),
            other => Err(unexpected("a publish", other)),
        }
    }

    pub async fn get_head(&self, name: &str) -> Result<Got<Head>, ServiceError> {
        match self.call(Request::GetHead(GetHead { ns: NS, name: name.to_owned() }), Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Head(head)) => Ok(Got::Hit(head)),
            Outcome::Miss(reason) => Ok(Got::Miss(reason)),
            other => Err(unexpected("a get of a head", other)),
        }
    }

    /// Empties a tier of this namespace. For the object tier it deletes by name and needs the `admin` right.
    pub async fn clear(&self, tier: Tier) -> Result<u64, ServiceError> {
        removed(self.call(Request::Clear(Clear { ns: NS, tier }), Vec::new()).await?)
    }

    /// Warms the local tiers. Answers how many of the asked blocks are in one of them now.
    pub async fn restore(&self, keys: Vec<BlockKey>, limits: ReadLimits) -> Result<u32, ServiceError> {
        match self.call(Request::Restore(Restore { ns: NS, keys, limits }), Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Warmed { count }) => Ok(count),
            other => Err(unexpected("a restore", other)),
        }
    }

    /// Brings a prompt: how many of its leading blocks are present, their bytes, and its sidecar, in one round trip where it
    /// is short.
    pub fn restore_chain(&self, ask: ChainAsk) -> ChainRestore {
        ChainRestore::new(self.clone(), ask)
    }

    /// The daemon's statistics, a JSON document.
    pub async fn stats(&self) -> Result<Payload, ServiceError> {
        let mut response = self.call(Request::Stats, Vec::new()).await?;
        match (response.outcome, response.payloads.pop()) {
            (Outcome::Ok(Answer::Stats), Some(document)) => Ok(document),
            (other, _) => Err(unexpected("a stats request", other)),
        }
    }

    /// One slice of a task of upkeep; needs the `admin` right, and concerns the whole node. Answers the cursor of the next
    /// slice, empty after the last one, and a JSON document of what this slice did.
    pub async fn maintain(&self, maintain: Maintain) -> Result<(Vec<u8>, Payload), ServiceError> {
        let mut response = self.call(Request::Maintain(maintain), Vec::new()).await?;
        match (response.outcome, response.payloads.pop()) {
            (Outcome::Ok(Answer::Maintained { cursor }), Some(document)) => Ok((cursor, document)),
            (other, _) => Err(unexpected("a slice of maintenance", other)),
        }
    }

    /// Closes the namespace. Other clones find it closed.
    pub async fn close(self) -> Result<(), ServiceError> {
        match self.call(Request::Close { ns: NS }, Vec::new()).await?.outcome {
            Outcome::Ok(Answer::Closed) => Ok(()),
            other => Err(unexpected("a close", other)),
        }
    }
}

/// A batch of reads, asked for in as many parts as the daemon wants: it refuses to answer more bytes at once than a peer
/// may leave unread. All of them together have the time of one call.
struct Parts<'a, T> {
    namespace: &'a Namespace,
    until: Instant,
    /// What is still to be asked for, the next part last.
    left: Vec<Vec<T>>,
    /// Items that have been answered.
    asked: usize,
}

impl<'a, T: Clone> Parts<'a, T> {
    fn new(namespace: &'a Namespace, items: Vec<T>) -> Self {
        Self { namespace, until: namespace.inner.client.call_end(), left: vec![items], asked: 0 }
    }

    /// The answer to the next part; `None` after the last.
    async fn next(&mut self, ask: impl Fn(Vec<T>) -> Request) -> Result<Option<Response>, ServiceError> {
        let Inner { client, key, .. } = &*self.namespace.inner;
        while let Some(mut part) = self.left.pop() {
            match client.call_until(self.until, Some(*key), ask(part.clone()), Vec::new()).await {
                // More items than the protocol allows are the caller's mistake.
                Err(error) if is_divisible(&error, part.len()) => {
                    let rest = part.split_off(part.len() / 2);
                    self.left.extend([rest, part]);
                }
                answered => {
                    self.asked += part.len();
                    return answered.map(Some);
                }
            }
        }
        Ok(None)
    }
}

fn is_divisible(error: &ServiceError, items: usize) -> bool {
    error.kind == ErrorKind::TooLarge && (2..=BATCH_ITEMS_MAX).contains(&items)
}

fn put(target: Target, place: Place, len: usize, level: Level, ttl: Option<Duration>) -> Request {
    let Place { parent, sequence } = place;
    let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
    Request::Put(Put { ns: NS, target, level, ttl_ms, parent, sequence, len: len as u64 })
}

fn stored(response: Response) -> Result<Stored, ServiceError> {
    match response.outcome {
        Outcome::Ok(Answer::Stored(stored)) => Ok(stored),
        other => Err(unexpected("a put", other)),
    }
}

fn removed(response: Response) -> Result<u64, ServiceError> {
    match response.outcome {
        Outcome::Ok(Answer::Removed { count }) => Ok(count),
        other => Err(unexpected("a delete", other)),
    }
}

fn value(mut response: Response) -> Result<Got<Value>, ServiceError> {
    match (response.outcome, response.payloads.pop()) {
        (Outcome::Ok(Answer::Hit(hit)), Some(bytes)) => Ok(Got::Hit(hit_value(hit, bytes))),
        (Outcome::Miss(reason), _) => Ok(Got::Miss(reason)),
        (other, _) => Err(unexpected("a get", other)),
    }
}

pub(crate) fn hit_value(hit: Hit, bytes: Payload) -> Value {
    let Hit { total_len, put_id, tier, expires_at_ms } = hit;
    Value { bytes, total_len, put_id, tier, expires_at_ms }
}

fn items(response: Response) -> Result<Vec<Got<Value>>, ServiceError> {
    let items = match response.outcome {
        Outcome::Ok(Answer::Items(items)) => items,
        other => return Err(unexpected("a batch", other)),
    };
    let mut payloads = response.payloads.into_iter();
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        values.push(match item {
            ItemOutcome::Miss(reason) => Got::Miss(reason),
            ItemOutcome::Hit(hit) => match payloads.next() {
                Some(bytes) => Got::Hit(hit_value(hit, bytes)),
                None => return Err(unexpected("a batch whose payloads are too few", Outcome::Ok(Answer::Stats))),
            },
        });
    }
    Ok(values)
}
