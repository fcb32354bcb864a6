//! Bounds what peers hold of payload memory with payloads that they have announced and not sent: however slowly some
//! send, reads keep their part of it, and other connections and other tenants theirs.
//!
//! A request is small where its payloads fit the share of one connection, a quarter of all that may be half sent, else it
//! is large. Small ones always find a lane as wide as that share, whatever large ones hold: of those one may be as long as
//! everything, where payload memory is little. What this does not do: notice who sends too slowly. The doors do.

use super::Peer;
use bettong_wire::memory::HeapMemory;
use bettong_wire::{BlockMemory, ErrorKind, Payload, ServiceError, WriteBuf};
use bytes::BufMut;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// When to come again: a payload that is being sent takes about so long.
const RETRY_AFTER_MS: u32 = 50;

/// Bytes that are reserved for peers and not filled, all together.
#[derive(Clone, Debug)]
pub(super) struct HalfSent {
    held: Arc<Mutex<Held>>,
    max: u64,
}

/// What is held, in all and by each tenant that holds something.
#[derive(Debug, Default)]
struct Held {
    all: Bytes,
    tenants: BTreeMap<String, Bytes>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Bytes {
    small: u64,
    large: u64,
}

impl Bytes {
    fn of(&mut self, large: bool) -> &mut u64 {
        if large { &mut self.large } else { &mut self.small }
    }
}

/// What one request holds of it, given back with the last of its payloads.
struct Share {
    held: Arc<Mutex<Held>>,
    of_connection: Arc<AtomicU64>,
    tenant: String,
    len: u64,
    large: bool,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        *held.all.of(self.large) -= self.len;
        self.of_connection.fetch_sub(self.len, Ordering::Relaxed);
        if let Some(of_tenant) = held.tenants.get_mut(&self.tenant) {
            *of_tenant.of(self.large) -= self.len;
            if (of_tenant.small, of_tenant.large) == (0, 0) {
                held.tenants.remove(&self.tenant);
            }
        }
    }
}

struct SharedBuf {
    buf: Box<dyn WriteBuf>,
    _share: Arc<Share>,
}

impl WriteBuf for SharedBuf {
    fn unfilled(&mut self) -> &mut dyn BufMut {
        self.buf.unfilled()
    }

    fn seal(self: Box<Self>) -> Option<Payload> {
        self.buf.seal()
    }
}

impl HalfSent {
    pub fn new(max: u64) -> Self {
        Self { held: Arc::default(), max }
    }

    /// What one connection may hold with small requests.
    fn of_connection_max(&self) -> u64 {
        self.max / 4
    }

