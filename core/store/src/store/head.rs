//! Heads: a caller's name pointing to the tip of a fully stored chain. One sequence of generations for each name, each
//! created only if it is absent.

use super::Store;
use crate::index::NodeNum;
use crate::keys::{Key, NsNum};
use crate::objects::names::last_number;
use crate::objects::{ObjectError, Page};
use crate::observe::{Point, State};
use crate::record;
use crate::world::{Clock, World};
use bettong_wire::request::{HeadValue, Level, Target};
use bettong_wire::response::Head;
use bettong_wire::{BlockHash, BlockKey, ErrorKind, MissReason, NamespaceId, Part, ServiceError, SidecarKey};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What `ns/{id}/head/{hash}/{generation}` holds.
#[derive(Serialize, Deserialize)]
pub(super) struct HeadRecord {
    name: String,
    generation: u64,
    put_id: String,
    /// Absent for a tombstone.
    value: Option<HeadFields>,
}

#[derive(Serialize, Deserialize)]
struct HeadFields {
    tip: String,
    length: u32,
    sidecar: Option<String>,
}

/// Generations of one page of a listing; more than one page only where nobody removed old ones for very long.
const PAGE: usize = 1000;
/// A head waits this long for the uploads of its chain.
const UPLOADS_WAIT: Duration = Duration::from_secs(30);

/// What a head promises to be there: every part of its tip, and its sidecar. Of a chain the end goes first.
fn ends(ns: NsNum, parts: &[u16], value: &HeadValue) -> impl Iterator<Item = Key> {
    let tip = parts.iter().map(move |part| Key::block(ns, BlockKey { hash: value.tip, part: Part(*part) }));
    tip.chain(value.sidecar.map(|key| Key::of(ns, &Target::Sidecar(key))))
}

impl<W: World> Store<W> {
    /// Publishes generation `expected + 1`. Refused unless every block of `chain` and the sidecar are durable.
    pub async fn publish_head(
        &self,
        ns: NsNum,
        parts: &[u16],
        name: &str,
        expected: u64,
        value: Option<&HeadValue>,
        chain: &[BlockHash],
    ) -> Result<u64, ServiceError> {
        let shared = &self.shared;
        self.heads_available()?;
        if let Some(value) = value {
            self.await_uploads(ns, parts, value, chain).await;
            self.check_chain(ns, parts, value, chain)?;
        }
        let began = shared.world.clock().mono();
        let id = shared.namespace_id(ns);
        let newest = self.newest_generation(id, name).await.map_err(not_readable)?.unwrap_or(0);
        if newest != expected {
            shared.world.reached(State::HeadConflict);
            return Err(conflict(name, newest, expected));
        }
        let generation = expected
            .checked_add(1)
            .ok_or_else(|| ServiceError::new(ErrorKind::Invalid, format!("generation {expected} has no successor")))?;
        let put_id = shared.draw_put_id();
        let held = HeadRecord {
            name: name.to_owned(),
            generation,
            put_id: put_id.to_string(),
            value: value.map(|value| HeadFields {
                tip: value.tip.to_hex(),
                length: value.length,
                sidecar: value.sidecar.map(|key| key.to_hex()),
            }),
        };
        let bytes = record::encode(&held).map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
        shared.world.at(Point::BeforeHeadPut).await;
        let path = shared.names.head(id, name, generation);
        let unknown = |why: String| {
            ServiceError::new(ErrorKind::Retry, format!("whether head `{name}` was published is not known: {why}"))
        };
        match shared.objects.create(&path, bytes.into()).await {
            Ok(()) => {}
            // Ours when it bears our put id: the acknowledgement of an earlier attempt was lost.
            Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {
                let there =
                    self.read_generation(id, name, generation).await.map_err(|error| unknown(error.to_string()))?;
                if there.put_id != put_id.to_string() {
                    shared.world.reached(State::HeadConflict);
                    return Err(conflict(name, generation, expected));
                }
                shared.world.reached(State::HeadOwnRetry);
            }
            Err(error) => return Err(unknown(error.to_string())),
        }
        let took = shared.world.clock().mono().since(began);
        if took > shared.config.head_publish_max {
            return Err(unknown(format!("it took {took:?}, and older generations may be gone")));
        }
        self.remove_old_generations(id, name.to_owned(), generation);
        Ok(generation)
    }

