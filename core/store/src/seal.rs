//! Sealing a payload into its envelope, and opening one that came from outside: from the disk tier or an object.

use bettong_wire::envelope::{Algorithm, HEADER_LEN, Header, Kind};
use bettong_wire::{BlockHash, BlockMemory, DecodeError, NamespaceId, Payload, PutId};
use bytes::Bytes;
use object_store::PutPayload;
use std::io::Read;

/// What decides an envelope besides the payload.
#[derive(Clone, Debug)]
pub struct SealMeta {
    pub kind: Kind,
    pub namespace: NamespaceId,
    pub hash: [u8; 32],
    pub part: bettong_wire::Part,
    /// The plain key itself; empty for other kinds.
    pub plain_key: String,
    pub sequence: u32,
    pub put_id: PutId,
    pub parent: Option<BlockHash>,
    pub created_at_ms: u64,
    pub expires_at_ms: u64,
}

/// A sealed payload: header (with the plain key) and the bytes as they are stored. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub header: Header,
    head: Bytes,
    body: Bytes,
}

impl Sealed {
    /// The whole object, without a copy of the payload.
    pub fn to_put_payload(&self) -> PutPayload {
        [self.head.clone(), self.body.clone()].into_iter().collect()
    }

    pub fn parts(&self) -> [&Bytes; 2] {
        [&self.head, &self.body]
    }

    /// Header and stored payload, in bytes.
    pub fn total_len(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }
}

/// Why a stored copy is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer release: neither served nor destroyed.
    #[error("written in a newer format: {0}")]
    Newer(DecodeError),
    #[error("damaged: {0}")]
    Damaged(String),
    /// Whole and right, but another write's: stale, not corrupt.
    #[error("the copy is of put {found}, the index names {wanted}")]
    OtherPut { found: PutId, wanted: PutId },
    /// No room for the payload.
    #[error(transparent)]
    Memory(#[from] bettong_wire::ReserveError),
}

/// What is copied and hashed at a time: as much as a core's own cache holds.
const PIECE_BYTES: usize = 128 << 10;

/// Seals `payload`. Compresses where asked and where it shrinks by at least 1/16.
pub fn seal(meta: &SealMeta, payload: &Payload, algorithm: Algorithm) -> Sealed {
    let raw = payload.as_ref();
    let (algorithm, body) = compress(raw, algorithm)
        .filter(|packed| packed.len() <= raw.len() - raw.len() / 16)
        .map_or((Algorithm::None, payload.clone().into_bytes()), |packed| (algorithm, packed.into()));
    let header = Header {
        kind: meta.kind,
        algorithm,
        namespace: meta.namespace,
        key: meta.hash,
        part: meta.part,
        plain_key_len: u16::try_from(meta.plain_key.len()).unwrap_or(u16::MAX),
        sequence: meta.sequence,
        put_id: meta.put_id,
        parent: meta.parent,
        created_at_ms: meta.created_at_ms,
        expires_at_ms: meta.expires_at_ms,
        raw_len: raw.len() as u64,
        stored_len: body.len() as u64,
        payload_hash: *blake3::hash(raw).as_bytes(),
    };
    let mut head = Vec::with_capacity(HEADER_LEN + meta.plain_key.len());
    head.extend_from_slice(&header.encode());
    head.extend_from_slice(meta.plain_key.as_bytes());
    Sealed { header, head: head.into(), body }
}

/// The bytes as they are stored; the same for the same payload. `None` where nothing compresses.
pub fn compress(raw: &[u8], algorithm: Algorithm) -> Option<Vec<u8>> {
    match algorithm {
        Algorithm::None => None,
        Algorithm::Zstd => zstd::bulk::compress(raw, 1).ok(),
        Algorithm::Lz4 => Some(lz4_flex::block::compress(raw)),
    }
}