    /// Destinations for the payloads of one request. They count as half sent until all are sealed or dropped.
    ///
    /// # Errors
    /// `too_large` where they never fit, `busy` where this connection, its tenant or all peers together hold too much
    /// already, and whatever `reserve` says.
    pub fn reserve<E: Into<ServiceError>>(
        &self,
        peer: &Peer,
        lens: &[u64],
        reserve: impl Fn(u64) -> Result<Box<dyn WriteBuf>, E>,
    ) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
        let len = lens.iter().fold(0_u64, |sum, len| sum.saturating_add(*len));
        let share = Arc::new(self.charge(peer, len)?);
        let shared = |len: &u64| -> Result<Box<dyn WriteBuf>, ServiceError> {
            let buf = reserve(*len).map_err(Into::into)?;
            Ok(Box::new(SharedBuf { buf, _share: share.clone() }))
        };
        lens.iter().map(shared).collect()
    }

    /// A destination for a request's archive. It counts as half sent until it is sealed or dropped, and takes the place of
    /// payloads that could be, though it is not of their memory: a payload may be shorter by configuration than an archive.
    pub fn reserve_archive(&self, peer: &Peer, len: u64) -> Result<Box<dyn WriteBuf>, ServiceError> {
        let memory = HeapMemory::new(len, len);
        self.reserve(peer, &[len], |len| memory.reserve(len))?
            .pop()
            .ok_or_else(|| ServiceError::new(ErrorKind::Internal, "a reservation of one destination has none"))
    }

    fn charge(&self, peer: &Peer, len: u64) -> Result<Share, ServiceError> {
        let max = self.max;
        if len > max {
            let text = format!("one request with {len} bytes of payload is over the limit of {max}");
            return Err(ServiceError::too_large(text, max));
        }
        let large = len > self.of_connection_max();
        let mut held = self.held.lock();
        let of_connection = peer.half_sent.load(Ordering::Relaxed);
        let of_tenant = held.tenants.get(&peer.tenant).copied().unwrap_or_default();
        let lane = max.saturating_sub(held.all.large).max(self.of_connection_max());
        let bounds = if large {
            // One large request may pass where nothing else of its connection, and no other large one of its tenant, is
            // under way.
            let of_tenant_max = if of_tenant.large == 0 { max } else { max / 2 };
            [
                ("this connection", of_connection, if of_connection == 0 { max } else { self.of_connection_max() }),
                ("this tenant's large requests", of_tenant.large, of_tenant_max),
                ("all requests", held.all.small.saturating_add(held.all.large), max),
            ]
        } else {
            [
                ("this connection", of_connection, self.of_connection_max()),
                ("this tenant", of_tenant.small, lane / 2),
                ("all requests", held.all.small, lane),
            ]
        };
        let over = bounds.iter().find(|(_, held, max)| len > max.saturating_sub(*held));
        if let Some((whose, held, max)) = over {
            let text =
                format!("{held} bytes of payloads of {whose} are being sent, {len} more are over the limit of {max}");
            return Err(ServiceError::busy(text, RETRY_AFTER_MS));
        }
        *held.all.of(large) += len;
        *held.tenants.entry(peer.tenant.clone()).or_default().of(large) += len;
        peer.half_sent.fetch_add(len, Ordering::Relaxed);
        let (of_connection, tenant) = (peer.half_sent.clone(), peer.tenant.clone());
        Ok(Share { held: self.held.clone(), of_connection, tenant, len, large })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Rights;

    const MAX: u64 = 4000;

    fn peer(tenant: &str) -> Peer {
        Peer::new(tenant, Rights::default(), "test")
    }

    struct Rig {
        memory: HeapMemory,
        half_sent: HalfSent,
    }

    impl Rig {
        fn new() -> Self {
            Self { memory: HeapMemory::new(MAX * 2, MAX), half_sent: HalfSent::new(MAX) }
        }

        fn reserve(&self, peer: &Peer, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
            self.half_sent.reserve(peer, lens, |len| self.memory.reserve(len))
        }
    }

    fn refused(result: Result<Vec<Box<dyn WriteBuf>>, ServiceError>) -> (ErrorKind, String) {
        let error = result.err().unwrap();
        (error.kind, error.message)
    }

    #[test]
    fn what_is_announced_and_not_sent_is_given_back() {
        let (rig, peer) = (Rig::new(), peer("acme"));
        let mut first = rig.reserve(&peer, &[400, 300]).unwrap();
        let (kind, text) = refused(rig.reserve(&peer, &[400]));
        assert_eq!(kind, ErrorKind::Busy);
        assert!(text.contains("700 bytes") && text.contains("limit of 1000"), "{text}");
        let mut buf = first.remove(0);
        buf.unfilled().put_slice(&[7; 400]);
        let payload = buf.seal().unwrap();
        assert!(rig.reserve(&peer, &[400]).is_err(), "the request is not here as a whole");
        drop(first);
        drop(rig.reserve(&peer, &[1000]).unwrap());
        drop(payload);
        assert_eq!(refused(rig.reserve(&peer, &[MAX, 1])).0, ErrorKind::TooLarge);
        let (memory, scarce) = (HeapMemory::new(10, 10), |lens: &[u64]| rig.half_sent.charge(&peer, lens[0]));
        assert!(rig.half_sent.reserve(&peer, &[8, 8], |len| memory.reserve(len)).is_err());
        drop(scarce(&[1000]).unwrap());
        let archive = rig.half_sent.reserve_archive(&peer, 900).unwrap();
        assert!(rig.reserve(&peer, &[400]).is_err());
        drop(archive);
        assert!(rig.half_sent.held.lock().tenants.is_empty(), "a refused reservation holds nothing");
        assert_eq!((rig.memory.bytes_in_use(), memory.bytes_in_use()), (0, 0));
    }

    #[test]
    fn one_connection_and_one_tenant_leave_room_for_others() {
        let (rig, slow) = (Rig::new(), [peer("acme"), peer("acme"), peer("acme")]);
        let held: Vec<_> = slow.iter().filter_map(|slow| rig.reserve(slow, &[1000]).ok()).collect();
        assert_eq!(held.len(), 2, "a tenant has a half, a connection a quarter");
        let other = peer("umbrella");
        let _goes_on = rig.reserve(&other, &[1000]).unwrap();
        assert_eq!(refused(rig.reserve(&other, &[1])).0, ErrorKind::Busy);
    }

    #[test]
    fn a_large_request_leaves_a_lane_for_small_ones() {
        let (rig, slow, other) = (Rig::new(), peer("acme"), peer("acme"));
        let large = rig.reserve(&slow, &[MAX]).unwrap();
        assert_eq!(refused(rig.reserve(&slow, &[1])).0, ErrorKind::Busy, "its connection holds more than its share");
        let goes_on = rig.reserve(&other, &[500]).unwrap();
        assert_eq!(refused(rig.reserve(&peer("acme"), &[1])).0, ErrorKind::Busy, "of a lane, a tenant has a half");
        let _foreign = rig.reserve(&peer("umbrella"), &[500]).unwrap();
        assert_eq!(refused(rig.reserve(&peer("third"), &[1])).0, ErrorKind::Busy);
        assert_eq!(refused(rig.reserve(&peer("umbrella"), &[1001])).0, ErrorKind::Busy, "large ones fit beside others");
        drop((large, goes_on));
        let _second = rig.reserve(&peer("umbrella"), &[3500]).unwrap();
        assert_eq!(refused(rig.reserve(&peer("umbrella"), &[1001])).0, ErrorKind::Busy);
    }
}
