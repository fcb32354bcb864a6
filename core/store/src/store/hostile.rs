//! What comes back from disks and buckets, or from a client's cursor, and is read inside this crate only: for the fuzzer.

use super::delete::DeadRecord;
use super::head::HeadRecord;
use super::lives::Bond;
use super::namespace::IdentityRecord;
use super::open::FormatRecord;
use super::upkeep::read_hostile;
use super::{RetiredRecord, list};
use crate::index::rows::{Inheritance, InheritanceRow, QuarantineRow, StateRow};
use crate::journal::low_water::LowWaterRecord;
use crate::life::{LifeRecord, NodeRecord};
use crate::record;
use crate::tiers::disk::{DiskKey, DiskValue};
use foyer::Code;

/// Reads `bytes` in every way in which this crate reads what it kept; records with their hash put right. Never panics, and
/// allocates no more than a small multiple of `bytes`.
pub fn read(bytes: &[u8]) {
    let _ = (DiskKey::decode(&mut &*bytes), DiskValue::decode(&mut &*bytes));
    if let Some(state) = StateRow::decode(bytes) {
        assert_eq!(state.encode(), bytes, "one spelling for one row");
    }
    if let Some(state) = Inheritance::decode(bytes) {
        assert_eq!(state.encode(), bytes, "one spelling for one row");
    }
    let _ = (QuarantineRow::put_id(bytes), InheritanceRow::node_id(bytes));
    let _ = list::decode_cursor(bytes);
    let sealed = [bytes, b"\n", blake3::hash(bytes).to_hex().as_bytes(), b"\n"].concat();
    read_hostile(bytes, &sealed);
    let _ = record::decode::<DeadRecord>(&sealed).map(|held| held.key());
    let _ = record::decode::<HeadRecord>(&sealed);
    let _ = (record::decode::<IdentityRecord>(&sealed), record::decode::<FormatRecord>(&sealed));
    let _ = (record::decode::<LifeRecord>(&sealed), record::decode::<NodeRecord>(&sealed));
    let _ = (record::decode::<RetiredRecord>(&sealed), record::decode::<Bond>(&sealed));
    let _ = record::decode::<LowWaterRecord>(&sealed).map(|held| round_trip(&held));
}

/// What was read is written so that it is read again as the same.
fn round_trip(held: &LowWaterRecord) {
    let bytes = record::encode(held).unwrap_or_default();
    assert_eq!(record::decode::<LowWaterRecord>(&bytes).as_ref(), Ok(held), "one mark, however it is spelled");
}
