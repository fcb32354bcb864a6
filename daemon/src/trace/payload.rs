//! Block bytes that are derived from the block's id, so that verifying is recomputing.

/// Odd constant of the golden ratio; steps through all 64-bit values.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijective mixing of 64 bits (the finalizer of SplitMix64): every word of every block differs.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The bytes of the block `id`, `len` of them. Blocks of different lengths differ from the first word on.
fn words(id: u64, len: usize) -> impl Iterator<Item = [u8; 8]> {
    let start = mix(id ^ mix(len as u64 ^ STEP));
    (1_u64..).map(move |index| mix(start.wrapping_add(index.wrapping_mul(STEP))).to_le_bytes())
}

/// Makes the bytes of block `id`.
pub fn block(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (piece, word) in bytes.chunks_mut(8).zip(words(id, len)) {
        for (to, from) in piece.iter_mut().zip(word) {
            *to = from;
        }
    }
    bytes
}

/// Whether `bytes` are all the bytes of block `id` at its length `len`.
pub fn is_block(id: u64, len: usize, bytes: &[u8]) -> bool {
    bytes.len() == len && bytes.chunks(8).zip(words(id, len)).all(|(piece, word)| word.starts_with(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_recognised_and_nothing_else_is() {
        for len in [0, 1, 7, 8, 9, 4096] {
            let bytes = block(3, len);
            assert!(is_block(3, len, &bytes));
            assert!(!is_block(3, len + 1, &bytes));
            if len > 0 {
                assert!(!is_block(4, len, &bytes));
                for at in [0, len / 2, len - 1] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1;
                    assert!(!is_block(3, len, &flipped));
                }
                assert!(!is_block(3, len, &bytes[..len - 1]));
            }
        }
    }
}
