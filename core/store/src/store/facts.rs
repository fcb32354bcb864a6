//! What doors and operators ask of an open store besides its values.

use super::shared::Shared;
use super::{Fate, Store};
use crate::keys::NsNum;
use crate::race::timeout;
use crate::world::{Clock, Mono, World};
use bettong_wire::{BlockMemory, ErrorKind, NamespaceId, ReserveError, ServiceError, WriteBuf};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Where a reservation may evict values that were nowhere else.
struct Memory<W: World>(Arc<Shared<W>>);

impl<W: World> std::fmt::Debug for Memory<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.memory.fmt(f)
    }
}

impl<W: World> BlockMemory for Memory<W> {
    fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError> {
        let reserved = self.0.memory.reserve(len);
        self.0.settle_losses();
        reserved
    }

    fn bytes_in_use(&self) -> u64 {
        self.0.memory.bytes_in_use()
    }
}

/// Namespaces with budgets that the statistics show.
const NAMESPACES_SHOWN: usize = 64;
/// When to come again where the index takes no writes: about as often as it is tried.
const INDEX_PAUSE_MS: u32 = 1000;

impl<W: World> Store<W> {
    /// Reserves a destination for payload bytes.
    pub fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError> {
        self.memory().reserve(len)
    }

    /// Names this run of the node's process.
    pub fn life(&self) -> u64 {
        self.shared.life.life
    }

    /// The pool's memory, for doors that bring payloads into it themselves.
    pub fn memory(&self) -> Arc<dyn BlockMemory> {
        Arc::new(Memory(self.shared.clone()))
    }

    /// What payloads that are announced and not yet here may hold of payload memory, all peers together: half of what is
    /// kept for payloads on their way, so that reads have the other. Bytes.
    pub fn half_sent_bytes_max(&self) -> u64 {
        self.shared.config.in_flight_bytes() / 2
    }

    pub fn payload_bytes_max(&self) -> u64 {
        self.shared.config.payload_bytes_max
    }

    pub fn mono(&self) -> Mono {
        self.shared.world.clock().mono()
    }

    pub fn wall_ms(&self) -> u64 {
        self.shared.wall_ms()
    }

    /// The number of a namespace in this process; `NsNum::NONE` before anything is written to it.
    pub fn namespace_number(&self, id: NamespaceId) -> NsNum {
        self.shared.namespaces.read().get(id).unwrap_or(NsNum::NONE)
    }

    /// The output of `work`, or `None` once `bound` has passed; the work is dropped then.
    pub async fn within<T>(&self, bound: Duration, work: impl Future<Output = T>) -> Option<T> {
        timeout(&self.shared.world, bound, work).await
    }

