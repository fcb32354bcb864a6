//! Files under one directory, with real sync semantics.
//!
//! The file that was appended to last stays open. Linux reports an error of write-back once to everybody who had the
//! file open when it happened, and to the next who opens it where nobody had: so the next `sync` hears of it either way.
//! After an error the file is closed, and opened anew by whoever still asks for it.

use crate::world::{Disk, DiskError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs;

/// Longest component of a name, in bytes: what common file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// What Linux answers where the system, or this process, has no file descriptor left.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// `Disk` over the files of one directory.
#[derive(Debug, Clone)]
pub struct FileDisk {
    root: PathBuf,
    /// The file that was appended to last.
    last: Arc<Mutex<Option<Last>>>,
}

#[derive(Debug)]
struct Last {
    path: PathBuf,
    file: Arc<File>,
}

impl FileDisk {
    /// Uses the directory `root`; makes it, and what leads to it, where it is missing.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is the disk that everything else is to use")]
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, last: Arc::default() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of `name`, which must be relative and made of ordinary components only.
    fn path(&self, name: &str) -> Result<PathBuf, DiskError> {
        let ordinary = |component: &str| {
            !matches!(component, "" | "." | "..")
                && component.len() <= COMPONENT_BYTES_MAX
                && !component.contains(['\0', '\\'])
        };
        if name.split('/').all(ordinary) {
            return Ok(self.root.join(name));
        }
        let detail = format!(
            "a name is made of /-separated components of 1 to {COMPONENT_BYTES_MAX} bytes other than . and .., without NUL or backslash"
        );
        Err(DiskError::Io { path: name.escape_default().to_string(), detail })
    }

    /// The file at `path`, open for appending.
    #[expect(clippy::disallowed_methods, reason = "the real form of the disk seam")]
    fn open_last(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut last = self.last.lock();
        if let Some(held) = last.as_ref().filter(|held| held.path == path) {
            return Ok(held.file.clone());
        }
        let file = Arc::new(File::options().append(true).open(path)?);
        *last = Some(Last { path: path.to_owned(), file: file.clone() });
        Ok(file)
    }

    /// Does `work` on the file at `path`, which is closed where that fails.
    async fn with_last(
        &self,
        path: &Path,
        work: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (disk, path) = (self.clone(), path.to_owned());
        let done = blocking(move || {
            let done = disk.open_last(&path).and_then(|file| work(&file));
            done.inspect_err(|_| disk.forget(&[&path]))
        });
        done.await
    }

    /// Closes the file that is open, if it bears one of these names.
    fn forget(&self, paths: &[&Path]) {
        let mut last = self.last.lock();
        if last.as_ref().is_some_and(|held| paths.contains(&held.path.as_path())) {
            *last = None;
        }
    }

    /// What is in a directory, sorted, and whether it is a file that this seam can have made.
    async fn entries(&self, dir: &str) -> Result<Vec<(OsString, bool)>, DiskError> {
        let path = self.directory(dir)?;
        let list = async {
            let mut entries = fs::read_dir(&path).await?;
            let mut names = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                names.push((entry.file_name(), entry.file_type().await?.is_file()));
            }
            names.sort_unstable();
            io::Result::Ok(names)
        };
        match list.await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|e| error(&path, e)),
        }
    }

    /// The path of a directory; the empty name is the root.
    fn directory(&self, dir: &str) -> Result<PathBuf, DiskError> {
        if dir.is_empty() { Ok(self.root.clone()) } else { self.path(dir) }
    }
}

/// Runs file operations on a thread that may block.
#[allow(
    deprecated,
    clippy::disallowed_methods,
    reason = "the real form of the disk seam; simulated, the call is another crate's"
)]
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[expect(clippy::disallowed_methods, reason = "the real form of the disk seam")]
fn read_at(path: &Path, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    // Nothing is allocated for bytes that the file does not have.
    let there = file.metadata()?.len().saturating_sub(offset).min(len);
    let mut bytes = Vec::with_capacity(usize::try_from(there).map_err(io::Error::other)?);
    file.seek(SeekFrom::Start(offset))?;
    file.take(there).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn write_all(mut file: &File, buffers: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
    let mut left = slices.as_mut_slice();
    // Empty buffers at the front would look like a file that takes nothing.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn error(path: &Path, error: io::Error) -> DiskError {
    let path = path.display().to_string();
    if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) {
        return DiskError::Descriptors { path, detail: error.to_string() };
    }
    match error.kind() {
        ErrorKind::NotFound => DiskError::NotFound { path },
        ErrorKind::AlreadyExists => DiskError::Exists { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            DiskError::NoSpace { path, detail: error.to_string() }
        }
        _ => DiskError::Io { path, detail: error.to_string() },
    }
}

impl Disk for FileDisk {
    async fn create(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name)?;
        let create = async {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).await?;
            }
            fs::OpenOptions::new().write(true).create_new(true).open(&path).await.map(drop)
        };
        create.await.map_err(|e| error(&path, e))
    }

    async fn append(&self, name: &str, buffers: &[Bytes]) -> Result<(), DiskError> {
        let (path, buffers) = (self.path(name)?, buffers.to_vec());
        self.with_last(&path, move |file| write_all(file, &buffers)).await.map_err(|e| error(&path, e))
    }

    async fn read_at(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let path = self.path(name)?;
        let read = blocking({
            let path = path.clone();
            move || read_at(&path, offset, len)
        });
        read.await.map_err(|e| error(&path, e))
    }

    async fn len(&self, name: &str) -> Result<u64, DiskError> {
        let path = self.path(name)?;
        fs::metadata(&path).await.map(|metadata| metadata.len()).map_err(|e| error(&path, e))
    }

    async fn sync(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name)?;
        // A file's new length is synced with its data.
        self.with_last(&path, File::sync_data).await.map_err(|e| error(&path, e))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let rename = async {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).await?;
            }
            fs::rename(&source, &target).await?;
            self.forget(&[&source, &target]);
            Ok(())
        };
        rename.await.map_err(|e| error(&source, e))
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        // A name that is not UTF-8 was not made through this seam.
        Ok(self
            .entries(dir)
            .await?
            .into_iter()
            .filter_map(|(name, is_file)| name.into_string().ok().filter(|_| is_file))
            .collect())
    }

    async fn others(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let others = self.entries(dir).await?.into_iter().filter(|(name, is_file)| !is_file || name.to_str().is_none());
        Ok(others.map(|(name, _)| name.to_string_lossy().into_owned()).collect())
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name)?;
        fs::remove_file(&path).await.map_err(|e| error(&path, e))?;
        self.forget(&[&path]);
        Ok(())
    }

    /// Syncs the directories from `dir` up to the root as well: `create` may have made them.
    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let path = self.directory(dir)?;
        for directory in path.ancestors().take_while(|ancestor| ancestor.starts_with(&self.root)) {
            #[expect(clippy::disallowed_methods, reason = "this is the disk that everything else is to use")]
            let sync = async { fs::File::open(directory).await?.sync_all().await };
            sync.await.map_err(|e| error(directory, e))?;
        }
        Ok(())
    }
}
