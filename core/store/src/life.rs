//! The lives of a node: which runs of its process there were, in order, on the local disk and in the bucket.

use crate::index::committer::Succession;
use crate::objects::names::{Names, life_ordinal};
use crate::objects::{ObjectError, Objects};
use crate::observe::{Point, State};
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::{Clock, Disk, DiskError, World};
use futures::{StreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// This run of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// Orders the lives of a node.
    pub ordinal: u64,
    /// 64 random bits.
    pub life: u64,
}

/// What `node/{node id}/life/{ordinal}` holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct LifeRecord {
    life: String,
    wall_ms: u64,
    /// The node that retired this one, in the life with which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retired_by: Option<String>,
}

/// What the node's directory remembers of itself.
#[derive(Serialize, Deserialize, Default, Clone)]
pub struct NodeRecord {
    pub node_id: String,
    /// (ordinal, life in hexadecimal) of the lives that ran on this directory, oldest first; the last `LIVES_KEPT`.
    pub lives: Vec<(u64, String)>,
}

/// Whether the object store can create an object only if it is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exclusive {
    Yes,
    No,
}

const LIVES_KEPT: usize = 64;
/// Records of lives of one page of a listing, and how many of them are read at once.
const LIVES_PAGE: usize = 1000;
const LIVES_AT_ONCE: usize = 32;
const NODE_FILE: &str = "node/record";
const NODE_FILE_NEW: &str = "node/record.new";
/// Reads of the directory's record before it counts as damaged.
const DIRECTORY_READS: u32 = 2;
/// Ordinals that may be taken by others while one start looks for its own.
const ATTEMPTS_MAX: usize = 16;

/// Why a life could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    #[error("the data directory belongs to node `{held}`, this is node `{asked}`")]
    OtherNode { held: String, asked: String },
    #[error("the record of the data directory is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the object store: {0}")]
    Objects(#[from] ObjectError),
    #[error("{ATTEMPTS_MAX} other starts of this node id were faster: is the node id used twice?")]
    Contended,
}

/// A node's life that has begun.
pub struct Begun {
    pub life: Life,
    /// Its record in the bucket.
    pub path: Path,
    /// What the directory remembered before this start.
    pub directory: NodeRecord,
    /// Life to ordinal, of all lives of this node in the bucket, this one included.
    pub lives: BTreeMap<u64, u64>,
    /// The highest wall time that any life began at.
    pub clock_ms: u64,
}

impl Begun {
    /// The life that began before this one, as the bucket knows it.
    pub fn before(&self) -> Option<u64> {
        let older = self.lives.iter().filter(|(_, ordinal)| **ordinal < self.life.ordinal);
        older.max_by_key(|(_, ordinal)| **ordinal).map(|(life, _)| *life)
    }
}

fn hex(life: u64) -> String {
    format!("{life:016x}")
}

fn unhex(text: &str) -> Option<u64> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// The lives of a node that the bucket knows: life to ordinal, and the highest time one began at. A damaged record of an
/// old life is passed over: what that life wrote is nobody's, and stays. The newest must verify.
pub async fn list<W: World>(
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
) -> Result<(BTreeMap<u64, u64>, u64), ObjectError> {
    let Known { lives, clock_ms, damaged } = known(objects, names, node_id).await?;
    damaged.map_or(Ok((lives, clock_ms)), |damage| Err(ObjectError::Unknown(damage)))
}

/// What the bucket knows of the lives of a node.
pub struct Known {
    /// Life to ordinal.
    pub lives: BTreeMap<u64, u64>,
    /// The highest time one began at.
    pub clock_ms: u64,
    /// Why the newest life is not known.
    pub damaged: Option<String>,
}

