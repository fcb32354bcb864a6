//! Workloads of other kinds than a chat service's, so that a policy that was made for one trace shows.

use crate::trace::payload::mix;
use crate::trace::{BLOCK_TOKENS, TraceRequest, generated};

/// Requests of each.
const REQUESTS: usize = 4000;

/// Each with its name.
pub fn all() -> [(&'static str, Vec<TraceRequest>); 4] {
    let sessions = generated::Shape { requests: REQUESTS, sessions: 200, ..generated::Shape::default() };
    [
        ("sessions that grow", generated::generate(sessions)),
        ("documents in a loop", looping()),
        ("documents by popularity (Zipf)", popular()),
        ("popular documents, and a scan between", popular_with_scans()),
    ]
}

/// A stream of draws.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn request(ids: Vec<u64>) -> TraceRequest {
    let tokens = u32::try_from(ids.len()).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS);
    TraceRequest { timestamp_ms: 0, input_tokens: tokens, ids }
}

/// A document of `len` blocks, behind a system prompt that all share.
fn document(number: u64, len: u64) -> Vec<u64> {
    std::iter::once(0).chain((0..len).map(|block| ((number + 1) << 20) | block)).collect()
}

/// A hundred documents, one after the other, over and over: nothing that only knows the past does well here, and least
/// of all what keeps the newest.
fn looping() -> Vec<TraceRequest> {
    (0..REQUESTS as u64).map(|turn| request(document(turn % 100, 20 + turn % 100 % 30))).collect()
}

/// Documents, few of which are asked for often, each time with a question of its own.
fn popular() -> Vec<TraceRequest> {
    let (mut draws, zipf) = (Draws(7), Zipf::new(1000, 0.9));
    (0..REQUESTS as u64).map(|turn| question(&mut draws, &zipf, turn)).collect()
}

/// The same, and every twentieth request is a long prompt that never comes back.
fn popular_with_scans() -> Vec<TraceRequest> {
    let (mut draws, zipf) = (Draws(8), Zipf::new(1000, 0.9));
    let mut one = |turn: u64| match turn % 20 {
        19 => request(document(1 << 20 | turn, 200)),
        _ => question(&mut draws, &zipf, turn),
    };
    (0..REQUESTS as u64).map(&mut one).collect()
}

fn question(draws: &mut Draws, zipf: &Zipf, turn: u64) -> TraceRequest {
    let number = zipf.draw(draws);
    let mut ids = document(number, 4 + mix(number) % 40);
    ids.extend((0..1 + draws.below(4)).map(|block| (1 << 60) | (turn << 8) | block));
    request(ids)
}

/// Draws numbers from zero, the n-th as often as 1/n^s.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(count: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self(sums.collect())
    }

    fn draw(&self, draws: &mut Draws) -> u64 {
        let wanted = draws.share() * self.0.last().copied().unwrap_or(0.0);
        self.0.partition_point(|sum| *sum <= wanted) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ideal;

    #[test]
    fn they_repeat_and_are_of_different_kinds() {
        for ((what, requests), (_, again)) in all().into_iter().zip(all()) {
            assert_eq!(requests, again, "{what}");
            let ideal = ideal(&requests);
            assert!(ideal.distinct > 1000 && ideal.hits > ideal.blocks / 4, "{what}: {ideal:?}");
        }
    }

    #[test]
    fn the_first_are_drawn_most() {
        let (mut draws, zipf) = (Draws(1), Zipf::new(100, 1.0));
        let mut counts = [0; 100];
        (0..10_000).for_each(|_| counts[zipf.draw(&mut draws) as usize] += 1);
        assert!(counts[0] > 3 * counts[9] && counts[9] > counts[99], "{counts:?}");
    }
}
