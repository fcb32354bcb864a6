//! Object stores that do not obey conditions on writes: one overlooks them, one refuses them. The index is on the node's
//! own disk then, and the prefix is one node's.

use super::rig::{Node, block, config, identity, plain};
use async_trait::async_trait;
use bettong_core::real::RealWorld;
use bettong_core::store::OpenError;
use bettong_core::{Store, StoreParts};
use bettong_wire::request::{GetHead, Level};
use bettong_wire::{ErrorKind, MissReason, ModelIdentity, Request};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A bucket without conditional writes.
#[derive(Debug, Default)]
struct Lacking {
    inner: InMemory,
    /// Conditions are refused; overlooked otherwise.
    refuses: bool,
    /// Writes of identities fail, and are kept to land late.
    holds_identities: AtomicBool,
    held: Mutex<Vec<(Path, PutPayload)>>,
    /// Listings of values fail.
    hides_values: AtomicBool,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lacking")
    }
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "Lacking", source: what.into() }
}

#[async_trait]
impl ObjectStore for Lacking {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if self.refuses && opts.mode != PutMode::Overwrite {
            return Err(Error::NotImplemented { operation: "create".to_owned(), implementer: "Lacking".to_owned() });
        }
        if location.as_ref().contains("/identit") && self.holds_identities.load(Ordering::Relaxed) {
            self.held.lock().push((location.clone(), payload));
            return Err(failure("timed out"));
        }
        opts.mode = PutMode::Overwrite;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.hides_values.load(Ordering::Relaxed) && prefix.is_some_and(|prefix| prefix.as_ref() == "ns") {
            return futures::stream::once(std::future::ready(Err(failure("no listing")))).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A node's own disk: its directory, and the objects of its index.
struct Machine {
    dir: tempfile::TempDir,
    index: Arc<dyn ObjectStore>,
}

impl Machine {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), index: Arc::new(InMemory::new()) }
    }

    async fn store(&self, node_id: &str, objects: &Arc<Lacking>) -> Result<Store<RealWorld>, OpenError> {
        let world = RealWorld::new(self.dir.path().to_owned(), tokio::runtime::Handle::current()).unwrap();
        let config = config(node_id);
        let parts = StoreParts {
            objects: objects.clone(),
            local_index: Some(self.index.clone()),
            memory: config.memory_on_the_heap().unwrap(),
            disk: None,
            conditional_update: true,
            ordered_listing: true,
        };
        Store::open(world, config, parts).await
    }

    async fn node(&self, node_id: &str, objects: &Arc<Lacking>) -> Node {
        Node::of(self.store(node_id, objects).await.unwrap()).await
    }
}

fn of_dtype(kv_dtype: &str) -> ModelIdentity {
    ModelIdentity { kv_dtype: kv_dtype.to_owned(), ..identity() }
}

#[tokio::test]
async fn one_node_has_the_prefix_and_others_are_refused() {
    for refuses in [false, true] {
        let objects = Arc::new(Lacking { refuses, ..Lacking::default() });
        let (first, second) = (Machine::new(), Machine::new());
        let node = first.node("a", &objects).await;
        node.put(block(1, 0), Level::Object, b"kept").await.unwrap();
        let refused = second.store("b", &objects).await;
        assert!(matches!(&refused, Err(OpenError::OtherOwner { owner }) if owner == "a"), "{:?}", refused.err());
        let heads = node.ok(Request::GetHead(GetHead { ns: node.ns, name: "x".to_owned() }), Vec::new()).await;
        let error = heads.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("only if it is absent"), "{error}");
        node.stop().await;

        let refused = second.store("b", &objects).await;
        assert!(matches!(refused, Err(OpenError::OtherOwner { .. })), "nor while the owner is away");
        let node = first.node("a", &objects).await;
        assert_eq!(node.get(block(1, 0)).await, Ok(b"kept".to_vec()));
        node.stop().await;
    }
}