/// As `list`, where it does not matter which life is the newest.
pub async fn known<W: World>(objects: &Objects<W>, names: &Names, node_id: &str) -> Result<Known, ObjectError> {
    let mut lives = BTreeMap::new();
    let mut clock_ms = 0;
    let mut after = None;
    let mut damaged = None;
    loop {
        let page = objects.page(&names.lives(node_id), after.as_ref(), LIVES_PAGE).await?;
        after = page.objects.last().map(|object| object.location.clone()).or(after);
        let records = page.objects.into_iter().filter_map(|object| {
            let ordinal = life_ordinal(&object.location)?;
            Some(async move { (ordinal, read_life(objects, &object.location).await) })
        });
        let mut records = stream::iter(records.collect::<Vec<_>>()).buffered(LIVES_AT_ONCE);
        while let Some((ordinal, read)) = records.next().await {
            match read? {
                Ok((life, wall_ms)) => {
                    lives.insert(life, ordinal);
                    clock_ms = clock_ms.max(wall_ms);
                    damaged = None;
                }
                Err(damage) => {
                    tracing::warn!(damage, node_id, "the record of a life does not verify");
                    damaged = Some(damage);
                }
            }
        }
        if !page.more {
            return Ok(Known { lives, clock_ms, damaged });
        }
    }
}

/// A life and the time it began at; the inner error where its record does not verify.
async fn read_life<W: World>(objects: &Objects<W>, path: &Path) -> Result<Result<(u64, u64), String>, ObjectError> {
    let held = objects.read_record::<LifeRecord>(path).await?;
    Ok(held.and_then(|held| {
        let life = unhex(&held.life).ok_or_else(|| format!("{path} names no life"))?;
        Ok((life, held.wall_ms))
    }))
}

/// Begins a life: on the local disk first, then in the bucket, each durable before the next. Without `exclusive`, the
/// object store cannot keep two lives from taking one ordinal: each then has a name of its own, and the greater name is
/// the newer life.
pub async fn begin<W: World>(
    world: &W,
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
    exclusive: Exclusive,
) -> Result<Begun, LifeError> {
    let directory = read_directory(world, node_id).await?;
    let (mut lives, clock_ms) = list(objects, names, node_id).await?;
    let life = world.random_u64();
    let on_disk = directory.lives.last().map_or(0, |(ordinal, _)| *ordinal);
    let first = lives.values().copied().max().unwrap_or(0).max(on_disk) + 1;
    for ordinal in (first..).take(ATTEMPTS_MAX) {
        let mut next = directory.clone();
        next.node_id = node_id.to_owned();
        next.lives.push((ordinal, hex(life)));
        let old = next.lives.len().saturating_sub(LIVES_KEPT);
        next.lives.drain(..old);
        write_directory(world, &next).await?;
        world.at(Point::LifeOnDisk).await;
        let held = LifeRecord { life: hex(life), wall_ms: world.clock().wall_ms(), retired_by: None };
        let bytes = record::encode(&held).map_err(LifeError::Damaged)?;
        let path = match exclusive {
            Exclusive::Yes => names.life(node_id, ordinal),
            Exclusive::No => names.own_life(node_id, Life { ordinal, life }),
        };
        let written = match exclusive {
            Exclusive::Yes => objects.create(&path, bytes.into()).await,
            Exclusive::No => objects.put_unique(&path, bytes.into()).await,
        };
        let ours = match written {
            Ok(()) => true,
            // Somebody's, or our own first attempt's: reading tells.
            Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {
                let bytes = objects.get(&path, RECORD_BYTES_MAX).await?;
                record::decode::<LifeRecord>(&bytes).is_ok_and(|held| held.life == hex(life))
            }
            Err(error) => return Err(error.into()),
        };
        if ours {
            lives.insert(life, ordinal);
            return Ok(Begun { life: Life { ordinal, life }, path, directory, lives, clock_ms });
        }
    }
    Err(LifeError::Contended)
}

