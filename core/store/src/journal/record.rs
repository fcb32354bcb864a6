//! The records of the block journal.
//!
//! ```text
//! kind u8, flags u8, length u16, then so many bytes of fields; a bit of flags that a kind does not know is refused
//!
//! 1 put         group u64, life ordinal u64, envelope header 256, plain key, [BLAKE3 of the stored body 32]
//!               flag 1: the last field is there, exactly where the body is compressed
//! 2 commit      group u64, puts u32
//! 3 delete      value key, horizon: life ordinal u64, put id 16; wall clock u64, Unix milliseconds
//! 4 overwrite   value key, life ordinal u64, put id 16, level u8: 1 memory, 2 journal, 3 object
//! 5 head        namespace 32, life ordinal u64, put id 16, generation u64, name length u16, name,
//!               flag 1: [tip 32, length u32, flag 2: [sidecar key 32]]; without flag 1 a tombstone
//! 6 upload done put id 16
//! 7 void        from u64, to u64, segment u64, offset u64
//! 8 segment     life ordinal u64, life u64, number u64, nonce of the segment before it u64
//! 9 mark        nothing
//!
//! value key: kind u8, part u16, namespace 32, hash 32        put id: life u64, counter u64
//! ```

use super::cursor::Cursor;
use crate::index::rows::ValueKey;
use crate::life::Life;
use bettong_wire::envelope::{Algorithm, HEADER_LEN as ENVELOPE_LEN, Header, Kind};
use bettong_wire::limits::NAME_BYTES_MAX;
use bettong_wire::request::{HeadValue, Level};
use bettong_wire::{BlockHash, DecodeError, NamespaceId, Part, PutId, SidecarKey};
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before a record's fields.
pub const RECORD_HEAD_LEN: usize = 4;
/// Longest record: a put with the longest plain key.
pub const RECORD_BYTES_MAX: usize = RECORD_HEAD_LEN + 16 + ENVELOPE_LEN + 1024 + 32;

/// Orders the versions of a key: by the ordinal of the life that wrote it, then by that life's counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    /// Ordinal of the put id's life among the lives of this node.
    pub ordinal: u64,
    pub put_id: PutId,
}

/// One write of one value. Its stored bytes follow behind the records of its batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutRecord {
    /// Zero: visible with its batch. Otherwise the group whose commit record makes it visible.
    pub group: u64,
    /// Ordinal of the life in the header's put id.
    pub ordinal: u64,
    pub header: Header,
    /// The envelope header and the plain key, as they are stored.
    pub head: Bytes,
    /// BLAKE3 of the stored body where it is compressed; else the header's payload hash is that.
    pub stored_hash: Option<[u8; 32]>,
}

impl PutRecord {
    pub fn version(&self) -> Version {
        Version { ordinal: self.ordinal, put_id: self.header.put_id }
    }

    pub fn key(&self) -> ValueKey {
        let Header { kind, namespace, key: hash, part, .. } = self.header;
        ValueKey { kind, namespace, hash, part }
    }

    /// The BLAKE3 that the stored body must have.
    pub fn body_hash(&self) -> [u8; 32] {
        self.stored_hash.unwrap_or(self.header.payload_hash)
    }
}

/// A head's generation that is to be published in the object store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeadRecord {
    pub namespace: NamespaceId,
    pub version: Version,
    pub generation: u64,
    /// 1 to 255 bytes.
    pub name: String,
    /// `None` for a tombstone.
    pub value: Option<HeadValue>,
}

/// One record of the block journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    Put(PutRecord),
    /// The `puts` puts of `group` are visible from here on.
    Commit {
        group: u64,
        puts: u32,
    },
    /// Every version of the key up to the horizon is dead.
    Delete {
        key: ValueKey,
        horizon: Version,
        wall_ms: u64,
    },
    /// Versions of the key before this one are superseded by a write that went past the journal.
    Overwrite {
        key: ValueKey,
        version: Version,
        level: Level,
    },
    Head(HeadRecord),
    /// The put, or the head, is in the object store and durably indexed.
    UploadDone {
        put_id: PutId,
    },
    /// Everything from `offset` of `segment` up to the beginning of the segment that bears this record is void. The
    /// sequence numbers `from` to `to` (exclusive) are used by nothing that counts.
    Void {
        from: u64,
        to: u64,
        segment: u64,
        offset: u64,
    },
    /// The first record of a segment, and of no other place.
    Segment {
        life: Life,
        number: u64,
        previous_nonce: u64,
    },
    /// Nothing but its batch's `synced_through`.
    Mark,
}

const PUT_STORED_HASH: u8 = 1;
const HEAD_VALUE: u8 = 1;
const HEAD_SIDECAR: u8 = 2;

