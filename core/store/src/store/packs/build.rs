//! Making a pack: which values go together, and the object that holds them.

use super::Writing;
use crate::index::InPack;
use crate::index::committer::IndexChange;
use crate::index::rows::PackRow;
use crate::keys::NsNum;
use crate::objects::ObjectError;
use crate::observe::{Point, State};
use crate::stats::Event;
use crate::store::Store;
use crate::store::put::tag;
use crate::world::World;
use bettong_wire::envelope::{Header, Kind};
use bettong_wire::pack::{self, Member, Pack};
use bettong_wire::{NamespaceId, PutId};
use bytes::Bytes;
use object_store::PutPayload;

/// A value that may go into a pack: its header, and its envelope in pieces.
pub struct Item {
    pub header: Header,
    pub pieces: [Bytes; 2],
}

/// A pack that has its put id, and the places of its members in the order of its items.
pub struct Packing {
    pub pack: PutId,
    pub places: Vec<InPack>,
    row: PackRow,
    table: Bytes,
    object: PutPayload,
    _writing: Writing,
}

impl Packing {
    /// Makes the pack known to the index. Goes into one commit with whatever names a member.
    pub fn named(&self) -> IndexChange {
        IndexChange::Pack { pack: self.pack, row: self.row }
    }
}

/// Divides values, each given by its namespace and the bytes of its envelope, into packs of at most `bytes_max`; zero
/// bytes stand for a value that goes alone. Answers positions: every group has at least two, since a pack of one saves
/// nothing, and what is in no group goes alone.
pub fn groups(values: &[(NsNum, u64)], bytes_max: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..values.len()).filter(|at| values[*at].1 > 0).collect();
    order.sort_by_key(|at| (values[*at].0, *at));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut ns, mut bytes) = (None, 0);
    for at in order {
        let (of, len) = values[at];
        let grown = len.saturating_add(bytes).saturating_add(pack::ROW_LEN as u64);
        match groups.last_mut() {
            Some(group) if ns == Some(of) && grown <= bytes_max && group.len() < pack::MEMBERS_MAX => {
                group.push(at);
                bytes = grown;
            }
            _ => {
                groups.push(vec![at]);
                (ns, bytes) = (Some(of), pack::table_end(1).saturating_add(len));
            }
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

impl<W: World> Store<W> {
    /// The bytes of a value for `groups`: zero where it does not go into a pack.
    pub(in crate::store) fn packable(&self, header: &Header) -> u64 {
        let bytes = header.object_len();
        let small = bytes < self.shared.config.pack_below;
        // What is mutable would soon be dead in its pack.
        if small && header.kind != Kind::Plain { bytes } else { 0 }
    }

    /// Makes a pack of `items`, which are all of `namespace`.
    pub(in crate::store) fn pack(&self, namespace: NamespaceId, items: Vec<Item>) -> Packing {
        let shared = &self.shared;
        let put_id = shared.draw_put_id();
        let writing = shared.packs.lock().begin(put_id);
        let mut at = pack::table_end(items.len());
        let mut members = Vec::with_capacity(items.len());
        let mut pieces = Vec::with_capacity(items.len() * 2 + 1);
        for Item { header, pieces: envelope } in items {
            let small = |len: u64| u32::try_from(len).unwrap_or(u32::MAX);
            members.push(Member {
                kind: header.kind,
                part: header.part,
                sequence: header.sequence,
                key: header.key,
                put_id: header.put_id,
                offset: small(at),
                len: small(header.object_len()),
                raw_len: small(header.raw_len),
                parent_tag: header.parent.as_ref().map_or(0, tag),
                expires_at_ms: header.expires_at_ms,
            });
            at += header.object_len();
            pieces.extend(envelope);
        }
        let held = Pack { namespace, put_id, members };
        let places = held.members.iter().map(|member| InPack { pack: put_id, offset: member.offset }).collect();
        let members = u32::try_from(held.members.len()).unwrap_or(u32::MAX);
        let row = PackRow { namespace, bytes: held.object_len(), members };
        let table = Bytes::from(held.encode());
        let object = std::iter::once(table.clone()).chain(pieces).collect();
        Packing { pack: put_id, places, row, table, object, _writing: writing }
    }

    /// Removes, in the background, a pack of which nothing is wanted any more before anything named it.
    pub(in crate::store) fn remove_unnamed(&self, packing: &Packing) {
        let (store, path) = (self.clone(), self.shared.names.pack(packing.row.namespace, packing.pack));
        self.shared.world.spawn(async move {
            store.remove_at(&path).await;
        });
    }

    /// Writes a pack's object. Nothing names it before `Packing::named` is committed.
    pub(in crate::store) async fn write_pack(&self, packing: &Packing) -> Result<(), ObjectError> {
        let shared = &self.shared;
        // What would not be read back is not written.
        Pack::decode(&packing.table, packing.object.content_length() as u64)
            .map_err(|error| ObjectError::Denied(format!("a pack's own table does not verify: {error}")))?;
        let path = shared.names.pack(packing.row.namespace, packing.pack);
        shared.objects.put_unique(&path, packing.object.clone()).await?;
        shared.stats.count(Event::PacksWritten);
        shared.stats.add(Event::PackedValues, packing.row.members.into());
        shared.world.reached(State::Packed);
        shared.world.at(Point::BetweenPackAndIndex).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_single_value_goes_alone() {
        let (a, b) = (NsNum(1), NsNum(2));
        assert!(groups(&[(a, 500), (b, 500)], 1 << 20).is_empty());
        assert!(groups(&[(a, 500), (a, 0)], 1 << 20).is_empty());
        assert_eq!(groups(&[(a, 500), (b, 500), (a, 600)], 1 << 20), [vec![0, 2]]);
        assert!(groups(&[(a, 500), (a, 600)], 1000).is_empty(), "together they are too long");
    }

    proptest! {
        #[test]
        fn groups_are_of_one_namespace_within_the_limit_and_name_nothing_twice(
            values in proptest::collection::vec((0u32..3, 0u64..2000), 0..60),
            bytes_max in 1000u64..10_000,
        ) {
            let values: Vec<(NsNum, u64)> = values.into_iter().map(|(ns, len)| (NsNum(ns), len)).collect();
            let mut met = std::collections::BTreeSet::new();
            for group in groups(&values, bytes_max) {
                prop_assert!(group.len() > 1);
                let bytes: u64 = group.iter().map(|at| values[*at].1).sum();
                prop_assert!(pack::table_end(group.len()) + bytes <= bytes_max);
                for at in group.iter().copied() {
                    prop_assert!(values[at].0 == values[group[0]].0 && values[at].1 > 0);
                    prop_assert!(met.insert(at));
                }
            }
        }
    }
}
