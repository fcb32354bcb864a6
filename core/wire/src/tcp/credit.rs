//! How much memory the answers of one connection may pin.
//!
//! An answer holds its payloads from the moment the store gives them until the peer has read them. A read is weighed
//! before anything is loaded, and admitted only while what is unsent, and what the reads under way bring, is within the
//! credit. What brings more than it was weighed finds the credit used up and is answered BUSY, so the bound holds for a
//! peer that reads slowly or not at all. Only a single value that is larger than the credit passes it, alone.

#[derive(Debug)]
pub(super) struct Credit {
    limit: u64,
    promised: u64,
}

impl Credit {
    pub fn new(limit: u64) -> Self {
        Self { limit, promised: 0 }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `charge` from the credit, where it fits beside what is unsent, or where nothing else is under way.
    pub fn admit(&mut self, charge: u64, unsent: u64) -> bool {
        let used = self.promised.saturating_add(unsent);
        let fits = charge == 0 || used == 0 || used.saturating_add(charge) <= self.limit;
        if fits {
            self.promised = self.promised.saturating_add(charge);
        }
        fits
    }

    /// A request that took `charge` is answered.
    pub fn settle(&mut self, charge: u64) {
        self.promised = self.promised.saturating_sub(charge);
    }

    /// Whether an answer with `len` payload bytes, to a request that took `charge` and is settled, may be queued behind
    /// `unsent` bytes.
    pub fn allows(&self, len: u64, charge: u64, unsent: u64) -> bool {
        len <= charge || self.promised.saturating_add(unsent).saturating_add(len) <= self.limit
    }
}
