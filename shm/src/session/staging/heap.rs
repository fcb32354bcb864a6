//! A staging area within one process.

use super::{NotRead, OwnStaging, Staging, checked};
use bytes::BufMut;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A staging area on the heap. Clones are the same area.
#[derive(Debug, Clone)]
pub struct HeapStaging {
    bytes: Arc<[AtomicU8]>,
}

impl HeapStaging {
    pub fn new(bytes: usize) -> Self {
        Self { bytes: (0..bytes).map(|_| AtomicU8::new(0)).collect() }
    }
}

impl Staging for HeapStaging {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>, to: &mut dyn BufMut) -> Result<(), NotRead> {
        let range = checked(&range, self.bytes.len(), to)?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        bytes.iter().for_each(|byte| to.put_u8(byte.load(Ordering::Relaxed)));
        Ok(())
    }
}

impl OwnStaging for HeapStaging {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let places = self.bytes.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
        places.zip(bytes).for_each(|(place, byte)| place.store(*byte, Ordering::Relaxed));
    }
}
