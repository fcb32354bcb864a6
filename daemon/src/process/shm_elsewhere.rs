//! No shared-memory door: this platform has no memory that one process can seal and others read.

use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::process::memory::PayloadMemory;
use crate::process::reactors::Stop;
use crate::process::tokens::Tokens;
use bettong_core::Store;
use bettong_core::door::shm::Sessions;
use bettong_core::real::{RealClock, RealWorld};
use bettong_core::service::handler::StoreService;
use bettong_shm::pool::{Leases, SlotPool};
use std::path::Path;
use std::sync::Arc;

/// The word for no such door.
pub const NONE: &str = "none";

/// There is none.
#[derive(Debug)]
pub enum Listener {}

impl Listener {
    pub fn path(&self) -> &Path {
        match *self {}
    }
}

pub fn listen(config: &Config, _data_dir: &Path, _tokens: &Tokens) -> Outcome<Option<Listener>> {
    let why = "this platform has no sealed memory (memfd), so no shared-memory door";
    match config.shm_socket.0.as_str() {
        NONE => Ok(None),
        "" => {
            tracing::info!("{why}");
            Ok(None)
        }
        path => Err(Failure::new(Exit::Usage, format!("shm_socket {path}: {why}"))),
    }
}

/// A book that stays empty.
pub fn sessions(_config: &Config, pool: &SlotPool) -> Sessions {
    Sessions::new(Arc::new(Leases::new(pool.clone(), 0)))
}

/// What the door would stand on.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub listener: Listener,
    pub memory: PayloadMemory,
    pub store: &'a Store<RealWorld>,
    pub service: Arc<StoreService<RealWorld>>,
    pub sessions: Sessions,
    pub clock: RealClock,
    pub tokens: Tokens,
}

/// There are none.
#[derive(Debug)]
pub enum ShmThreads {}

impl ShmThreads {
    pub fn start(parts: Parts<'_>) -> Outcome<Self> {
        match parts.listener {}
    }

    pub fn stop(&self, _stop: Stop) {
        match *self {}
    }

    pub async fn finished(&self) {
        match *self {}
    }

    pub fn join(self) {
        match self {}
    }
}
