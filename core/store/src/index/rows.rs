//! The durable index: rows in SlateDB.
//!
//! ```text
//! key                                             value
//! v / kind u8 / namespace 32 / hash 32 / part u16  one value of this node (see below)
//! c / sequence u64                                 the changes of one batch, for other nodes: time u64, life u64, then
//!                                                  for each changed row its key, value length u32 and value
//! d / life u64 / counter u64                       a put id that is dead: time u64, mark u8, its value's row key, then,
//!                                                  where it is in a pack, the pack's put id
//! p / life u64 / counter u64                       a pack of this node: namespace 32, bytes u64, members u32
//! q / life u64 / counter u64                       a put id that is quarantined: empty
//! h / node id                                      a retired node whose names this one takes over: how far it is, u8,
//!                                                  and behind which row key or object name
//! m / format                                       format version u32; there once the index is complete
//! m / state                                        clock u64, life u64, change sequence u64, journaled u64
//! ```
//! Integers in keys are big-endian, so that rows sort by them; integers in values are little-endian. A value row:
//! put id 16, raw length u32, stored length u32, sequence u32, parent tag u32, expires at u64, then for plain keys the
//! key itself, and for a block or a sidecar in a pack the pack's put id and the offset in it, u32. In a change a value of length zero means that the row was removed.

use super::entry::{Entry, InPack, NodeNum};
use bettong_wire::envelope::Kind;
use bettong_wire::request::Level;
use bettong_wire::{NamespaceId, Part, PutId};
use bytes::{BufMut, Bytes, BytesMut};

/// Version of this schema.
pub const FORMAT: u32 = 1;

/// The row key of one value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ValueKey {
    pub kind: Kind,
    pub namespace: NamespaceId,
    pub hash: [u8; 32],
    pub part: Part,
}

/// One value row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueRow {
    pub entry: Entry,
    /// Empty for blocks and sidecars.
    pub plain_key: String,
}

const VALUE_KEY_LEN: usize = 1 + 1 + 32 + 32 + 2;

/// Reads bytes from the front; `None` at the end. Rows come back from an object store: nothing is trusted.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes()?))
    }

    fn put_id(&mut self) -> Option<PutId> {
        Some(PutId { life: self.u64()?, counter: self.u64()? })
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes()?))
    }

    fn u64_be(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.bytes()?))
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }

    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

impl ValueKey {
    pub const PREFIX: &'static [u8] = b"v";

    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(VALUE_KEY_LEN);
        bytes.put_slice(Self::PREFIX);
        bytes.put_u8(self.kind as u8);
        bytes.put_slice(&self.namespace.0);
        bytes.put_slice(&self.hash);
        bytes.put_u16(self.part.0);
        bytes.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.bytes()? != *b"v" {
            return None;
        }
        let kind = match reader.bytes()? {
            [1] => Kind::Block,
            [2] => Kind::Sidecar,
            [3] => Kind::Plain,
            _ => return None,
        };
        let namespace = NamespaceId(reader.bytes()?);
        let hash = reader.bytes()?;
        let part = Part(u16::from_be_bytes(reader.bytes()?));
        reader.end(Self { kind, namespace, hash, part })
    }
}

impl ValueRow {
    pub fn encode(&self) -> Bytes {
        let entry = &self.entry;
        let mut bytes = BytesMut::with_capacity(60 + self.plain_key.len());
        put_id_le(&mut bytes, entry.put_id);
        bytes.put_u32_le(entry.raw_len);
        bytes.put_u32_le(entry.stored_len);
        bytes.put_u32_le(entry.sequence);
        bytes.put_u32_le(entry.parent_tag);
        bytes.put_u64_le(entry.expires_at_ms);
        match entry.in_pack {
            Some(place) => {
                put_id_le(&mut bytes, place.pack);
                bytes.put_u32_le(place.offset);
            }
            None => bytes.put_slice(self.plain_key.as_bytes()),
        }
        bytes.freeze()
    }

