//! A bucket in memory and nodes on real directories around it.

use bettong_core::real::RealWorld;
use bettong_core::service::handler::{PROTOCOL_VERSION, StoreService};
use bettong_core::tiers::disk::DiskConfig;
use bettong_core::{Deadline, Peer, Rights, Service, Store, StoreConfig, StoreParts, World};
use bettong_shm::pool::SlotPool;
use bettong_wire::request::{Clear, Delete, Exists, Get, Level, NsHandle, Open, Put, ReadLimits, Target, Tier};
use bettong_wire::response::{Answer, Opened, Outcome};
use bettong_wire::{
    BlockHash, BlockKey, MissReason, ModelIdentity, NamespaceId, Part, Payload, Request, Response, ServiceError,
};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as ObjectResult,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub struct Bucket {
    pub objects: Arc<InMemory>,
    gate: Arc<Gate>,
    root: tempfile::TempDir,
}

/// The bucket as nodes see it.
#[derive(Debug)]
struct Gate {
    objects: Arc<InMemory>,
    shut: AtomicBool,
    index_shut: AtomicBool,
    /// Probes that were written.
    probes: AtomicU64,
    /// Reads of a part of a pack wait while it is set, and are done after.
    holds_parts: watch::Sender<bool>,
    /// Reads of a namespace's identity wait while it is the one set, and are done after.
    holds_identity: watch::Sender<Option<NamespaceId>>,
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> ObjectResult<PutResult> {
        self.probes.fetch_add(u64::from(location.as_ref().starts_with("probe/")), Ordering::Relaxed);
        let is_payload = self.shut.load(Ordering::Relaxed) && location.as_ref().starts_with("ns/");
        let is_index = self.index_shut.load(Ordering::Relaxed) && location.as_ref().contains("/index/");
        if is_payload || is_index {
            return Err(object_store::Error::Generic { store: "gate", source: "shut".into() });
        }
        self.objects.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> ObjectResult<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> ObjectResult<GetResult> {
        if options.range.is_some() && location.as_ref().contains("/pack/") {
            let _ = self.holds_parts.subscribe().wait_for(|holds| !holds).await;
        }
        let held = |id: &Option<NamespaceId>| {
            let path = location.as_ref();
            id.is_some_and(|id| path.contains(&id.to_hex()) && path.ends_with("/identity"))
        };
        let _ = self.holds_identity.subscribe().wait_for(|id| !held(id)).await;
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, ObjectResult<Path>>,
    ) -> BoxStream<'static, ObjectResult<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, ObjectResult<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ObjectResult<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ObjectResult<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

pub struct Node<W: World = RealWorld> {
    pub service: StoreService<W>,
    pub peer: Peer,
    pub ns: NsHandle,
}

pub fn identity() -> ModelIdentity {
    ModelIdentity {
        model: "tiny".to_owned(),
        kv_dtype: "bf16".to_owned(),
        layout: "NHD".to_owned(),
        block_tokens: 16,
        parts: vec![0, 1],
        ..ModelIdentity::default()
    }
}

pub fn config(node_id: &str) -> StoreConfig {
    StoreConfig {
        memory_bytes: 8 << 20,
        payload_bytes_max: 1 << 20,
        peer_refresh: Duration::from_millis(50),
        object_backoff: Duration::from_millis(1),
        ..StoreConfig::new(node_id)
    }
}

impl Bucket {
    pub fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let gate = Arc::new(Gate {
            objects: objects.clone(),
            shut: AtomicBool::new(false),
            index_shut: AtomicBool::new(false),
            probes: AtomicU64::new(0),
            holds_parts: watch::Sender::new(false),
            holds_identity: watch::Sender::new(None),
        });
        Self { objects, gate, root: tempfile::tempdir().unwrap() }
    }

    /// Lets no payload into the bucket, or lets them in again.
    pub fn refuse_puts(&self, shut: bool) {
        self.gate.shut.store(shut, Ordering::Relaxed);
    }

    /// Lets no index write into the bucket, or lets them in again.
    pub fn refuse_index_writes(&self, shut: bool) {
        self.gate.index_shut.store(shut, Ordering::Relaxed);
    }

    /// Probes that nodes have written so far.
    pub fn probes(&self) -> u64 {
        self.gate.probes.load(Ordering::Relaxed)
    }

    /// The objects under `prefix`.
    pub async fn paths(&self, prefix: &str) -> Vec<Path> {
        let list = self.objects.list(Some(&Path::from(prefix)));
        list.map_ok(|object| object.location).try_collect().await.unwrap()
    }

    pub fn dir(&self, node_id: &str) -> PathBuf {
        self.root.path().join(node_id)
    }

    /// Empties the disk tier of a node that is not open.
    pub fn forget_cache(&self, node_id: &str) {
        std::fs::remove_dir_all(self.dir(node_id).join("cache")).unwrap();
    }

    /// Lets no read of a part of a pack begin, or lets those that wait go on.
    pub fn hold_parts(&self, hold: bool) {
        self.gate.holds_parts.send_replace(hold);
    }

    /// Lets no read of this namespace's identity begin; `None` lets those that wait go on.
    pub fn hold_identity(&self, id: Option<NamespaceId>) {
        self.gate.holds_identity.send_replace(id);
    }

    /// The world of a node: its directory is made where it is missing.
    pub fn world(&self, node_id: &str) -> RealWorld {
        let dir = self.dir(node_id);
        #[expect(clippy::disallowed_methods, reason = "a test makes its own folders")]
        std::fs::create_dir_all(&dir).unwrap();
        RealWorld::new(dir, tokio::runtime::Handle::current()).unwrap()
    }

    pub async fn store(&self, config: StoreConfig) -> Result<Store<RealWorld>, bettong_core::store::OpenError> {
        self.store_of(self.world(&config.node_id), config, Duration::MAX).await
    }

    /// The same, in `world`, where the disk tier has so long to open.
    pub async fn store_of<W: World>(
        &self,
        world: W,
        config: StoreConfig,
        open_max: Duration,
    ) -> Result<Store<W>, bettong_core::store::OpenError> {
        let memory = config.memory_on_the_heap().unwrap();
        self.store_in(memory, world, config, open_max).await
    }

    /// The same, in a pool that is there.
    pub async fn store_in<W: World>(
        &self,
        memory: SlotPool,
        world: W,
        config: StoreConfig,
        open_max: Duration,
    ) -> Result<Store<W>, bettong_core::store::OpenError> {
        let dir = self.root.path().join(&config.node_id).join("cache");
        let disk = DiskConfig { dir, bytes: 16 << 20, region_bytes: 2 << 20, write_buffer_bytes: 4 << 20, open_max };
        let parts = StoreParts {
            objects: self.gate.clone(),
            local_index: None,
            memory,
            disk: Some(disk),
            conditional_update: true,
            ordered_listing: true,
        };
        Store::open(world, config, parts).await
    }

    pub async fn node(&self, node_id: &str) -> Node {
        self.node_with(config(node_id)).await
    }

    pub async fn node_with(&self, config: StoreConfig) -> Node {
        Node::of(self.store(config).await.unwrap()).await
    }
}

impl<W: World> Node<W> {
    pub async fn of(store: Store<W>) -> Self {
        let service = StoreService::new(store);
        let peer = Peer::new("tenant", Rights { admin: true }, "test");
        let mut node = Self { service, peer, ns: NsHandle(0) };
        node.ns = node.open("chat", Some(identity())).await.unwrap().ns;
        node
    }

