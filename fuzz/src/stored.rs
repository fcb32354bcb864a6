//! What comes back from disks and buckets: envelopes, object names, index rows, records. First byte: which.

use bettong_core::index::NodeNum;
use bettong_core::index::rows::{ChangeBatch, DeadRow, PackRow, ValueKey, ValueRow};
use bettong_core::objects::names::Names;
use bettong_core::seal::{Expected, open};
use bettong_wire::envelope::{HEADER_LEN, Header, Kind};
use bettong_wire::memory::HeapMemory;
use bettong_wire::pack::{self, Pack};
use bettong_wire::{DecodeError, NamespaceId, Part, PutId};
use bytes::Bytes;
use object_store::path::Path;

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 11 {
        0 => header(rest),
        1 => sealed(rest),
        2 => name(rest),
        3 => drop(ValueKey::decode(rest).map(|key| assert_eq!(key.encode(), rest))),
        4 => drop([Kind::Block, Kind::Sidecar, Kind::Plain].map(|kind| ValueRow::decode(rest, kind, NodeNum::SELF))),
        5 => drop(ChangeBatch::decode(rest)),
        6 => drop(bettong_core::record::decode::<String>(rest)),
        7 => pack(rest),
        8 => drop((PackRow::decode(rest), PackRow::put_id(rest))),
        9 => bettong_core::store::hostile::read(rest),
        _ => drop((DeadRow::decode(rest), DeadRow::put_id(rest), ChangeBatch::sequence(rest))),
    }
}

/// The bytes with magic and header hash put right, since no fuzzer guesses them.
fn righted(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(header) = bytes.first_chunk_mut::<HEADER_LEN>() {
        header[..8].copy_from_slice(b"BETTONG\x01");
        let hash = blake3::hash(&header[..224]);
        header[224..].copy_from_slice(hash.as_bytes());
    }
    bytes
}

fn header(bytes: &[u8]) {
    let _ = Header::decode(bytes);
    let bytes = righted(bytes);
    match Header::decode(&bytes) {
        Ok(header) => assert_eq!(header.encode(), bytes[..HEADER_LEN], "one spelling for one header"),
        Err(DecodeError::Hash { .. } | DecodeError::BadMagic { .. }) => panic!("both were put right"),
        Err(_) => {}
    }
}

fn sealed(bytes: &[u8]) {
    let bytes = righted(bytes);
    let Ok(header) = Header::decode(&bytes) else { return };
    let expected = Expected {
        kind: header.kind,
        namespace: header.namespace,
        hash: header.key,
        part: header.part,
        put_id: header.put_id,
    };
    let memory = HeapMemory::new(1 << 20, 1 << 20);
    if let Ok((_, payload)) = open(&Bytes::from(bytes.clone()), &expected, &memory) {
        assert_eq!(blake3::hash(payload.as_ref()).as_bytes(), &header.payload_hash);
        let other = Expected { put_id: PutId { life: !expected.put_id.life, counter: 0 }, ..expected };
        assert!(open(&Bytes::from(bytes), &other, &memory).is_err(), "another put's bytes are not these");
    }
}

/// The first four bytes say how long the object is; the table is tried as it is and with its hash put right.
fn pack(bytes: &[u8]) {
    let Some((len, bytes)) = bytes.split_first_chunk::<4>() else { return };
    let object_len = u64::from(u32::from_le_bytes(*len));
    let _ = Pack::decode(bytes, object_len);
    let mut bytes = bytes.to_vec();
    let Some((header, table)) = bytes.split_at_mut_checked(pack::HEADER_LEN) else { return };
    header[..8].copy_from_slice(b"BETTPAK\x01");
    header[64..72].copy_from_slice(&(table.len() as u64).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..96]).update(table);
    header[96..].copy_from_slice(hasher.finalize().as_bytes());
    match Pack::decode(&bytes, object_len) {
        Ok(pack) => {
            assert_eq!(pack.encode(), bytes, "one spelling for one table");
            assert_eq!(pack.object_len(), object_len);
        }
        Err(DecodeError::Hash { .. } | DecodeError::BadMagic { .. }) => panic!("both were put right"),
        Err(_) => {}
    }
}

fn name(bytes: &[u8]) {
    let names = Names::new("p");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(path) = Path::parse(text)
        && let Some(name) = names.parse_payload(&path)
    {
        assert_eq!(names.payload(&name), path, "one name for one thing");
    }
    if let Ok(path) = Path::parse(text)
        && let Some((namespace, pack)) = names.parse_pack(&path)
    {
        assert_eq!(names.pack(namespace, pack), path, "one name for one thing");
    }
    // A name made of the same bytes is read back.
    let mut seed = blake3::Hasher::new();
    seed.update(bytes);
    let hash = *seed.finalize().as_bytes();
    let put_id = PutId { life: u64::from(hash[0]), counter: u64::from(hash[1]) };
    let kind = [Kind::Block, Kind::Sidecar, Kind::Plain][usize::from(hash[2] % 3)];
    let part = if kind == Kind::Block { Part(u16::from(hash[3])) } else { Part(0) };
    let made = bettong_core::objects::names::PayloadName { namespace: NamespaceId(hash), kind, hash, part, put_id };
    assert_eq!(names.parse_payload(&names.payload(&made)), Some(made));
}
