//! What the doors of one life of a daemon see, for the oracles of its numbers and budgets.

use super::Shared;
use crate::oracle::metrics::{Stake, Tally};
use crate::oracle::{budget, slack};
use crate::run::{Life, Run};
use crate::world::elapsed;
use bettong_core::service::handler::StoreService;
use bettong_core::world::Mono;
use bettong_core::{Deadline, Peer, Service, World};
use bettong_wire::{Payload, Request, Response, ServiceError, WriteBuf};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Of the answers of a daemon, after each of so many its budgets are judged.
const BUDGETS_EVERY: u64 = 4;

/// The service of a store behind all its doors, with a tally of what it answers.
pub struct Audited<W: World> {
    inner: StoreService<W>,
    shared: Arc<Shared>,
    daemon: String,
    cache_dir: PathBuf,
    tally: Arc<Mutex<Tally>>,
}

impl<W: World> Clone for Audited<W> {
    fn clone(&self) -> Self {
        let Self { inner, shared, daemon, cache_dir, tally } = self;
        Self {
            inner: inner.clone(),
            shared: shared.clone(),
            daemon: daemon.clone(),
            cache_dir: cache_dir.clone(),
            tally: tally.clone(),
        }
    }
}

/// A request under way; given up where it is dropped.
struct UnderWay {
    number: u64,
    tally: Arc<Mutex<Tally>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.tally.lock().give_up(self.number);
    }
}

impl<W: World> Audited<W> {
    pub fn new(inner: StoreService<W>, shared: Arc<Shared>, life: &Life) -> Self {
        let (daemon, cache_dir) = (life.node.clone(), life.cache_dir.clone());
        Self { inner, shared, daemon, cache_dir, tally: Arc::default() }
    }

    fn run(&self) -> &Run {
        self.shared.cluster.run()
    }

    /// Whether the object tier may have grown, or its budget shrunk, by other ways than this daemon's puts: by what a
    /// retired node had, or by a start with another configuration.
    fn may_be_over_budget(&self) -> bool {
        let settled = self.shared.settled.load(Ordering::Relaxed);
        !settled && (self.run().redrawn(&self.daemon) > 0 || !self.shared.retirements.lock().is_empty())
    }

    fn judge_budgets(&self) {
        let calm = self.shared.settled.load(Ordering::Relaxed);
        let slack = match self.may_be_over_budget() {
            true => u64::MAX,
            false => {
                let mut model = self.shared.model.lock();
                model.set_damaged(self.run().damaged());
                slack(&model, &self.daemon, calm, elapsed())
            }
        };
        let verdict = budget::check(&self.daemon, &self.inner.store().stats(), slack)
            .and_then(|()| budget::disk(&self.daemon, &self.cache_dir, self.shared.setup.disk_bytes()));
        if let Err(no) = verdict {
            self.run().fail(no.oracle, no.what);
        }
    }

    fn judge(&self, response: &Response) {
        let document = response.payloads.first().map(|payload| serde_json::from_slice(payload.as_ref()));
        let Some(Ok(document)) = document else { return };
        let heals = !self.run().damaged().is_empty();
        match self.tally.lock().judge(&self.daemon, &document, heals) {
            Ok(true) => self.run().state_reached("sim O12 judged exactly"),
            Ok(false) => self.run().state_reached("sim O12 judged within bounds"),
            Err(no) => self.run().fail(no.oracle, no.what),
        }
    }
}

impl<W: World> Service for Audited<W> {
    fn reserve(&self, peer: &Peer, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
        self.inner.reserve(peer, lens)
    }

    fn reserve_archive(&self, peer: &Peer, len: u32) -> Result<Box<dyn WriteBuf>, ServiceError> {
        self.inner.reserve_archive(peer, len)
    }

    fn weigh(&self, peer: &Peer, request: &Request) -> u64 {
        self.inner.weigh(peer, request)
    }

    async fn call(&self, peer: &Peer, request: Request, body: Vec<Payload>, deadline: Deadline) -> Response {
        let is_stats = matches!(request, Request::Stats);
        let number = self.tally.lock().begin(Stake::of(&request));
        let under_way = UnderWay { number, tally: self.tally.clone() };
        let response = self.inner.call(peer, request, body, deadline).await;
        self.tally.lock().end(number, &response);
        drop(under_way);
        if is_stats {
            self.judge(&response);
        }
        if number.is_multiple_of(BUDGETS_EVERY) {
            self.judge_budgets();
        }
        response
    }

    fn at_once(&self, peer: &Peer, request: &Request) -> Option<Response> {
        let response = self.inner.at_once(peer, request)?;
        let mut tally = self.tally.lock();
        let number = tally.begin(Stake::of(request));
        tally.end(number, &response);
        drop(tally);
        if number.is_multiple_of(BUDGETS_EVERY) {
            self.judge_budgets();
        }
        Some(response)
    }

    fn now(&self) -> Mono {
        self.inner.now()
    }
}
