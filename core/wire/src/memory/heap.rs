//! `BlockMemory` on the heap.

use super::{BlockMemory, Payload, ReserveError, WriteBuf};
use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers from this many bytes on are kept for the next payloads: an allocator gives such memory back to the system, and
/// each page of the next payload is a fault again, which takes longer than to fill it.
const SPARE_BYTES_MIN: usize = 64 << 10;
/// Bytes of all buffers that are kept.
const SPARES_BYTES_MAX: u64 = 32 << 20;

/// The budget counts reservations until the last clone of their payload is dropped. What is kept for the next ones (a quarter
/// of the budget at most, and 32 MiB) comes on top of it.
#[derive(Debug, Clone)]
pub struct HeapMemory {
    account: Arc<Account>,
    payload_bytes_max: u64,
}

#[derive(Debug)]
struct Account {
    in_use: AtomicU64,
    budget: u64,
    spares: Mutex<Spares>,
}

/// Empty buffers, the one that was used last at the end.
#[derive(Debug, Default)]
struct Spares {
    buffers: Vec<BytesMut>,
    bytes: u64,
}

impl Account {
    /// An empty buffer that has room for `len` bytes, and for an eighth more at most: that is not charged.
    fn buffer(&self, len: usize) -> BytesMut {
        if len >= SPARE_BYTES_MIN {
            let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
            let fits = |spare: &BytesMut| (len..=len.saturating_add(len / 8)).contains(&spare.capacity());
            if let Some(at) = spares.buffers.iter().rposition(fits) {
                let spare = spares.buffers.remove(at);
                spares.bytes -= spare.capacity() as u64;
                return spare;
            }
        }
        BytesMut::with_capacity(len)
    }

    fn keep(&self, mut buffer: BytesMut) {
        buffer.clear();
        let bytes = buffer.capacity() as u64;
        if buffer.capacity() < SPARE_BYTES_MIN || bytes > self.spares_bytes_max() {
            return;
        }
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        spares.bytes += bytes;
        spares.buffers.push(buffer);
        // The oldest are of sizes that nobody asks for any more.
        while spares.bytes > self.spares_bytes_max() && !spares.buffers.is_empty() {
            spares.bytes -= spares.buffers.remove(0).capacity() as u64;
        }
    }

    fn spares_bytes_max(&self) -> u64 {
        SPARES_BYTES_MAX.min(self.budget / 4)
    }
}

/// Returns its bytes to the account when dropped.
#[derive(Debug)]
struct Charge {
    account: Arc<Account>,
    len: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.in_use.fetch_sub(self.len, Ordering::Relaxed);
    }
}

struct HeapWriteBuf {
    bytes: Limit<BytesMut>,
    charge: Charge,
}

struct HeapPayload {
    bytes: BytesMut,
    charge: Charge,
}

impl AsRef<[u8]> for HeapPayload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for HeapPayload {
    fn drop(&mut self) {
        self.charge.account.keep(std::mem::take(&mut self.bytes));
    }
}

/// Bytes that came from elsewhere.
struct Adopted {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Adopted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HeapMemory {
    /// At most `budget` bytes of payloads, and what is kept beside them; at most `payload_bytes_max` for one payload.
    pub fn new(budget: u64, payload_bytes_max: u64) -> Self {
        let account = Account { in_use: AtomicU64::new(0), budget, spares: Mutex::default() };
        Self { account: Arc::new(account), payload_bytes_max }
    }

    fn charge(&self, len: u64) -> Result<Charge, ReserveError> {
        if len > self.payload_bytes_max {
            return Err(ReserveError::TooLarge { len, limit: self.payload_bytes_max });
        }
        let budget = self.account.budget;
        self.account
            .in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_use| {
                in_use.checked_add(len).filter(|sum| *sum <= budget)
            })
            .map_err(|in_use| ReserveError::Full { len, in_use, budget })?;
        Ok(Charge { account: self.account.clone(), len })
    }
}

impl BlockMemory for HeapMemory {
    fn reserve(&self, len: u64) -> Result<Box<dyn WriteBuf>, ReserveError> {
        let charge = self.charge(len)?;
        let len = usize::try_from(len).map_err(|_| ReserveError::TooLarge { len, limit: usize::MAX as u64 })?;
        Ok(Box::new(HeapWriteBuf { bytes: self.account.buffer(len).limit(len), charge }))
    }

    fn adopt(&self, bytes: Bytes) -> Result<Payload, ReserveError> {
        let charge = self.charge(bytes.len() as u64)?;
        Ok(Payload::from_owner(Adopted { bytes, _charge: charge }))
    }

    fn bytes_in_use(&self) -> u64 {
        self.account.in_use.load(Ordering::Relaxed)
    }
}

impl WriteBuf for HeapWriteBuf {
    fn unfilled(&mut self) -> &mut dyn BufMut {
        &mut self.bytes
    }

    fn seal(self: Box<Self>) -> Option<Payload> {
        let Self { bytes, charge } = *self;
        let whole = bytes.remaining_mut() == 0;
        whole.then(|| Payload::from_owner(HeapPayload { bytes: bytes.into_inner(), charge }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(memory: &HeapMemory, len: usize, byte: u8) -> Payload {
        let mut buf = memory.reserve(len as u64).unwrap();
        assert_eq!(buf.unfilled().remaining_mut(), len);
        buf.unfilled().put_bytes(byte, len);
        buf.seal().unwrap()
    }

    fn spares(memory: &HeapMemory) -> Vec<usize> {
        let spares = memory.account.spares.lock().unwrap();
        let capacities: Vec<_> = spares.buffers.iter().map(BytesMut::capacity).collect();
        assert_eq!(spares.bytes, capacities.iter().sum::<usize>() as u64);
        capacities
    }

    #[test]
    fn the_buffer_of_a_long_payload_is_used_again_once_nobody_reads_it() {
        const LEN: usize = SPARE_BYTES_MIN * 2;
        let memory = HeapMemory::new(1 << 30, 1 << 30);
        let first = payload(&memory, LEN, 1);
        let (tail, place) = (first.slice(LEN as u64 - 1, 1).unwrap(), first.as_ref().as_ptr());
        drop(first);
        assert_ne!(payload(&memory, LEN, 2).as_ref().as_ptr(), place, "its end is still read");
        assert_eq!(tail.as_ref(), [1]);
        drop(tail);
        let again = payload(&memory, LEN - 9, 3);
        assert_eq!((again.as_ref().as_ptr(), again.len(), again.as_ref()[LEN - 10]), (place, LEN - 9, 3));
        assert_eq!(spares(&memory), [LEN], "the second's");
        drop(payload(&memory, LEN / 2 - 1, 4));
        assert_eq!(spares(&memory), [LEN], "it is far too long, and a short one is not kept");
        drop(again);
        assert_eq!((spares(&memory), memory.bytes_in_use()), (vec![LEN, LEN], 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let memory = HeapMemory::new(SPARE_BYTES_MIN as u64 * 16, 1 << 30);
        let lens = [2, 1, 1, 1].map(|times| SPARE_BYTES_MIN * times);
        let held = lens.map(|len| payload(&memory, len, 0));
        held.into_iter().for_each(drop);
        assert_eq!(spares(&memory), [SPARE_BYTES_MIN; 3]);
        drop(payload(&memory, SPARE_BYTES_MIN * 5, 0));
        assert_eq!(spares(&memory), [SPARE_BYTES_MIN; 3], "longer than all that may be kept");
    }
}
