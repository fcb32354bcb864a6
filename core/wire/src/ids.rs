//! Newtypes for the names of things, so that none is taken for another.

use rkyv::{Archive, Deserialize, Serialize};
use std::fmt;

macro_rules! hash_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Lower-case hexadecimal, 64 characters.
            pub fn to_hex(&self) -> String {
                blake3::Hash::from_bytes(self.0).to_hex().to_string()
            }

            /// Reads 64 hexadecimal digits; anything else is `None`.
            pub fn from_hex(text: &str) -> Option<Self> {
                blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &self.to_hex()[..12])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }
    };
}

hash_newtype! {
    /// Names a block by its whole prefix: `h[i] = BLAKE3(h[i-1] ‖ inputs[i])`. Hashes the tokens, not the payload.
    BlockHash
}
hash_newtype! {
    /// Names one tenant's blocks of one model identity: `BLAKE3 derive_key("bettong namespace v1", tenant, name)`.
    NamespaceId
}
hash_newtype! {
    /// Names a sidecar: `BLAKE3(tip hash ‖ tail tokens)`.
    SidecarKey
}

impl BlockHash {
    /// The next hash of a chain: `BLAKE3(parent ‖ inputs)`. `inputs` holds everything that decides the block's bytes
    /// besides the model identity: tokens, multimodal inputs, adapter, the caller's salt.
    pub fn child(&self, inputs: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(inputs);
        Self(*hasher.finalize().as_bytes())
    }
}

impl SidecarKey {
    /// `BLAKE3(tip ‖ tail)`: two prompts with equal full blocks and different tails do not share a sidecar.
    pub fn derive(tip: &BlockHash, tail: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&tip.0);
        hasher.update(tail);
        Self(*hasher.finalize().as_bytes())
    }
}

impl NamespaceId {
    /// The id of `name` under `tenant`. Both lengths are hashed, so that ("ab", "c") and ("a", "bc") differ.
    pub fn derive(tenant: &str, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("bettong namespace v1");
        for text in [tenant, name] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

/// Which slice of a block: tensor-parallel rank and KV-cache group, one small number, opaque to the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Part(pub u16);

/// The key of one stored block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct BlockKey {
    pub hash: BlockHash,
    pub part: Part,
}

/// Names one write of one payload: a node's life and a counter. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Archive, Serialize, Deserialize)]
pub struct PutId {
    /// 64 random bits drawn at each start of a node's process.
    pub life: u64,
    /// Counts the puts of one life, from 1.
    pub counter: u64,
}

impl fmt::Display for PutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.life, self.counter)
    }
}

impl fmt::Debug for PutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PutId({self})")
    }
}

impl PutId {
    /// Reads what `Display` writes: 16 hexadecimal digits, a dash, 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (life, counter) = text.split_once('-')?;
        let field = |digits: &str| {
            let valid = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        Some(Self { life: field(life)?, counter: field(counter)? })
    }
}
