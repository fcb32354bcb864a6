//! The object store as SlateDB sees it: every call leaves SlateDB's executor for this world and wakes it on return.

use crate::world::World;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::sync::Arc;

pub struct OutwardStore<W: World> {
    world: W,
    inner: Arc<dyn ObjectStore>,
}

impl<W: World> OutwardStore<W> {
    pub fn new(world: W, inner: Arc<dyn ObjectStore>) -> Self {
        Self { world, inner }
    }

    fn outward<T: Send + 'static>(&self, items: BoxStream<'static, T>) -> BoxStream<'static, T> {
        outward(self.world.clone(), items).boxed()
    }
}

fn outward<W: World, T: Send + 'static>(world: W, items: BoxStream<'static, T>) -> impl Stream<Item = T> + Send {
    stream::unfold((world, items), |(world, mut items)| async move {
        let item = world.leave(items.next()).await;
        item.map(|item| (item, (world, items)))
    })
}

impl<W: World> std::fmt::Debug for OutwardStore<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl<W: World> std::fmt::Display for OutwardStore<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl<W: World> ObjectStore for OutwardStore<W> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.world.leave(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.world.leave(self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(OutwardUpload { world: self.world.clone(), inner: upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = self.world.leave(self.inner.get_opts(location, options)).await?;
        if let GetResultPayload::Stream(items) = result.payload {
            result.payload = GetResultPayload::Stream(self.outward(items));
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.outward(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.outward(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.outward(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.world.leave(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.world.leave(self.inner.copy_opts(from, to, options)).await
    }
}

struct OutwardUpload<W: World> {
    world: W,
    inner: Box<dyn MultipartUpload>,
}

impl<W: World> std::fmt::Debug for OutwardUpload<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl<W: World> MultipartUpload for OutwardUpload<W> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (world, part) = (self.world.clone(), self.inner.put_part(data));
        Box::pin(async move { world.leave(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.world.leave(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.world.leave(self.inner.abort()).await
    }
}
