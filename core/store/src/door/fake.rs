//! A service whose behaviour is in the key: `slow/` waits until released, `panic/` panics.

use crate::service::{Deadline, Peer, Service};
use crate::world::Mono;
use bettong_wire::request::{NsHandle, Target, Tier};
use bettong_wire::response::{Answer, Hit, MissReason, Opened, SessionLimits, Stored};
use bettong_wire::{
    BlockMemory, NamespaceId, Payload, PutId, Request, Response, ServiceError, WriteBuf, memory::HeapMemory,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::Notify;

pub(super) struct FakeService {
    pub memory: HeapMemory,
    pub values: Mutex<BTreeMap<Target, Payload>>,
    pub release: Notify,
    pub deadlines: Mutex<Vec<u64>>,
}

impl Default for FakeService {
    fn default() -> Self {
        let memory = HeapMemory::new(1 << 20, 1 << 20);
        Self { memory, values: Mutex::default(), release: Notify::new(), deadlines: Mutex::default() }
    }
}

impl FakeService {
    async fn answer(&self, peer: &Peer, request: Request, body: Vec<Payload>) -> Response {
        let put_id = PutId { life: 1, counter: 1 };
        match request {
            Request::Open(open) => {
                assert_eq!((open.tenant.as_str(), open.token.as_str()), (peer.tenant.as_str(), ""));
                Response::ok(Answer::Opened(Opened {
                    ns: NsHandle(0),
                    namespace_id: NamespaceId::derive(&open.tenant, &open.namespace),
                    protocol_version: 1,
                    parts: vec![],
                    payload_crc: false,
                    limits: SessionLimits::default(),
                }))
            }
            Request::Put(put) => {
                self.values.lock().extend(body.into_iter().map(|payload| (put.target.clone(), payload)));
                Response::ok(Answer::Stored(Stored { put_id, already: false }))
            }
            Request::Get(get) => {
                if let Target::Plain(key) = &get.target {
                    assert!(!key.starts_with("panic/"), "asked to panic");
                    if key.starts_with("slow/") {
                        self.release.notified().await;
                    }
                }
                match self.values.lock().get(&get.target) {
                    None => Response::miss(MissReason::Absent),
                    Some(payload) => {
                        let total_len = payload.len() as u64;
                        let hit = Hit { total_len, put_id, tier: Tier::Memory, expires_at_ms: 0 };
                        Response::with_payloads(Answer::Hit(hit), vec![payload.clone()])
                    }
                }
            }
            other => panic!("the fake service does not know {other:?}"),
        }
    }
}

impl Service for FakeService {
    fn reserve(&self, _: &Peer, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
        lens.iter().map(|len| Ok(self.memory.reserve(*len)?)).collect()
    }

    fn reserve_archive(&self, _: &Peer, len: u32) -> Result<Box<dyn WriteBuf>, ServiceError> {
        Ok(self.memory.reserve(len.into())?)
    }

    fn weigh(&self, _: &Peer, request: &Request) -> u64 {
        match request {
            Request::Get(get) => self.values.lock().get(&get.target).map_or(0, |payload| payload.len() as u64),
            _ => 0,
        }
    }

    async fn call(&self, peer: &Peer, request: Request, body: Vec<Payload>, deadline: Deadline) -> Response {
        self.deadlines.lock().push(deadline.0.0);
        self.answer(peer, request, body).await
    }

    fn now(&self) -> Mono {
        Mono(7)
    }
}