/// Begins a life in the name of a node that `by` retires, unless its newest says so already: every older one has to end.
pub async fn fence<W: World>(
    world: &W,
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
    by: &str,
) -> Result<(), LifeError> {
    let (lives, _) = list(objects, names, node_id).await?;
    let newest = lives.values().copied().max().unwrap_or(0);
    let held =
        LifeRecord { life: hex(world.random_u64()), wall_ms: world.clock().wall_ms(), retired_by: Some(by.to_owned()) };
    let bytes = record::encode(&held).map_err(LifeError::Damaged)?;
    let fences = async |ordinal| {
        let there = objects.get(&names.life(node_id, ordinal), RECORD_BYTES_MAX).await?;
        Ok::<bool, LifeError>(record::decode::<LifeRecord>(&there).is_ok_and(|held| held.retired_by.is_some()))
    };
    if newest > 0 && fences(newest).await? {
        return Ok(());
    }
    for ordinal in (newest + 1..).take(ATTEMPTS_MAX) {
        match objects.create(&names.life(node_id, ordinal), bytes.clone().into()).await {
            Ok(()) => return Ok(()),
            Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) if fences(ordinal).await? => return Ok(()),
            // A start of the node was faster: the next one is above it.
            Err(ObjectError::AlreadyExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(LifeError::Contended)
}

/// What the directory remembers of itself. One read that does not verify is no damage: the second, independent one
/// decides. A record that is damaged says nothing, as if the directory were new: the bucket knows the node's lives, and a
/// directory that does not know the last of them is not trusted.
pub async fn read_directory<W: World>(world: &W, node_id: &str) -> Result<NodeRecord, LifeError> {
    let mut other = None;
    let mut damage = String::new();
    for read in 0..DIRECTORY_READS {
        let bytes = match world.disk().read_at(NODE_FILE, 0, RECORD_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(DiskError::NotFound { .. }) => return Ok(NodeRecord::default()),
            Err(error) => return Err(error.into()),
        };
        match record::decode::<NodeRecord>(&bytes) {
            Ok(held) if held.node_id == node_id => {
                world.reached_if(read > 0, State::DirectoryReadAgain);
                return Ok(held);
            }
            Ok(held) => other = Some(held.node_id),
            Err(error) => damage = error,
        }
    }
    if let Some(held) = other {
        return Err(LifeError::OtherNode { held, asked: node_id.to_owned() });
    }
    world.reached(State::DamagedDirectory);
    tracing::warn!(
        node_id,
        file = NODE_FILE,
        error = damage,
        "the record of the data directory is damaged; it is replaced"
    );
    Ok(NodeRecord::default())
}

async fn write_directory<W: World>(world: &W, held: &NodeRecord) -> Result<(), LifeError> {
    let disk = world.disk();
    match disk.remove(NODE_FILE_NEW).await {
        Ok(()) | Err(DiskError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    disk.create(NODE_FILE_NEW).await?;
    disk.append(NODE_FILE_NEW, &[record::encode(held).map_err(LifeError::Damaged)?]).await?;
    disk.sync(NODE_FILE_NEW).await?;
    disk.rename(NODE_FILE_NEW, NODE_FILE).await?;
    disk.sync_dir("node").await?;
    Ok(())
}

/// The node id that a directory belongs to, if it has been used.
pub async fn directory_owner<D: Disk>(disk: &D) -> Result<Option<String>, LifeError> {
    match disk.read_at(NODE_FILE, 0, RECORD_BYTES_MAX).await {
        Ok(bytes) => Ok(Some(record::decode::<NodeRecord>(&bytes).map_err(LifeError::Damaged)?.node_id)),
        Err(DiskError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl NodeRecord {
    /// Whether the directory has run `life`.
    pub fn knows(&self, life: u64) -> bool {
        self.lives.iter().any(|(_, known)| *known == hex(life))
    }
}

/// Asks the bucket whether this life is still the newest.
#[derive(Clone)]
pub struct LifeWatch<W: World> {
    pub world: W,
    pub objects: Objects<W>,
    pub names: Names,
    pub node_id: String,
    /// This life's record in the bucket.
    pub own: Path,
}

impl<W: World> Succession for LifeWatch<W> {
    async fn is_newest(&self) -> Result<bool, String> {
        let newer = self.objects.list(&self.names.lives(&self.node_id), Some(&self.own), 1).await;
        newer.map(|page| page.objects.is_empty()).map_err(|error| error.to_string())
    }

    async fn why_superseded(&self) -> String {
        match crate::store::retired_by(&self.objects, &self.names, &self.node_id).await {
            Ok(Some(held)) => {
                self.world.reached(State::RetiredNodeRefused);
                format!("node `{}` was retired by node `{}`", self.node_id, held.by)
            }
            Ok(None) | Err(_) => "a newer life of this node id has started".to_owned(),
        }
    }
}
