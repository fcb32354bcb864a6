//! A session with a running daemon, in the words of the commands: every error is one line and an exit code.

use crate::exit::{Exit, Failure, OrExit, Outcome, exit_of};
use bettong_client::{BlockToPut, Client, Error, Got, Level, Namespace, Options, Place, ReadLimits, Stored, Value};
use bettong_wire::limits::TOKEN_BYTES_MAX;
use bettong_wire::request::{BlockPut, ListKind, Maintain, Target, Tier};
use bettong_wire::response::ListPage;
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, ModelIdentity, Payload, SidecarKey};
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Which daemon, as whom, and which namespace.
#[derive(Clone)]
pub struct Access {
    /// `tcp://HOST:PORT`.
    pub connect: String,
    pub namespace: String,
    pub tenant: String,
    /// Bearer token; empty where the daemon asks for none.
    pub token: String,
}

impl Access {
    /// The tenant that a daemon without authentication knows.
    pub fn new(connect: &str, namespace: &str) -> Self {
        let tenant = Options::default().tenant;
        Self { connect: connect.to_owned(), namespace: namespace.to_owned(), tenant, token: String::new() }
    }
}

impl std::fmt::Debug for Access {
    /// Leaves the token out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({} at {} of {})", self.namespace, self.connect, self.tenant)
    }
}

/// Reads a token from the first line of a file, so that it shows in no list of processes.
pub fn token_from(path: &Path) -> Outcome<String> {
    let shown = path.display();
    let mut text = String::new();
    let file = std::fs::File::open(path).or_exit(Exit::Usage, &shown)?;
    file.take(TOKEN_BYTES_MAX as u64 + 2).read_to_string(&mut text).or_exit(Exit::Usage, &shown)?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("{shown}: no token of 1 to {TOKEN_BYTES_MAX} bytes in its first line"),
        ));
    }
    Ok(token.to_owned())
}

/// One open namespace of a daemon.
pub struct Remote {
    namespace: Namespace,
}

fn failed(error: Error) -> Failure {
    let hint = match error.kind {
        ErrorKind::IdentityMismatch => {
            "; --namespace NAME opens another, which takes its identity from whoever opens it first"
        }
        _ => "",
    };
    Failure::new(exit_of(error.kind), error.message + hint)
}

impl Remote {
    /// Connects and opens the namespace. Without an identity only its plain keys are reachable.
    pub async fn open(access: &Access, identity: Option<ModelIdentity>) -> Outcome<Self> {
        let options = Options {
            tenant: access.tenant.clone(),
            token: access.token.clone(),
            // Decides jitter only; what differs between processes is what is wanted.
            seed: RandomState::new().hash_one(std::process::id()),
            ..Options::default()
        };
        let client = Client::connect(&access.connect, options).await.map_err(failed)?;
        let namespace = client.open_namespace(&access.namespace, identity).await.map_err(failed)?;
        Ok(Self { namespace })
    }

    /// `ttl_ms` 0 means that it never expires.
    pub async fn put_plain(&self, key: &str, value: Bytes, level: Level, ttl_ms: u64) -> Outcome<Stored> {
        let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
        self.namespace.put_plain(key, value, level, ttl).await.map_err(failed)
    }

    pub async fn get_plain(&self, key: &str) -> Outcome<Payload> {
        match self.namespace.get_plain(key, ReadLimits::default()).await.map_err(failed)? {
            Got::Hit(value) => Ok(value.bytes),
            Got::Miss(reason) => Err(Failure::miss(key, reason)),
        }
    }

    /// (length in bytes, expiry in Unix milliseconds or 0).
    pub async fn exists_plain(&self, key: &str) -> Outcome<(u64, u64)> {
        match self.namespace.exists(Target::Plain(key.to_owned())).await.map_err(failed)? {
            Got::Hit(existing) => Ok((existing.len, existing.expires_at_ms)),
            Got::Miss(reason) => Err(Failure::miss(key, reason)),
        }
    }

