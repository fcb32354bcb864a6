//! The staging area in shared memory.

use super::{Mapping, OwnMapping};
use crate::session::staging::{NotRead, OwnStaging, Reserved, Staging, checked};
use bytes::BufMut;
use bytes::buf::UninitSlice;
use std::ops::Range;
use std::ptr::NonNull;

/// Bytes from which on a copy goes past the caches.
const STREAMED_MIN: usize = 64 << 10;

/// A client's staging area as the daemon has it.
#[derive(Debug)]
pub struct StagingMapping(Mapping);

/// A client's staging area as the client has it.
#[derive(Debug)]
pub struct OwnStagingMapping(OwnMapping);

impl StagingMapping {
    pub fn new(mapping: Mapping) -> Self {
        Self(mapping)
    }
}

impl OwnStagingMapping {
    pub fn new(mapping: OwnMapping) -> Self {
        Self(mapping)
    }
}

impl Staging for StagingMapping {
    fn len(&self) -> u64 {
        self.0.bytes() as u64
    }

    fn read(&self, range: Range<u64>, to: &mut dyn BufMut) -> Result<(), NotRead> {
        let range = checked(&range, self.0.bytes(), to)?;
        let mut at = range.start;
        while at < range.end {
            let room = to.chunk_mut();
            let len = room.len().min(range.end - at);
            copy_out(self.0.base(), at, &mut room[..len]);
            // SAFETY: so many bytes were just written there.
            unsafe { to.advance_mut(len) };
            at += len;
        }
        Ok(())
    }
}

impl OwnStaging for OwnStagingMapping {
    fn len(&self) -> u64 {
        self.0.bytes() as u64
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.bytes());
        let bytes = bytes.get(..self.0.bytes() - at).unwrap_or(bytes);
        copy_in(self.0.base(), at, bytes);
    }
}

impl Reserved<OwnStagingMapping> {
    /// The range to be filled in place, by a device's copy for instance. Its bytes are whatever was there.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (range, mapping) = (self.range(), &self.memory().0);
        let (begin, len) = (range.start as usize, self.len() as usize);
        assert!(begin + len <= mapping.bytes(), "a range beyond its area: {range:?} of {}", mapping.bytes());
        // SAFETY: the bytes lie within the mapping, which `self` keeps, and are initialised: a memfd is zeros until somebody
        // writes. The area has one account, which has handed this range out to `self` alone, and nothing else reaches the
        // mapping; so nobody in this process reads or writes these bytes but by the slice, which borrows `self`. No other
        // process writes them: the daemon maps the area to read.
        unsafe { std::slice::from_raw_parts_mut(mapping.base().add(begin).as_ptr(), len) }
    }
}

/// Copies bytes that another process may be writing, each once. They lie within the mapping at `base`, and `to` is as long.
fn copy_out(base: NonNull<u8>, at: usize, to: &mut UninitSlice) {
    // SAFETY: whoever calls this has checked that the bytes lie within the mapping; `to` is memory of this process that is
    // borrowed for writing.
    unsafe {
        let from = base.add(at).as_ptr();
        if to.len() < STREAMED_MIN {
            copy(from, to.as_mut_ptr(), to.len())
        } else {
            stream(from, to.as_mut_ptr(), to.len())
        }
    };
}

/// Writes bytes that another process may be reading. They lie within the mapping at `base`, which is this process's to write.
fn copy_in(base: NonNull<u8>, at: usize, from: &[u8]) {
    // SAFETY: as in `copy_out`; the memory is mapped to write. That nobody in this process has a slice over it is what the
    // area's account is for, which hands each range out once.
    unsafe { copy(from.as_ptr(), base.add(at).as_ptr(), from.len()) };
}

/// Copies as the machine does, outside of what the compiler knows of memory: one of the two sides is shared with another
/// process, which the compiler may not think of as bytes that stay.
///
/// # Safety
///
/// `len` bytes may be read at `from` and written at `to`, and the two do not overlap. What another process writes at `from`
/// meanwhile is seen in part, or not.
#[cfg(target_arch = "x86_64")]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise is all that the instruction needs; the direction flag is clear, as it is between any two
    // statements.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// As `copy`, past the caches: what a long value is copied to has been out of them for long, and to fetch each line of it