#[tokio::test]
async fn a_claim_of_another_start_is_respected_until_it_is_withdrawn() {
    let objects = Arc::new(Lacking::default());
    let (claim, own) = (Path::from("owner/claim/b.0000000000000001"), Path::from("owner/claim/a.0000000000000001"));
    for path in [&claim, &own] {
        objects.put(path, "bettong".into()).await.unwrap();
    }
    let machine = Machine::new();
    let contended = machine.store("a", &objects).await;
    let named = |error: &OpenError| matches!(error, OpenError::Contended { other, .. } if other == "b");
    assert!(contended.as_ref().err().is_some_and(named), "{:?}", contended.err());
    objects.put(&Path::from("owner/withdrawn/b.0000000000000001"), "bettong".into()).await.unwrap();
    machine.node("a", &objects).await.stop().await;
    // A record of an owner that lands late, of a claim that its own node has given up, makes nobody the owner.
    objects.put(&Path::from("owner/held/b.0000000000000001"), "bettong".into()).await.unwrap();
    machine.node("a", &objects).await.stop().await;
}

/// Bug: with one name for all writes of an identity, one that landed late replaced the identity under which blocks had
/// been put since. Consequence: blocks of one model were hits for another.
#[tokio::test]
async fn an_identity_that_lands_late_changes_nothing() {
    let (objects, machine) = (Arc::new(Lacking::default()), Machine::new());
    let node = machine.node("a", &objects).await;
    objects.holds_identities.store(true, Ordering::Relaxed);
    assert_eq!(node.open("late", Some(of_dtype("fp8"))).await.unwrap_err().kind, ErrorKind::Retry);
    let other = node.open("late", Some(of_dtype("bf16"))).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::Retry, "this life has decided, and cannot write it down: {other}");
    objects.holds_identities.store(false, Ordering::Relaxed);
    node.stop().await;

    let node = machine.node("a", &objects).await;
    node.open("late", Some(of_dtype("bf16"))).await.unwrap();
    node.stop().await;
    let held = std::mem::take(&mut *objects.held.lock());
    for (path, payload) in held {
        objects.put(&path, payload).await.unwrap();
    }
    let node = machine.node("a", &objects).await;
    node.open("late", Some(of_dtype("bf16"))).await.unwrap();
    let refused = node.open("late", Some(of_dtype("fp8"))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::IdentityMismatch);
    node.stop().await;
}

/// Bug: an index on the local disk that had gone back in time was taken for the newest. Consequence: what had been
/// acknowledged since was absent, and what had been deleted since was there, or corrupt.
#[tokio::test]
async fn a_local_index_that_went_back_in_time_gives_way_to_the_bucket() {
    let objects = Arc::new(Lacking::default());
    let index = Arc::new(InMemory::new());
    let mut machine = Machine { index: index.clone(), ..Machine::new() };
    let node = machine.node("a", &objects).await;
    node.put(block(1, 0), Level::Object, b"old").await.unwrap();
    node.put(plain("gone"), Level::Object, b"first").await.unwrap();
    node.stop().await;
    let before = index.fork();

    let node = machine.node("a", &objects).await;
    node.put(block(2, 0), Level::Object, b"new").await.unwrap();
    node.put(plain("gone"), Level::Object, b"second").await.unwrap();
    let value = async || -> Vec<ObjectMeta> { objects.list(Some(&Path::from("ns"))).try_collect().await.unwrap() };
    let of_plain = |object: &ObjectMeta| object.location.as_ref().contains("/kv/");
    node.until(async |_| value().await.iter().filter(|object| of_plain(object)).count() == 1).await;
    node.delete(plain("gone")).await;
    node.stop().await;

    machine.index = Arc::new(before);
    objects.hides_values.store(true, Ordering::Relaxed);
    assert!(machine.store("a", &objects).await.is_err(), "the bucket cannot be listed");
    objects.hides_values.store(false, Ordering::Relaxed);
    let node = machine.node("a", &objects).await;
    assert_eq!(node.get(block(1, 0)).await, Ok(b"old".to_vec()));
    assert_eq!(node.get(block(2, 0)).await, Ok(b"new".to_vec()));
    assert_eq!(node.get(plain("gone")).await, Err(MissReason::Absent));
    node.stop().await;
}
