//! What requests to an object store cost, as the daemon counts them: a listing once, however many pages it has.

use crate::render::table::Table;
use crate::render::units;
use crate::replay::counters::number;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// Prices of an object store. The defaults are the list prices of S3 Standard in us-east-1
/// (<https://aws.amazon.com/s3/pricing/>) as of November 2026. Deletes are free there; traffic is not counted.
#[derive(Args, Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Dollars for 1,000 requests that write or list: PUT, COPY, POST, LIST.
    #[arg(long, default_value_t = 0.005, value_name = "DOLLARS")]
    pub price_put: f64,
    /// Dollars for 1,000 requests that read: GET, HEAD.
    #[arg(long, default_value_t = 0.0004, value_name = "DOLLARS")]
    pub price_get: f64,
    /// Dollars for a GB (10^9 bytes) that is stored for a month.
    #[arg(long, default_value_t = 0.023, value_name = "DOLLARS")]
    pub price_storage: f64,
}

/// Hours of a month, as a bill counts them.
const MONTH_HOURS: f64 = 730.0;

/// Requests of each kind, in the order of `KINDS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Requests([u64; KINDS.len()]);

/// As the daemon counts them; repeated requests are counted again, because they cost again.
const KINDS: [&str; 6] = ["put", "copy", "list", "get", "head", "delete"];

impl Requests {
    /// All since the daemon's start, by its STATS document.
    pub fn of(stats: &Value) -> Self {
        Self(KINDS.map(|kind| number(stats, &["requests", kind])))
    }

    pub fn since(self, before: Self) -> Self {
        let mut rise = self;
        for (now, before) in rise.0.iter_mut().zip(before.0) {
            *now = now.saturating_sub(before);
        }
        rise
    }

    pub fn all(self) -> u64 {
        self.0.iter().sum()
    }

    pub fn dollars(self, prices: &Prices) -> f64 {
        let [put, copy, list, get, head, _delete] = self.0.map(|count| count as f64 / 1000.0);
        (put + copy + list) * prices.price_put + (get + head) * prices.price_get
    }
}

impl std::fmt::Display for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = KINDS.iter().zip(self.0).filter(|(_, count)| *count > 0);
        let text: Vec<String> = some.map(|(kind, count)| format!("{} {kind}", units::count(count))).collect();
        if text.is_empty() { f.write_str("none") } else { f.write_str(&text.join(", ")) }
    }
}

/// Requests over a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spent {
    pub requests: Requests,
    pub time: Duration,
}

impl Spent {
    /// Dollars an hour; `None` where no time passed.
    pub fn dollars_an_hour(&self, prices: &Prices) -> Option<f64> {
        let hours = self.time.as_secs_f64() / 3600.0;
        (hours > 0.0).then(|| self.requests.dollars(prices) / hours)
    }

    fn json(&self, prices: &Prices) -> Value {
        let kinds = KINDS.iter().zip(self.requests.0).map(|(kind, count)| ((*kind).to_owned(), count.into()));
        json!({
            "requests": kinds.collect::<serde_json::Map<String, Value>>(),
            "hours": self.time.as_secs_f64() / 3600.0,
            "dollars": self.requests.dollars(prices),
            "dollars_an_hour": self.dollars_an_hour(prices),
        })
    }
}

/// What a replay cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bill {
    pub prices: Prices,
    pub work: Spent,
    /// Whether the hours of `work` are the trace's, not the clock's.
    pub trace_time: bool,
    /// The same daemon without a request.
    pub idle: Spent,
    /// Blocks that were put, and their bytes.
    pub blocks: u64,
    pub bytes: u64,
}

fn dollars(amount: Option<f64>) -> String {
    amount.map_or_else(|| "-".to_owned(), |amount| format!("{amount:.4} $"))
}

impl Bill {
    /// Dollars an hour for keeping what was put.
    fn storage(&self) -> f64 {
        self.bytes as f64 / 1e9 * self.prices.price_storage / MONTH_HOURS
    }

    pub fn table(&self) -> Table {
        let hours = if self.trace_time { "hour of the trace" } else { "hour by the clock" };
        let mut table = Table::new(&["object store", "requests", &format!("dollars, an {hours}")]);
        let prices = &self.prices;
        let mut row = |what: &str, how: String, amount: Option<f64>| table.row(&[what, &how, &dollars(amount)]);
        row("replay", self.work.requests.to_string(), self.work.dollars_an_hour(prices));
        row("idle", self.idle.requests.to_string(), self.idle.dollars_an_hour(prices));
        row("keeping what was put", units::bytes(self.bytes), Some(self.storage()));
        let a_thousand = self.work.requests.all() as f64 * 1000.0 / self.blocks.max(1) as f64;
        let cost = self.work.requests.dollars(prices) * 1000.0 / self.blocks.max(1) as f64;
        row("replay, for 1,000 blocks put", format!("{a_thousand:.0} requests"), (self.blocks > 0).then_some(cost));
        table
    }

    pub fn json(&self) -> Value {
        json!({
            "work": self.work.json(&self.prices), "trace_time": self.trace_time, "idle": self.idle.json(&self.prices),
            "blocks_put": self.blocks, "bytes_put": self.bytes, "storage_dollars_an_hour": self.storage(),
        })
    }
}

/// One line about a daemon since its start.
pub fn since_start(stats: &Value, prices: &Prices) -> String {
    let requests = Requests::of(stats);
    let spent = Spent { requests, time: Duration::from_millis(number(stats, &["node", "uptime_ms"])) };
    let all = requests.dollars(prices);
    format!("object store since the start: {requests}: {all:.4} $, {} an hour", dollars(spent.dollars_an_hour(prices)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { price_put: 0.005, price_get: 0.0004, price_storage: 0.023 };

    fn stats(put: u64, get: u64) -> Value {
        let requests = json!({ "put": put, "get": get, "head": 1, "list": 0, "copy": 0, "delete": 9, "retried": 4 });
        json!({ "requests": requests, "node": { "uptime_ms": 1_800_000 } })
    }

    #[test]
    fn requests_are_priced_by_kind_and_deletes_are_free() {
        let spent = Requests::of(&stats(3000, 1999)).since(Requests::of(&stats(1000, 0)));
        assert_eq!(spent.to_string(), "2,000 put, 1,999 get");
        assert!((spent.dollars(&PRICES) - (2.0 * 0.005 + 1.999 * 0.0004)).abs() < 1e-12);
        assert_eq!(Requests::default().to_string(), "none");
        let line = since_start(&stats(2000, 999), &PRICES);
        assert!(line.ends_with("9 delete: 0.0104 $, 0.0208 $ an hour"), "{line}");
    }

    #[test]
    fn an_hour_is_an_hour_of_the_time_that_is_given() {
        let requests = Requests::of(&stats(1000, 0));
        let over = |seconds| Spent { requests, time: Duration::from_secs(seconds) }.dollars_an_hour(&PRICES);
        assert!((over(1800).unwrap() - 2.0 * over(3600).unwrap()).abs() < 1e-12);
        assert_eq!(over(0), None);
    }
}