    /// How many there were.
    pub async fn delete_plain(&self, key: &str) -> Outcome<u64> {
        self.namespace.delete(Target::Plain(key.to_owned())).await.map_err(failed)
    }

    pub async fn delete_block(&self, key: BlockKey) -> Outcome<u64> {
        self.delete(Target::Block(key)).await
    }

    /// How many there were.
    pub async fn delete(&self, target: Target) -> Outcome<u64> {
        self.namespace.delete(target).await.map_err(failed)
    }

    /// How many leading hashes are there, in all parts of the namespace's identity.
    pub async fn lookup(&self, hashes: &[BlockHash]) -> Outcome<usize> {
        let found = self.namespace.lookup_prefix(hashes.to_vec(), Vec::new()).await.map_err(failed)?;
        usize::try_from(found).or_exit(Exit::Failed, "a look-up")
    }

    /// The leading blocks that are there, each with the tier that served it.
    pub async fn get_blocks(&self, keys: Vec<BlockKey>) -> Outcome<Vec<(Payload, Tier)>> {
        let got = self.namespace.get_blocks(keys, true, ReadLimits::default()).await.map_err(failed)?;
        let served = |value: Value| (value.bytes, value.tier);
        Ok(got.hit().unwrap_or_default().into_iter().map(served).collect())
    }

    /// A block, or why it is not there.
    pub async fn get_block(&self, key: BlockKey) -> Outcome<Result<Payload, MissReason>> {
        self.read(Target::Block(key)).await
    }

    /// Any value, or why it is not there.
    pub async fn read(&self, target: Target) -> Outcome<Result<Payload, MissReason>> {
        let limits = ReadLimits::default();
        let got = match target {
            Target::Block(key) => self.namespace.get_block(key, limits).await,
            Target::Sidecar(key) => self.namespace.get_sidecar(key, limits).await,
            Target::Plain(key) => self.namespace.get_plain(&key, limits).await,
        };
        match got.map_err(failed)? {
            Got::Hit(value) => Ok(Ok(value.bytes)),
            Got::Miss(reason) => Ok(Err(reason)),
        }
    }

    pub async fn put_sidecar(&self, key: SidecarKey, tip: BlockHash, value: Bytes, level: Level) -> Outcome<Stored> {
        self.namespace.put_sidecar(key, tip, value, level).await.map_err(failed)
    }

    /// All or none.
    pub async fn put_blocks(&self, blocks: Vec<(BlockPut, Bytes)>, level: Level) -> Outcome<Vec<Stored>> {
        let blocks = blocks.into_iter().map(|(put, bytes)| BlockToPut {
            key: put.key,
            place: Place { parent: put.parent, sequence: put.sequence },
            bytes: bytes.into(),
        });
        self.namespace.put_blocks(blocks.collect(), level).await.map_err(failed)
    }

    pub async fn list(&self, kind: ListKind, prefix: &str, cursor: Vec<u8>, limit: u32) -> Outcome<ListPage> {
        self.namespace.list(kind, prefix, cursor, limit).await.map_err(failed)
    }

    pub async fn clear(&self, tier: Tier) -> Outcome<u64> {
        self.namespace.clear(tier).await.map_err(failed)
    }

    /// One slice of a task of upkeep: the cursor of the next, and what this one did.
    pub async fn maintain(&self, maintain: Maintain) -> Outcome<(Vec<u8>, serde_json::Value)> {
        let (cursor, document) = self.namespace.maintain(maintain).await.map_err(failed)?;
        let document = serde_json::from_slice(document.as_ref()).or_exit(Exit::Failed, "the daemon's report")?;
        Ok((cursor, document))
    }

    /// The daemon's counters.
    pub async fn stats(&self) -> Outcome<serde_json::Value> {
        let document = self.namespace.stats().await.map_err(failed)?;
        serde_json::from_slice(document.as_ref()).or_exit(Exit::Failed, "the daemon's counters")
    }
}
