//! The memory under a pool.

use std::cell::UnsafeCell;
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
pub struct HeapRegion(Box<[UnsafeCell<u8>]>);

impl HeapRegion {
    pub fn new(bytes: usize) -> Self {
        Self((0..bytes).map(|_| UnsafeCell::new(0)).collect())
    }
}

impl std::fmt::Debug for HeapRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeapRegion({} bytes)", self.0.len())
    }
}

// SAFETY: the bytes are reached through the pool alone, which lets either one write a slot or several read it.
unsafe impl Sync for HeapRegion {}

// SAFETY: a boxed slice stays where it is, and all of its bytes are initialised.
unsafe impl Region for HeapRegion {
    fn base(&self) -> NonNull<u8> {
        NonNull::from(&*self.0).cast()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

// SAFETY: it is this process's own memory.
unsafe impl OwnRegion for HeapRegion {}
