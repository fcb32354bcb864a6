//! Size classes: four to each doubling, so that a slot is at most a quarter longer than the shortest value that it is for.

/// Bytes of the smallest slot: a page, which is what a mapping can be handed out in.
pub const SLOT_BYTES_MIN: u64 = 4096;

/// Steps between a size and its double.
const STEPS: u64 = 4;

/// The size classes of slots of at most one extent.
#[derive(Debug, Clone)]
pub struct Classes {
    /// Ascending; at most 256.
    slot_bytes: Vec<u64>,
}

impl Classes {
    /// Classes up to `slot_bytes_max`, which is at least `SLOT_BYTES_MIN` and itself a class.
    pub fn up_to(slot_bytes_max: u64) -> Self {
        let doublings = (0..).map(|doubling| SLOT_BYTES_MIN << doubling);
        let sizes = doublings.flat_map(|size| (0..STEPS).map(move |step| size + size / STEPS * step));
        let mut slot_bytes: Vec<u64> = sizes.take_while(|size| *size < slot_bytes_max).collect();
        slot_bytes.push(slot_bytes_max);
        Self { slot_bytes }
    }

    /// The class of the smallest slot that takes `len` bytes.
    pub fn of(&self, len: u64) -> Option<u8> {
        let class = self.slot_bytes.partition_point(|size| *size < len);
        (class < self.slot_bytes.len()).then(|| u8::try_from(class).ok()).flatten()
    }

    /// Bytes of the class's slots; `None` where there is no such class.
    pub fn slot_bytes(&self, class: u8) -> Option<u64> {
        self.slot_bytes.get(usize::from(class)).copied()
    }

    pub fn len(&self) -> usize {
        self.slot_bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slot_bytes.is_empty()
    }
}