    /// Runs `work` to its end even where the caller leaves.
    pub async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let (answer, result) = oneshot::channel();
        self.shared.world.spawn(async move {
            let _ = answer.send(work.await);
        });
        result.await.map_err(|_| ServiceError::new(ErrorKind::Retry, "the store is closing: the outcome is not known"))
    }

    /// What the journal holds; null without one.
    fn journal_facts(&self) -> Value {
        let Some(journal) = &self.shared.journal else { return Value::Null };
        let stats = journal.stats();
        json!({
            "backlog_puts": stats.backlog.puts,
            "backlog_bytes": stats.backlog.bytes,
            "oldest_pending": self.oldest_pending(),
            "synced_through": journal.synced_through(),
            "disk_bytes": stats.disk_bytes,
            "disk_bytes_max": stats.disk_bytes_max,
            "records": stats.records,
            "syncs": stats.syncs,
            "failures": stats.failures,
            "sync_us": stats.sync_us,
            "segments_begun": stats.segments_begun,
            "segments_removed": stats.segments_removed,
            "waiting": stats.waiting,
        })
    }

    /// What this node keeps in the object store, and the budgets; a budget of zero is none.
    fn object_facts(&self) -> Value {
        let shared = &self.shared;
        let accounts = shared.accounts.lock();
        let namespaces: Vec<Value> = accounts
            .namespaces()
            .take(NAMESPACES_SHOWN)
            .map(|(ns, policy)| {
                json!({
                    "namespace": shared.namespace_id(ns).to_hex(),
                    "bytes": policy.used_bytes(),
                    "bytes_max": policy.budget_bytes(),
                })
            })
            .collect();
        json!({
            "bytes": shared.map.own_object_bytes(),
            "bytes_max": shared.config.object_bytes_max,
            "namespace_bytes_max": shared.config.namespace_bytes_max,
            "namespaces": namespaces,
        })
    }

    /// `busy`, and why, while the index failed and could not be opened again so far.
    pub fn index_takes_writes(&self) -> Result<(), ServiceError> {
        let refused =
            |why| ServiceError::busy(format!("the index takes no writes at the moment: {why}"), INDEX_PAUSE_MS);
        self.commits.trouble().map_or(Ok(()), |why| Err(refused(why)))
    }

    /// The STATS document. Numbers are of this process, since its start.
    pub fn stats(&self) -> Value {
        let shared = &self.shared;
        let recovery = shared.recovery.lock().clone();
        let packs = shared.packs.lock().totals();
        let mut document = shared.stats.to_json();
        let estimates: Vec<Value> = shared
            .estimates
            .known()
            .into_iter()
            .map(|(tier, bytes_max, time)| {
                json!({ "tier": tier.as_str(), "bytes_max": bytes_max, "us": u64::try_from(time.as_micros()).ok() })
            })
            .collect();
        let memory = shared.memory.usage();
        let own = json!({
            "node": {
                "id": shared.config.node_id,
                "uptime_ms": self.mono().0 / 1_000_000,
                "life_ordinal": shared.life.ordinal,
                "life": format!("{:016x}", shared.life.life),
                "conditional_create": shared.conditional_create,
                "fenced": matches!(&*shared.fate.borrow(), Some(Fate::Fenced(_))),
            },
            "memory": {
                "payload_bytes": memory.payload,
                "payload_bytes_max": memory.bytes,
                "slot_bytes": memory.in_use,
                "slots": memory.slots,
                "extent_bytes": memory.assigned,
                "tier_bytes": shared.memory.bytes(),
                "evictions": shared.memory.evictions(),
                "extents_emptied": shared.memory.emptied(),
            },
            "object": self.object_facts(),
            "disk": {
                "bytes_max": shared.disk.as_ref().map_or(0, |disk| disk.bytes()),
                "trouble": shared.disk_trouble,
            },
            "index": {
                "values": shared.map.len(),
                "bytes": shared.map.bytes(),
                "plain_keys": shared.plain.lock().len(),
                "dead_marks": shared.dead.lock().len(),
                "peer_hints": shared.map.foreign(),
                "peer_hint_bytes": self.peer_hint_bytes(),
                "peer_hint_bytes_max": shared.config.peer_hint_bytes,
                "flights": shared.flights.len(),
                "trouble": self.commits.trouble(),
            },
            "packs": {
                "objects": packs.packs,
                "values": packs.live,
                "live_bytes": packs.live_bytes,
                "dead_bytes": packs.dead_bytes,
            },
            "requests": shared.objects.counts.snapshot(),
            "health": {
                "object_breaker_open": shared.objects.health.is_open(),
                "object_breaker_opened": shared.objects.health.opened(),
                "disk_breaker_open": shared.disk_health.is_open(),
                "disk_breaker_opened": shared.disk_health.opened(),
                "read_estimates": estimates,
            },
            "recovery": {
                "from": recovery.from,
                "values": recovery.values,
                "duration_ms": recovery.duration_ms,
                "directory_rolled_back": recovery.directory_rolled_back,
                "replayed": recovery.replayed,
            },
            "journal": self.journal_facts(),
            "signals": shared.signals.get().map(|signals| signals.facts()),
            "formats": {
                "envelope": bettong_wire::envelope::VERSION,
                "pack": bettong_wire::pack::VERSION,
                "index": crate::index::rows::FORMAT,
                "protocol": crate::service::handler::PROTOCOL_VERSION,
            },
        });
        if let (Some(document), Value::Object(own)) = (document.as_object_mut(), own) {
            document.extend(own);
        }
        document
    }
}
