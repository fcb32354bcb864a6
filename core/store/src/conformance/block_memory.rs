//! What every `BlockMemory` promises.

use super::{Verdict, holds, step};
use bettong_wire::{BlockMemory, ReserveError};
use bytes::BufMut;

/// Wants a memory with nothing in use, room for at least three payloads of `len` bytes, and a limit of `len_max` for one.
pub fn block_memory(memory: &dyn BlockMemory, len: u64, len_max: u64) -> Verdict {
    let size = step("len", usize::try_from(len))?;
    let pattern: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();

    let mut buf = step("reserve", memory.reserve(len))?;
    holds!(buf.unfilled().remaining_mut() == size, buf.unfilled().remaining_mut());
    let (head, tail) = pattern.split_at(size / 2);
    buf.unfilled().put_slice(head);
    holds!(buf.unfilled().remaining_mut() == tail.len(), buf.unfilled().remaining_mut());
    buf.unfilled().put_slice(tail);
    let payload = buf.seal().ok_or("a full buffer does not seal")?;
    holds!(payload.as_ref() == pattern, payload);
    holds!(memory.bytes_in_use() >= len, memory.bytes_in_use());

    // Another payload's bytes leave the first one alone.
    let mut other = step("reserve", memory.reserve(len))?;
    other.unfilled().put_bytes(0xEE, size);
    let other = other.seal().ok_or("a full buffer does not seal")?;
    holds!(payload.as_ref() == pattern, payload);
    drop(other);

    let mut half = step("reserve", memory.reserve(len))?;
    half.unfilled().put_slice(head);
    let sealed = half.seal();
    holds!(sealed.is_none() || tail.is_empty(), sealed);
    drop(sealed);

    let slice = payload.slice(0, len).ok_or("the whole of a payload is no slice of it")?;
    holds!(payload.slice(1, len).is_none(), "a slice beyond the end");
    drop(payload);
    holds!(slice.as_ref() == pattern, slice);
    drop(slice);
    holds!(memory.bytes_in_use() == 0, memory.bytes_in_use());

    let over = memory.reserve(len_max.saturating_add(1)).err();
    holds!(matches!(over, Some(ReserveError::TooLarge { .. })), over);
    let mut held = Vec::new();
    let refused = loop {
        match memory.reserve(len) {
            Ok(buf) => held.push(buf),
            Err(error) => break error,
        }
        holds!(held.len() < 1_000_000, "no budget refuses");
    };
    holds!(matches!(refused, ReserveError::Full { .. }), refused);
    drop(held);
    holds!(memory.bytes_in_use() == 0, memory.bytes_in_use());
    Ok(())
}
