//! Small records in the object store and on the local disk: one line of JSON, one line with its BLAKE3.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest record that is read. Bytes.
pub const RECORD_BYTES_MAX: u64 = 1 << 20;

pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    let hash = blake3::hash(text.as_bytes()).to_hex();
    Ok(format!("{text}\n{hash}\n").into())
}

/// Reads a record; the hash is checked before a field is looked at.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let (json, hash) = text
        .strip_suffix('\n')
        .and_then(|text| text.split_once('\n'))
        .ok_or_else(|| "not a line of JSON and a line of hash".to_owned())?;
    if blake3::hash(json.as_bytes()).to_hex().as_str() != hash {
        return Err("the hash does not match the record".to_owned());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let mut bytes = encode(&("name", 7u64)).unwrap().to_vec();
            prop_assert_eq!(decode::<(String, u64)>(&bytes), Ok(("name".to_owned(), 7)));
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(decode::<(String, u64)>(&bytes).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<serde_json::Value>(&bytes);
        }
    }
}
