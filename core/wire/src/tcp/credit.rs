//! How much memory the answers of one connection may pin.
//!
//! An answer holds its payloads from the moment the store gives them until the peer has read them. A read is admitted
//! only while what is unsent, and what the reads under way are expected to bring, is within the credit; the expectation
//! follows the payloads that this connection's reads really brought. What comes in spite of it finds the credit used up
//! and is answered BUSY, so the bound holds for a peer that reads slowly or not at all.

use crate::request::{Get, Request};

/// What a read is expected to bring before any has been answered.
const EXPECTED_BYTES_AT_START: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Credit {
    limit: u64,
    promised: u64,
    expected_payload: u64,
}

impl Credit {
    pub fn new(limit: u64) -> Self {
        Self { limit, promised: 0, expected_payload: EXPECTED_BYTES_AT_START.min(limit) }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What the answer to `request` will probably bring.
    pub fn estimate(&self, request: &Request) -> u64 {
        let items = |count: usize| self.expected_payload.saturating_mul(count as u64);
        match request {
            Request::Get(Get { range: Some((_, len)), .. }) => self.expected_payload.min(*len),
            Request::Get(_) | Request::GetSidecar(_) => self.expected_payload,
            Request::GetMany(body) => items(body.targets.len()),
            Request::GetBlocks(body) => items(body.keys.len()),
            _ => 0,
        }
    }

    /// Takes `charge` from the credit, where it fits beside what is unsent; a connection that has nothing under way may
    /// always read one answer.
    pub fn admit(&mut self, charge: u64, unsent: u64) -> bool {
        let used = self.promised.saturating_add(unsent);
        let fits = charge == 0 || used == 0 || used.saturating_add(charge) <= self.limit;
        if fits {
            self.promised = self.promised.saturating_add(charge);
        }
        fits
    }

    /// A read that was admitted is answered.
    pub fn settle(&mut self, charge: u64) {
        self.promised = self.promised.saturating_sub(charge);
    }

    /// A payload of `len` bytes was answered.
    pub fn learn(&mut self, len: u64) {
        let expected = self.expected_payload;
        self.expected_payload = expected.max(len).saturating_sub(expected.saturating_sub(len) / 16);
    }

    /// Whether an answer with `len` payload bytes may be queued behind `unsent` bytes. One answer of any size may follow
    /// a little: else a batch larger than the credit would find a pong in its way for ever.
    pub fn allows(&self, len: u64, unsent: u64) -> bool {
        unsent <= self.limit / 16 || len == 0 || unsent.saturating_add(len) <= self.limit
    }
}
