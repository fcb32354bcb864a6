//! Retiring a node: it is fenced for ever, and this node answers for what it had.
//!
//! The steps, each durable before the next, and each harmless when it is done again:
//! 1. the claim `node/{id}/retired`, created only if absent: of several heirs one wins;
//! 2. a life of the retired node that says who retired it: a daemon that returns is refused, one that runs ends;
//! 3. its index is opened once for writing: from then on its daemon can make nothing durable;
//! 4. `node/{own id}/heir/{id}`: its lives are this node's from now on;
//! 5. its index is read, or the bucket listed where it has none, and what it names becomes this node's own, batch by
//!    batch, each together with how far it got.
//!
//! Nodes that it had retired itself are taken over with it, from where it stopped.

use super::super::lives::Lives;
use super::super::{OpenError, Store};
use super::scrub::unanswered;
use super::{Report, Slice, bad_cursor};
use crate::index::NodeNum;
use crate::index::committer::IndexChange;
use crate::index::db::IndexHome;
use crate::index::rows::{FORMAT_KEY, Inheritance, InheritanceRow};
use crate::life;
use crate::objects::names::Names;
use crate::objects::{ObjectError, Objects};
use crate::observe::{Point, State};
use crate::record::{self, RECORD_BYTES_MAX};
use crate::world::World;
use bettong_wire::{ErrorKind, ServiceError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Nodes that one node may have retired, with those that they had.
pub(in crate::store) const RETIRED_MAX: usize = 1024;
/// Links from one heir to the next that are followed.
const CHAIN_MAX: usize = 64;
/// The cursor of a retirement whose first four steps are done; how far the fifth got is in the index.
const TAKING_OVER: &[u8] = &[1];

/// What `node/{id}/retired` and `node/{heir}/heir/{id}` hold.
#[derive(Serialize, Deserialize)]
pub struct RetiredRecord {
    /// The node that retired it.
    pub by: String,
    pub wall_ms: u64,
}

/// Who retired `node_id`, where anybody did.
pub async fn retired_by<W: World>(
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
) -> Result<Option<RetiredRecord>, ObjectError> {
    let path = names.retired(node_id);
    let mut damage = String::new();
    for _ in 0..2 {
        match objects.get(&path, RECORD_BYTES_MAX).await {
            Ok(bytes) => match record::decode(&bytes) {
                Ok(held) => return Ok(Some(held)),
                Err(error) => damage = error,
            },
            Err(ObjectError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(ObjectError::Unknown(format!("{path} does not verify: {damage}")))
}

/// The lives of the nodes that this one has retired, as the bucket knows them.
pub(in crate::store) async fn inherited<W: World>(
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
    lives: &mut Lives,
) -> Result<(), ObjectError> {
    let page = objects.list(&names.heirs(node_id), None, RETIRED_MAX).await?;
    for record in page.objects {
        let Some(of) = record.location.filename() else { continue };
        let (inherited, _) = life::list(objects, names, of).await?;
        lives.inherit(of, inherited);
    }
    Ok(())
}

impl<W: World> Store<W> {
    pub(super) async fn retire(
        &self,
        node_id: &str,
        cursor: &[u8],
        slice: Slice,
        report: &mut Report,
    ) -> Result<Vec<u8>, ServiceError> {
        self.may_retire(node_id)?;
        if slice.dry_run {
            return self.survey(node_id, cursor, slice, report).await;
        }
        match cursor {
            [] => self.fence(node_id, report).await?,
            TAKING_OVER if self.shared.lives.read().state(node_id).is_some() => {}
            _ => return Err(bad_cursor()),
        }
        loop {
            let unfinished = self.shared.lives.read().unfinished();
            let Some((of, state)) = unfinished else { return Ok(Vec::new()) };
            report.stage("entries");
            self.shared.world.at(Point::DuringRetire).await;
            if self.is_over(slice) {
                return Ok(TAKING_OVER.to_vec());
            }
            self.take_over(&of, state, slice, report).await?;
        }
    }

    fn may_retire(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let invalid = |message: String| Err(ServiceError::new(ErrorKind::Invalid, message));
        if !shared.conditional_create {
            let message = "retiring a node needs an object store that can create an object only if it is absent; this \
                           one cannot";
            return Err(ServiceError::new(ErrorKind::Unavailable, message));
        }
        if node_id == shared.config.node_id {
            return invalid(format!("node `{node_id}` is this node: it cannot retire itself"));
        }
        if !crate::config::is_node_id(node_id) {
            return invalid(format!("`{node_id}` is not the id of a node"));
        }
        Ok(())
    }

    /// Steps 1 to 4.
    async fn fence(&self, node_id: &str, report: &mut Report) -> Result<(), ServiceError> {
        let shared = &self.shared;
        report.stage("fence");
        let (lives, clock_ms) = life::list(&shared.objects, &shared.names, node_id).await.map_err(unanswered)?;
        if lives.is_empty() {
            let message = format!("there is no node `{node_id}` under this prefix");
            return Err(ServiceError::new(ErrorKind::Invalid, message));
        }
        self.claim(node_id).await?;
        shared.world.at(Point::DuringRetire).await;
        let own = &shared.config.node_id;
        let fenced = life::fence(&shared.world, &shared.objects, &shared.names, node_id, own).await;
        fenced.map_err(|error| retry(error.to_string()))?;
        shared.world.at(Point::DuringRetire).await;
        close_for_writing(&shared.home, &shared.names, node_id, clock_ms).await.map_err(retry)?;
        shared.world.at(Point::DuringRetire).await;
        self.become_heir(node_id).await?;
        report.note(format!(
            "node `{node_id}` is fenced; what only its own journal holds, on its own disk, is not in the bucket and is \
             not taken over"
        ));
        report.count("fenced");
        Ok(())
    }

    /// Step 1; or whose the node is already.
    async fn claim(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let held = RetiredRecord { by: shared.config.node_id.clone(), wall_ms: shared.wall_ms() };
        let bytes = record::encode(&held).map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
        match shared.objects.create(&shared.names.retired(node_id), bytes.into()).await {
            Ok(()) => return Ok(()),
            // Somebody was faster, or our own first attempt was: what is there decides.
            Err(ObjectError::AlreadyExists | ObjectError::Unknown(_)) => {}
            Err(error) => return Err(unanswered(error)),
        }
        let mut of = node_id.to_owned();
        for _ in 0..CHAIN_MAX {
            let held = retired_by(&shared.objects, &shared.names, &of).await.map_err(unanswered)?;
            match held {
                Some(held) if held.by == shared.config.node_id => return Ok(()),
                Some(held) => of = held.by,
                None if of == node_id => return Err(retry("whether the node is claimed is not known".to_owned())),
                None => break,
            }
        }
        let message = format!("node `{node_id}` was retired by node `{of}`, which answers for it: retire `{of}` first");
        Err(ServiceError::new(ErrorKind::Denied, message))
    }

    /// Step 4.
    async fn become_heir(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let (lives, _) = life::list(&shared.objects, &shared.names, node_id).await.map_err(unanswered)?;
        let known = shared.lives.read().retired();
        if known.len() >= RETIRED_MAX && !known.iter().any(|known| known == node_id) {
            let message = format!("this node answers for {RETIRED_MAX} retired nodes, which is the limit");
            return Err(ServiceError::busy(message, 0));
        }
        let held = RetiredRecord { by: shared.config.node_id.clone(), wall_ms: shared.wall_ms() };
        let bytes = record::encode(&held).map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
        let path = shared.names.heir(&shared.config.node_id, node_id);
        shared.objects.put_unique(&path, bytes.into()).await.map_err(unanswered)?;
        shared.lives.write().inherit(node_id, lives);
        Ok(())
    }

    /// One step of step 5: as many rows as the slice allows.
    async fn take_over(
        &self,
        node_id: &str,
        state: Inheritance,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let state = match state {
            Inheritance::Nothing => {
                self.inherit_heirs_of(node_id).await?;
                let complete = self.is_complete(node_id).await.map_err(retry)?;
                if complete { Inheritance::Index(Vec::new()) } else { Inheritance::Listing(String::new()) }
            }
            state => state,
        };
        match state {
            Inheritance::Nothing | Inheritance::Done => {}
            Inheritance::Index(from) => self.take_rows(node_id, from, slice, report).await?,
            Inheritance::Listing(from) => self.take_listed(node_id, from, slice, report).await?,
        }
        if shared.lives.read().is_taken_over(node_id) {
            self.forget_hints(node_id);
            shared.world.reached(State::Retired);
            report.count("nodes_taken_over");
            report.note(format!("this node answers for everything that node `{node_id}` listed"));
        }
        Ok(())
    }

    /// Whether the retired node's index was ever complete.
    async fn is_complete(&self, node_id: &str) -> Result<bool, String> {
        let shared = &self.shared;
        let reader = shared.home.open_reader(shared.names.index(node_id)).await.map_err(|error| error.to_string())?;
        let found = shared.world.enter(reader.get(FORMAT_KEY)).await;
        let _ = shared.world.enter(reader.close()).await;
        Ok(found.map_err(|error| error.to_string())?.is_some())
    }

    /// The nodes that the retired one had retired are this node's now, as far as it had come with them.
    async fn inherit_heirs_of(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let own = &shared.config.node_id;
        let page = shared.objects.list(&shared.names.heirs(node_id), None, RETIRED_MAX).await.map_err(unanswered)?;
        for record in page.objects {
            let Some(of) = record.location.filename().filter(|of| of != own) else { continue };
            // Cut short before the state was durable, it is asked for again: to begin anew would bring back what the
            // retired heir let go.
            if shared.lives.read().state(of).is_some_and(|state| *state != Inheritance::default()) {
                continue;
            }
            let state = self.state_in(node_id, of).await.map_err(retry)?;
            self.become_heir(of).await?;
            self.settle(vec![IndexChange::Inherit { node_id: of.to_owned(), state }]).await?;
            shared.world.reached(State::RetiredByChain);
        }
        Ok(())
    }

    /// How far `heir` had taken `node_id` over.
    async fn state_in(&self, heir: &str, node_id: &str) -> Result<Inheritance, String> {
        let shared = &self.shared;
        let reader = shared.home.open_reader(shared.names.index(heir)).await.map_err(|error| error.to_string())?;
        let found = shared.world.enter(reader.get(InheritanceRow::key(node_id))).await;
        let _ = shared.world.enter(reader.close()).await;
        let row = found.map_err(|error| error.to_string())?;
        Ok(row.as_deref().and_then(Inheritance::decode).unwrap_or_default())
    }

    /// Of a node that is taken over those entries go that are this node's own by now. The others stay: a delete of their
    /// keys must name them, since other nodes still know them by the retired node's index.
    fn forget_hints(&self, node_id: &str) {
        let shared = &self.shared;
        let Some(number) = self.known_number(node_id) else { return };
        for (key, entry) in shared.map.collect(|_, entry| entry.node == number) {
            if shared.map.get(&key, NodeNum::SELF).is_some_and(|own| own.put_id == entry.put_id) {
                shared.map.remove(&key, number, entry.put_id);
            }
        }
    }

    /// At a start: everything that retired nodes had and the bucket shows is in the index, as a listing just found.
    pub(in crate::store) fn all_taken_over(&self) -> Vec<IndexChange> {
        let retired = self.shared.lives.read().retired();
        retired.into_iter().map(|node_id| IndexChange::Inherit { node_id, state: Inheritance::Done }).collect()
    }
}

/// Step 3: whoever wrote into the index cannot any more.
async fn close_for_writing<W: World>(
    home: &IndexHome<W>,
    names: &Names,
    node_id: &str,
    clock_ms: u64,
) -> Result<(), String> {
    // Another node's clock says nothing of this one's.
    let home = IndexHome { floor: Arc::default(), ..home.clone() };
    home.floor.raise(clock_ms);
    let db = home.open(names.index(node_id)).await.map_err(|error| format!("the index of `{node_id}`: {error}"))?;
    home.world.enter(db.close()).await.map_err(|error| format!("the index of `{node_id}`: {error}"))
}

/// Whether this node was retired: it must not run then.
pub(in crate::store) async fn check_not_retired<W: World>(
    world: &W,
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
) -> Result<(), OpenError> {
    match retired_by(objects, names, node_id).await? {
        None => Ok(()),
        Some(held) => {
            world.reached(State::RetiredNodeRefused);
            Err(OpenError::Retired { node_id: node_id.to_owned(), by: held.by })
        }
    }
}

pub(super) fn retry(what: String) -> ServiceError {
    unanswered(ObjectError::Unknown(what))
}