/// What an index entry says of the copy that it names.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub kind: Kind,
    pub namespace: NamespaceId,
    pub hash: [u8; 32],
    pub part: bettong_wire::Part,
    pub put_id: PutId,
}

/// Opens a stored copy: header, bounds, decompression into exactly the raw length, payload hash, then key, namespace and
/// put id against the index entry.
///
/// # Errors
/// `Newer` and `OtherPut` say that the bytes are somebody's good bytes; `Damaged` that they are nobody's.
pub fn open(bytes: &Bytes, expected: &Expected, memory: &dyn BlockMemory) -> Result<(Header, Payload), OpenError> {
    let header = Header::decode(bytes).map_err(|error| match error {
        DecodeError::Version { .. } => OpenError::Newer(error),
        other => OpenError::Damaged(other.to_string()),
    })?;
    if header.object_len() != bytes.len() as u64 {
        let (said, got) = (header.object_len(), bytes.len());
        return Err(OpenError::Damaged(format!("the header says {said} bytes in all, {got} are there")));
    }
    let key_end = HEADER_LEN + usize::from(header.plain_key_len);
    if header.kind == Kind::Plain && *blake3::hash(&bytes[HEADER_LEN..key_end]).as_bytes() != header.key {
        return Err(OpenError::Damaged("the plain key behind the header is not the one it names".to_owned()));
    }
    let body = bytes.slice(key_end..);
    let (payload, hash) = unpack(&header, &body, memory)?;
    if hash != header.payload_hash {
        return Err(OpenError::Damaged("the payload's hash does not match its bytes".to_owned()));
    }
    let same_key = header.kind == expected.kind
        && header.namespace == expected.namespace
        && header.key == expected.hash
        && header.part == expected.part;
    if !same_key {
        return Err(OpenError::Damaged("the copy bears another key or namespace".to_owned()));
    }
    if header.put_id != expected.put_id {
        return Err(OpenError::OtherPut { found: header.put_id, wanted: expected.put_id });
    }
    Ok((header, payload))
}

