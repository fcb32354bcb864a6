//! A folder as an object store.

use super::disk::blocking;
use crate::objects::BytesOnly;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

/// Objects in the files of one folder, laid out as `LocalFileSystem` does. Every write is synced, file and directory:
/// without that an acknowledged block could be lost at a power cut.
///
/// Where only the bytes are asked for (`BytesOnly`), and no time and tag with them, they are read in one visit to a thread
/// that may block, into memory that was not cleared first. `LocalFileSystem` makes two visits, one to open the file, and
/// clears: a quarter of a cold get of 1 MiB.
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
    async fn bytes_only(&self, location: &Path, options: &GetOptions) -> Result<Option<GetResult>> {
        let Some(&BytesOnly { max }) = options.extensions.get() else { return Ok(None) };
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
            _ => return Ok(None),
        };
        let path = self.files.path_to_filesystem(location)?;
        let place = path.clone();
        let piece = blocking(move || Piece::read(&path, range.as_ref(), max)).await;
        let Some(piece) = piece.map_err(|error| failed(error, &place, location))? else { return Ok(None) };
        let Piece { bytes, range, size } = piece;
        let last_modified = DateTime::UNIX_EPOCH;
        let meta = ObjectMeta { location: location.clone(), last_modified, size, e_tag: None, version: None };
        let payload = GetResultPayload::Stream(stream::once(std::future::ready(Ok(bytes))).boxed());
        Ok(Some(GetResult {
            payload,
            meta,
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        }))
    }
}

fn failed(error: io::Error, path: &std::path::Path, location: &Path) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::NotFound { path: location.to_string(), source: error.into() };
    }
    Error::Generic { store: "folder", source: format!("{}: {error}", path.display()).into() }
}

/// What one visit brings back.
struct Piece {
    bytes: Bytes,
    /// Where in the file they begin and end.
    range: Range<u64>,
    /// Of the whole file.
    size: u64,
}

impl Piece {
    /// `None` where the file is longer than `max`, has no byte of the range, is no file, or is cut meanwhile.
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
        let is_whole = bytes.len() as u64 == len(&range);
        Ok(is_whole.then(|| Self { bytes: bytes.into(), range, size }))
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.bytes_only(location, &options).await? {
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

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what is in the way is made by hand")]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    fn bytes_only(range: Option<Range<u64>>, max: u64) -> GetOptions {
        BytesOnly::of(range, max)
    }

    #[tokio::test]
    async fn only_what_is_no_longer_than_was_said_is_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let path = Path::from("a/object");
        let object: Vec<u8> = (0..1000_u32).map(|i| i as u8).collect();
        folder.put(&path, object.clone().into()).await.unwrap();
        for (range, max, at_once) in
            [(None, 1000, true), (None, 999, false), (Some(990..1010), 10, true), (Some(0..1000), 10, false)]
        {
            let read = folder.get_opts(&path, bytes_only(range.clone(), max)).await.unwrap();
            assert_eq!(matches!(read.payload, GetResultPayload::Stream(_)), at_once, "{range:?}, at most {max}");
            let there = range.map_or(0..1000, |range| range.start as usize..1000);
            assert_eq!(read.bytes().await.unwrap(), object[there]);
        }
        let more_than_bytes = GetOptions { head: true, ..bytes_only(None, 1000) };
        assert!(folder.get_opts(&path, more_than_bytes).await.unwrap().meta.e_tag.is_some());
    }

    #[tokio::test]
    async fn what_is_no_object_is_called_what_the_library_calls_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        for absent in ["folder", "nothing", "no/where"] {
            let error = folder.get_opts(&Path::from(absent), bytes_only(None, 10)).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{absent}: {error}");
            let error = folder.files.get(&Path::from(absent)).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{absent}: {error}");
        }
        std::fs::write(dir.path().join("file"), "in the way").unwrap();
        let error = folder.get_opts(&Path::from("file/object"), bytes_only(None, 10)).await.unwrap_err();
        assert!(matches!(error, Error::Generic { .. }) && error.to_string().contains("file/object"), "{error}");
    }
}
