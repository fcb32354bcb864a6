//! Payloads that say which attempt made them: a foreign, stale or mixed block is recognised.

use super::{AttemptId, ValueKey};

const MAGIC: [u8; 8] = *b"bettong!";
/// Shortest payload that names its attempt: the header. Shorter ones of one length are all equal, as the values of two
/// keys may be.
pub const LEN_MIN: u64 = 32;
/// What payloads without a name are made of.
const NAMELESS: u8 = 0xa5;
/// Payloads of every second attempt repeat after so many bytes, so that compression has something to do.
const PERIOD: usize = 64;

/// The bytes of one attempt to put `len` bytes under `key`.
pub fn bytes_of(id: AttemptId, key: &ValueKey, len: u64) -> Vec<u8> {
    let nameless = len < LEN_MIN;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if nameless {
        return vec![NAMELESS; len];
    }
    let mut hasher = blake3::Hasher::new_derive_key("bettong sim payload v1");
    hasher.update(format!("{key:?}").as_bytes());
    hasher.update(&id.to_le_bytes());
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&(len as u64).to_le_bytes());
    bytes.extend_from_slice(&(key.namespace as u64).to_le_bytes());
    let random = len.saturating_sub(bytes.len());
    let mut tail = vec![0; if id.is_multiple_of(2) { random.min(PERIOD) } else { random }];
    hasher.finalize_xof().fill(&mut tail);
    bytes.extend(tail.iter().copied().cycle().take(random));
    bytes
}

/// The attempt that a payload says it is of. Says nothing about whether it is whole.
pub fn recognise(bytes: &[u8]) -> Option<AttemptId> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    Some(AttemptId::from_le_bytes(*rest.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::request::Target;

    #[test]
    fn payloads_differ_by_key_namespace_and_attempt() {
        let key = |namespace, name: &str| ValueKey { namespace, target: Target::Plain(name.to_owned()) };
        let all = [
            bytes_of(1, &key(0, "a"), 500),
            bytes_of(2, &key(0, "a"), 500),
            bytes_of(1, &key(1, "a"), 500),
            bytes_of(1, &key(0, "b"), 500),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 500);
            assert!(all.iter().skip(at + 1).all(|other| one != other));
        }
        assert_eq!(all.map(|bytes| recognise(&bytes)), [Some(1), Some(2), Some(1), Some(1)]);
        assert_eq!(recognise(b"bettong!\x01"), None);
        assert_eq!(bytes_of(1, &key(0, "a"), LEN_MIN).len() as u64, LEN_MIN);
        assert_eq!(bytes_of(1, &key(0, "a"), 5), bytes_of(2, &key(1, "b"), 5));
        assert_eq!((bytes_of(1, &key(0, "a"), 0), recognise(&[NAMELESS; 5])), (Vec::new(), None));
    }
}