/// The payload in memory of its own, and the hash of its bytes.
fn unpack(header: &Header, body: &Bytes, memory: &dyn BlockMemory) -> Result<(Payload, [u8; 32]), OpenError> {
    let damaged = |text: String| OpenError::Damaged(text);
    let mut buf = memory.reserve(header.raw_len)?;
    let mut hasher = blake3::Hasher::new();
    match header.algorithm {
        Algorithm::None => {
            if body.len() as u64 != header.raw_len {
                return Err(damaged(format!("{} bytes are stored of {}", body.len(), header.raw_len)));
            }
            // Each piece is hashed while the cache still has it.
            for piece in body.chunks(PIECE_BYTES) {
                buf.unfilled().put_slice(piece);
                hasher.update(piece);
            }
        }
        Algorithm::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(|e| damaged(e.to_string()))?;
            // One byte more than it should hold: a bomb stops there.
            let mut bounded = decoder.take(header.raw_len + 1);
            let mut chunk = [0; 16 << 10];
            loop {
                let read = bounded.read(&mut chunk).map_err(|e| damaged(e.to_string()))?;
                if read == 0 {
                    break;
                }
                if read > buf.unfilled().remaining_mut() {
                    return Err(damaged(format!("it unpacks to more than {} bytes", header.raw_len)));
                }
                buf.unfilled().put_slice(&chunk[..read]);
                hasher.update(&chunk[..read]);
            }
        }
        Algorithm::Lz4 => {
            let raw_len = usize::try_from(header.raw_len).map_err(|e| damaged(e.to_string()))?;
            let unpacked = lz4_flex::block::decompress(body, raw_len).map_err(|e| damaged(e.to_string()))?;
            if unpacked.len() != raw_len {
                return Err(damaged(format!("it unpacks to {} bytes instead of {raw_len}", unpacked.len())));
            }
            buf.unfilled().put_slice(&unpacked);
            hasher.update(&unpacked);
        }
    }
    let payload = buf.seal().ok_or_else(|| damaged(format!("it unpacks to fewer than {} bytes", header.raw_len)))?;
    Ok((payload, *hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_wire::{Part, memory::HeapMemory};
    use proptest::prelude::*;

    fn meta() -> SealMeta {
        SealMeta {
            kind: Kind::Plain,
            namespace: NamespaceId([1; 32]),
            hash: *blake3::hash(b"key").as_bytes(),
            part: Part(0),
            plain_key: "key".to_owned(),
            sequence: 0,
            put_id: PutId { life: 1, counter: 2 },
            parent: None,
            created_at_ms: 3,
            expires_at_ms: 0,
        }
    }

    fn expected() -> Expected {
        let SealMeta { kind, namespace, hash, part, put_id, .. } = meta();
        Expected { kind, namespace, hash, part, put_id }
    }

    fn whole(sealed: &Sealed) -> Bytes {
        sealed.parts().into_iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>().into()
    }

    fn memory() -> HeapMemory {
        HeapMemory::new(1 << 20, 1 << 20)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            payload in proptest::collection::vec(0u8..4, 0..5000),
            algorithm in prop_oneof![Just(Algorithm::None), Just(Algorithm::Zstd), Just(Algorithm::Lz4)],
        ) {
            let sealed = seal(&meta(), &payload.clone().into(), algorithm);
            prop_assert!(sealed.header.stored_len <= payload.len() as u64);
            let (_, opened) = open(&whole(&sealed), &expected(), &memory()).unwrap();
            prop_assert_eq!(opened.as_ref(), payload);
        }

        #[test]
        fn any_flipped_bit_is_refused(
            payload in proptest::collection::vec(0u8..4, 200..400),
            algorithm in prop_oneof![Just(Algorithm::None), Just(Algorithm::Zstd), Just(Algorithm::Lz4)],
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let sealed = seal(&meta(), &payload.clone().into(), algorithm);
            let mut bytes = whole(&sealed).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            match open(&bytes.into(), &expected(), &memory()) {
                Err(error) => prop_assert!(matches!(error, OpenError::Damaged(_))),
                // Some bits of a compressed stream decide nothing; the payload then is still the right one.
                Ok((_, opened)) => prop_assert_eq!(opened.as_ref(), payload),
            }
        }
    }

    #[test]
    fn the_plain_key_behind_the_header_is_checked() {
        let mut bytes = whole(&seal(&meta(), &vec![0; 10].into(), Algorithm::None)).to_vec();
        bytes[HEADER_LEN] ^= 1;
        assert!(matches!(open(&bytes.into(), &expected(), &memory()), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn another_put_is_stale_and_another_namespace_is_damage() {
        let bytes = whole(&seal(&meta(), &vec![0; 10].into(), Algorithm::None));
        let other_put = Expected { put_id: PutId { life: 1, counter: 3 }, ..expected() };
        assert!(matches!(open(&bytes, &other_put, &memory()), Err(OpenError::OtherPut { .. })));
        let other_ns = Expected { namespace: NamespaceId([2; 32]), ..expected() };
        assert!(matches!(open(&bytes, &other_ns, &memory()), Err(OpenError::Damaged(_))));
    }

    #[test]
    fn a_bomb_stops_at_the_raw_length() {
        let bomb: Payload = vec![0; 1 << 19].into();
        for algorithm in [Algorithm::Zstd, Algorithm::Lz4] {
            let sealed = seal(&meta(), &bomb, algorithm);
            let header = Header { raw_len: 1000, ..sealed.header.clone() };
            let mut bytes = header.encode().to_vec();
            bytes.extend_from_slice(b"key");
            bytes.extend_from_slice(sealed.parts()[1]);
            assert!(matches!(open(&bytes.into(), &expected(), &memory()), Err(OpenError::Damaged(_))));
        }
    }
}
