//! The data directory: one process at a time, one node id for ever.

use crate::config::check;
use crate::exit::{Exit, Failure, Outcome};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A data directory that this process holds. Dropping it lets go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing and takes its lock. The lock goes with the process, however it ends.
    pub fn hold(path: &Path) -> Outcome<Self> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(Exit::DataDir, format!("data directory {}: {what}: {error}", path.display()))
        };
        std::fs::create_dir_all(path).map_err(|error| failed("cannot be made", &error))?;
        let path = path.canonicalize().map_err(|error| failed("cannot be resolved", &error))?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("lock"))
            .map_err(|error| failed("not writable", &error))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            let mut holder = String::new();
            let read = (&lock).take(32).read_to_string(&mut holder);
            let holder = match read.ok().and_then(|_| holder.trim().parse::<u32>().ok()) {
                Some(pid) => format!("process {pid} holds it"),
                None => "another process holds it".to_owned(),
            };
            return Err(failed(&holder, &error));
        }
        lock.set_len(0).map_err(|error| failed("not writable", &error))?;
        writeln!(lock, "{}", std::process::id()).map_err(|error| failed("not writable", &error))?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configured node id, or the one that was drawn when this directory was first used. A directory never changes
    /// its node id: its cache and index belong to one.
    pub fn node_id(&self, configured: &str) -> Outcome<String> {
        let file = self.path.join("node-id");
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(Exit::DataDir, format!("{}: {error}", file.display()));
        let kept = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        if let Some(kept) = kept {
            if kept.is_empty() || check::node_id(&kept).is_err() {
                return Err(failed(&format!("`{kept}` is no node id")));
            }
            if !configured.is_empty() && configured != kept {
                return Err(failed(&format!("the directory belongs to node `{kept}`, node_id says `{configured}`")));
            }
            return Ok(kept);
        }
        let id = match configured {
            "" => drawn().map_err(|error| failed(&error))?,
            configured => configured.to_owned(),
        };
        self.keep(&file, &id).map_err(|error| failed(&error))?;
        Ok(id)
    }

    /// Writes the id whole or not at all.
    fn keep(&self, file: &Path, id: &str) -> std::io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(&self.path)?;
        writeln!(temporary, "{id}")?;
        temporary.as_file().sync_all()?;
        temporary.persist(file).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }
}

/// `node-` and 64 random bits: two directories never draw the same.
fn drawn() -> std::io::Result<String> {
    let mut bits = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bits)?;
    Ok(format!("node-{:016x}", u64::from_le_bytes(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_directory_is_refused_and_names_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::hold(dir.path()).unwrap();
        let failure = DataDir::hold(dir.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::DataDir);
        assert!(failure.message.contains(&format!("process {} holds it", std::process::id())), "{failure}");
        drop(held);
        DataDir::hold(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_keeps_its_node_id() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::hold(dir.path()).unwrap();
        let id = held.node_id("").unwrap();
        assert_eq!(held.node_id("").unwrap(), id);
        assert_eq!(held.node_id(&id).unwrap(), id);
        assert!(held.node_id("other").unwrap_err().message.contains("belongs to node"));
        for damaged in ["", "a/b\n", "x y"] {
            std::fs::write(dir.path().join("node-id"), damaged).unwrap();
            assert!(held.node_id("").unwrap_err().message.contains("is no node id"));
        }
    }
}
