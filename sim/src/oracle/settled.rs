//! O13, O14: when everything has settled, what is listed is there, and what is in the bucket is accounted for.

use super::{Seen, Verdict, no};
use crate::model::{Ending, Model};
use bettong_wire::PutId;
use std::collections::BTreeSet;

/// Put ids of the value objects of a bucket: `.../ns/{id}/{block,sidecar,kv}/...{put id}`.
pub fn value_objects<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<(&'a str, PutId)> {
    let of_values = |path: &str| ["/block/", "/sidecar/", "/kv/"].iter().any(|kind| path.contains(kind));
    paths
        .filter(|path| of_values(path))
        .filter_map(|path| Some((path.as_str(), PutId::parse(path.rsplit('.').next()?)?)))
        .collect()
}

/// Judges the bucket: every value object is listed by a live node, is dead and waits for its removal, or belongs to an
/// attempt whose outcome nobody knows. `explained` counts objects that puts which nobody asked for, or asked for again, may
/// have left; `waiting` says of a version that its removal may still be under way.
pub fn check_bucket(
    model: &Model,
    objects: &[(&str, PutId)],
    listed: &BTreeSet<PutId>,
    explained: u64,
    waiting: impl Fn(PutId) -> bool,
) -> Verdict {
    let mut orphans = Vec::new();
    for (path, put_id) in objects.iter().filter(|(_, put_id)| !listed.contains(put_id)) {
        let acknowledged = model.attempt_of(*put_id).is_some();
        if acknowledged && !waiting(*put_id) {
            return no("O14", format!("{path} was acknowledged, and no node lists it although nobody deleted it"));
        }
        if !acknowledged {
            orphans.push(*path);
        }
    }
    let unknown = model.attempts().filter(|attempt| matches!(attempt.ending, Ending::Unknown | Ending::Open)).count();
    let allowed = unknown as u64 + explained;
    if orphans.len() as u64 > allowed {
        let first = orphans.first().copied().unwrap_or_default();
        return no("O14", format!("{} orphans, the first {first}; only {allowed} are explained", orphans.len()));
    }
    Ok(())
}

/// O13: what a node lists, it can serve.
pub fn check_listed(seen: Seen<'_>, key: &crate::model::ValueKey, reason: bettong_wire::MissReason) -> Verdict {
    // A value that was only ever in memory may leave it between the listing and the read.
    let volatile = seen.model.possible(key).any(|attempt| attempt.level == bettong_wire::request::Level::Memory);
    if volatile || seen.model.is_damaged(key) {
        return Ok(());
    }
    no("O13", format!("{} lists {key} and cannot serve it: {}", seen.daemon.name, reason.as_str()))
}
