//! Values that say themselves what they are.

/// Keys that everybody puts and gets.
pub const KEYS: u64 = 48;

pub fn key(number: u64) -> String {
    format!("key-{number}")
}

/// A small generator: what differs between runs is its seed alone.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A value of `number`: its number, its version, and bytes that follow from both.
pub fn value(number: u64, version: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len.max(16) + 8);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    let mut dice = Dice(number ^ version.rotate_left(32));
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes.truncate(len.max(16));
    bytes
}

/// Whether these are the bytes of some version of `number`, all of them.
pub fn is_value(number: u64, bytes: &[u8]) -> bool {
    let Some((head, _)) = bytes.split_at_checked(16) else { return false };
    let (of, version) = head.split_at(8);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    word(of) == number && value(number, word(version), bytes.len()) == bytes
}
