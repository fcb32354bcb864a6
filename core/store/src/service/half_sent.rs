//! Bounds what peers hold of payload memory with payloads that they have announced and not sent: however slowly they
//! send, reads keep their share of it.

use bettong_wire::{Payload, ServiceError, WriteBuf};
use bytes::BufMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// When to come again: a payload that is being sent takes about so long.
const RETRY_AFTER_MS: u32 = 50;

/// Bytes that are reserved for peers and not filled, all together.
#[derive(Clone, Debug)]
pub(super) struct HalfSent {
    bytes: Arc<AtomicU64>,
    max: u64,
}

/// A share of them, given back when it is dropped.
struct Share {
    bytes: Arc<AtomicU64>,
    len: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}

struct SharedBuf {
    buf: Box<dyn WriteBuf>,
    _share: Share,
}

impl WriteBuf for SharedBuf {
    fn unfilled(&mut self) -> &mut dyn BufMut {
        self.buf.unfilled()
    }

    fn seal(self: Box<Self>) -> Option<Payload> {
        self.buf.seal()
    }
}

impl HalfSent {
    pub fn new(max: u64) -> Self {
        Self { bytes: Arc::default(), max }
    }

    /// A destination that counts as half sent until it is sealed or dropped.
    ///
    /// # Errors
    /// `busy` where peers hold too much already, and whatever `reserve` says.
    pub fn reserve<E: Into<ServiceError>>(
        &self,
        len: u64,
        reserve: impl FnOnce(u64) -> Result<Box<dyn WriteBuf>, E>,
    ) -> Result<Box<dyn WriteBuf>, ServiceError> {
        let fits = |held: u64| held.checked_add(len).filter(|sum| *sum <= self.max);
        let charged = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if let Err(held) = charged {
            let max = self.max;
            let message = format!("{held} bytes of payloads are being sent, {len} more are over the limit of {max}");
            let never = len > max;
            return Err(if never {
                ServiceError::too_large(message, max)
            } else {
                ServiceError::busy(message, RETRY_AFTER_MS)
            });
        }
        let share = Share { bytes: self.bytes.clone(), len };
        let buf = reserve(len).map_err(Into::into)?;
        Ok(Box::new(SharedBuf { buf, _share: share }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::memory::HeapMemory;
    use bettong_wire::{BlockMemory, ErrorKind};

    #[test]
    fn what_is_announced_and_not_sent_is_bounded_and_given_back() {
        let (memory, half_sent) = (HeapMemory::new(100, 50), HalfSent::new(60));
        let reserve = |len| half_sent.reserve(len, |len| memory.reserve(len));
        let mut first = reserve(40).unwrap();
        let refused = reserve(40).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Busy);
        assert!(refused.message.contains("40 bytes") && refused.message.contains("limit of 60"), "{}", refused.message);
        drop(reserve(20).unwrap());
        first.unfilled().put_slice(&[7; 40]);
        let payload = first.seal().unwrap();
        drop(reserve(40).unwrap());
        assert_eq!(reserve(51).err().unwrap().kind, ErrorKind::TooLarge, "the memory's own limit");
        assert_eq!(half_sent.bytes.load(Ordering::Relaxed), 0, "a refused reservation holds nothing");
        drop(payload);
        assert_eq!(memory.bytes_in_use(), 0);
    }
}