    /// Reads the row of a value of `kind` of `node`. Durable rows are all of level `object`.
    pub fn decode(bytes: &[u8], kind: Kind, node: NodeNum) -> Option<Self> {
        let mut reader = Reader(bytes);
        let put_id = reader.put_id()?;
        let mut entry = Entry {
            put_id,
            level: Level::Object,
            raw_len: reader.u32()?,
            stored_len: reader.u32()?,
            sequence: reader.u32()?,
            parent_tag: reader.u32()?,
            expires_at_ms: reader.u64()?,
            node,
            quarantined: false,
            in_pack: None,
        };
        if kind == Kind::Plain {
            return Some(Self { entry, plain_key: std::str::from_utf8(reader.rest()).ok()?.to_owned() });
        }
        if !reader.0.is_empty() {
            entry.in_pack = Some(InPack { pack: reader.put_id()?, offset: reader.u32()? });
        }
        reader.end(Self { entry, plain_key: String::new() })
    }
}

/// The changes of value rows in one batch, for other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeBatch {
    pub wall_ms: u64,
    pub life: u64,
    /// Each changed row with its new value; `None` where the row was removed.
    pub rows: Vec<(ValueKey, Option<Bytes>)>,
}

impl ChangeBatch {
    pub const PREFIX: &'static [u8] = b"c";

    pub fn key(sequence: u64) -> Bytes {
        let mut bytes = BytesMut::with_capacity(9);
        bytes.put_slice(Self::PREFIX);
        bytes.put_u64(sequence);
        bytes.freeze()
    }

    pub fn sequence(key: &[u8]) -> Option<u64> {
        let mut reader = Reader(key);
        if reader.bytes()? != *b"c" {
            return None;
        }
        let sequence = reader.u64_be()?;
        reader.end(sequence)
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(self.wall_ms);
        bytes.put_u64_le(self.life);
        for (key, value) in &self.rows {
            bytes.put_slice(&key.encode());
            let value = value.as_deref().unwrap_or(&[]);
            bytes.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
            bytes.put_slice(value);
        }
        bytes.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (wall_ms, life) = (reader.u64()?, reader.u64()?);
        let mut rows = Vec::new();
        while !reader.0.is_empty() {
            let key = ValueKey::decode(&reader.bytes::<VALUE_KEY_LEN>()?)?;
            let len = usize::try_from(reader.u32()?).ok()?;
            let (value, rest) = reader.0.split_at_checked(len)?;
            reader.0 = rest;
            rows.push((key, (len > 0).then(|| Bytes::copy_from_slice(value))));
        }
        Some(Self { wall_ms, life, rows })
    }
}

fn put_id_le(bytes: &mut BytesMut, put_id: PutId) {
    bytes.put_u64_le(put_id.life);
    bytes.put_u64_le(put_id.counter);
}

fn put_id_key(prefix: u8, put_id: PutId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(17);
    bytes.put_u8(prefix);
    bytes.put_u64(put_id.life);
    bytes.put_u64(put_id.counter);
    bytes.freeze()
}

fn put_id_of(prefix: u8, key: &[u8]) -> Option<PutId> {
    let mut reader = Reader(key);
    if reader.bytes()? != [prefix] {
        return None;
    }
    let put_id = PutId { life: reader.u64_be()?, counter: reader.u64_be()? };
    reader.end(put_id)
}

/// Who else knows that a put id is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mark {
    /// Nobody needs to: it was overwritten. The row goes when the object is gone.
    None = 0,
    /// Deleted by name here: this node's mark is in the bucket, or owed to it.
    Own = 1,
    /// Another node's mark names it. The row goes when that mark is gone.
    Foreign = 2,
}

/// A put id that is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadRow {
    pub wall_ms: u64,
    pub mark: Mark,
    pub key: ValueKey,
    /// The pack that its bytes are in; `None` is an object of its own.
    pub pack: Option<PutId>,
}

impl DeadRow {
    pub const PREFIX: &'static [u8] = b"d";

    pub fn key(put_id: PutId) -> Bytes {
        put_id_key(b'd', put_id)
    }

