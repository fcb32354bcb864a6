//! What the simulated bucket holds, and the record of everything that ever changed it.

use bettong_wire::PutId;
use bettong_wire::pack::{self, Member, Pack};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Attributes, CopyMode, Error, ObjectMeta, PutMode, UpdateVersion};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

pub const STORE: &str = "SimObjectStore";

#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub etag: u64,
    pub attributes: Attributes,
    pub modified: DateTime<Utc>,
}

/// Why an effect happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The caller asked, and it happened in its time.
    Asked,
    /// The caller asked and heard an error; it happened later.
    Late,
    /// It had happened before.
    Repeated,
    /// The simulator did it.
    Injected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    Put { len: u64, created: bool },
    Delete { existed: bool },
    Rot,
}

/// One change of the bucket.
#[derive(Debug, Clone)]
pub struct Effect {
    pub at: Duration,
    pub path: String,
    pub kind: EffectKind,
    /// The node that asked.
    pub by: String,
    pub cause: Cause,
}

/// What the store makes of a condition on a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conditions {
    /// Obeyed.
    #[default]
    Kept,
    /// Overlooked without a word: the write overwrites.
    Ignored,
    /// Refused as not implemented.
    Refused,
}

#[derive(Debug, Default)]
pub struct Bucket {
    conditions: Conditions,
    objects: BTreeMap<String, Object>,
    etags: u64,
    effects: Vec<Effect>,
    /// The packs that each member was ever written in.
    packed: BTreeMap<PutId, BTreeSet<String>>,
}

fn not_found(path: &str) -> Error {
    Error::NotFound { path: path.to_owned(), source: "no such object".into() }
}

fn etag_text(etag: u64) -> String {
    format!("\"{etag}\"")
}

/// A write on its way: everything but who asked and when it lands.
#[derive(Debug, Clone)]
pub struct Write {
    pub bytes: Bytes,
    pub mode: PutMode,
    pub attributes: Attributes,
}

/// Who asked, why it happens now, and when that is.
#[derive(Debug, Clone)]
pub struct Origin {
    pub by: String,
    pub cause: Cause,
    pub at: Duration,
    pub wall: DateTime<Utc>,
}

impl Bucket {
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// The objects as they are now, to go back to.
    pub fn snapshot(&self) -> BTreeMap<String, Object> {
        self.objects.clone()
    }

    pub fn restore(&mut self, snapshot: BTreeMap<String, Object>) {
        self.objects = snapshot;
    }

    /// Drops the objects whose paths are `unwanted`, without a trace: for copies of a bucket.
    pub fn forget(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.objects.retain(|path, _| !unwanted(path));
    }

    /// A bucket with the same objects, whose record of effects begins now.
    pub fn fork(&self) -> Self {
        let (objects, packed) = (self.objects.clone(), self.packed.clone());
        Self { conditions: self.conditions, objects, etags: self.etags, effects: Vec::new(), packed }
    }

    /// Applies a write whole, or not at all. Answers the new etag.
    pub fn put(&mut self, path: &str, write: Write, origin: &Origin) -> Result<String, Error> {
        let held = self.objects.get(path).map(|object| object.etag);
        let conditional = !matches!(write.mode, PutMode::Overwrite);
        if conditional && self.conditions == Conditions::Refused {
            return Err(Error::NotImplemented {
                operation: "conditional put".to_owned(),
                implementer: STORE.to_owned(),
            });
        }
        match (&write.mode, held) {
            _ if self.conditions == Conditions::Ignored => {}
            (PutMode::Overwrite, _) | (PutMode::Create, None) => {}
            (PutMode::Create, Some(_)) => {
                return Err(Error::AlreadyExists { path: path.to_owned(), source: "exists already".into() });
            }
            (PutMode::Update(version), held) => self.matches(path, version, held)?,
        }
        for member in members(path, &write.bytes) {
            self.packed.entry(member.put_id).or_default().insert(path.to_owned());
        }
        self.etags += 1;
        let etag = self.etags;
        let kind = EffectKind::Put { len: write.bytes.len() as u64, created: held.is_none() };
        let object = Object { bytes: write.bytes, etag, attributes: write.attributes, modified: origin.wall };
        self.objects.insert(path.to_owned(), object);
        self.record(path, kind, origin);
        Ok(etag_text(etag))
    }

