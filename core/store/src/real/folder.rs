//! A folder as an object store.

use crate::objects::BytesOnly;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::time::SystemTime;

/// Objects in the files of one folder, laid out as `LocalFileSystem` does. Every write is synced, file and directory:
/// without that an acknowledged block could be lost at a power cut.
///
/// Where only the bytes are asked for (`BytesOnly`), they are read in one visit to a thread that may block, into memory
/// that was not cleared first. `LocalFileSystem` makes two visits, one to open the file, and clears: a quarter of a
/// cold get of 1 MiB.
#[derive(Debug, Clone)]
pub struct Folder {
    files: LocalFileSystem,
}

impl Folder {
    /// # Errors
    /// The folder does not exist, or its path cannot be resolved.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        Ok(Self { files: LocalFileSystem::new_with_prefix(path)?.with_fsync(true) })
    }

    /// The bytes, or `None` where there is anything to say but them: `LocalFileSystem` says it.
    async fn bytes_only(&self, location: &Path, options: &GetOptions) -> Option<GetResult> {
        let &BytesOnly { max } = options.extensions.get()?;
        let range = match options {
            GetOptions {
                if_match: None,
                if_none_match: None,
                if_modified_since: None,
                if_unmodified_since: None,
                version: None,
                head: false,
                range: None | Some(GetRange::Bounded(_)),
                extensions: _,
            } => options.range.clone(),
            _ => return None,
        };
        let path = self.files.path_to_filesystem(location).ok()?;
        #[expect(clippy::disallowed_methods, reason = "this is the real world's object store")]
        let visit = tokio::task::spawn_blocking(move || Piece::read(&path, range.as_ref(), max));
        let Piece { bytes, range, size, modified } = visit.await.ok()?.ok()??;
        let meta =
            ObjectMeta { location: location.clone(), last_modified: modified.into(), size, e_tag: None, version: None };
        let payload = GetResultPayload::Stream(stream::once(std::future::ready(Ok(bytes))).boxed());
        Some(GetResult { payload, meta, range, attributes: Attributes::default(), extensions: Extensions::default() })
    }
}

/// What one visit brings back.
struct Piece {
    bytes: Bytes,
    /// Where in the file they begin and end.
    range: Range<u64>,
    /// Of the whole file.
    size: u64,
    modified: SystemTime,
}

impl Piece {
    /// `None` where the file is longer than `max`, or has no byte of the range.
    fn read(path: &std::path::Path, range: Option<&GetRange>, max: u64) -> io::Result<Option<Self>> {
        #[expect(clippy::disallowed_methods, reason = "this is the real world's object store")]
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let range = match range {
            Some(range) => range.as_range(size).ok(),
            None => Some(0..size),
        };
        let len = |range: &Range<u64>| range.end - range.start;
        let Some(range) = range.filter(|range| metadata.is_file() && len(range) <= max) else { return Ok(None) };
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start))?;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(usize::try_from(len(&range)).map_err(io::Error::other)?)?;
        file.take(len(&range)).read_to_end(&mut bytes)?;
        let modified = metadata.modified()?;
        let whole = bytes.len() as u64 == len(&range);
        Ok(whole.then(|| Self { bytes: bytes.into(), range, size, modified }))
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.bytes_only(location, &options).await {
            Some(result) => Ok(result),
            None => self.files.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn only_what_is_no_longer_than_was_said_is_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let path = Path::from("a/object");
        folder.put(&path, vec![7; 1000].into()).await.unwrap();
        for (range, max, at_once) in
            [(None, 1000, true), (None, 999, false), (Some(990..1010), 10, true), (Some(0..1000), 10, false)]
        {
            let read = folder.get_opts(&path, BytesOnly::of(range.clone(), max)).await.unwrap();
            assert_eq!(matches!(read.payload, GetResultPayload::Stream(_)), at_once, "{range:?}, at most {max}");
        }
        let more_than_bytes = GetOptions { head: true, ..BytesOnly::of(None, 1000) };
        assert!(folder.get_opts(&path, more_than_bytes).await.unwrap().meta.e_tag.is_some());
    }
}
