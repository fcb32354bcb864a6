//! The same client for programs without an executor. Not to be called from asynchronous code.
//!
//! The connection is carried while a call is under way; nothing runs between calls. So through shared memory the daemon hears
//! only with the next call that a value is not read any more.

use crate::callers::Callers;
use crate::namespace::{BlockToPut, Existing, Got, Place, Value};
use crate::{ChainAsk, ChainPart, ChainRestore as AsyncChainRestore};
use crate::{Client as AsyncClient, Error, Namespace as AsyncNamespace, Options, PutBuffer};
use bettong_wire::request::{HeadValue, Level, ListKind, Maintain, PartAsk, ReadLimits, Target, Tier};
use bettong_wire::response::{Head, ListPage, Stored};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, ModelIdentity, NamespaceId, Payload, SidecarKey};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// See `bettong_client::Client`.
#[derive(Clone)]
pub struct Client {
    // Dropped before the runtime that carries it.
    client: AsyncClient,
    executor: Arc<Executor>,
}

/// Carries the connection.
struct Executor {
    runtime: Option<Runtime>,
    callers: Callers,
}

impl Executor {
    fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        let _calling = self.callers.enter();
        self.runtime.as_ref().expect("only drop takes it out").block_on(call)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // A daemon that takes its time to let this client in is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    pub fn connect(url: &str, options: Options) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Error::new(ErrorKind::Unavailable, format!("the client's runtime cannot be made: {error}"))
        })?;
        let executor = Executor { runtime: Some(runtime), callers: Callers::default() };
        let callers = Some(executor.callers.clone());
        let client = executor.block_on(AsyncClient::connect_for(url, options, callers))?;
        Ok(Self { client, executor: Arc::new(executor) })
    }

    pub fn ping(&self) -> Result<Duration, Error> {
        self.executor.block_on(self.client.ping())
    }

    pub fn open_namespace(&self, name: &str, identity: Option<ModelIdentity>) -> Result<Namespace, Error> {
        let namespace = self.executor.block_on(self.client.open_namespace(name, identity))?;
        Ok(Namespace { namespace, executor: self.executor.clone() })
    }
}

/// See `bettong_client::Namespace`.
#[derive(Clone)]
pub struct Namespace {
    namespace: AsyncNamespace,
    executor: Arc<Executor>,
}

macro_rules! blocking {
    ($(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        impl Namespace {
            $(
                #[doc = concat!("See `bettong_client::Namespace::", stringify!($name), "`.")]
                pub fn $name(&self $(, $arg: $type)*) -> Result<$answer, Error> {
                    self.executor.block_on(self.namespace.$name($($arg),*))
                }
            )*
        }
    };
}

blocking! {
    fn put_plain(&self, key: &str, value: impl Into<Payload>, level: Level, ttl: Option<Duration>) -> Stored;
    fn get_plain(&self, key: &str, limits: ReadLimits) -> Got<Value>;
    fn put_block(&self, key: BlockKey, place: Place, bytes: impl Into<Payload>, level: Level, ttl: Option<Duration>) -> Stored;
    fn put_block_from(&self, key: BlockKey, place: Place, buffer: PutBuffer, level: Level, ttl: Option<Duration>) -> Stored;
    fn get_block(&self, key: BlockKey, limits: ReadLimits) -> Got<Value>;
    fn get_range(&self, target: Target, offset: u64, len: u64, limits: ReadLimits) -> Got<Value>;
    fn exists(&self, target: Target) -> Got<Existing>;
    fn delete(&self, target: Target) -> u64;
    fn get_many(&self, targets: Vec<Target>, limits: ReadLimits) -> Vec<Got<Value>>;
    fn list(&self, kind: ListKind, prefix: &str, cursor: Vec<u8>, limit: u32) -> ListPage;
    fn lookup_prefix(&self, hashes: Vec<BlockHash>, parts: Vec<PartAsk>) -> u32;
    fn get_blocks(&self, keys: Vec<BlockKey>, leading: bool, limits: ReadLimits) -> Got<Vec<Value>>;
    fn put_blocks(&self, blocks: Vec<BlockToPut>, level: Level) -> Vec<Stored>;
    fn put_sidecar(&self, key: SidecarKey, tip: BlockHash, bytes: impl Into<Payload>, level: Level) -> Stored;
    fn get_sidecar(&self, key: SidecarKey, limits: ReadLimits) -> Got<Value>;
    fn publish_head(&self, name: &str, expected: u64, value: Option<HeadValue>, chain: Vec<BlockHash>) -> u64;
    fn get_head(&self, name: &str) -> Got<Head>;
    fn clear(&self, tier: Tier) -> u64;
    fn restore(&self, keys: Vec<BlockKey>, limits: ReadLimits) -> u32;
    fn stats(&self) -> Payload;
    fn maintain(&self, maintain: Maintain) -> (Vec<u8>, Payload);
}

/// See `bettong_client::ChainRestore`.
pub struct ChainRestore {
    restore: AsyncChainRestore,
    executor: Arc<Executor>,
}

impl ChainRestore {
    /// See `bettong_client::ChainRestore::next_part`.
    pub fn next_part(&mut self) -> Result<Option<ChainPart>, Error> {
        self.executor.block_on(self.restore.next_part())
    }
}

impl Namespace {
    /// See `bettong_client::Namespace::restore_chain`.
    pub fn restore_chain(&self, ask: ChainAsk) -> ChainRestore {
        ChainRestore { restore: self.namespace.restore_chain(ask), executor: self.executor.clone() }
    }

    /// Room for a block that is to be put by `put_block_from`.
    pub fn reserve_put(&self, len: usize) -> Result<PutBuffer, Error> {
        self.namespace.reserve_put(len)
    }

    pub fn id(&self) -> NamespaceId {
        self.namespace.id()
    }

    /// The parts of the namespace's model identity; empty where it was opened without one.
    pub fn parts(&self) -> &[u16] {
        self.namespace.parts()
    }

    /// Closes the namespace. Other clones find it closed.
    pub fn close(self) -> Result<(), Error> {
        self.executor.block_on(self.namespace.close())
    }
}
