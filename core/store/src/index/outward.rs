//! The object store as SlateDB sees it: every call leaves SlateDB's executor for this world and wakes it on return.

use crate::objects::stalled;
use crate::race::timeout;
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
use std::time::Duration;

/// SlateDB bounds its attempts and not their time: one request that hangs would hold the index for ever.
const REQUEST_MAX: Duration = Duration::from_secs(15);

pub struct OutwardStore<W: World> {
    world: W,
    inner: Arc<dyn ObjectStore>,
}

impl<W: World> OutwardStore<W> {
    pub fn new(world: W, inner: Arc<dyn ObjectStore>) -> Self {
        Self { world, inner }
    }

    fn outward<T: Send + 'static>(&self, items: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
        outward(self.world.clone(), items).boxed()
    }
}

/// Runs one request in this world, for a bounded time.
async fn request<W: World, T>(world: &W, request: impl Future<Output = Result<T>> + Send) -> Result<T>
where
    T: Send,
{
    let bounded = async move { timeout(world, REQUEST_MAX, request).await };
    world.leave(bounded).await.unwrap_or_else(|| Err(stalled(REQUEST_MAX)))
}

fn outward<W: World, T: Send + 'static>(
    world: W,
    items: BoxStream<'static, Result<T>>,
) -> impl Stream<Item = Result<T>> + Send {
    stream::unfold(Some((world, items)), |state| async move {
        let (world, mut items) = state?;
        let next = async { timeout(&world, REQUEST_MAX, items.next()).await };
        match world.leave(next).await {
            Some(item) => item.map(|item| (item, Some((world, items)))),
            None => Some((Err(stalled(REQUEST_MAX)), None)),
        }
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
        request(&self.world, self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = request(&self.world, self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(OutwardUpload { world: self.world.clone(), inner: upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut result = request(&self.world, self.inner.get_opts(location, options)).await?;
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
        request(&self.world, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        request(&self.world, self.inner.copy_opts(from, to, options)).await
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
        Box::pin(async move { request(&world, part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        request(&self.world, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        request(&self.world, self.inner.abort()).await
    }
}
