//! The slot pool: where payloads live so that other processes can read them in place.
//!
//! The pool is one range of memory, cut into extents of equal size. An extent serves one size class at a time and is cut
//! into slots of that class; when all of its slots are free, it may serve another. A value that is longer than an extent has
//! a run of them. A slot is free, being filled by the one
//! who reserved it, or filled; filled bytes do not change until the last who holds them lets go. Then the slot's
//! generation goes up, so that a reference to what was there names nothing any more.
//!
//! Who holds a slot is counted in this process's private memory. What other processes map of the pool they can only read.

mod classes;
mod leases;
mod region;
mod slot;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
mod view;

pub use classes::{Classes, SLOT_BYTES_MIN};
pub use leases::{LeaseError, Leases, NotLeased, SessionId};
pub use region::{HeapRegion, OwnRegion, Region};
pub use slot::{Found, SlotPool};
pub use view::View;

/// Most extents of a pool: a reference names one with a byte.
pub const EXTENTS_MAX: u64 = 256;
/// Extents of a pool whose size does not ask for more: so many kinds of blocks have room beside each other.
const EXTENTS: u64 = 64;

/// Why a pool cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("a pool of {bytes} bytes is too small: it needs {least}, an extent of the smallest slots")]
    TooSmall { bytes: u64, least: u64 },
    #[error("a pool of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: u64, limit: u64 },
}

/// How a pool is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Of each extent.
    pub extent_bytes: u64,
    pub extents: u16,
}

impl Layout {
    /// The layout of at most `bytes`: what does not fill an extent is left out.
    pub fn of(bytes: u64) -> Result<Self, PoolError> {
        let extent_bytes = (bytes / EXTENTS).max(SLOT_BYTES_MIN) & !(SLOT_BYTES_MIN - 1);
        let extents = (bytes / extent_bytes).min(EXTENTS_MAX);
        let limit = u64::from(u32::MAX) * SLOT_BYTES_MIN;
        if bytes > limit {
            return Err(PoolError::TooLarge { bytes, limit });
        }
        match u16::try_from(extents) {
            Ok(extents) if extents > 0 => Ok(Self { extent_bytes, extents }),
            _ => Err(PoolError::TooSmall { bytes, least: SLOT_BYTES_MIN }),
        }
    }

    /// Of all extents.
    pub fn bytes(&self) -> u64 {
        self.extent_bytes * u64::from(self.extents)
    }
}

/// What is in a pool at one moment, in bytes unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of all extents.
    pub bytes: u64,
    /// Of slots that are filled or being filled, whole slots.
    pub in_use: u64,
    /// Of `in_use`, what the values are longer than nothing: the rest is the end of slots that are longer than their value.
    pub payload: u64,
    /// Of extents that serve a class: what is not in use of it waits for that class only.
    pub assigned: u64,
    /// Slots that are filled or being filled.
    pub slots: u64,
}