    pub fn put_id(key: &[u8]) -> Option<PutId> {
        put_id_of(b'd', key)
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(25 + VALUE_KEY_LEN);
        bytes.put_u64_le(self.wall_ms);
        bytes.put_u8(self.mark as u8);
        bytes.put_slice(&self.key.encode());
        self.pack.into_iter().for_each(|pack| put_id_le(&mut bytes, pack));
        bytes.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let wall_ms = reader.u64()?;
        let mark = match reader.bytes()? {
            [0] => Mark::None,
            [1] => Mark::Own,
            [2] => Mark::Foreign,
            _ => return None,
        };
        let key = ValueKey::decode(&reader.bytes::<VALUE_KEY_LEN>()?)?;
        let pack = if reader.0.is_empty() { None } else { Some(reader.put_id()?) };
        reader.end(Self { wall_ms, mark, key, pack })
    }
}

/// A pack of this node that is in the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackRow {
    pub namespace: NamespaceId,
    /// Of the whole object.
    pub bytes: u64,
    /// That it was written with.
    pub members: u32,
}

impl PackRow {
    pub const PREFIX: &'static [u8] = b"p";

    pub fn key(put_id: PutId) -> Bytes {
        put_id_key(b'p', put_id)
    }

    pub fn put_id(key: &[u8]) -> Option<PutId> {
        put_id_of(b'p', key)
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(44);
        bytes.put_slice(&self.namespace.0);
        bytes.put_u64_le(self.bytes);
        bytes.put_u32_le(self.members);
        bytes.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let row = Self { namespace: NamespaceId(reader.bytes()?), bytes: reader.u64()?, members: reader.u32()? };
        reader.end(row)
    }
}

/// Row keys of quarantined put ids.
pub struct QuarantineRow;

impl QuarantineRow {
    pub const PREFIX: &'static [u8] = b"q";

    pub fn key(put_id: PutId) -> Bytes {
        put_id_key(b'q', put_id)
    }

    pub fn put_id(key: &[u8]) -> Option<PutId> {
        put_id_of(b'q', key)
    }
}

/// How far a retired node is taken over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Inheritance {
    #[default]
    Nothing,
    /// The rows of its index up to this key.
    Index(Vec<u8>),
    /// Its objects up to this name.
    Listing(String),
    Done,
}

impl Inheritance {
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Nothing => Bytes::from_static(&[0]),
            Self::Index(key) => [&[1], key.as_slice()].concat().into(),
            Self::Listing(name) => [&[2], name.as_bytes()].concat().into(),
            Self::Done => Bytes::from_static(&[3]),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, []) => Some(Self::Nothing),
            (1, key) => Some(Self::Index(key.to_vec())),
            (2, name) => Some(Self::Listing(std::str::from_utf8(name).ok()?.to_owned())),
            (3, []) => Some(Self::Done),
            _ => None,
        }
    }
}

/// Row keys of retired nodes.
pub struct InheritanceRow;

impl InheritanceRow {
    pub fn key(node_id: &str) -> Bytes {
        [b"h", node_id.as_bytes()].concat().into()
    }

    pub fn node_id(key: &[u8]) -> Option<&str> {
        std::str::from_utf8(key.strip_prefix(b"h")?).ok().filter(|node_id| !node_id.is_empty())
    }
}

pub const FORMAT_KEY: &[u8] = b"m/format";
pub const STATE_KEY: &[u8] = b"m/state";

/// Written with every batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateRow {
    /// The highest wall time that any batch bore, Unix milliseconds: SlateDB's clock never goes below it.
    pub clock_ms: u64,
    /// The life that wrote the batch: a directory that lacks it has been rolled back.
    pub life: u64,
    /// The next change's sequence number.
    pub change_sequence: u64,
    /// Highest sequence number of that life's journal that was synced then: a directory whose journal ends before it
    /// has been rolled back. Zero without a journal.
    pub journaled: u64,
    /// The node was retired, and its heir has made all of the index its own: it counts no more.
    pub taken_over: bool,
}