impl Record {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Commit { .. } => "commit",
            Self::Delete { .. } => "delete",
            Self::Overwrite { .. } => "overwrite",
            Self::Head(_) => "head",
            Self::UploadDone { .. } => "upload done",
            Self::Void { .. } => "void",
            Self::Segment { .. } => "segment",
            Self::Mark => "mark",
        }
    }

    /// Bytes that follow behind the records of its batch for this one.
    pub fn body_len(&self) -> u64 {
        match self {
            Self::Put(put) => put.header.stored_len,
            _ => 0,
        }
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, RECORD_HEAD_LEN);
        let (kind, flags) = self.encode_fields(out);
        let len = u16::try_from(out.len() - start - RECORD_HEAD_LEN).unwrap_or(u16::MAX);
        let [low, high] = len.to_le_bytes();
        out[start..start + RECORD_HEAD_LEN].copy_from_slice(&[kind, flags, low, high]);
    }

    fn encode_fields(&self, out: &mut BytesMut) -> (u8, u8) {
        match self {
            Self::Put(put) => {
                out.put_u64_le(put.group);
                out.put_u64_le(put.ordinal);
                out.put_slice(&put.head);
                let Some(hash) = &put.stored_hash else { return (1, 0) };
                out.put_slice(hash);
                (1, PUT_STORED_HASH)
            }
            Self::Commit { group, puts } => {
                out.put_u64_le(*group);
                out.put_u32_le(*puts);
                (2, 0)
            }
            Self::Delete { key, horizon, wall_ms } => {
                encode_key(key, out);
                encode_version(horizon, out);
                out.put_u64_le(*wall_ms);
                (3, 0)
            }
            Self::Overwrite { key, version, level } => {
                encode_key(key, out);
                encode_version(version, out);
                out.put_u8(match level {
                    Level::Memory => 1,
                    Level::Journal => 2,
                    Level::Object => 3,
                });
                (4, 0)
            }
            Self::Head(head) => (5, head.encode(out)),
            Self::UploadDone { put_id } => {
                encode_put_id(*put_id, out);
                (6, 0)
            }
            Self::Void { from, to, segment, offset } => {
                [from, to, segment, offset].into_iter().for_each(|number| out.put_u64_le(*number));
                (7, 0)
            }
            Self::Segment { life, number, previous_nonce } => {
                [life.ordinal, life.life, *number, *previous_nonce].into_iter().for_each(|n| out.put_u64_le(n));
                (8, 0)
            }
            Self::Mark => (9, 0),
        }
    }

    /// Reads `count` records that fill `bytes` exactly.
    pub fn decode_all(bytes: &[u8], count: u16) -> Result<Vec<Self>, DecodeError> {
        let mut cursor = Cursor::new("journal records", bytes);
        let mut records = Vec::with_capacity(count.into());
        for _ in 0..count {
            let (kind, flags, len) = (cursor.u8()?, cursor.u8()?, cursor.u16()?);
            records.push(Self::decode(kind, flags, cursor.bytes(len.into())?)?);
        }
        cursor.end(records)
    }

    fn decode(kind: u8, flags: u8, fields: &[u8]) -> Result<Self, DecodeError> {
        let known = match kind {
            1 => PUT_STORED_HASH,
            5 => HEAD_VALUE | HEAD_SIDECAR,
            _ => 0,
        };
        if flags & !known != 0 {
            return Err(DecodeError::Unknown { what: "journal record flags", got: flags.into() });
        }
        let mut cursor = Cursor::new("journal record", fields);
        let record = match kind {
            1 => Self::Put(PutRecord::decode(flags & PUT_STORED_HASH != 0, &mut cursor)?),
            2 => Self::Commit { group: cursor.u64()?, puts: cursor.u32()? },
            3 => Self::Delete {
                key: decode_key(&mut cursor)?,
                horizon: decode_version(&mut cursor)?,
                wall_ms: cursor.u64()?,
            },
            4 => Self::Overwrite {
                key: decode_key(&mut cursor)?,
                version: decode_version(&mut cursor)?,
                level: match cursor.u8()? {
                    1 => Level::Memory,
                    2 => Level::Journal,
                    3 => Level::Object,
                    got => return Err(DecodeError::Unknown { what: "journal record level", got: got.into() }),
                },
            },
            5 => Self::Head(HeadRecord::decode(flags, &mut cursor)?),
            6 => Self::UploadDone { put_id: decode_put_id(&mut cursor)? },
            7 => {
                let [from, to, segment, offset] = [cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?];
                if to < from {
                    return Err(DecodeError::Invalid {
                        what: "end of a void",
                        got: to,
                        must: "at or behind its start",
                    });
                }
                Self::Void { from, to, segment, offset }
            }
            8 => Self::Segment {
                life: Life { ordinal: cursor.u64()?, life: cursor.u64()? },
                number: cursor.u64()?,
                previous_nonce: cursor.u64()?,
            },
            9 => Self::Mark,
            got => return Err(DecodeError::Unknown { what: "journal record kind", got: got.into() }),
        };
        cursor.end(record)
    }
}

