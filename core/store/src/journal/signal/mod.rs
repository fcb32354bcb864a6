//! The signal journal: accesses, so that recency and counts survive a restart. Advice, never truth: its tail may be
//! lost, and what does not verify is skipped.

mod codec;
mod recovery;
mod writer;

pub use codec::{EVENT_LEN, SignalEvent, VERSION, decode_batch, encode_batch};
pub use recovery::SignalsRecovered;
pub use writer::{SignalConfig, SignalJournal, SignalStats};