/// only to overwrite it takes a fifth of the time.
///
/// # Safety
///
/// As for `copy`.
#[cfg(target_arch = "x86_64")]
unsafe fn stream(from: *const u8, to: *mut u8, len: usize) {
    const STEP: usize = 64;
    let head = to.align_offset(STEP).min(len);
    let steps = (len - head) / STEP;
    // SAFETY: the three parts lie one behind the other within what the caller promises. A store that is streamed needs an
    // address of whole lines, which the head has led to. Prefetching never faults, wherever it points; the fence puts the
    // streamed stores before whatever tells others of them.
    unsafe {
        copy(from, to, head);
        if steps > 0 {
            std::arch::asm!(
                "2:",
                "prefetcht0 [{from} + 1024]",
                "movdqu {a}, [{from}]",
                "movdqu {b}, [{from} + 16]",
                "movdqu {c}, [{from} + 32]",
                "movdqu {d}, [{from} + 48]",
                "movntdq [{to}], {a}",
                "movntdq [{to} + 16], {b}",
                "movntdq [{to} + 32], {c}",
                "movntdq [{to} + 48], {d}",
                "add {from}, 64",
                "add {to}, 64",
                "dec {steps}",
                "jnz 2b",
                "sfence",
                from = inout(reg) from.add(head) => _,
                to = inout(reg) to.add(head) => _,
                steps = inout(reg) steps => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
        }
        let done = head + steps * STEP;
        copy(from.add(done), to.add(done), len - done);
    }
}

/// No better than `copy` where this does not know how to tell the machine.
#[cfg(not(target_arch = "x86_64"))]
use copy as stream;

/// As above, by atomics: slower, and the same everywhere.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    use std::sync::atomic::{AtomicU8, Ordering};
    for at in 0..len {
        // SAFETY: as the caller says; bytes are aligned wherever they are. A load of 8 bits may be from memory that is mapped
        // to read.
        unsafe {
            let byte = AtomicU8::from_ptr(from.add(at).cast_mut()).load(Ordering::Relaxed);
            AtomicU8::from_ptr(to.add(at)).store(byte, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memfd;
    use super::*;
    use crate::session::staging::StagingArea;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_the_client_writes_the_daemon_reads(at in 0..5000u64, bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let (memfd, peer) = Memfd::of_peer(3 * 4096).unwrap();
            let (own, peer) = (OwnStagingMapping::new(memfd.map_own().unwrap()), StagingMapping::new(peer));
            own.write(at, &bytes);
            let there = (bytes.len() as u64).min(3 * 4096 - at);
            let mut copy = Vec::new();
            peer.read(at..at + there, &mut copy).unwrap();
            prop_assert_eq!(&copy, &bytes[..there as usize]);
            let mut around = Vec::new();
            peer.read(0..3 * 4096, &mut around).unwrap();
            prop_assert!(around[..at as usize].iter().chain(&around[(at + there) as usize..]).all(|byte| *byte == 0));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_long_goes_past_the_caches_and_is_the_same(at in 0..300usize, to in 0..300usize, more in 0..300usize) {
            const BYTES: usize = STREAMED_MIN + 1024;
            let (memfd, peer) = Memfd::of_peer(BYTES).unwrap();
            let (own, peer) = (OwnStagingMapping::new(memfd.map_own().unwrap()), StagingMapping::new(peer));
            let bytes: Vec<u8> = (0..BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            own.write(0, &bytes);
            let len = STREAMED_MIN - 8 + more;
            let mut copy = vec![0xa5; BYTES];
            peer.read(at as u64..(at + len) as u64, &mut &mut copy[to..to + len]).unwrap();
            prop_assert_eq!(&copy[to..to + len], &bytes[at..at + len]);
            prop_assert!(copy[..to].iter().chain(&copy[to + len..]).all(|byte| *byte == 0xa5));
        }
    }

    #[test]
    fn ranges_are_filled_in_place_beside_each_other() {
        let (memfd, peer) = Memfd::of_peer(4096).unwrap();
        let peer = StagingMapping::new(peer);
        let area = StagingArea::new(OwnStagingMapping::new(memfd.map_own().unwrap()));
        let mut ranges: Vec<_> = (0..4).map(|_| area.reserve(1000).unwrap()).collect();
        for (byte, range) in (1..).zip(&mut ranges) {
            range.bytes_mut().fill(byte);
        }
        for (byte, range) in (1..).zip(&ranges) {
            let mut copy = Vec::new();
            peer.read(range.range(), &mut copy).unwrap();
            assert_eq!(copy, [byte; 1000]);
        }
        let out = peer.read(4000..4097, &mut Vec::new()).unwrap_err();
        assert_eq!((out.end, out.len), (4097, 4096));
        assert!(peer.read(4000..u64::MAX, &mut Vec::new()).is_err());
        assert!(peer.read(0..9, &mut [0u8; 8].as_mut_slice()).is_err(), "there is no room for it");
    }
}
