//! Whether an object of this node is needed: what a scrubber asks before it calls one an orphan.

use crate::index::NodeNum;
use crate::store::Store;
use crate::store::shared::Shared;
use crate::world::World;
use bettong_wire::PutId;
use bettong_wire::request::Level;
use object_store::path::Path;

/// What this node knows of an object under `ns/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The index names it, or a part of it.
    Referenced,
    /// Something is still to become of it: a put, an upload or a removal is under way or will be resumed.
    Owed,
    /// Of one of this node's lives, and nothing knows of it: an orphan.
    Unknown,
    /// Not a value's object, or another node's.
    Foreign,
}

impl<W: World> Store<W> {
    /// What this node knows of the object at `path`. To call it an orphan, ask again under the locks of its keys, or
    /// after whatever was under way when it was listed must have ended.
    pub fn standing(&self, path: &Path) -> Standing {
        let shared = &self.shared;
        if let Some((_, pack)) = shared.names.parse_pack(path) {
            return shared.pack_standing(pack);
        }
        let Some(name) = shared.names.parse_payload(path) else { return Standing::Foreign };
        if !shared.is_own_life(name.put_id.life) {
            return Standing::Foreign;
        }
        let Some(key) = shared.key(&name.value_key()) else { return Standing::Owed };
        let shown = shared.map.get(&key, NodeNum::SELF);
        let hidden = shared.shadowed.lock().get(&key).copied();
        let named = |entry: &crate::index::Entry| entry.put_id == name.put_id && entry.in_pack.is_none();
        if let Some(entry) = shown.iter().chain(&hidden).find(|entry| named(entry)) {
            return if entry.level == Level::Object { Standing::Referenced } else { Standing::Owed };
        }
        let journaled =
            shared.journal.as_ref().is_some_and(|journal| journal.state(|state| state.pending(name.put_id).is_some()));
        let dead = shared.dead.lock().get(name.put_id).is_some_and(|row| row.pack.is_none());
        let unsettled = dead || journaled || shared.unresolved.lock().contains(&key) || self.locks.is_locked(&key);
        if unsettled { Standing::Owed } else { Standing::Unknown }
    }
}

impl<W: World> Shared<W> {
    fn pack_standing(&self, pack: PutId) -> Standing {
        if !self.is_own_life(pack.life) {
            return Standing::Foreign;
        }
        let book = self.packs.lock();
        match book.get(pack) {
            Some(held) if held.live > 0 => Standing::Referenced,
            Some(_) => Standing::Owed,
            None if book.is_being_written(pack) => Standing::Owed,
            None => Standing::Unknown,
        }
    }
}
