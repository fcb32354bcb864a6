//! Retiring a node: it is fenced for ever, and this node answers for what it had.
//!
//! The steps, each durable before the next, and each harmless when it is done again:
//! 1. the claim (`retirements.rs`): of several heirs one wins, and nobody who was retired himself;
//! 2. `node/{id}/retired`: from now on a start of the node is refused;
//! 3. a life of the retired node that says who retired it: a daemon of it that runs ends;
//! 4. its index is opened once for writing: from then on its daemon can make nothing durable;
//! 5. `node/{own id}/heir/{id}`: its lives are this node's from now on;
//! 6. its index is read, or the bucket listed where it has none, and what it names becomes this node's own, batch by
//!    batch, each together with how far it got;
//! 7. its index is marked as taken over: other nodes drop what they know by it. Until then a delete here names what the
//!    retired node's index shows, too.
//!
//! Nodes that it had retired itself, or claimed, are taken over with it, from where it stopped.

use super::super::lives::{Bond, Lives, Since};
use super::super::{OpenError, Store};
use super::retirements::{Claim, ClaimError, Retirements};
use super::scrub::unanswered;
use super::{Report, Slice, bad_cursor};
use crate::index::committer::IndexChange;
use crate::index::db::IndexHome;
use crate::index::rows::{FORMAT_KEY, Inheritance, InheritanceRow, STATE_KEY, StateRow};
use crate::life;
use crate::objects::names::Names;
use crate::objects::{ObjectError, Objects};
use crate::observe::{Point, State};
use crate::record;
use crate::world::{Clock, World};
use bettong_wire::{ErrorKind, ServiceError};
use serde::{Deserialize, Serialize};
use slatedb::WriteBatch;
use std::sync::Arc;

/// Nodes that one node may have retired, with those that they had.
pub(in crate::store) const RETIRED_MAX: usize = 1024;
/// Nodes that are named where another one is asked for.
const NAMED_MAX: usize = 20;
/// The cursor of a retirement whose first five steps are done; how far the sixth got is in the index.
const TAKING_OVER: &[u8] = &[1];

