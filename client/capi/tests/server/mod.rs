//! A daemon made of the servers' state machines and a map, which answers what the C ABI can ask.

#[cfg(target_os = "linux")]
mod shm;
mod tcp;

use bettong_client::{ErrorKind, Level, MissReason, Payload, PutId, SidecarKey, Target, Tier};
use bettong_wire::request::{BlockPut, GetBlocks, LookupBlockPrefix, NsHandle, Open, PutBlocks, PutSidecar};
use bettong_wire::response::{Answer, Hit, ItemOutcome, Opened, Outcome, SessionLimits, Stored};
use bettong_wire::{BlockKey, ModelIdentity, NamespaceId, Part, Request, Response, ServiceError};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

pub struct Server {
    pub url: String,
    /// Tells one connection over TCP to hang up.
    pub leave: Arc<Notify>,
    /// Told when it has.
    pub hung_up: Arc<Notify>,
    /// What the door needs for as long as it is open.
    _door: Box<dyn Send>,
}

impl Server {
    pub async fn tcp() -> Self {
        tcp::start(House::default()).await
    }

    #[cfg(target_os = "linux")]
    pub fn shm() -> Self {
        shm::start(House::default())
    }
}

/// What all sessions have in common. There is one namespace of blocks, whatever it is called.
#[derive(Clone, Default)]
struct House {
    identity: Arc<Mutex<Option<ModelIdentity>>>,
    values: Arc<Mutex<BTreeMap<Target, (Payload, Level)>>>,
    puts: Arc<AtomicU64>,
    /// Bytes that clients hold in place.
    leased_bytes: Arc<AtomicU64>,
    leave: Arc<Notify>,
    hung_up: Arc<Notify>,
}

fn invalid(text: &str) -> Response {
    Response::error(ServiceError::new(ErrorKind::Invalid, text))
}

fn is_opened(response: &Response) -> bool {
    matches!(response.outcome, Outcome::Ok(Answer::Opened(_)))
}

impl House {
    fn hit(&self, payload: &Payload) -> Hit {
        let total_len = payload.len() as u64;
        Hit { total_len, put_id: PutId { life: 1, counter: 1 }, tier: Tier::Memory, expires_at_ms: 0 }
    }

    fn answer(&self, request: Request, mut body: Vec<Payload>) -> Response {
        match request {
            Request::Ping => Response::ok(Answer::Pong),
            Request::Open(open) => self.open(*open),
            Request::Close { .. } => Response::ok(Answer::Closed),
            Request::LookupBlockPrefix(lookup) => self.lookup(&lookup),
            Request::PutBlocks(PutBlocks { blocks, level, .. }) => {
                let is_right = |(index, block): (usize, &BlockPut)| {
                    block.sequence == index as u32 && block.parent.is_some() == (index > 0)
                };
                if !blocks.iter().enumerate().all(is_right) {
                    return invalid("the blocks' places are not those of a chain from its beginning");
                }
                let puts =
                    blocks.iter().zip(body).map(|(block, bytes)| self.put(Target::Block(block.key), bytes, level));
                Response::ok(Answer::StoredBatch(puts.collect()))
            }
            Request::GetBlocks(get) => self.get_blocks(&get),
            Request::PutSidecar(PutSidecar { key, tip, level, .. }) => match self.lookup_one(tip) {
                true => Response::ok(Answer::Stored(self.put(Target::Sidecar(key), body.remove(0), level))),
                false => invalid("the tip of the sidecar is not there"),
            },
            Request::GetSidecar(get) => self.get_sidecar(get.key),
            Request::Stats => {
                let leased = self.leased_bytes.load(Ordering::Relaxed);
                let json = format!("{{\"leased_bytes\":{leased}}}");
                Response::with_payloads(Answer::Stats, vec![json.into_bytes().into()])
            }
            other => invalid(&format!("not to be asked by the C ABI: {other:?}")),
        }
    }

    fn open(&self, open: Open) -> Response {
        let mut held = self.identity.lock().unwrap();
        let Some(offered) = open.identity else { return invalid("the test opens namespaces with an identity") };
        let differences = offered.differences(held.get_or_insert_with(|| offered.clone()));
        if let Some(difference) = differences.first() {
            return Response::error(ServiceError::new(
                ErrorKind::IdentityMismatch,
                format!("{} differs", difference.field),
            ));
        }
        Response::ok(Answer::Opened(Opened {
            ns: NsHandle(0),
            namespace_id: NamespaceId::derive(&open.tenant, &open.namespace),
            protocol_version: 1,
            parts: offered.parts,
            payload_crc: false,
            limits: SessionLimits::default(),
        }))
    }

    fn put(&self, target: Target, bytes: Payload, level: Level) -> Stored {
        let mut values = self.values.lock().unwrap();
        let already = values.get(&target).is_some_and(|(_, held)| *held >= level);
        if !already {
            values.insert(target, (bytes, level));
        }
        Stored { put_id: PutId { life: 1, counter: self.puts.fetch_add(1, Ordering::Relaxed) + 1 }, already }
    }

    fn lookup(&self, lookup: &LookupBlockPrefix) -> Response {
        let of_identity = self.identity.lock().unwrap().as_ref().unwrap().parts.clone();
        let parts = match lookup.parts.as_slice() {
            [] => of_identity.clone(),
            asked => asked.iter().map(|ask| ask.part.0).collect(),
        };
        if let Some(part) = parts.iter().find(|part| !of_identity.contains(part)) {
            return invalid(&format!("part {part} is not one of the namespace's parts {of_identity:?}"));
        }
        let values = self.values.lock().unwrap();
        let is_there =
            |hash| parts.iter().all(|part| values.contains_key(&Target::Block(BlockKey { hash, part: Part(*part) })));
        Response::ok(Answer::Prefix { blocks: lookup.hashes.iter().take_while(|hash| is_there(**hash)).count() as u32 })
    }

    fn lookup_one(&self, hash: bettong_wire::BlockHash) -> bool {
        self.values.lock().unwrap().contains_key(&Target::Block(BlockKey { hash, part: Part(0) }))
    }

    fn get_blocks(&self, get: &GetBlocks) -> Response {
        let values = self.values.lock().unwrap();
        let held: Vec<&Payload> =
            get.keys.iter().map_while(|key| values.get(&Target::Block(*key))).map(|(payload, _)| payload).collect();
        if held.len() < get.keys.len() && !get.leading {
            return Response::miss(MissReason::Evicted);
        }
        let items = held.iter().map(|payload| ItemOutcome::Hit(self.hit(payload))).collect();
        Response::with_payloads(Answer::Items(items), held.into_iter().cloned().collect())
    }

    fn get_sidecar(&self, key: SidecarKey) -> Response {
        match self.values.lock().unwrap().get(&Target::Sidecar(key)) {
            Some((payload, _)) => Response::with_payloads(Answer::Hit(self.hit(payload)), vec![payload.clone()]),
            None => Response::miss(MissReason::Absent),
        }
    }
}
