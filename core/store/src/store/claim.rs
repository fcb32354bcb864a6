//! Whose prefix it is, on an object store that cannot create an object only if it is absent.
//!
//! A start writes a claim under a name of its own and only then looks at the claims of others: of two starts at once at
//! least one sees the other, and whoever sees another withdraws. Both may; never do both go on. The one that sees nobody
//! records itself as the owner, for good. Nothing is ever removed: a claim that is withdrawn is void from then on, and
//! the owner's record with it, so that a write which lands late or twice decides nothing. A start makes void what earlier
//! starts of its own node left undecided.
//!
//! It rests on a listing that shows every write which was confirmed before the listing began. What it cannot tell apart
//! are two processes that run under one node id, on copies of one directory, at the very first start of that node: their
//! lives do, from the next look on.

use super::OpenError;
use crate::objects::names::Names;
use crate::objects::{ObjectError, Objects};
use crate::observe::{Point, State};
use crate::world::World;
use bytes::Bytes;
use object_store::path::Path;
use std::collections::BTreeSet;

/// Claims of one prefix: each start leaves one while the owner is not decided, none after.
const CLAIMS_MAX: usize = 10_000;

/// Makes the prefix this node's, or says whose it is.
pub(super) async fn prefix<W: World>(
    world: &W,
    objects: &Objects<W>,
    names: &Names,
    node_id: &str,
) -> Result<(), OpenError> {
    let owners = live(objects, names, &names.owners()).await?;
    if let Some(owner) = owners.iter().find(|owner| owner.node_id != node_id) {
        world.reached(State::PrefixRefused);
        return Err(OpenError::OtherOwner { owner: owner.node_id.clone() });
    }
    if !owners.is_empty() {
        return Ok(());
    }
    // Nodes that shared the prefix while its object store could still tell them apart.
    let nodes = objects.folders(&names.nodes()).await?;
    if let Some(owner) = nodes.into_iter().find(|other| other != node_id) {
        world.reached(State::PrefixRefused);
        return Err(OpenError::OtherOwner { owner });
    }
    for claim in live(objects, names, &names.claims()).await? {
        if claim.node_id == node_id {
            write(objects, &names.withdrawn().join(claim.name)).await?;
        }
    }
    let own = format!("{node_id}.{:016x}", world.random_u64());
    write(objects, &names.claims().join(own.as_str())).await?;
    world.at(Point::PrefixClaimed).await;
    let claims = live(objects, names, &names.claims()).await?;
    if let Some(other) = claims.into_iter().find(|claim| claim.node_id != node_id) {
        world.reached(State::PrefixContended);
        write(objects, &names.withdrawn().join(own.as_str())).await?;
        let claim = names.claims().join(other.name).to_string();
        return Err(OpenError::Contended { other: other.node_id, claim });
    }
    write(objects, &names.owners().join(own.as_str())).await?;
    world.reached(State::PrefixClaimed);
    Ok(())
}

/// A node's claim, or its record as the owner; both have the name of the start that wrote them.
struct Claim {
    name: String,
    node_id: String,
}

async fn write<W: World>(objects: &Objects<W>, path: &Path) -> Result<(), ObjectError> {
    objects.put_unique(path, Bytes::from_static(b"bettong").into()).await
}

/// What is under `folder` and not withdrawn.
async fn live<W: World>(objects: &Objects<W>, names: &Names, folder: &Path) -> Result<Vec<Claim>, ObjectError> {
    let claims = listed(objects, folder).await?;
    // After the claims: whatever was withdrawn before they were read is seen.
    let withdrawn: BTreeSet<String> = listed(objects, &names.withdrawn()).await?.into_iter().collect();
    let live = claims.into_iter().filter(|name| !withdrawn.contains(name));
    let claim = |name: String| Some(Claim { node_id: name.split_once('.')?.0.to_owned(), name });
    Ok(live.filter_map(claim).collect())
}

async fn listed<W: World>(objects: &Objects<W>, folder: &Path) -> Result<Vec<String>, ObjectError> {
    let page = objects.list(folder, None, CLAIMS_MAX).await?;
    if page.more {
        return Err(ObjectError::Denied(format!("there are more than {CLAIMS_MAX} objects under {folder}")));
    }
    Ok(page.objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
}