impl StateRow {
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(33);
        bytes.put_u64_le(self.clock_ms);
        bytes.put_u64_le(self.life);
        bytes.put_u64_le(self.change_sequence);
        bytes.put_u64_le(self.journaled);
        if self.taken_over {
            bytes.put_u8(1);
        }
        bytes.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (clock_ms, life) = (reader.u64()?, reader.u64()?);
        let (change_sequence, journaled) = (reader.u64()?, reader.u64()?);
        let taken_over = match reader.rest() {
            [] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self { clock_ms, life, change_sequence, journaled, taken_over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The rows of `docs/formats.md`, byte for byte: a release reads the index that an older one wrote.
    #[test]
    fn rows_have_the_bytes_of_their_format() {
        let key =
            ValueKey { kind: Kind::Block, namespace: NamespaceId([0x11; 32]), hash: [0x22; 32], part: Part(0x3344) };
        let (ns, hash) = ("11".repeat(32), "22".repeat(32));
        let put_id = PutId { life: 0x0102_0304_0506_0708, counter: 0x1112_1314_1516_1718 };
        let (le, be) = ("08070605040302011817161514131211", "01020304050607081112131415161718");
        let pack = PutId { life: 0xa1, counter: 0xb2 };
        let pack_le = "a100000000000000b200000000000000";
        let entry = Entry {
            put_id,
            level: Level::Object,
            raw_len: 0x41,
            stored_len: 0x42,
            sequence: 0x43,
            parent_tag: 0x44,
            expires_at_ms: 0x45,
            node: NodeNum::SELF,
            quarantined: false,
            in_pack: None,
        };
        let row = |in_pack, name: &str| ValueRow { entry: Entry { in_pack, ..entry }, plain_key: name.to_owned() };
        let numbers = "41000000420000004300000044000000".to_owned() + "4500000000000000";
        let value = format!("{le}{numbers}");
        let whole = row(None, "");
        let key_hex = format!("7601{ns}{hash}3344");
        let state = StateRow { clock_ms: 1, life: 2, change_sequence: 3, journaled: 4, taken_over: false };
        let state_hex = "0100000000000000020000000000000003000000000000000400000000000000";
        let rows = vec![(key, Some(whole.encode())), (key, None)];
        let dead = DeadRow { wall_ms: 5, mark: Mark::Foreign, key, pack: None };
        let pinned: Vec<(Bytes, String)> = vec![
            (key.encode(), key_hex.clone()),
            (whole.encode(), value.clone()),
            (row(None, "k").encode(), format!("{value}6b")),
            (row(Some(InPack { pack, offset: 0x46 }), "").encode(), format!("{value}{pack_le}46000000")),
            (ChangeBatch::key(7), "630000000000000007".to_owned()),
            (
                ChangeBatch { wall_ms: 8, life: 9, rows }.encode(),
                format!("08000000000000000900000000000000{key_hex}28000000{value}{key_hex}00000000"),
            ),
            (DeadRow::key(put_id), format!("64{be}")),
            (dead.encode(), format!("050000000000000002{key_hex}")),
            (DeadRow { pack: Some(pack), ..dead }.encode(), format!("050000000000000002{key_hex}{pack_le}")),
            (PackRow::key(put_id), format!("70{be}")),
            (
                PackRow { namespace: NamespaceId([0x11; 32]), bytes: 6, members: 7 }.encode(),
                format!("{ns}060000000000000007000000"),
            ),
            (QuarantineRow::key(put_id), format!("71{be}")),
            (InheritanceRow::key("n"), "686e".to_owned()),
            (Inheritance::Nothing.encode(), "00".to_owned()),
            (Inheritance::Index(vec![0x76]).encode(), "0176".to_owned()),
            (Inheritance::Listing("o".to_owned()).encode(), "026f".to_owned()),
            (Inheritance::Done.encode(), "03".to_owned()),
            (state.encode(), state_hex.to_owned()),
            (StateRow { taken_over: true, ..state }.encode(), format!("{state_hex}01")),
        ];
        for (at, (written, expected)) in pinned.into_iter().enumerate() {
            assert_eq!(hex(&written), expected, "row {at}");
        }
        assert_eq!((FORMAT, FORMAT_KEY, STATE_KEY), (1, b"m/format".as_slice(), b"m/state".as_slice()));
    }

    proptest! {
        #[test]
        fn hostile_rows_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ValueKey::decode(&bytes);
            for kind in [Kind::Block, Kind::Sidecar, Kind::Plain] {
                let _ = ValueRow::decode(&bytes, kind, NodeNum(1));
            }
            let _ = PackRow::decode(&bytes);
            let _ = PackRow::put_id(&bytes);
            let _ = ChangeBatch::decode(&bytes);
            let _ = ChangeBatch::sequence(&bytes);
            let _ = DeadRow::decode(&bytes);
            let _ = DeadRow::put_id(&bytes);
            let _ = StateRow::decode(&bytes);
            let _ = InheritanceRow::node_id(&bytes);
            if let Some(state) = Inheritance::decode(&bytes) {
                prop_assert_eq!(state.encode(), bytes);
            }
        }

        #[test]
        fn rows_are_read_as_they_are_written(
            hash in any::<[u8; 32]>(),
            part in any::<u16>(),
            numbers in any::<(u64, u64, u32, u32, u32, u32, u64)>(),
            plain_key in "\\PC{0,40}",
        ) {
            let key = ValueKey { kind: Kind::Plain, namespace: NamespaceId(hash), hash, part: Part(part) };
            prop_assert_eq!(ValueKey::decode(&key.encode()), Some(key));
            let (life, counter, raw_len, stored_len, sequence, parent_tag, expires_at_ms) = numbers;
            let put_id = PutId { life, counter };
            let entry = Entry {
                put_id, level: Level::Object, raw_len, stored_len, sequence, parent_tag, expires_at_ms,
                node: NodeNum(3), quarantined: false, in_pack: None,
            };
            let row = ValueRow { entry, plain_key };
            prop_assert_eq!(ValueRow::decode(&row.encode(), Kind::Plain, NodeNum(3)), Some(row.clone()));
            let place = InPack { pack: PutId { life: counter, counter: life }, offset: raw_len };
            for in_pack in [None, Some(place)] {
                let row = ValueRow { entry: Entry { in_pack, ..entry }, plain_key: String::new() };
                prop_assert_eq!(ValueRow::decode(&row.encode(), Kind::Block, NodeNum(3)), Some(row));
            }
            let pack = PackRow { namespace: NamespaceId(hash), bytes: life, members: raw_len };
            prop_assert_eq!(PackRow::decode(&pack.encode()), Some(pack));
            prop_assert_eq!(PackRow::put_id(&PackRow::key(put_id)), Some(put_id));
            let rows = vec![(key, Some(row.encode())), (key, None)];
            let changes = ChangeBatch { wall_ms: life, life: counter, rows };
            prop_assert_eq!(ChangeBatch::decode(&changes.encode()), Some(changes));
            prop_assert_eq!(ChangeBatch::sequence(&ChangeBatch::key(life)), Some(life));
            for pack in [None, Some(place.pack)] {
                let dead = DeadRow { wall_ms: life, mark: Mark::Foreign, key, pack };
                prop_assert_eq!(DeadRow::decode(&dead.encode()), Some(dead));
            }
            prop_assert_eq!(DeadRow::put_id(&DeadRow::key(put_id)), Some(put_id));
            prop_assert_eq!(QuarantineRow::put_id(&QuarantineRow::key(put_id)), Some(put_id));
            for taken_over in [false, true] {
                let (clock_ms, change_sequence, journaled) = (life, expires_at_ms, life ^ counter);
                let state = StateRow { clock_ms, life: counter, change_sequence, journaled, taken_over };
                prop_assert_eq!(StateRow::decode(&state.encode()), Some(state));
            }
        }
    }
}