/// What `node/{id}/retired` holds.
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
    objects.find_record(&names.retired(node_id)).await
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
        let bond: Bond = objects.find_record(&record.location).await?.unwrap_or_default();
        let known = life::known(objects, names, of).await?;
        if let Some(damage) = known.damaged {
            tracing::warn!(damage, node_id = of, "of a retired node the newest life is not known; its others are");
        }
        lives.inherit(of, known.lives, bond);
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
            let unfinished = self.shared.lives.read().unfinished(node_id);
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

    /// Refuses a node that never lived, naming those that did.
    pub(super) async fn must_exist(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let (lives, _) = life::list(&shared.objects, &shared.names, node_id).await.map_err(unanswered)?;
        if !lives.is_empty() {
            return Ok(());
        }
        let mut nodes = shared.objects.folders(&shared.names.nodes()).await.map_err(unanswered)?;
        nodes.sort_unstable();
        let more = nodes.len().saturating_sub(NAMED_MAX);
        nodes.truncate(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("there is no node `{node_id}` under this prefix; there are: {}{more}", nodes.join(", "));
        Err(ServiceError::new(ErrorKind::Invalid, message))
    }

    /// Steps 1 to 5.
    async fn fence(&self, node_id: &str, report: &mut Report) -> Result<(), ServiceError> {
        let shared = &self.shared;
        report.stage("fence");
        self.must_exist(node_id).await?;
        let known = shared.lives.read().bond(node_id).cloned();
        if known.is_none() {
            self.claim(node_id).await?;
        }
        self.shut_out(node_id).await?;
        self.become_heir(node_id, known.unwrap_or_default()).await?;
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
        let (own, wall_ms) = (shared.config.node_id.as_str(), shared.wall_ms());
        let claimed = Retirements::claim(&shared.world, &shared.objects, &shared.names, node_id, own, wall_ms).await;
        self.refused(node_id, claimed)
    }

    fn refused(&self, node_id: &str, claimed: Result<Claim, ClaimError>) -> Result<(), ServiceError> {
        let (shared, own) = (&self.shared, &self.shared.config.node_id);
        let message = match claimed {
            Ok(Claim::Ours) => return Ok(()),
            Ok(Claim::Theirs { heir }) => {
                format!("node `{node_id}` was retired, and node `{heir}` answers for it: retire `{heir}` first")
            }
            Ok(Claim::Retired { by }) => {
                shared.world.reached(State::RetirementOfTheHeir);
                format!("this node, `{own}`, was claimed by node `{by}`, which retires it: it can retire no other")
            }
            Err(ClaimError::Objects(error)) => return Err(unanswered(error)),
            Err(error @ ClaimError::Contended) => return Err(retry(error.to_string())),
            Err(error @ ClaimError::Full) => return Err(ServiceError::busy(error.to_string(), 0)),
            Err(error @ ClaimError::Damaged { .. }) => {
                return Err(ServiceError::new(ErrorKind::Unavailable, error.to_string()));
            }
        };
        Err(ServiceError::new(ErrorKind::Denied, message))
    }

    /// Steps 2 to 4.
    async fn shut_out(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        shared.world.at(Point::DuringRetire).await;
        let own = &shared.config.node_id;
        let held = RetiredRecord { by: own.clone(), wall_ms: shared.wall_ms() };
        let bytes = record::encode(&held).map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
        match shared.objects.create(&shared.names.retired(node_id), bytes.into()).await {
            Ok(()) | Err(ObjectError::AlreadyExists) => {}
            Err(error) => return Err(unanswered(error)),
        }
        shared.world.at(Point::DuringRetire).await;
        let fenced = life::fence(&shared.world, &shared.objects, &shared.names, node_id, own).await;
        fenced.map_err(|error| retry(error.to_string()))?;
        shared.world.at(Point::DuringRetire).await;
        let (_, clock_ms) = life::list(&shared.objects, &shared.names, node_id).await.map_err(unanswered)?;
        close_for_writing(&shared.home, &shared.names, node_id, clock_ms).await.map_err(retry)?;
        shared.world.at(Point::DuringRetire).await;
        Ok(())
    }

    /// Step 5. `bond` says who answered for the node before.
    async fn become_heir(&self, node_id: &str, mut bond: Bond) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let own = &shared.config.node_id;
        let (lives, _) = life::list(&shared.objects, &shared.names, node_id).await.map_err(unanswered)?;
        let known = shared.lives.read().retired();
        if known.len() >= RETIRED_MAX && !known.iter().any(|known| known == node_id) {
            let message = format!("this node answers for {RETIRED_MAX} retired nodes, which is the limit");
            return Err(ServiceError::busy(message, 0));
        }
        let path = shared.names.heir(own, node_id);
        // Said before, it was true since then: a delete of this node's may rely on it.
        match shared.objects.find_record(&path).await.map_err(unanswered)? {
            Some(held) => bond = held,
            None => {
                let (ordinal, counter) = shared.order(shared.draw_put_id());
                bond.since.retain(|since| since.node_id != *own);
                bond.since.push(Since { node_id: own.clone(), ordinal, counter });
                bond.wall_ms = shared.wall_ms();
                let bytes = record::encode(&bond).map_err(|error| ServiceError::new(ErrorKind::Internal, error))?;
                match shared.objects.create(&path, bytes.into()).await {
                    Ok(()) => {}
                    // An earlier attempt's, perhaps: what is there counts, and it is read when this is asked for again.
                    Err(error) => return Err(unanswered(error)),
                }
            }
        }
        shared.lives.write().inherit(node_id, lives, bond);
        Ok(())
    }

    /// One step of step 6: as many rows as the slice allows.
    async fn take_over(
        &self,
        node_id: &str,
        state: Inheritance,
        slice: Slice,
        report: &mut Report,
    ) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let state = match state {
            Inheritance::Nothing => self.begin(node_id).await?,
            state => state,
        };
        match state {
            Inheritance::Nothing | Inheritance::Done => {}
            Inheritance::Index(from) => self.take_rows(node_id, from, slice, report).await?,
            Inheritance::Listing(from) => self.take_listed(node_id, from, slice, report).await?,
        }
        if shared.lives.read().is_taken_over(node_id) {
            if let Some(number) = self.known_number(node_id) {
                self.forget_hints_of(number);
            }
            shared.world.reached(State::Retired);
            report.count("nodes_taken_over");
            report.note(format!("this node answers for everything that node `{node_id}` listed"));
        }
        Ok(())
    }

    /// Where to begin with a node: where the one that it came through had stopped, also where that was not made durable
    /// when it was found out first.
    async fn begin(&self, node_id: &str) -> Result<Inheritance, ServiceError> {
        let through = self.shared.lives.read().bond(node_id).and_then(|bond| bond.through.clone());
        if let Some(heir) = through {
            let state = self.state_in(&heir, node_id).await.map_err(retry)?;
            if state != Inheritance::Nothing {
                let change = IndexChange::Inherit { node_id: node_id.to_owned(), state: state.clone() };
                self.settle(vec![change]).await?;
                return Ok(state);
            }
        }
        self.inherit_heirs_of(node_id).await?;
        let complete = self.is_complete(node_id).await.map_err(retry)?;
        Ok(if complete { Inheritance::Index(Vec::new()) } else { Inheritance::Listing(String::new()) })
    }

    /// Whether the retired node's index says what it had: it was complete once, and nobody has taken it over since, whose
    /// own index would say what became of it.
    async fn is_complete(&self, node_id: &str) -> Result<bool, String> {
        let shared = &self.shared;
        let reader = shared.home.open_reader(shared.names.index(node_id)).await.map_err(|error| error.to_string())?;
        let complete = shared.world.enter(reader.get(FORMAT_KEY)).await;
        let state = shared.world.enter(reader.get(STATE_KEY)).await;
        let _ = shared.world.enter(reader.close()).await;
        let failed = |error: slatedb::Error| error.to_string();
        let taken_over = match state.map_err(failed)? {
            Some(row) => StateRow::decode(&row).ok_or("the state row is damaged")?.taken_over,
            None => false,
        };
        Ok(complete.map_err(failed)?.is_some() && !taken_over)
    }

    /// The nodes that the retired one had retired or claimed are this node's now, as far as it had come with them.
    async fn inherit_heirs_of(&self, node_id: &str) -> Result<(), ServiceError> {
        let shared = &self.shared;
        let own = &shared.config.node_id;
        let page = shared.objects.list(&shared.names.heirs(node_id), None, RETIRED_MAX).await.map_err(unanswered)?;
        let mut nodes: Vec<(String, Option<Bond>)> = Vec::new();
        for record in page.objects {
            let Some(of) = record.location.filename().filter(|of| of != own) else { continue };
            let bond = shared.objects.find_record(&record.location).await.map_err(unanswered)?;
            nodes.push((of.to_owned(), bond));
        }
        // In the order in which they came to it: a version of one that came later is older.
        nodes.sort_by_key(|(_, bond)| bond.as_ref().map(Bond::order));
        let claims = Retirements::read(&shared.objects, &shared.names).await.map_err(unanswered)?;
        self.refused(node_id, claims.check().map(|()| Claim::Ours))?;
        for of in claims.of(node_id).filter(|of| *of != own) {
            if !nodes.iter().any(|(known, _)| known == of) {
                nodes.push((of.to_owned(), None));
            }
        }
        for (of, bond) in nodes {
            // Cut short before the state was durable, it is asked for again: to begin anew would bring back what the
            // retired heir let go.
            if shared.lives.read().state(&of).is_some_and(|state| *state != Inheritance::default()) {
                continue;
            }
            if bond.is_none() {
                self.shut_out(&of).await?;
            }
            let bond = Bond { through: Some(node_id.to_owned()), ..bond.unwrap_or_default() };
            let state = self.state_in(node_id, &of).await.map_err(retry)?;
            self.become_heir(&of, bond).await?;
            self.settle(vec![IndexChange::Inherit { node_id: of, state }]).await?;
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

    /// Step 7, once every row of the retired node is settled here.
    pub(super) async fn finish(&self, node_id: &str) -> Result<(), ServiceError> {
        self.shared.world.at(Point::DuringRetire).await;
        self.mark_taken(node_id).await.map_err(|error| retry(format!("the index of `{node_id}`: {error}")))?;
        self.shared.world.at(Point::DuringRetire).await;
        let (node_id, state) = (node_id.to_owned(), Inheritance::Done);
        self.settle(vec![IndexChange::Inherit { node_id, state }]).await
    }

    async fn mark_taken(&self, node_id: &str) -> Result<(), String> {
        let shared = &self.shared;
        let world = &shared.world;
        let known = life::known(&shared.objects, &shared.names, node_id).await.map_err(|error| error.to_string())?;
        let home = home_of(&shared.home, known.clock_ms);
        let db = home.open(shared.names.index(node_id)).await.map_err(|error| error.to_string())?;
        let write = async {
            let state = db.get(STATE_KEY).await?;
            let state = state.as_deref().and_then(StateRow::decode).unwrap_or_default();
            home.floor.raise(state.clock_ms);
            let mut batch = WriteBatch::new();
            // Another sequence: whoever has read all changes looks again.
            let change_sequence = state.change_sequence.saturating_add(1);
            batch.put(STATE_KEY, StateRow { change_sequence, taken_over: true, ..state }.encode());
            let handle = db.write(batch).await?;
            db.flush().await?;
            handle.await_durable().await
        };
        let written = world.enter(Box::pin(write)).await;
        let closed = world.enter(db.close()).await;
        written.and(closed).map_err(|error: slatedb::Error| error.to_string())
    }

    /// At a start: everything that retired nodes had and the bucket shows is in the index, as a listing just found. Their
    /// own indexes are marked in the background: whether they were is not known any more.
    pub(in crate::store) fn all_taken_over(&self) -> Vec<IndexChange> {
        let retired = self.shared.lives.read().retired();
        let (store, mut unmarked) = (self.clone(), retired.clone());
        self.shared.world.spawn(async move {
            while let Some(node_id) = unmarked.last().filter(|_| store.is_running()) {
                match store.mark_taken(node_id).await {
                    Ok(()) => drop(unmarked.pop()),
                    Err(error) => tracing::warn!(error, node_id, "a retired node's index cannot be marked now"),
                }
                store.shared.world.clock().sleep(store.shared.config.peer_refresh).await;
            }
        });
        retired.into_iter().map(|node_id| IndexChange::Inherit { node_id, state: Inheritance::Done }).collect()
    }
}

/// Step 4: whoever wrote into the index cannot any more.
async fn close_for_writing<W: World>(
    home: &IndexHome<W>,
    names: &Names,
    node_id: &str,
    clock_ms: u64,
) -> Result<(), String> {
    let home = home_of(home, clock_ms);
    let db = home.open(names.index(node_id)).await.map_err(|error| format!("the index of `{node_id}`: {error}"))?;
    home.world.enter(db.close()).await.map_err(|error| format!("the index of `{node_id}`: {error}"))
}

/// For writing into another node's index: its clock says nothing of this one's.
fn home_of<W: World>(home: &IndexHome<W>, clock_ms: u64) -> IndexHome<W> {
    let home = IndexHome { floor: Arc::default(), ..home.clone() };
    home.floor.raise(clock_ms);
    home
}

/// Whether this node was retired: it must not run then. `puts` are those that only its journal has.
pub(in crate::store) async fn check_not_retired<W: World>(
    world: &W,
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
    puts: u64,
) -> Result<(), OpenError> {
    match retired_by(objects, names, node_id).await? {
        None => Ok(()),
        Some(held) => {
            world.reached(State::RetiredNodeRefused);
            Err(OpenError::Retired { node_id: node_id.to_owned(), by: held.by, puts })
        }
    }
}

pub(super) fn retry(what: String) -> ServiceError {
    unanswered(ObjectError::Unknown(what))
}
