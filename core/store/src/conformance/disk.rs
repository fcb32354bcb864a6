//! What every `Disk` promises while it is up, and what must survive a crash.

use super::{Verdict, holds, step};
use crate::world::{Disk, DiskError};
use bytes::Bytes;

/// Everything but crashes. Wants an empty disk.
pub async fn disk<D: Disk>(disk: &D) -> Verdict {
    files(disk).await?;
    directories(disk).await?;
    names(disk).await
}

async fn files<D: Disk>(disk: &D) -> Verdict {
    step("create", disk.create("a/log").await)?;
    let again = disk.create("a/log").await;
    holds!(matches!(again, Err(DiskError::Exists { .. })), again);
    step("append", disk.append("a/log", &[Bytes::from_static(b"hello ")]).await)?;
    let buffers = [b"wo".as_slice(), b"", b"r", b"ld"].map(Bytes::from_static);
    step("append several", disk.append("a/log", &buffers).await)?;
    step("append nothing", disk.append("a/log", &[]).await)?;
    holds!(disk.len("a/log").await == Ok(11), disk.len("a/log").await);
    for (offset, len, expected) in [(0, 11, "hello world"), (6, 3, "wor"), (6, 100, "world"), (11, 5, ""), (99, 5, "")]
    {
        let read = disk.read_at("a/log", offset, len).await;
        holds!(read.as_deref() == Ok(expected.as_bytes()), (offset, len, read));
    }
    let huge = disk.read_at("a/log", 0, u64::MAX).await;
    holds!(huge.as_ref().map(Bytes::len) == Ok(11), huge);
    step("sync", disk.sync("a/log").await)?;
    reused_names(disk).await?;
    for missing in [
        disk.append("none", &[]).await.err(),
        disk.read_at("none", 0, 1).await.err(),
        disk.len("none").await.err(),
        disk.sync("none").await.err(),
        disk.remove("none").await.err(),
        disk.rename("none", "other").await.err(),
    ] {
        holds!(matches!(missing, Some(DiskError::NotFound { .. })), missing);
    }
    Ok(())
}

/// A name means the file that bears it now, whatever was appended to under it before.
async fn reused_names<D: Disk>(disk: &D) -> Verdict {
    for (name, text) in [("a/one", "one"), ("a/two", "two")] {
        step("create", disk.create(name).await)?;
        step("append", disk.append(name, &[Bytes::from(text)]).await)?;
        step("sync", disk.sync(name).await)?;
    }
    step("rename over", disk.rename("a/one", "a/two").await)?;
    step("append", disk.append("a/two", &[Bytes::from_static(b"+")]).await)?;
    step("sync", disk.sync("a/two").await)?;
    let renamed = disk.read_at("a/two", 0, 9).await;
    holds!(renamed.as_deref() == Ok(b"one+"), renamed);
    let gone = disk.append("a/one", &[Bytes::from_static(b"?")]).await;
    holds!(matches!(gone, Err(DiskError::NotFound { .. })), gone);
    step("remove", disk.remove("a/two").await)?;
    let gone = disk.append("a/two", &[Bytes::from_static(b"?")]).await;
    holds!(matches!(gone, Err(DiskError::NotFound { .. })), gone);
    let gone = disk.sync("a/two").await;
    holds!(matches!(gone, Err(DiskError::NotFound { .. })), gone);
    step("create again", disk.create("a/two").await)?;
    step("append", disk.append("a/two", &[Bytes::from_static(b"new")]).await)?;
    let new = disk.read_at("a/two", 0, 9).await;
    holds!(new.as_deref() == Ok(b"new"), new);
    Ok(())
}

async fn directories<D: Disk>(disk: &D) -> Verdict {
    for name in ["d/c", "d/a", "d/b", "d/below/x"] {
        step("create", disk.create(name).await)?;
    }
    step("append", disk.append("d/a", &[Bytes::from_static(b"A")]).await)?;
    holds!(disk.list("d").await == Ok(vec!["a".into(), "b".into(), "c".into()]), disk.list("d").await);
    holds!(disk.list("nowhere").await == Ok(Vec::new()), disk.list("nowhere").await);
    step("rename over", disk.rename("d/a", "d/b").await)?;
    holds!(disk.read_at("d/b", 0, 9).await.as_deref() == Ok(b"A"), disk.read_at("d/b", 0, 9).await);
    step("remove", disk.remove("d/c").await)?;
    holds!(disk.list("d").await == Ok(vec!["b".into()]), disk.list("d").await);
    step("rename to another directory", disk.rename("d/b", "e/b").await)?;
    holds!(disk.list("e").await == Ok(vec!["b".into()]), disk.list("e").await);
    for dir in ["d", "e", "d/below", ""] {
        step("sync_dir", disk.sync_dir(dir).await)?;
    }
    Ok(())
}

/// A name never leads out of the disk.
async fn names<D: Disk>(disk: &D) -> Verdict {
    for name in ["", ".", "..", "/etc/hostile", "../hostile", "a/../../hostile", "a//b", "a/", "nul\0", "back\\slash"] {
        let created = disk.create(name).await;
        holds!(matches!(created, Err(DiskError::Io { .. })), (name, created));
        let read = disk.read_at(name, 0, 1).await;
        holds!(matches!(read, Err(DiskError::Io { .. })), (name, read));
    }
    Ok(())
}

/// Writes what must survive a crash. Call `verify_durable` on the disk as it is after the crash.
pub async fn write_durable<D: Disk>(disk: &D) -> Verdict {
    step("create", disk.create("keep/log").await)?;
    step("append", disk.append("keep/log", &[Bytes::from_static(b"durable")]).await)?;
    step("sync", disk.sync("keep/log").await)?;
    step("sync_dir", disk.sync_dir("keep").await)?;
    step("append unsynced", disk.append("keep/log", &[Bytes::from(vec![b'?'; 4096])]).await)?;
    step("create", disk.create("keep/temporary").await)?;
    step("append", disk.append("keep/temporary", &[Bytes::from_static(b"renamed")]).await)?;
    step("sync", disk.sync("keep/temporary").await)?;
    step("rename", disk.rename("keep/temporary", "keep/final").await)?;
    step("sync_dir", disk.sync_dir("keep").await)?;
    step("create unsynced", disk.create("keep/unsynced").await)
}

pub async fn verify_durable<D: Disk>(disk: &D) -> Verdict {
    let log = step("read", disk.read_at("keep/log", 0, 7).await)?;
    holds!(log.as_ref() == b"durable", log);
    let renamed = step("read", disk.read_at("keep/final", 0, 100).await)?;
    holds!(renamed.as_ref() == b"renamed", renamed);
    let names = step("list", disk.list("keep").await)?;
    holds!(!names.iter().any(|name| name == "temporary"), names);
    Ok(())
}
