//! The ledger: every block whose put was acknowledged is read again and compared.

use crate::exit::Outcome;
use crate::remote::Remote;
use crate::render::progress::Progress;
use crate::trace::payload;
use bettong_wire::response::MissReason;
use bettong_wire::{BlockHash, BlockKey, Part};
use std::collections::BTreeMap;

/// What a reading of the ledger found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    pub verified: u64,
    pub wrong: u64,
    /// Acknowledged blocks that were not there, by reason.
    pub lost: BTreeMap<&'static str, u64>,
}

impl Audit {
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// Reads every block of the ledger, one by one.
pub async fn audit(remote: &Remote, ledger: &[(u64, BlockHash)], block_bytes: usize, what: &str) -> Outcome<Audit> {
    let mut audit = Audit::default();
    let mut progress = Progress::new(what, ledger.len() as u64);
    for (id, hash) in ledger {
        match remote.get_block(BlockKey { hash: *hash, part: Part(0) }).await? {
            Ok(bytes) => match payload::is_block(*id, block_bytes, bytes.as_ref()) {
                true => audit.verified += 1,
                false => audit.wrong += 1,
            },
            Err(reason) => *audit.lost.entry(MissReason::as_str(reason)).or_default() += 1,
        }
        progress.advance(1);
    }
    Ok(audit)
}
