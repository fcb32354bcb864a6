//! The store against the reference model: random histories with restarts, on tiers as small as they get.

use arbitrary::Unstructured;
use bettong_core::conformance::service::{self, Operation, PARTS, Subject};
use bettong_core::real::RealWorld;
use bettong_core::service::handler::{PROTOCOL_VERSION, StoreService};
use bettong_core::tiers::disk::DiskConfig;
use bettong_core::{Deadline, Peer, Rights, Service, Store, StoreConfig, StoreParts};
use bettong_wire::request::{NsHandle, Open};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{ModelIdentity, Payload, Request, Response};
use object_store::memory::InMemory;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest history: what a bug needs is a few steps that meet, not many.
const OPERATIONS_MAX: usize = 40;
const PAYLOAD_BYTES_MAX: u64 = 8 << 10;
/// Every key's largest value fits: what memory evicts by size is not in the model.
const MEMORY_BYTES: u64 = 1 << 20;
const CALL_MAX: Duration = Duration::from_secs(20);
const CLOSE_MAX: Duration = Duration::from_secs(10);

struct Embedded<'a> {
    root: &'a Path,
    objects: Arc<InMemory>,
    service: StoreService<RealWorld>,
    peer: Peer,
    ns: NsHandle,
}

/// Reads `data` as a history and runs it.
///
/// # Panics
/// Where an answer is not the model's: that is what the fuzzer looks for.
pub fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let operations: Vec<Operation> =
        data.arbitrary_iter().into_iter().flatten().take(OPERATIONS_MAX).filter_map(Result::ok).collect();
    let root = tempfile::tempdir().expect("a directory for the store");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let verdict = runtime.block_on(async {
        let mut subject = Embedded::open(root.path(), Arc::new(InMemory::new())).await;
        let verdict = service::run(&mut subject, &operations).await;
        subject.service.store().close(CLOSE_MAX).await;
        verdict
    });
    assert_eq!(verdict, Ok(()));
}

impl<'a> Embedded<'a> {
    async fn open(root: &'a Path, objects: Arc<InMemory>) -> Self {
        let config = StoreConfig {
            memory_bytes: MEMORY_BYTES,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            ..StoreConfig::new("fuzz")
        };
        let disk = DiskConfig {
            dir: root.join("cache"),
            bytes: 256 << 10,
            region_bytes: 64 << 10,
            write_buffer_bytes: 64 << 10,
            open_max: Duration::MAX,
        };
        let parts = StoreParts {
            objects: objects.clone(),
            local_index: None,
            memory: config.memory_on_the_heap().unwrap(),
            disk: Some(disk),
            conditional_update: true,
            ordered_listing: true,
        };
        let world = RealWorld::new(root.to_owned(), tokio::runtime::Handle::current()).expect("a world");
        let service = StoreService::new(Store::open(world, config, parts).await.expect("an open store"));
        let peer = Peer::new("tenant", Rights { admin: true }, "fuzz");
        let mut subject = Self { root, objects, service, peer, ns: NsHandle(0) };
        subject.ns = subject.open_namespace().await;
        subject
    }

    async fn open_namespace(&mut self) -> NsHandle {
        let identity = ModelIdentity {
            model: "tiny".to_owned(),
            kv_dtype: "bf16".to_owned(),
            layout: "NHD".to_owned(),
            block_tokens: 16,
            parts: PARTS.to_vec(),
            ..ModelIdentity::default()
        };
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "tenant".to_owned(),
            token: String::new(),
            namespace: "fuzz".to_owned(),
            identity: Some(identity),
            payload_crc: false,
        };
        match self.call(Request::open(open), Vec::new()).await.outcome {
            Outcome::Ok(Answer::Opened(opened)) => opened.ns,
            other => panic!("the namespace does not open: {other:?}"),
        }
    }
}

impl Subject for Embedded<'_> {
    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        let deadline = Deadline(self.service.now().plus(CALL_MAX));
        self.service.call(&self.peer, request, body, deadline).await
    }

    async fn restart(&mut self) {
        self.service.store().close(CLOSE_MAX).await;
        *self = Self::open(self.root, self.objects.clone()).await;
    }

    fn namespace(&self) -> NsHandle {
        self.ns
    }
}
