//! Where payload bytes live: the `BlockMemory` seam.
//!
//! A destination is reserved before bytes are read into it, filled once, sealed, and from then on shared and read-only.

mod heap;

pub use heap::HeapMemory;

use bytes::{BufMut, Bytes};
use std::sync::Arc;

/// Sealed bytes: cheap to clone, never changed again. Dropping the last clone returns the memory to its owner.
#[derive(Clone, Default)]
pub struct Payload(Held);

#[derive(Clone)]
enum Held {
    Bytes(Bytes),
    /// Bytes `start..start + len` of what its owner has. `Bytes` could hold an owner too, but not say whether it is the
    /// last one who does.
    Owned {
        owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
        start: usize,
        len: usize,
    },
}

impl Default for Held {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Payload {
    /// Wraps an owner of bytes (a slot lease, a heap buffer); it is dropped with the last clone.
    pub fn from_owner<T: AsRef<[u8]> + Send + Sync + 'static>(owner: T) -> Self {
        let len = owner.as_ref().len();
        Self(Held::Owned { owner: Arc::new(owner), start: 0, len })
    }

    /// The bytes `range` of this payload, without a copy. `None` where the range leaves the payload.
    pub fn slice(&self, offset: u64, len: u64) -> Option<Self> {
        let from = usize::try_from(offset).ok()?;
        let len = usize::try_from(len).ok()?;
        let end = from.checked_add(len)?;
        (end <= self.len()).then(|| match &self.0 {
            Held::Bytes(bytes) => Self(Held::Bytes(bytes.slice(from..end))),
            Held::Owned { owner, start, .. } => Self(Held::Owned { owner: owner.clone(), start: start + from, len }),
        })
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Bytes(bytes) => bytes.len(),
            Held::Owned { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nobody else holds these bytes, so that dropping them gives back their memory.
    pub fn is_unique(&self) -> bool {
        match &self.0 {
            Held::Bytes(bytes) => bytes.is_unique(),
            Held::Owned { owner, .. } => Arc::strong_count(owner) == 1,
        }
    }

    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Held::Bytes(bytes) => bytes,
            owned @ Held::Owned { .. } => Bytes::from_owner(Self(owned)),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Payload {}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Held::Bytes(bytes) => bytes,
            Held::Owned { owner, start, len } => &(**owner).as_ref()[*start..start + len],
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(Held::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Held::Bytes(bytes.into()))
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// A reserved destination of a fixed length.
pub trait WriteBuf: Send {
    /// The part that is not yet filled. `remaining_mut()` is what is still missing, exactly.
    fn unfilled(&mut self) -> &mut dyn BufMut;

    /// Seals the buffer. Returns `None` unless every byte of the reserved length was filled: a half-read payload
    /// never becomes readable.
    fn seal(self: Box<Self>) -> Option<Payload>;
}

/// Why no destination could be reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    #[error("a payload of {len} bytes is over the limit of {limit} bytes")]
    TooLarge { len: u64, limit: u64 },
    #[error("{in_use} of {budget} bytes of payload memory are in use, {len} more do not fit")]
    Full { len: u64, in_use: u64, budget: u64 },
}

/// Hands out destinations for payload bytes and bounds their sum.
pub trait BlockMemory: Send + Sync + std::fmt::Debug {
    /// Reserves exactly `len` bytes, or says why not. Never waits.
    fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError>;

    /// A destination for each of these lengths, in bytes, or none.
    fn reserve_all(&self, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ReserveError> {
        lens.iter().map(|len| self.reserve(*len)).collect()
    }

    /// Takes over bytes that came from elsewhere (a file, the object store's client): charged like a reservation, and
    /// copied only where payloads must live in special memory.
    fn adopt(&self, bytes: Bytes) -> Result<Payload, ReserveError> {
        let mut buf = self.reserve(bytes.len() as u64)?;
        buf.unfilled().put_slice(&bytes);
        buf.seal().ok_or(ReserveError::TooLarge { len: bytes.len() as u64, limit: 0 })
    }

    /// Bytes that are reserved or sealed and not yet dropped.
    fn bytes_in_use(&self) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_charged_until_the_last_clone_is_dropped() {
        let memory = HeapMemory::new(10, 8);
        let mut buf = memory.reserve(6).unwrap();
        buf.unfilled().put_slice(b"abcdef");
        let payload = buf.seal().unwrap();
        let tail = payload.slice(4, 2).unwrap();
        drop(payload);
        assert_eq!(memory.bytes_in_use(), 6);
        assert_eq!(memory.reserve(5).err(), Some(ReserveError::Full { len: 5, in_use: 6, budget: 10 }));
        assert_eq!(tail.as_ref(), b"ef");
        drop(tail);
        assert_eq!(memory.bytes_in_use(), 0);
        assert_eq!(memory.reserve(9).err(), Some(ReserveError::TooLarge { len: 9, limit: 8 }));
    }

    #[test]
    fn a_payload_knows_whether_anybody_else_holds_it() {
        let memory = HeapMemory::new(10, 10);
        let mut buf = memory.reserve(4).unwrap();
        buf.unfilled().put_slice(b"abcd");
        for payload in [buf.seal().unwrap(), Payload::from(b"abcd".to_vec())] {
            assert!(payload.is_unique());
            for other in [payload.clone(), payload.slice(1, 0).unwrap(), payload.clone().into_bytes().slice(..1).into()]
            {
                assert!(!payload.is_unique() || other.is_empty(), "{other:?}");
            }
            assert!(payload.is_unique());
            assert_eq!(payload.slice(1, 2).unwrap().slice(1, 1).unwrap().as_ref(), b"c");
            assert!(payload.slice(1, 2).unwrap().slice(1, 2).is_none() && payload.slice(u64::MAX, 1).is_none());
        }
    }

    #[test]
    fn a_half_filled_buffer_never_becomes_readable() {
        let memory = HeapMemory::new(10, 10);
        let mut buf = memory.reserve(4).unwrap();
        buf.unfilled().put_slice(b"abc");
        assert!(buf.seal().is_none());
        assert_eq!(memory.bytes_in_use(), 0);
    }
}
