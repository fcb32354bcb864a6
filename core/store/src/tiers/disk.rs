//! The disk tier: envelopes on local NVMe, in foyer's block engine. A cache: it may drop anything, and it may serve an
//! older value, so that whoever reads compares the put id.

use crate::keys::Key;
use crate::seal::Sealed;
use bettong_wire::NamespaceId;
use bettong_wire::envelope::HEADER_LEN;
use bettong_wire::limits::{BLOCK_BYTES_MAX, PLAIN_KEY_BYTES_MAX};
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, Compression, DeviceBuilder, Error, ErrorKind, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, Load, PsyncIoEngineConfig, RecoverMode,
};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// What foyer files an envelope under: stable across restarts, so it holds the namespace's id and not its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DiskKey([u8; 16]);

impl DiskKey {
    pub fn new(namespace: &NamespaceId, key: &Key) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&namespace.0);
        hasher.update(&[key.kind as u8]);
        hasher.update(&key.part.0.to_le_bytes());
        hasher.update(&key.hash);
        let mut short = [0; 16];
        hasher.finalize_xof().fill(&mut short);
        Self(short)
    }
}

/// An envelope: in two parts on its way in, in one on its way out.
#[derive(Clone, Debug)]
pub struct DiskValue {
    head: Bytes,
    body: Bytes,
}

const DISK_VALUE_MAX: u64 = BLOCK_BYTES_MAX + (HEADER_LEN + PLAIN_KEY_BYTES_MAX) as u64;

impl Code for DiskKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.0).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; 16];
        reader.read_exact(&mut bytes).map_err(Error::io_error)?;
        Ok(Self(bytes))
    }

    fn estimated_size(&self) -> usize {
        16
    }
}

impl Code for DiskValue {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let len = (self.head.len() + self.body.len()) as u64;
        writer.write_all(&len.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&self.head).map_err(Error::io_error)?;
        writer.write_all(&self.body).map_err(Error::io_error)
    }

    /// The length is whatever the device holds: bounded before anything is allocated, and grown only with bytes that
    /// are really there.
    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut len = [0; 8];
        reader.read_exact(&mut len).map_err(Error::io_error)?;
        let len = u64::from_le_bytes(len);
        if len > DISK_VALUE_MAX {
            return Err(Error::new(ErrorKind::Parse, "an envelope on disk is over the limit").with_context("len", len));
        }
        let mut bytes = Vec::new();
        let read = reader.take(len).read_to_end(&mut bytes).map_err(Error::io_error)?;
        if read as u64 != len {
            return Err(Error::new(ErrorKind::Parse, "an envelope on disk is cut short").with_context("len", len));
        }
        Ok(Self { head: Bytes::new(), body: bytes.into() })
    }

    fn estimated_size(&self) -> usize {
        8 + self.head.len() + self.body.len()
    }
}

/// Where and how large the disk tier is.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    pub dir: PathBuf,
    /// Device bytes in all, at least 4 regions.
    pub bytes: u64,
    /// The unit of foyer's eviction, and with it the largest envelope that the tier takes. Bytes.
    pub region_bytes: u64,
    /// Writes that wait for the device; beyond it new ones are dropped. Bytes.
    pub write_buffer_bytes: u64,
    /// How long a start waits for the tier to open; `Duration::MAX` is for ever.
    pub open_max: Duration,
}

/// The tier.
pub struct DiskTier {
    cache: HybridCache<DiskKey, DiskValue>,
    bytes: u64,
    value_bytes_max: u64,
}

impl std::fmt::Debug for DiskTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskTier({} bytes)", self.bytes)
    }
}

impl DiskTier {
    /// Opens the tier with what its directory still holds. Must be called where the storage runtime is current.
    pub async fn open(config: &DiskConfig) -> Result<Self, String> {
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| format!("{bytes} bytes do not fit this machine"));
        if config.bytes < config.region_bytes.saturating_mul(4) {
            let (bytes, region) = (config.bytes, config.region_bytes);
            return Err(format!("the disk tier has {bytes} bytes, it needs at least 4 regions of {region} bytes"));
        }
        let dir = config.dir.display();
        let device = FsDeviceBuilder::new(&config.dir)
            .with_capacity(size(config.bytes)?)
            .build()
            .map_err(|error| format!("{dir}: {error}"))?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(size(config.region_bytes)?)
            .with_indexer_shards(8)
            .with_recover_concurrency(2)
            .with_flushers(1)
            .with_reclaimers(1)
            .with_buffer_pool_size(size(config.write_buffer_bytes)?)
            .with_submit_queue_size_threshold(size(config.write_buffer_bytes)?);
        let cache = HybridCacheBuilder::new()
            .memory(1)
            .with_shards(1)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_compression(Compression::None)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await
            .map_err(|error| format!("{dir}: {error}"))?;
        // A region also holds foyer's own tables and the entry's alignment.
        let value_bytes_max = config.region_bytes.min(config.write_buffer_bytes) / 2;
        Ok(Self { cache, bytes: config.bytes, value_bytes_max })
    }

    /// Queues an envelope for the device. Dropped without a word where the queue is full or the envelope too large.
    ///
    /// What waits is a copy: however long the device takes, payload memory is not what it holds on to.
    pub fn store(&self, key: DiskKey, sealed: &Sealed) {
        if sealed.total_len() <= self.value_bytes_max {
            let [head, body] = sealed.parts();
            self.cache
                .storage_writer(key)
                .force()
                .insert(DiskValue { head: head.clone(), body: Bytes::copy_from_slice(body) });
        }
    }

    /// Queues an envelope that was read whole from an object.
    pub fn store_whole(&self, key: DiskKey, envelope: Bytes) {
        if envelope.len() as u64 <= self.value_bytes_max {
            self.cache.storage_writer(key).force().insert(DiskValue { head: Bytes::new(), body: envelope });
        }
    }

    /// The envelope that the tier has for `key`, unverified; an error where the device does not answer.
    pub async fn load(&self, key: &DiskKey) -> Result<Option<Bytes>, String> {
        let value = match self.cache.storage().load(key).await {
            Ok(Load::Entry { value, .. }) => value,
            Ok(Load::Piece { piece, .. }) => piece.value().clone(),
            Ok(Load::Throttled | Load::Miss) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if value.head.is_empty() {
            return Ok(Some(value.body));
        }
        Ok(Some([value.head, value.body].concat().into()))
    }

    /// Drops what the tier has for `key`; a hint, since a write on its way may still land.
    pub fn remove(&self, key: &DiskKey) {
        self.cache.storage().delete(key);
    }

    pub fn may_contain(&self, key: &DiskKey) -> bool {
        self.cache.storage().may_contains(key)
    }

    /// Drops everything.
    pub async fn clear(&self) -> Result<(), String> {
        self.cache.storage().destroy().await.map_err(|error| error.to_string())
    }

    /// Waits until what is queued is on the device.
    pub async fn wait(&self) {
        self.cache.storage().wait().await;
    }

    pub async fn close(&self) -> Result<(), String> {
        self.cache.storage().close().await.map_err(|error| error.to_string())
    }

    /// Device bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
