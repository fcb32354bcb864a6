//! The hashes of a prompt's blocks.

use bettong_wire::BlockHash;

/// The hashes of a chain, first block first: `h[i] = BLAKE3(h[i-1] ‖ inputs[i])`, beginning from `seed`, which the
/// caller derives from the model identity. `inputs[i]` is everything that decides the bytes of block i besides the
/// identity: its tokens, multimodal inputs, adapter, salt.
pub fn chain<'a>(seed: BlockHash, inputs: impl IntoIterator<Item = &'a [u8]>) -> Vec<BlockHash> {
    let step = |parent: &mut BlockHash, inputs: &[u8]| {
        *parent = parent.child(inputs);
        Some(*parent)
    };
    inputs.into_iter().scan(seed, step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_names_its_whole_prefix() {
        let seed = BlockHash([7; 32]);
        let one = chain(seed, [b"a".as_slice(), b"b", b"c"]);
        let other = chain(seed, [b"a".as_slice(), b"x", b"c"]);
        assert_eq!(one[0], seed.child(b"a"));
        assert_eq!(one[2], seed.child(b"a").child(b"b").child(b"c"));
        assert_eq!(one[0], other[0]);
        assert!(one[1] != other[1] && one[2] != other[2]);
    }
}
