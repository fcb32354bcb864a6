//! What a replay counts by itself.

use crate::render::latency::Latency;
use crate::render::table::Table;
use crate::render::units;
use crate::trace::BLOCK_TOKENS;
use serde_json::{Value, json};
use std::time::Duration;

/// Counters of one replay, or of one worker of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    /// Block references of all requests.
    pub blocks: u64,
    /// Blocks that look-ups announced.
    pub found: u64,
    /// Blocks that were got and whose every byte was right.
    pub verified: u64,
    /// Of these, by the tier that served them: memory, disk, object.
    pub by_tier: [u64; 3],
    /// Hits on the first block of a request, which every request of a trace may share.
    pub first_blocks: u64,
    /// Blocks whose bytes were not those of their id.
    pub wrong: u64,
    /// Blocks that a look-up announced and the get did not deliver.
    pub vanished: u64,
    /// Blocks that were put and acknowledged.
    pub put: u64,
    /// Puts that were acknowledged as already there.
    pub already: u64,
    pub lookup: Latency,
    pub get: Latency,
    pub save: Latency,
}

/// Names of the tiers, in the order of `by_tier`.
pub const TIERS: [&str; 3] = ["memory", "disk", "object"];

impl Tally {
    pub fn merge(&mut self, other: &Self) {
        let numbers = [
            (&mut self.requests, other.requests),
            (&mut self.blocks, other.blocks),
            (&mut self.found, other.found),
            (&mut self.verified, other.verified),
            (&mut self.first_blocks, other.first_blocks),
            (&mut self.wrong, other.wrong),
            (&mut self.vanished, other.vanished),
            (&mut self.put, other.put),
            (&mut self.already, other.already),
        ];
        for (mine, more) in numbers {
            *mine += more;
        }
        for (mine, more) in self.by_tier.iter_mut().zip(other.by_tier) {
            *mine += more;
        }
        self.lookup.merge(&other.lookup);
        self.get.merge(&other.get);
        self.save.merge(&other.save);
    }

    /// Hits without each request's first block.
    fn without_first(&self) -> (u64, u64) {
        (self.verified.saturating_sub(self.first_blocks), self.blocks.saturating_sub(self.requests))
    }

    pub fn to_json(&self, block_bytes: u64, took: Duration) -> Value {
        let latency = |latency: &Latency| {
            json!({
                "count": latency.count(),
                "p50_us": latency.quantile(0.5).as_micros() as u64,
                "p99_us": latency.quantile(0.99).as_micros() as u64,
            })
        };
        json!({
            "requests": self.requests,
            "blocks": self.blocks,
            "hits": self.verified,
            "hits_by_tier": TIERS.iter().zip(self.by_tier).map(|(tier, hits)| (tier.to_string(), json!(hits))).collect::<serde_json::Map<_, _>>(),
            "hits_without_first_block": self.without_first().0,
            "wrong": self.wrong,
            "vanished": self.vanished,
            "put": self.put,
            "already_there": self.already,
            "hit_bytes": self.verified * block_bytes,
            "tokens_saved": self.verified * u64::from(BLOCK_TOKENS),
            "seconds": took.as_secs_f64(),
            "lookup": latency(&self.lookup),
            "get": latency(&self.get),
            "put_latency": latency(&self.save),
        })
    }

    pub fn to_table(&self, block_bytes: u64, took: Duration) -> Table {
        let mut table = Table::new(&["replay", ""]);
        let mut row = |name: &str, value: String| table.row(&[name, &value]);
        let (hits, blocks) = self.without_first();
        row("requests", units::count(self.requests));
        row("block references", units::count(self.blocks));
        row(
            "hits, every byte verified",
            format!("{} ({})", units::count(self.verified), units::percent(self.verified, self.blocks)),
        );
        row("  without each first block", format!("{} ({})", units::count(hits), units::percent(hits, blocks)));
        for (tier, hits) in TIERS.iter().zip(self.by_tier) {
            row(&format!("  from {tier}"), units::count(hits));
        }
        row("wrong blocks", units::count(self.wrong));
        row("announced, then not there", units::count(self.vanished));
        row("blocks put", units::count(self.put));
        row(
            "bytes got / put",
            format!("{} / {}", units::bytes(self.verified * block_bytes), units::bytes(self.put * block_bytes)),
        );
        row("tokens saved", units::count(self.verified * u64::from(BLOCK_TOKENS)));
        row("time", units::duration(took));
        for (name, latency) in
            [("look-up", &self.lookup), ("get, a request's hits", &self.get), ("put, a request's misses", &self.save)]
        {
            let (p50, p99) = (units::duration(latency.quantile(0.5)), units::duration(latency.quantile(0.99)));
            row(&format!("{name} p50 / p99"), format!("{p50} / {p99}"));
        }
        table
    }
}
