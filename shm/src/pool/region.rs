//! The memory under a pool.

use std::ptr::NonNull;

/// A range of memory that is there until it is dropped, to be read.
///
/// # Safety
///
/// `base` points to `len` initialised bytes that stay valid and in place for as long as the region lives. Nobody in this
/// process reads or writes them but through a pool or a view of it.
pub unsafe trait Region: Send + Sync + std::fmt::Debug {
    fn base(&self) -> NonNull<u8>;

    /// In bytes.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A range of memory that this process may write, and no other does.
///
/// # Safety
///
/// As the sentence before says.
pub unsafe trait OwnRegion: Region {}

/// A region on this process's heap: nobody else can read it.
#[derive(Debug)]
pub struct HeapRegion {
    /// Of a boxed slice, which nothing but this pointer refers to.
    bytes: NonNull<[u8]>,
}

impl HeapRegion {
    pub fn new(bytes: usize) -> Self {
        Self { bytes: NonNull::from(Box::leak(vec![0; bytes].into_boxed_slice())) }
    }
}

impl Drop for HeapRegion {
    fn drop(&mut self) {
        // SAFETY: it came from a box in `new`, and everything that was made of it borrows from this region's owner.
        drop(unsafe { Box::from_raw(self.bytes.as_ptr()) });
    }
}

// SAFETY: the bytes are reached through the pool and its views alone, which let either one write a slot or several read it.
unsafe impl Send for HeapRegion {}
// SAFETY: as above.
unsafe impl Sync for HeapRegion {}

// SAFETY: a boxed slice stays where it is, and all of its bytes are initialised.
unsafe impl Region for HeapRegion {
    fn base(&self) -> NonNull<u8> {
        self.bytes.cast()
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

// SAFETY: it is this process's own memory.
unsafe impl OwnRegion for HeapRegion {}
