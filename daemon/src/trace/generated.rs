//! A small trace of the same shape as a chat service's: every request starts with one shared block, and sessions come
//! back with their prompt extended.

use super::payload::mix;
use super::{BLOCK_TOKENS, TraceRequest};

/// Sizes of a generated trace.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub seed: u64,
    pub requests: usize,
    /// Sessions that are alive at a time; an ended one is replaced.
    pub sessions: usize,
    /// Blocks that one turn adds at most.
    pub turn_blocks_max: u64,
    /// Blocks after which a session ends.
    pub session_blocks_max: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { seed: 1, requests: 400, sessions: 24, turn_blocks_max: 12, session_blocks_max: 96 }
    }
}

/// Generates the trace; equal shapes give equal traces.
pub fn generate(shape: Shape) -> Vec<TraceRequest> {
    let mut state = shape.seed;
    let mut draw = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state) % below.max(1)
    };
    let mut sessions: Vec<Vec<u64>> = vec![vec![0]; shape.sessions.max(1)];
    let mut next_id = 1_u64;
    let mut timestamp_ms = 0;
    let mut requests = Vec::with_capacity(shape.requests);
    while requests.len() < shape.requests {
        timestamp_ms += draw(400);
        let chosen = draw(sessions.len() as u64);
        let Some(session) = usize::try_from(chosen).ok().and_then(|index| sessions.get_mut(index)) else { break };
        if session.len() >= shape.session_blocks_max {
            *session = vec![0];
        }
        let added = 1 + draw(shape.turn_blocks_max);
        session.extend(next_id..next_id + added);
        next_id += added;
        let input_tokens = u32::try_from(session.len()).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS);
        requests.push(TraceRequest { timestamp_ms, input_tokens, ids: session.clone() });
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::super::ideal;
    use super::*;

    #[test]
    fn it_is_repeatable_and_has_the_shape() {
        let trace = generate(Shape::default());
        assert_eq!(trace, generate(Shape::default()));
        assert_ne!(trace, generate(Shape { seed: 2, ..Shape::default() }));
        assert!(trace.iter().all(|request| request.ids.first() == Some(&0) && request.ids.len() <= 108));
        let ideal = ideal(&trace);
        assert!(ideal.hits * 2 > ideal.blocks && ideal.hits < ideal.blocks, "{ideal:?}");
    }
}