    /// The newest generation of a head. Where the end of its chain was evicted here, and no other node is known to have
    /// it, the generation is answered without its value, as a deleted head's: a chain is not promised that is not there,
    /// and a save goes on from the generation. The head itself stays: other nodes may have the chain.
    pub async fn get_head(
        &self,
        id: NamespaceId,
        ns: NsNum,
        parts: &[u16],
        name: &str,
    ) -> Result<Result<Head, MissReason>, ServiceError> {
        self.heads_available()?;
        let Some(generation) = self.newest_generation(id, name).await.map_err(not_readable)? else {
            return Ok(Err(MissReason::Absent));
        };
        let held = self.read_generation(id, name, generation).await.map_err(not_readable)?;
        let damaged = || {
            ServiceError::new(
                ErrorKind::Unavailable,
                format!("generation {generation} of head `{name}` does not verify"),
            )
        };
        if held.name != name || held.generation != generation {
            return Err(damaged());
        }
        let value = match held.value {
            None => None,
            Some(fields) => Some(HeadValue {
                tip: BlockHash::from_hex(&fields.tip).ok_or_else(damaged)?,
                length: fields.length,
                sidecar: match fields.sidecar {
                    None => None,
                    Some(key) => Some(SidecarKey::from_hex(&key).ok_or_else(damaged)?),
                },
            }),
        };
        let evicted = match &value {
            None => false,
            Some(value) => self.lost_its_end(ns, parts, value) || self.is_nowhere(ns, parts, value).await,
        };
        self.shared.world.reached_if(evicted, State::HeadWithoutChain);
        Ok(Ok(Head { generation, value: value.filter(|_| !evicted) }))
    }

    /// Whether the tip or the sidecar of a head was evicted here, and is not known to be anywhere else. Of a chain the
    /// end goes first: the blocks before the tip are there as long as it is. Where another node has stored the chain anew,
    /// this one learns of it with the next look at that node's index.
    fn lost_its_end(&self, ns: NsNum, parts: &[u16], value: &HeadValue) -> bool {
        let was_kept = |key: &Key| self.shared.ghosts.lock().level(key) == Some(Level::Object);
        ends(ns, parts, value).any(|key| self.exists(&key) == Err(MissReason::Evicted) && was_kept(&key))
    }

    /// Whether the tip or the sidecar is in no index that this node has read, and no object of it is in the bucket: it was
    /// evicted before this process began, or by a node that is gone. Where values are packed, or the bucket does not
    /// answer, that is not known.
    async fn is_nowhere(&self, ns: NsNum, parts: &[u16], value: &HeadValue) -> bool {
        let shared = &self.shared;
        let unknown = ends(ns, parts, value).filter(|key| self.exists(key) == Err(MissReason::Absent));
        for key in unknown.collect::<Vec<_>>() {
            let value_key = shared.value_key(&key);
            let (before, stem) = shared.names.versions(&value_key);
            let Some((folder, _)) = stem.rsplit_once('/') else { return false };
            let Ok(page) = shared.objects.list(&Path::from(folder), Some(&before), 1).await else { return false };
            if page.objects.first().is_some_and(|first| first.location.as_ref().starts_with(&stem)) {
                continue;
            }
            let packs = shared.objects.list(&shared.names.packs(value_key.namespace), None, 1).await;
            return packs.is_ok_and(|page| page.objects.is_empty());
        }
        false
    }

    /// Other nodes must find the chain of a head: what of it only the journal has is uploaded first.
    async fn await_uploads(&self, ns: NsNum, parts: &[u16], value: &HeadValue, chain: &[BlockHash]) {
        let blocks = chain
            .iter()
            .flat_map(|hash| parts.iter().map(|part| Key::block(ns, BlockKey { hash: *hash, part: Part(*part) })));
        let sidecar = value.sidecar.map(|key| Key::of(ns, &Target::Sidecar(key)));
        let journaled =
            |key: Key| self.shared.map.get(&key, NodeNum::SELF).is_some_and(|held| held.level == Level::Journal);
        if blocks.chain(sidecar).any(journaled) {
            self.flush(UPLOADS_WAIT).await;
        }
    }