    fn matches(&self, path: &str, version: &UpdateVersion, held: Option<u64>) -> Result<(), Error> {
        let held = held.map(etag_text);
        if held.is_some() && held == version.e_tag {
            return Ok(());
        }
        let source = format!("holds {held:?}, expected {:?}", version.e_tag);
        Err(Error::Precondition { path: path.to_owned(), source: source.into() })
    }

    pub fn copy(&mut self, from: &str, to: &str, mode: CopyMode, origin: &Origin) -> Result<(), Error> {
        let source = self.objects.get(from).cloned().ok_or_else(|| not_found(from))?;
        let mode = match mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.put(to, Write { bytes: source.bytes, mode, attributes: source.attributes }, origin).map(drop)
    }

    /// Deleting what is not there succeeds, as on S3.
    pub fn delete(&mut self, path: &str, origin: &Origin) {
        let existed = self.objects.remove(path).is_some();
        self.record(path, EffectKind::Delete { existed }, origin);
    }

    /// Damages the stored object: one bit of it, for ever. False where there is nothing to damage.
    pub fn rot(&mut self, path: &str, choice: u64, origin: &Origin) -> bool {
        let Some(object) = self.objects.get_mut(path).filter(|object| !object.bytes.is_empty()) else { return false };
        object.bytes = flip_bit(&object.bytes, choice);
        self.record(path, EffectKind::Rot, origin);
        true
    }

    pub fn get(&self, path: &str) -> Result<Object, Error> {
        self.objects.get(path).cloned().ok_or_else(|| not_found(path))
    }

    /// The objects strictly below `prefix` and after `offset`, ascending.
    pub fn list(&self, prefix: Option<&Path>, offset: Option<&str>) -> Vec<ObjectMeta> {
        let below = prefix.map(|prefix| prefix.as_ref()).filter(|prefix| !prefix.is_empty());
        let below = below.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        self.objects
            .range(below.clone()..)
            .take_while(|(path, _)| path.starts_with(&below))
            .filter(|(path, _)| offset.is_none_or(|offset| path.as_str() > offset))
            .map(|(path, object)| meta(path, object))
            .collect()
    }

    pub fn objects(&self) -> &BTreeMap<String, Object> {
        &self.objects
    }

    /// Every change since the run began, in order.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// How many packs the value was ever written in.
    pub fn packs_of(&self, put_id: PutId) -> usize {
        self.packed.get(&put_id).map_or(0, BTreeSet::len)
    }

    fn record(&mut self, path: &str, kind: EffectKind, origin: &Origin) {
        let (by, cause) = (origin.by.clone(), origin.cause);
        self.effects.push(Effect { at: origin.at, path: path.to_owned(), kind, by, cause });
    }
}

/// What is in the pack at `path`; nothing where it is no pack, or a damaged one.
pub fn members(path: &str, bytes: &[u8]) -> Vec<Member> {
    if !path.contains("/pack/") {
        return Vec::new();
    }
    Pack::decode(bytes, bytes.len() as u64).map(|pack| pack.members).unwrap_or_default()
}

/// What the names of the values say that bytes `range` of an object hold: its own name, or of a pack the keys of the
/// members there. Whoever spoils its table spoils them all.
pub fn spoiled(path: &str, bytes: &[u8], range: &Range<u64>) -> Vec<String> {
    let members = members(path, bytes);
    if members.is_empty() {
        let name = path.rsplit('/').next().unwrap_or(path);
        return vec![name.split('.').next().unwrap_or(name).to_owned()];
    }
    let table = range.start < pack::table_end(members.len());
    let (start, end) = (
        |member: &Member| u64::from(member.offset),
        |member: &Member| u64::from(member.offset) + u64::from(member.len),
    );
    let hit = members.iter().filter(|member| table || start(member) < range.end && range.start < end(member));
    hit.map(|member| blake3::Hash::from_bytes(member.key).to_hex().to_string()).collect()
}

pub fn meta(path: &str, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: Path::from(path),
        last_modified: object.modified,
        size: object.bytes.len() as u64,
        e_tag: Some(etag_text(object.etag)),
        version: None,
    }
}

/// A copy of `bytes` with one bit wrong.
pub fn flip_bit(bytes: &[u8], choice: u64) -> Bytes {
    let mut copy = bytes.to_vec();
    let position = choice.checked_rem(copy.len() as u64).and_then(|at| copy.get_mut(at as usize));
    if let Some(byte) = position {
        *byte ^= 1 << (choice >> 61);
    }
    copy.into()
}
