//! Values that are made where the daemon reads them.

use crate::call::Body;
#[cfg(all(target_os = "linux", not(madsim)))]
use crate::shm::{Areas, Staged};
use bettong_wire::ServiceError;
use bettong_wire::limits::BLOCK_BYTES_MAX;

/// Room for one value, to be filled and then put by `Namespace::put_block_from`. Through shared memory it is a place where
/// the daemon reads it, so that a put copies nothing on this side; it is given back when this is dropped.
#[derive(Debug)]
pub struct PutBuffer(Room);

#[derive(Debug)]
enum Room {
    Heap(Vec<u8>),
    #[cfg(all(target_os = "linux", not(madsim)))]
    Staged(Staged),
}

impl PutBuffer {
    pub fn len(&self) -> usize {
        match &self.0 {
            Room::Heap(bytes) => bytes.len(),
            #[cfg(all(target_os = "linux", not(madsim)))]
            Room::Staged(staged) => staged.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, to be filled. What is there before is left over from something else.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Room::Heap(bytes) => bytes,
            #[cfg(all(target_os = "linux", not(madsim)))]
            Room::Staged(staged) => staged.bytes_mut(),
        }
    }

    pub(crate) fn into_body(self) -> Body {
        match self.0 {
            Room::Heap(bytes) => Body::Payloads(vec![bytes.into()]),
            #[cfg(all(target_os = "linux", not(madsim)))]
            Room::Staged(staged) => Body::Staged(staged),
        }
    }
}

/// Where a client has room for values that are to be put.
pub(crate) enum Rooms {
    Heap,
    #[cfg(all(target_os = "linux", not(madsim)))]
    Staging(Areas),
}

impl Rooms {
    pub fn reserve(&self, len: usize) -> Result<PutBuffer, ServiceError> {
        if len as u64 > BLOCK_BYTES_MAX {
            let text = format!("a value of {len} bytes is over the limit of {BLOCK_BYTES_MAX} bytes");
            return Err(ServiceError::too_large(text, BLOCK_BYTES_MAX));
        }
        Ok(PutBuffer(match self {
            Self::Heap => Room::Heap(vec![0; len]),
            #[cfg(all(target_os = "linux", not(madsim)))]
            Self::Staging(areas) => Room::Staged(areas.reserve(len as u64)?),
        }))
    }
}
