//! Places in the staging area that are filled before they are put.

use super::guards::{GivenBack, Tell};
use bettong_shm::real::OwnStagingMapping;
use bettong_shm::session::staging::{Reserved, StagingArea};
use bettong_wire::{Payload, ServiceError};
use std::sync::{Arc, Mutex, PoisonError};

/// Milliseconds after which somebody may have given back what is needed.
const RETRY_AFTER_MS: u32 = 10;

/// The staging area of the session at hand.
#[derive(Clone, Default)]
pub(crate) struct Areas(Arc<Mutex<Option<Area>>>);

pub(crate) struct Area {
    pub(super) area: StagingArea<OwnStagingMapping>,
    /// All of it, in bytes.
    pub(super) bytes: u64,
    /// Says to the session that a place is free again.
    pub(super) given_back: GivenBack,
}

/// A place in a staging area. It is free again when this is dropped.
pub(crate) struct Staged {
    // Dropped before the session is told.
    reserved: Reserved<OwnStagingMapping>,
    tell: Tell,
}

impl Areas {
    pub(super) fn set(&self, area: Area) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(area);
    }

    pub fn reserve(&self, len: u64) -> Result<Staged, ServiceError> {
        let area = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // There is a client only where there was a session.
        let Some(Area { area, bytes, given_back }) = area.as_ref() else {
            return Err(ServiceError::busy("there is no session yet", RETRY_AFTER_MS));
        };
        match area.reserve(len) {
            Ok(reserved) => Ok(Staged { reserved, tell: given_back.tell() }),
            Err(_) if len > *bytes => Err(too_large(len, *bytes)),
            Err(error) => Err(ServiceError::busy(error.to_string(), RETRY_AFTER_MS)),
        }
    }
}

impl Staged {
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.reserved.bytes_mut()
    }

    pub fn len(&self) -> usize {
        // It is a place in this process's memory.
        self.reserved.len() as usize
    }

    /// A copy of the bytes, for who cannot read them where they are.
    pub fn into_payload(mut self) -> Payload {
        self.bytes_mut().to_vec().into()
    }

    pub(super) fn into_parts(self) -> (Reserved<OwnStagingMapping>, Tell) {
        (self.reserved, self.tell)
    }

    pub(super) fn of_parts(reserved: Reserved<OwnStagingMapping>, tell: Tell) -> Self {
        Self { reserved, tell }
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staged({} bytes)", self.len())
    }
}

/// So much will never be free at once.
pub(super) fn too_large(len: u64, limit: u64) -> ServiceError {
    let text = format!(
        "{len} bytes of staging are needed at once, each payload in whole cache lines: this client was given {limit} bytes \
         of what it asked for"
    );
    ServiceError::too_large(text, limit)
}
