//! Multipart uploads: the parts wait at the caller, the object appears whole at `complete`.

use super::SimObjectStore;
use async_trait::async_trait;
use bytes::BytesMut;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, ObjectStore, PutOptions, PutPayload, PutResult, Result, UploadPart};

#[derive(Debug)]
pub struct SimUpload {
    store: SimObjectStore,
    location: Path,
    attributes: Attributes,
    bytes: BytesMut,
}

impl SimUpload {
    pub fn new(store: SimObjectStore, location: Path, attributes: Attributes) -> Self {
        Self { store, location, attributes, bytes: BytesMut::new() }
    }
}

#[async_trait]
impl MultipartUpload for SimUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        for chunk in &data {
            self.bytes.extend_from_slice(chunk);
        }
        let (service, caller) = (self.store.service.clone(), self.store.caller.clone());
        let location = self.location.to_string();
        Box::pin(async move { service.part(&caller, location).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let attributes = std::mem::take(&mut self.attributes);
        self.store.put_opts(&self.location, bytes.into(), PutOptions { attributes, ..PutOptions::default() }).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.bytes.clear();
        Ok(())
    }
}
