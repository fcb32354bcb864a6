//! What the store has learnt of its tiers: whether they answer, and how long a read takes.

mod breaker;
mod estimate;

pub use breaker::Breaker;
pub use estimate::Estimates;