    pub async fn call(&self, request: Request, body: Vec<Payload>) -> Response {
        let deadline = Deadline(self.service.now().plus(Duration::from_secs(20)));
        self.service.call(&self.peer, request, body, deadline).await
    }

    pub async fn ok(&self, request: Request, body: Vec<Payload>) -> Result<Answer, ServiceError> {
        match self.call(request, body).await.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(error) => Err(error),
            Outcome::Miss(reason) => panic!("a miss: {reason:?}"),
        }
    }

    pub async fn open(&self, namespace: &str, identity: Option<ModelIdentity>) -> Result<Opened, ServiceError> {
        self.open_within(namespace, identity, Duration::from_secs(20)).await
    }

    pub async fn open_within(
        &self,
        namespace: &str,
        identity: Option<ModelIdentity>,
        bound: Duration,
    ) -> Result<Opened, ServiceError> {
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "tenant".to_owned(),
            token: String::new(),
            namespace: namespace.to_owned(),
            identity,
            payload_crc: false,
        };
        let deadline = Deadline(self.service.now().plus(bound));
        match self.service.call(&self.peer, Request::open(open), Vec::new(), deadline).await.outcome {
            Outcome::Ok(Answer::Opened(opened)) => Ok(opened),
            Outcome::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub async fn put(&self, target: Target, level: Level, bytes: &[u8]) -> Result<Answer, ServiceError> {
        self.put_ttl(target, level, bytes, 0).await
    }

    pub async fn put_ttl(
        &self,
        target: Target,
        level: Level,
        bytes: &[u8],
        ttl_ms: u64,
    ) -> Result<Answer, ServiceError> {
        let len = bytes.len() as u64;
        let put = Put { ns: self.ns, target, level, ttl_ms, parent: None, sequence: 0, len };
        self.ok(Request::Put(put), vec![bytes.to_vec().into()]).await
    }

    pub async fn get(&self, target: Target) -> Result<Vec<u8>, MissReason> {
        self.get_range(target, None).await
    }

    pub async fn get_range(&self, target: Target, range: Option<(u64, u64)>) -> Result<Vec<u8>, MissReason> {
        let get = Get { ns: self.ns, target, range, limits: ReadLimits::default() };
        let response = self.call(Request::Get(get), Vec::new()).await;
        match response.outcome {
            Outcome::Ok(Answer::Hit(_)) => Ok(response.payloads[0].as_ref().to_vec()),
            Outcome::Miss(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    pub async fn exists(&self, target: Target) -> bool {
        let response = self.call(Request::Exists(Exists { ns: self.ns, target }), Vec::new()).await;
        matches!(response.outcome, Outcome::Ok(Answer::Exists { .. }))
    }

    pub async fn delete(&self, target: Target) -> u64 {
        match self.ok(Request::Delete(Delete { ns: self.ns, target }), Vec::new()).await {
            Ok(Answer::Removed { count }) => count,
            other => panic!("{other:?}"),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test of the real world waits in real time")]
    /// Waits, in steps of one refresh, until `done` says so.
    pub async fn until(&self, mut done: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..400 {
            if done(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it did not come to pass within 10 s");
    }

    /// Empties a tier of this host.
    pub async fn clear(&self, tier: Tier) {
        self.ok(Request::Clear(Clear { ns: self.ns, tier }), Vec::new()).await.unwrap();
    }

    pub async fn stop(self) {
        assert!(self.service.store().close(Duration::from_secs(10)).await);
    }
}

pub fn plain(key: &str) -> Target {
    Target::Plain(key.to_owned())
}

pub fn block(n: u8, part: u16) -> Target {
    Target::Block(BlockKey { hash: BlockHash([n; 32]), part: Part(part) })
}
