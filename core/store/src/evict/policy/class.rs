//! What tells blocks apart whose future may differ: how often they were used, and whether a chain ever went on from them.

/// Uses are counted up to here.
pub(super) const USES_MAX: u8 = 15;

/// Kinds of blocks.
pub(super) const CLASSES: usize = 10;

/// A kind of blocks. The last block of a prompt is mostly its own, so that never having had a child says as much as
/// the count of uses, which matters by its order of magnitude.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The class of a block that was used `uses` times, the first included.
    pub(super) fn of(uses: u8, had_child: bool) -> Self {
        let magnitude = match uses {
            0 | 1 => 0,
            2 => 1,
            3..=4 => 2,
            5..=8 => 3,
            _ => 4,
        };
        Self(2 * magnitude + u8::from(had_child))
    }

    /// All classes, by index.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES as u8).map(Self)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}
