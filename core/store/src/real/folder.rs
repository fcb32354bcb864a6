//! A folder as an object store, for objects whose names are used once.
//!
//! A file store stages what it writes under another name, so that nobody ever sees a part under the right one, and pays
//! for it with a second commit of the file system's journal. An object that is `NamedOnce` needs no staging: it is
//! written where it belongs. A crash can leave a part of it behind, which nothing names and a scrub removes.
//!
//! A file that is there already is never touched: what a late attempt found there may have been acknowledged since. It is
//! replaced as a whole then, by the store that stages.

use super::disk::{blocking, write_all};
use crate::objects::NamedOnce;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path as Name;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes objects that are `NamedOnce` in place; everything else is `staged`'s work.
#[derive(Debug)]
pub struct Folder {
    staged: Arc<dyn ObjectStore>,
    root: PathBuf,
}

impl Folder {
    /// `staged` is a file store over the same folder `root` that syncs what it writes.
    pub fn new(staged: Arc<dyn ObjectStore>, root: PathBuf) -> Self {
        Self { staged, root }
    }

    /// Where the object belongs, if its name is the name of a file as it stands.
    fn path(&self, name: &Name) -> Option<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        name.as_ref().bytes().all(plain).then(|| self.root.join(name.as_ref()))
    }
}

/// Writes and syncs a new file, and the folder that names it. `Ok(false)` where there is none to write.
#[expect(clippy::disallowed_methods, reason = "the real form of a folder")]
fn write_new(path: &Path, pieces: &[Bytes]) -> io::Result<bool> {
    // A name that is taken, a folder that is not there: staging knows what to do.
    let Ok(file) = File::create_new(path) else { return Ok(false) };
    let written = write_all(&file, pieces).and_then(|()| file.sync_all());
    if written.is_err() {
        // By its handle: what has the name now may be somebody else's. An empty file is nothing to miss.
        let _ = file.set_len(0);
        return written.map(|()| false);
    }
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()).map(|()| true)
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.staged.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Name, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = opts.extensions.get::<NamedOnce>().and_then(|_| self.path(location));
        if let Some(path) = path {
            let (to, pieces) = (path.clone(), payload.as_ref().to_vec());
            let written = blocking(move || write_new(&to, &pieces)).await;
            let failed = |error: io::Error| Error::Generic {
                store: "Folder",
                source: format!("cannot write {}: {error}", path.display()).into(),
            };
            if written.map_err(failed)? {
                return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
            }
        }
        self.staged.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Name, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.staged.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Name, options: GetOptions) -> Result<GetResult> {
        self.staged.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Name>>) -> BoxStream<'static, Result<Name>> {
        self.staged.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.staged.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Name>, offset: &Name) -> BoxStream<'static, Result<ObjectMeta>> {
        self.staged.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> Result<ListResult> {
        self.staged.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Name, to: &Name, options: CopyOptions) -> Result<()> {
        self.staged.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the files themselves")]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::local::LocalFileSystem;
    use std::os::unix::fs::MetadataExt;

    fn folder(root: &Path) -> Folder {
        let staged = LocalFileSystem::new_with_prefix(root).unwrap().with_fsync(true);
        Folder::new(Arc::new(staged), root.to_owned())
    }

    async fn put(folder: &Folder, name: &str, pieces: &[&'static [u8]]) -> Result<PutResult> {
        let payload: PutPayload = pieces.iter().map(|piece| Bytes::from_static(piece)).collect();
        folder.put_opts(&Name::from(name), payload, NamedOnce::options()).await
    }

    async fn read(folder: &Folder, name: &str) -> Bytes {
        folder.get(&Name::from(name)).await.unwrap().bytes().await.unwrap()
    }

    #[tokio::test]
    async fn what_is_put_is_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        for name in ["a", "in/folders/that/are/new", "in/folders/that/are/new.2", "with space"] {
            put(&folder, name, &[b"he", b"", b"llo"]).await.unwrap();
            assert_eq!(read(&folder, name).await, "hello", "{name}");
        }
        put(&folder, "in/empty", &[]).await.unwrap();
        assert_eq!(read(&folder, "in/empty").await, "");
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        put(&folder, "a", &[b"first"]).await.unwrap();
        let file = File::open(root.path().join("a")).unwrap();
        put(&folder, "a", &[b"first"]).await.unwrap();
        assert_ne!(std::fs::metadata(root.path().join("a")).unwrap().ino(), file.metadata().unwrap().ino());
        assert_eq!(file.metadata().unwrap().len(), 5, "whoever reads the older file reads on");
    }

    #[tokio::test]
    async fn other_puts_are_staged() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path());
        let create = PutOptions { mode: object_store::PutMode::Create, ..PutOptions::default() };
        folder.put_opts(&Name::from("a"), "1".into(), create.clone()).await.unwrap();
        let taken = folder.put_opts(&Name::from("a"), "2".into(), create).await.unwrap_err();
        assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
        assert_eq!(read(&folder, "a").await, "1");
    }

    #[tokio::test]
    async fn a_folder_in_the_way_stays() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("taken")).unwrap();
        put(&folder(root.path()), "taken", &[b"bytes"]).await.unwrap_err();
        assert!(root.path().join("taken").is_dir());
    }
}
