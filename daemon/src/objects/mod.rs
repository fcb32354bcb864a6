//! The object store that a URL names. Everything that can be wrong with it is said before anything is started.

mod file;
mod s3;

use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use std::time::Duration;

/// Longest that the first request may take before the store counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// What a store URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder on this machine.
    File(std::path::PathBuf),
    S3 {
        bucket: String,
        prefix: Path,
    },
    /// Gone with the process.
    Memory,
}

/// An object store that has answered.
#[derive(Debug, Clone)]
pub struct OpenedStore {
    pub objects: Arc<dyn ObjectStore>,
    /// All of the daemon's names lie under this.
    pub prefix: Path,
    pub url: StoreUrl,
}

impl StoreUrl {
    /// Reads `file:///path`, `s3://bucket[/prefix]` or `memory:`.
    pub fn parse(text: &str) -> Outcome<Self> {
        let wrong = |why: &str| {
            Failure::new(
                Exit::ObjectStore,
                format!("store URL `{text}` {why}; write file:///path, s3://bucket/prefix or memory:"),
            )
        };
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return match path.starts_with('/') && path.len() > 1 {
                true => Ok(Self::File(path.into())),
                false => Err(wrong("has no absolute path")),
            };
        }
        let Some(rest) = text.strip_prefix("s3://") else { return Err(wrong("has a scheme that is not known")) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(bucket_byte) {
            return Err(wrong("has no bucket name of 3 to 63 lower-case letters, digits, dashes and dots"));
        }
        let unnamed = || wrong("has a prefix that is no `a/b/c`");
        if prefix.starts_with('/') {
            return Err(unnamed());
        }
        let prefix = Path::parse(prefix.strip_suffix('/').unwrap_or(prefix)).map_err(|_| unnamed())?;
        if prefix.as_ref().bytes().any(|byte| !(byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))) {
            return Err(wrong("has a prefix with other characters than a-z, A-Z, 0-9, `-`, `_` and `.`"));
        }
        // The longest name below the prefix takes about 300 bytes of S3's 1,024.
        if prefix.as_ref().len() > 512 {
            return Err(wrong("has a prefix of more than 512 bytes"));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix })
    }
}

/// Opens the store and asks it one question.
pub async fn open(config: &Config) -> Outcome<OpenedStore> {
    let shown = config.store_or_default();
    let url = StoreUrl::parse(&shown)?;
    let (objects, prefix): (Arc<dyn ObjectStore>, Path) = match &url {
        StoreUrl::File(path) => (file::open(path)?, Path::default()),
        StoreUrl::S3 { bucket, prefix } => (s3::open(bucket, config)?, prefix.clone()),
        StoreUrl::Memory => (Arc::new(object_store::memory::InMemory::new()), Path::default()),
    };
    probe(objects.as_ref(), &prefix)
        .await
        .map_err(|message| Failure::new(Exit::ObjectStore, format!("object store {shown}: {message}")))?;
    Ok(OpenedStore { objects, prefix, url })
}

/// A read that needs the address, the credentials and the bucket to be right.
async fn probe(objects: &dyn ObjectStore, prefix: &Path) -> Result<(), String> {
    let asked = async {
        match objects.get(&prefix.clone().join("format")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(said(&error)),
        }
        // A missing bucket and a missing object look alike to a get; a listing tells them apart.
        match objects.list(Some(&prefix.clone().join("node"))).next().await {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(said(&error)),
        }
    };
    match tokio::time::timeout(PROBE_TIMEOUT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

/// The innermost cause, which is the one that says what to do.
fn said(error: &object_store::Error) -> String {
    use object_store::Error as E;
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let kind = match error {
        E::NotFound { .. } => "there is no such bucket",
        E::PermissionDenied { .. } => "permission denied",
        E::Unauthenticated { .. } => "the credentials are refused",
        _ => "cannot be reached",
    };
    let cause: String = cause.to_string().chars().take(300).collect();
    format!("{kind}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        assert_eq!(StoreUrl::parse("memory:").unwrap(), StoreUrl::Memory);
        assert_eq!(StoreUrl::parse("file:///a/b").unwrap(), StoreUrl::File("/a/b".into()));
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: Path::parse(prefix).unwrap(),
        };
        assert_eq!(StoreUrl::parse("s3://kv-cache/team/a/").unwrap(), s3("kv-cache", "team/a"));
        assert_eq!(StoreUrl::parse("s3://kv-cache").unwrap(), s3("kv-cache", ""));
        let long = format!("s3://kv-cache/{}", "x".repeat(513));
        for url in [
            "",
            "memory",
            "file://",
            "file:///",
            "file://a/b",
            "/a/b",
            "s3://",
            "s3://a",
            "s3://Big/x",
            "s3://kv-cache//x",
            "gs://b/x",
            "s3://kv-cache/a b",
            &long,
        ] {
            let failure = StoreUrl::parse(url).unwrap_err();
            assert_eq!(failure.exit, Exit::ObjectStore, "{url}");
            assert!(failure.message.contains(&format!("`{url}`")), "{failure}");
        }
    }
}
