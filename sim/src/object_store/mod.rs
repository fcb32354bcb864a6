//! The object store of the simulation: a service node of its own, so that an operation in flight lands even when its
//! caller dies.
//!
//! What it does not verify: request signing, pagination by token, retries inside an HTTP client.

mod bucket;
mod listing;
mod service;
mod upload;

pub use bucket::{Bucket, Cause, Conditions, Effect, EffectKind, Object, members};
pub use service::{CLIENT_TIMEOUT, Service};

use crate::faults::{FaultKey, Strike};
use async_trait::async_trait;
use bucket::{STORE, Write};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::sync::Arc;

/// The bucket as one node sees it.
#[derive(Debug, Clone)]
pub struct SimObjectStore {
    service: Arc<Service>,
    caller: String,
    /// Where its listings do not come in the order of names.
    disorder: Option<Disorder>,
}

/// In which order listings come instead.
#[derive(Debug, Clone)]
struct Disorder {
    /// Each listing's order is drawn from it, and from when it begins.
    salt: u64,
    /// The fault that did it.
    fault: FaultKey,
}

impl SimObjectStore {
    pub fn new(service: Arc<Service>, caller: &str) -> Self {
        Self { service, caller: caller.to_owned(), disorder: None }
    }

    /// The same bucket, listed in another order each time, as a file system lists.
    #[must_use]
    pub fn unordered(self, strike: &Strike) -> Self {
        Self { disorder: Some(Disorder { salt: strike.choice, fault: strike.key.clone() }), ..self }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

impl std::fmt::Display for SimObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for SimObjectStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let write = Write { bytes: payload.into(), mode: opts.mode, attributes: opts.attributes };
        let etag = self.service.put(&self.caller, location.to_string(), write).await?;
        Ok(PutResult { e_tag: Some(etag), version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(upload::SimUpload::new(self.clone(), location.clone(), opts.attributes)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.service.get(&self.caller, location.to_string(), options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.service.delete(&store.caller, location.to_string()).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        listing::list(self, prefix.cloned(), None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        listing::list(self, prefix.cloned(), Some(offset.to_string()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        listing::list_with_delimiter(self, prefix.cloned()).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.service.copy(&self.caller, from.to_string(), to.to_string(), options.mode).await
    }
}
