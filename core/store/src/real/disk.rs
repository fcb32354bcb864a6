//! Files under one directory, with real sync semantics.
//!
//! Every operation opens the file anew: an error of an earlier write-back that nobody has seen is then reported by the
//! next `sync` of the same file, whoever calls it.

use crate::world::{Disk, DiskError};
use bytes::Bytes;
use std::io::{self, ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Longest component of a name, in bytes: what common file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// `Disk` over the files of one directory.
#[derive(Debug, Clone)]
pub struct FileDisk {
    root: PathBuf,
}

impl FileDisk {
    /// Uses the directory `root`; makes it, and what leads to it, where it is missing.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root })
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

    /// The path of a directory; the empty name is the root.
    fn directory(&self, dir: &str) -> Result<PathBuf, DiskError> {
        if dir.is_empty() { Ok(self.root.clone()) } else { self.path(dir) }
    }
}

fn error(name: &str, error: io::Error) -> DiskError {
    let path = name.to_owned();
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
        create.await.map_err(|e| error(name, e))
    }

    async fn append(&self, name: &str, bytes: Bytes) -> Result<(), DiskError> {
        let path = self.path(name)?;
        let append = async {
            let mut file = fs::OpenOptions::new().append(true).open(&path).await?;
            file.write_all(&bytes).await?;
            // A tokio file reports a failed write only at its next operation.
            file.flush().await
        };
        append.await.map_err(|e| error(name, e))
    }

    async fn read_at(&self, name: &str, offset: u64, len: u64) -> Result<Bytes, DiskError> {
        let path = self.path(name)?;
        let read = async {
            let mut file = fs::File::open(&path).await?;
            // Nothing is allocated for bytes that the file does not have.
            let there = file.metadata().await?.len().saturating_sub(offset).min(len);
            let mut bytes = Vec::with_capacity(usize::try_from(there).map_err(io::Error::other)?);
            file.seek(SeekFrom::Start(offset)).await?;
            file.take(there).read_to_end(&mut bytes).await?;
            Ok(bytes.into())
        };
        read.await.map_err(|e| error(name, e))
    }

    async fn len(&self, name: &str) -> Result<u64, DiskError> {
        let path = self.path(name)?;
        fs::metadata(path).await.map(|metadata| metadata.len()).map_err(|e| error(name, e))
    }

    async fn sync(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name)?;
        let sync = async { fs::OpenOptions::new().append(true).open(&path).await?.sync_all().await };
        sync.await.map_err(|e| error(name, e))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let rename = async {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).await?;
            }
            fs::rename(source, target).await
        };
        rename.await.map_err(|e| error(from, e))
    }

    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let path = self.directory(dir)?;
        let list = async {
            let mut entries = fs::read_dir(&path).await?;
            let mut names = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                // A name that is not UTF-8 was not made through this seam.
                if let (true, Ok(name)) = (entry.file_type().await?.is_file(), entry.file_name().into_string()) {
                    names.push(name);
                }
            }
            names.sort_unstable();
            io::Result::Ok(names)
        };
        match list.await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|e| error(dir, e)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path(name)?;
        fs::remove_file(path).await.map_err(|e| error(name, e))
    }

    /// Syncs the directories from `dir` up to the root as well: `create` may have made them.
    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        let path = self.directory(dir)?;
        for directory in path.ancestors().take_while(|ancestor| ancestor.starts_with(&self.root)) {
            let sync = async { fs::File::open(directory).await?.sync_all().await };
            sync.await.map_err(|e| error(dir, e))?;
        }
        Ok(())
    }
}
