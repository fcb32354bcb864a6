//! A journal that lacks what it held when the index was last written: damage, or a directory that was rolled back.

use super::OpenError;
use super::open::of_index;
use crate::config::StoreConfig;
use crate::index::db::IndexHome;
use crate::index::rows::{STATE_KEY, StateRow};
use crate::journal::{self, JournalState, Read};
use crate::life::{self, Life};
use crate::objects::Objects;
use crate::objects::names::Names;
use crate::observe::State;
use crate::world::World;
use std::collections::BTreeMap;

/// What a start has opened by the time that the journal is judged.
pub(super) struct Opened<'a, W: World> {
    pub(super) world: &'a W,
    pub(super) config: &'a StoreConfig,
    pub(super) objects: &'a Objects<W>,
    pub(super) names: &'a Names,
    pub(super) home: &'a IndexHome<W>,
    pub(super) conditional_create: bool,
}

/// Whether the journal, which ends before the sequence number `end`, lacks something that it held when the index was last
/// written. `lives` are this node's, with their ordinals.
pub(super) fn lacks(state: &JournalState, end: u64, last: &StateRow, lives: &BTreeMap<u64, u64>) -> bool {
    // What a salvage left, an operator has the say over; an index that was last written before it cannot know.
    let salvaged_before = state.salvaged_before();
    let index_is_older = salvaged_before.is_some_and(|first| lives.get(&last.life).is_none_or(|last| *last < first));
    // A life that ran without a journal wrote nothing that one could lack.
    last.journaled > 0 && !index_is_older && (end <= last.journaled || !state.knows(last.life))
}

/// Refuses a journal that lacks something, and holds puts that nothing else has: to trust the bucket over it would drop
/// what was acknowledged. A directory that was rolled back as a whole says so itself, and is not this one's to judge.
/// Changes nothing, however often it is asked.
pub(super) async fn refuse_at_risk<W: World>(opened: &Opened<'_, W>, read: &Read) -> Result<(), OpenError> {
    let Opened { world, config, objects, names, home, conditional_create } = *opened;
    let puts = read.backlog().puts;
    if puts == 0 || objects.list(&names.index_manifests(&config.node_id), None, 1).await?.objects.is_empty() {
        return Ok(());
    }
    let Some(last) =
        last_written(home, names, &config.node_id).await.map_err(|error| of_index(conditional_create, error))?
    else {
        return Ok(());
    };
    let lives = life::known(objects, names, &config.node_id).await?.lives;
    let end = read.recovered().end;
    let directory = life::read_directory(world, &config.node_id).await?;
    // A record that is missing or damaged says nothing of a rollback.
    let rolled_back = !directory.lives.is_empty() && !directory.knows(last.life);
    if rolled_back || !lacks(read.state(), end, &last, &lives) {
        return Ok(());
    }
    world.reached(State::JournalBehindRefused);
    let dir = config.journal(Life { ordinal: 0, life: 0 }).dir;
    Err(journal::OpenError::Behind { dir, end, reached: last.journaled, puts }.into())
}

/// What the index says of its last writing, where a daemon ever wrote it.
async fn last_written<W: World>(
    home: &IndexHome<W>,
    names: &Names,
    node_id: &str,
) -> Result<Option<StateRow>, slatedb::Error> {
    let reader = home.open_reader(names.index(node_id)).await?;
    let row = home.world.enter(reader.get(STATE_KEY)).await;
    let _ = home.world.enter(reader.close()).await;
    Ok(row?.as_deref().and_then(StateRow::decode).filter(|state| state.life != 0))
}