    fn heads_available(&self) -> Result<(), ServiceError> {
        if self.shared.conditional_create {
            return Ok(());
        }
        let message = "heads need an object store that can create an object only if it is absent; this one cannot";
        Err(ServiceError::new(ErrorKind::Unavailable, message))
    }

    fn check_chain(
        &self,
        ns: NsNum,
        parts: &[u16],
        value: &HeadValue,
        chain: &[BlockHash],
    ) -> Result<(), ServiceError> {
        let refused = |message: String| Err(ServiceError::new(ErrorKind::Invalid, message));
        if chain.len() != value.length as usize || chain.last() != Some(&value.tip) {
            let (said, given) = (value.length, chain.len());
            return refused(format!("the head says {said} blocks ending in {}, the chain has {given}", value.tip));
        }
        for (at, hash) in chain.iter().enumerate() {
            for part in parts {
                let key = Key::block(ns, BlockKey { hash: *hash, part: Part(*part) });
                if !self.is_durable(&key) {
                    return refused(format!(
                        "block {at} ({hash}) has no durable part {part}: a head is published last"
                    ));
                }
            }
        }
        match value.sidecar {
            Some(sidecar) if !self.is_durable(&Key::of(ns, &Target::Sidecar(sidecar))) => {
                refused(format!("sidecar {sidecar} is not durable: a head is published last"))
            }
            _ => Ok(()),
        }
    }

    /// The newest generation that exists, read from the bucket every time: other nodes publish too.
    async fn newest_generation(&self, id: NamespaceId, name: &str) -> Result<Option<u64>, ObjectError> {
        let shared = &self.shared;
        let known = shared.generations.lock().get(&(id, *blake3::hash(name.as_bytes()).as_bytes())).copied();
        // The known generation is listed again: one before it as offset, so that an empty answer means damage, not age.
        let mut after = known.map(|known| shared.names.head(id, name, known.saturating_sub(1)));
        let mut newest = None;
        loop {
            let Page { objects, more } =
                shared.objects.page(&shared.names.heads(id, name), after.as_ref(), PAGE).await?;
            newest = objects.iter().filter_map(|object| last_number(&object.location)).max().max(newest);
            after = objects.last().map(|object| object.location.clone());
            if !more {
                break;
            }
        }
        let newest = newest.max(known);
        if let Some(newest) = newest {
            let mut generations = shared.generations.lock();
            if generations.len() >= GENERATIONS_KNOWN_MAX {
                generations.pop_first();
            }
            let held = generations.entry((id, *blake3::hash(name.as_bytes()).as_bytes())).or_default();
            *held = newest.max(*held);
        }
        Ok(newest)
    }

    async fn read_generation(&self, id: NamespaceId, name: &str, generation: u64) -> Result<HeadRecord, ObjectError> {
        let shared = &self.shared;
        let path = shared.names.head(id, name, generation);
        shared.objects.read_record(&path).await?.map_err(ObjectError::Unknown)
    }

    /// Removes generations that are older than the newest and past their time, in the background.
    fn remove_old_generations(&self, id: NamespaceId, name: String, newest: u64) {
        let store = self.clone();
        self.shared.world.spawn(async move {
            let shared = &store.shared;
            let prefix = shared.names.heads(id, &name);
            let Ok(page) = shared.objects.list(&prefix, None, PAGE).await else { return };
            let kept_ms = i64::try_from(shared.config.head_generations_kept.as_millis()).unwrap_or(i64::MAX);
            // By the bucket's own clock: the newest generation was written just now.
            let Some(now) = page.objects.iter().map(|object| object.last_modified).max() else { return };
            for object in page.objects {
                let old = (now - object.last_modified).num_milliseconds() > kept_ms;
                let superseded = last_number(&object.location).is_some_and(|generation| generation < newest);
                if old && superseded && shared.objects.remove(&object.location).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Heads whose newest generation is remembered.
pub(super) const GENERATIONS_KNOWN_MAX: usize = 65_536;

fn conflict(name: &str, newest: u64, expected: u64) -> ServiceError {
    let message = format!("head `{name}` is at generation {newest}, {expected} was expected: read it again");
    ServiceError::new(ErrorKind::Retry, message)
}

fn not_readable(error: ObjectError) -> ServiceError {
    ServiceError::new(ErrorKind::Unavailable, format!("heads cannot be read now: {error}"))
}