impl PutRecord {
    fn decode(has_stored_hash: bool, cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let (group, ordinal) = (cursor.u64()?, cursor.u64()?);
        let envelope = cursor.bytes(ENVELOPE_LEN)?;
        let header = Header::decode(envelope)?;
        let plain_key = cursor.bytes(header.plain_key_len.into())?;
        if header.kind == Kind::Plain && *blake3::hash(plain_key).as_bytes() != header.key {
            return Err(DecodeError::Hash { what: "plain key of a journal record" });
        }
        if let Err(error) = std::str::from_utf8(plain_key) {
            let valid_up_to = error.valid_up_to() as u64;
            return Err(DecodeError::Utf8 { what: "plain key of a journal record", valid_up_to });
        }
        if has_stored_hash != (header.algorithm != Algorithm::None) {
            let must = "1 where the body is compressed, 0 otherwise";
            return Err(DecodeError::Invalid { what: "stored hash flag", got: has_stored_hash.into(), must });
        }
        let stored_hash = if has_stored_hash { Some(cursor.array()?) } else { None };
        Ok(Self { group, ordinal, header, head: [envelope, plain_key].concat().into(), stored_hash })
    }
}

impl HeadRecord {
    fn encode(&self, out: &mut BytesMut) -> u8 {
        out.put_slice(&self.namespace.0);
        encode_version(&self.version, out);
        out.put_u64_le(self.generation);
        out.put_u16_le(u16::try_from(self.name.len()).unwrap_or(u16::MAX));
        out.put_slice(self.name.as_bytes());
        let Some(value) = &self.value else { return 0 };
        out.put_slice(&value.tip.0);
        out.put_u32_le(value.length);
        let Some(sidecar) = &value.sidecar else { return HEAD_VALUE };
        out.put_slice(&sidecar.0);
        HEAD_VALUE | HEAD_SIDECAR
    }

    fn decode(flags: u8, cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        const NAME: &str = "name of a head in the journal";
        let namespace = NamespaceId(cursor.array()?);
        let (version, generation, len) = (decode_version(cursor)?, cursor.u64()?, cursor.u16()?);
        if !(1..=NAME_BYTES_MAX).contains(&len.into()) {
            return Err(DecodeError::Invalid { what: NAME, got: len.into(), must: "1 to 255 bytes" });
        }
        let name = std::str::from_utf8(cursor.bytes(len.into())?)
            .map_err(|error| DecodeError::Utf8 { what: NAME, valid_up_to: error.valid_up_to() as u64 })?
            .to_owned();
        let value = match flags {
            0 => None,
            HEAD_SIDECAR => {
                return Err(DecodeError::Unknown { what: "journal record flags", got: flags.into() });
            }
            _ => Some(HeadValue {
                tip: BlockHash(cursor.array()?),
                length: cursor.u32()?,
                sidecar: if flags & HEAD_SIDECAR == 0 { None } else { Some(SidecarKey(cursor.array()?)) },
            }),
        };
        Ok(Self { namespace, version, generation, name, value })
    }
}

fn encode_key(key: &ValueKey, out: &mut BytesMut) {
    out.put_u8(key.kind as u8);
    out.put_u16_le(key.part.0);
    out.put_slice(&key.namespace.0);
    out.put_slice(&key.hash);
}

fn decode_key(cursor: &mut Cursor<'_>) -> Result<ValueKey, DecodeError> {
    let kind = match cursor.u8()? {
        1 => Kind::Block,
        2 => Kind::Sidecar,
        3 => Kind::Plain,
        got => return Err(DecodeError::Unknown { what: "kind of a key in the journal", got: got.into() }),
    };
    let part = Part(cursor.u16()?);
    Ok(ValueKey { kind, part, namespace: NamespaceId(cursor.array()?), hash: cursor.array()? })
}

fn encode_put_id(put_id: PutId, out: &mut BytesMut) {
    out.put_u64_le(put_id.life);
    out.put_u64_le(put_id.counter);
}

fn decode_put_id(cursor: &mut Cursor<'_>) -> Result<PutId, DecodeError> {
    Ok(PutId { life: cursor.u64()?, counter: cursor.u64()? })
}

fn encode_version(version: &Version, out: &mut BytesMut) {
    out.put_u64_le(version.ordinal);
    encode_put_id(version.put_id, out);
}

fn decode_version(cursor: &mut Cursor<'_>) -> Result<Version, DecodeError> {
    Ok(Version { ordinal: cursor.u64()?, put_id: decode_put_id(cursor)? })
}
