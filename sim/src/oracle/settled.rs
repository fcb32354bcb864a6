//! O13, O14: when everything has settled, what is listed is there, and what is in the bucket is accounted for, object by
//! object.

use super::{Seen, Verdict, no};
use crate::model::{Attempt, AttemptId, Daemon, Ending, Model, Span, ValueKey};
use crate::object_store::{Bucket, Cause, Effect, EffectKind, members};
use bettong_core::objects::names::{Names, PayloadName};
use bettong_wire::pack::Member;
use bettong_wire::request::Level;
use bettong_wire::{MissReason, NamespaceId, PutId};
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often the client library asks at most, within one call: attempts that are answered are few, those whose connection
/// is lost are bounded by its time.
const LIBRARY_ATTEMPTS_MAX: u64 = 32;

/// A write that was given up because another of its batch failed is in the bucket this long after at the latest.
const LANDS_WITHIN: Duration = Duration::from_secs(5);

/// A value in the bucket: an object of its own, or a member of a pack.
#[derive(Debug, Clone)]
pub struct Stored {
    pub path: String,
    pub name: PayloadName,
    /// The daemon that wrote it, and when.
    pub by: String,
    pub at: Duration,
    /// Its last write landed late or once more: after its caller had given it up, or had been told of another one.
    pub late: bool,
    /// An object of its own; else a member of a pack.
    pub alone: bool,
    /// Packs that it was ever written in.
    pub packs: usize,
}

/// The values in the bucket of these namespaces, with the last write of each object. A pack whose table is damaged shows
/// none.
pub fn value_objects(bucket: &Bucket, names: &Names, namespaces: &[NamespaceId]) -> Vec<Stored> {
    let mut written = BTreeMap::new();
    for effect in bucket.effects().iter().filter(|effect| matches!(effect.kind, EffectKind::Put { .. })) {
        let (last, times) = written.entry(effect.path.as_str()).or_insert((effect, 0_u64));
        *last = effect;
        *times += 1;
    }
    let named = bucket.objects().iter().flat_map(|(path, object)| {
        let at = Path::from(path.as_str());
        let alone = names.parse_payload(&at).map(|name| (path, name, true));
        let namespace = names.parse_pack(&at).map(|(namespace, _)| namespace);
        let packed = members(path, &object.bytes).into_iter().filter_map(move |member| {
            let Member { kind, part, put_id, key: hash, .. } = member;
            let name = PayloadName { namespace: namespace?, kind, hash, part, put_id };
            Some((path, name, false))
        });
        alone.into_iter().chain(packed)
    });
    let ours = named.filter(|(_, name, _)| namespaces.contains(&name.namespace));
    ours.filter_map(|(path, name, alone)| {
        let (effect, times) = written.get(path.as_str())?;
        // A name is written once; a slow request is asked again by the store and may land after the second.
        let late = matches!(effect.cause, Cause::Late | Cause::Repeated) || *times > 1;
        let packs = bucket.packs_of(name.put_id);
        Some(Stored { path: path.clone(), name, by: effect.by.clone(), at: effect.at, late, alone, packs })
    })
    .collect()
}

/// What the model calls the value of an object; `None` where nobody ever asked for it.
fn key_of<'a>(model: &'a Model, namespaces: &[NamespaceId], name: &PayloadName) -> Option<&'a ValueKey> {
    model.keys().find(|key| {
        let (kind, hash, part) = key.named();
        let namespace = namespaces.get(key.namespace);
        namespace == Some(&name.namespace) && (kind, hash, part) == (name.kind, name.hash, name.part)
    })
}

/// Why an object is in the bucket although no node lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A put whose outcome nobody was told left it.
    UnknownPut,
    /// The client library asked again, and this is of an attempt that was not the last.
    AskedAgain,
    /// Its write landed late, or once more, after it had been removed.
    LateOrRepeated,
    /// Its bytes, or another copy's, were damaged: it was quarantined, or is a healing that was replaced.
    Damaged,
    /// Its time is over; the bytes stay.
    Expired,
    /// Replaced or deleted; that it was to be removed went with the index.
    IndexLost,
    /// Journaled, and replaced or deleted while it was being uploaded.
    UploadCut,
    /// In a pack that was written again, and of which a death left one too many.
    RepackCut,
}

impl Why {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPut => "sim orphan of an unknown put",
            Self::AskedAgain => "sim orphan of an attempt of the library's",
            Self::LateOrRepeated => "sim orphan of a late or repeated write",
            Self::Damaged => "sim orphan beside damage",
            Self::Expired => "sim orphan past its time",
            Self::IndexLost => "sim orphan of a lost index",
            Self::UploadCut => "sim orphan of an upload that was cut off",
            Self::RepackCut => "sim orphan of a repack that was cut off",
        }
    }
}

/// What is known besides the model.
pub struct Evidence<'a> {
    pub namespaces: &'a [NamespaceId],
    /// Daemons whose index was lost.
    pub index_lost: BTreeSet<String>,
    /// Every node was scrubbed, and none left alone what was written before this moment.
    pub scrubbed: Option<Duration>,
    pub now: Duration,
}

/// Explains every object that is not listed, each attempt at most so often as it may have left one.
pub fn explain(model: &Model, orphans: &[&Stored], evidence: &Evidence<'_>) -> Result<BTreeMap<Why, u64>, super::No> {
    let mut reasons = BTreeMap::new();
    let mut spent: BTreeMap<AttemptId, u64> = BTreeMap::new();
    // Earliest first: what may have left an early one may have left a later one too, and not the other way round.
    let mut orphans = orphans.to_vec();
    orphans.sort_by_key(|orphan| orphan.at);
    for orphan in orphans {
        let wrong = |what: &str| super::No { oracle: "O14", what: format!("{} {what}", orphan.path) };
        let put_id = orphan.name.put_id;
        let Some(key) = key_of(model, evidence.namespaces, &orphan.name) else {
            return Err(wrong("is of nothing that was put"));
        };
        if model.surely_held(put_id, evidence.now) {
            return Err(wrong("was acknowledged, and no node lists it although nobody deleted it"));
        }
        let why = match model.attempt_of(put_id) {
            Some(attempt) => acknowledged(model, key, attempt, orphan, evidence),
            None => unacknowledged(model, key, orphan, &mut spent),
        };
        let Some(why) = why else {
            return Err(wrong(&format!(
                "is an orphan of {} since {:.6}: nothing explains it",
                orphan.by,
                orphan.at.as_secs_f64()
            )));
        };
        // What the journal may still hold, or an entry that is past its time names, is no orphan to the scrubber; and of
        // what is damaged nothing is certain.
        let spares = |attempt: &Attempt| attempt.level == Level::Journal || attempt.ttl_ms > 0;
        let spared = model.is_damaged(key) || model.possible(key).any(spares);
        let to_be_scrubbed = !spared && !matches!(why, Why::Damaged | Why::Expired);
        if to_be_scrubbed && evidence.scrubbed.is_some_and(|before| orphan.at < before) {
            return Err(wrong(&format!("is left although its node was scrubbed: {}", why.as_str())));
        }
        *reasons.entry(why).or_default() += 1;
    }
    Ok(reasons)
}

/// A version that was acknowledged, and is listed no more. Its object should be gone too: a removal that a death cut off
/// is taken up again by the next life, unless it does not know of it.
fn acknowledged(
    model: &Model,
    key: &ValueKey,
    attempt: &Attempt,
    orphan: &Stored,
    evidence: &Evidence<'_>,
) -> Option<Why> {
    let replaced =
        (key.is_plain() || attempt.level == Level::Journal) && model.possible(key).any(|other| other.id != attempt.id);
    let deleted = model
        .history(key)
        .is_some_and(|history| history.deletions.iter().any(|deletion| deletion.ending != Ending::Refused));
    let forgotten = !model.forgotten(orphan.name.put_id).is_empty();
    match () {
        () if orphan.late => Some(Why::LateOrRepeated),
        () if model.is_damaged(key) => Some(Why::Damaged),
        () if attempt.ttl_ms > 0 => Some(Why::Expired),
        () if attempt.level == Level::Journal
            && (replaced || deleted || !model.journal_lost(&attempt.daemon, key).is_empty()) =>
        {
            Some(Why::UploadCut)
        }
        // The next life put it into a pack, and what is forgotten later is that.
        () if attempt.level == Level::Journal && forgotten && orphan.alone && orphan.packs > 0 => Some(Why::UploadCut),
        () if (replaced || deleted || forgotten) && !orphan.alone && orphan.packs > 1 => Some(Why::RepackCut),
        () if (replaced || deleted || forgotten) && evidence.index_lost.contains(&orphan.by) => Some(Why::IndexLost),
        () => None,
    }
}

fn unacknowledged(model: &Model, key: &ValueKey, orphan: &Stored, spent: &mut BTreeMap<AttemptId, u64>) -> Option<Why> {
    let left_by = |attempt: &&Attempt| {
        attempt.daemon.name == orphan.by && attempt.level > Level::Memory && attempt.span.invoked <= orphan.at
    };
    let unknown = |attempt: &&Attempt| matches!(attempt.ending, Ending::Unknown | Ending::Open);
    let mut spend = |attempts: Vec<&Attempt>| {
        let most = |attempt: &Attempt| if attempt.repeats { LIBRARY_ATTEMPTS_MAX } else { 1 };
        let left =
            attempts.into_iter().find(|attempt| spent.get(&attempt.id).is_none_or(|used| *used < most(attempt)))?;
        *spent.entry(left.id).or_default() += 1;
        Some(())
    };
    let possible = || model.possible(key).filter(left_by);
    let again = |attempt: &&Attempt| {
        attempt.repeats
            && attempt.ending == Ending::Done
            && (orphan.late || attempt.span.ended.is_some_and(|ended| orphan.at <= ended + LANDS_WITHIN))
    };
    if spend(possible().filter(again).collect()).is_some() {
        return Some(Why::AskedAgain);
    }
    if spend(possible().filter(unknown).collect()).is_some() {
        return Some(Why::UnknownPut);
    }
    model.is_damaged(key).then_some(Why::Damaged)
}

/// No node writes under another's name: everything below `node/{id}/` was written by a daemon of that id, or by one that
/// retired it, or wanted to.
pub fn check_owners(
    bucket: &Bucket,
    names: &Names,
    node_ids: &BTreeMap<String, String>,
    claims: &BTreeMap<String, String>,
) -> Verdict {
    let below = format!("{}/", names.nodes());
    for effect in bucket.effects().iter().filter(|effect| !matches!(effect.kind, EffectKind::Rot)) {
        let Some(owner) = effect.path.strip_prefix(&below).and_then(|rest| rest.split('/').next()) else { continue };
        let heir = |node_id: &str| descends(claims, owner, node_id);
        if node_ids.get(&effect.by).is_some_and(|node_id| node_id != owner && !heir(node_id)) {
            let (path, by) = (&effect.path, &effect.by);
            return no("identity", format!("{by} wrote {path} at {:.6}", effect.at.as_secs_f64()));
        }
    }
    Ok(())
}

/// Whether `heir` retired `of`, or the node that did, or so on.
pub fn descends(claims: &BTreeMap<String, String>, of: &str, heir: &str) -> bool {
    let mut at = of;
    for _ in 0..=claims.len() {
        match claims.get(at) {
            Some(by) if by == heir => return true,
            Some(by) => at = by,
            None => return false,
        }
    }
    false
}

/// The node that wrote each object of a value, or in whose folder the object is.
pub fn writers(effects: &[Effect], node_of: impl Fn(&str) -> String) -> BTreeMap<&str, String> {
    let mut writers = BTreeMap::new();
    for effect in effects.iter().filter(|effect| matches!(effect.kind, EffectKind::Put { .. })) {
        let folder = effect.path.split_once("/node/").and_then(|(_, rest)| rest.split('/').next());
        let node = folder.map_or_else(|| node_of(&effect.by), str::to_owned);
        if folder.is_some() || effect.path.contains("/ns/") {
            writers.entry(effect.path.as_str()).or_insert(node);
        }
    }
    writers
}

/// O14: an object is removed only by the node that wrote it, whether that node lives or not; or, from the moment on in
/// which the bucket says that another is its heir, by that one. What is below the retired node's own name its heir may
/// change as soon as it has claimed the node, and so may the heir's heir.
pub fn check_removals(
    effects: &[Effect],
    writers: &BTreeMap<&str, String>,
    node_of: impl Fn(&str) -> String,
) -> Verdict {
    for effect in effects.iter().filter(|effect| effect.cause != Cause::Injected) {
        let EffectKind::Delete { .. } = effect.kind else { continue };
        let (path, by) = (&effect.path, node_of(&effect.by));
        let is_heir = |of: &str| {
            let heir = format!("/node/{by}/heir/{of}");
            let puts = effects.iter().filter(|said| matches!(said.kind, EffectKind::Put { .. }));
            let earlier = puts.filter(|said| said.at <= effect.at);
            let claims = earlier.clone().filter_map(|said| {
                let of = said.path.strip_suffix("/retired")?.rsplit('/').next()?;
                Some((of.to_owned(), node_of(&said.by)))
            });
            let below = path.contains(&format!("/node/{of}/"));
            earlier.clone().any(|said| said.path.ends_with(&heir)) || (below && descends(&claims.collect(), of, &by))
        };
        if let Some(writer) = writers.get(path.as_str()).filter(|writer| **writer != by && !is_heir(writer.as_str())) {
            return no("O14", format!("{path} of {writer} was removed by {by}"));
        }
    }
    Ok(())
}

/// O14: what a node had acknowledged before it died for good is still in the bucket.
pub fn check_legacy(
    model: &Model,
    objects: &[(&str, PutId)],
    now: Duration,
    is_gone: impl Fn(&Daemon) -> bool,
) -> Verdict {
    let there: BTreeSet<PutId> = objects.iter().map(|(_, put_id)| *put_id).collect();
    for attempt in model.attempts().filter(|attempt| is_gone(&attempt.daemon)) {
        let Some((put_id, false)) = attempt.stored else { continue };
        if model.surely_held(put_id, now) && !there.contains(&put_id) {
            let (key, by) = (&attempt.key, &attempt.daemon.name);
            return no("O14", format!("{key}: {put_id} was acknowledged by {by}, which never returns, and is gone"));
        }
    }
    Ok(())
}

/// O3: of a put of several values all are there or none, unless something took one away. `whole` says that the daemon's
/// index was never lost: after a listing blocks stand alone.
pub fn check_batches(model: &Model, daemons: &[Daemon], whole: impl Fn(&Daemon) -> bool) -> Verdict {
    for batch in model.batches() {
        let batch: Vec<&Attempt> = batch.filter(|attempt| attempt.level > Level::Memory).collect();
        let Some(first) = batch.first() else { continue };
        let Some(daemon) = daemons.iter().find(|daemon| **daemon == first.daemon && whole(daemon)) else { continue };
        let shown = |attempt: &Attempt| model.settled(daemon, &attempt.key);
        let Some(there) = batch.iter().find(|attempt| shown(attempt) == Some(Some(attempt.id))) else { continue };
        let taken = |attempt: &Attempt| {
            let deletions = model.history(&attempt.key).map(|history| history.deletions.as_slice()).unwrap_or_default();
            let deleted = deletions.iter().any(|deletion| deletion.ending != Ending::Refused);
            let lost = model.journal_lost(&attempt.daemon, &attempt.key);
            let forgotten = model.forgotten_of(&attempt.key).next().is_some();
            deleted || forgotten || model.is_damaged(&attempt.key) || lost.iter().any(|at| *at >= attempt.span.invoked)
        };
        if let Some(missing) = batch.iter().find(|attempt| shown(attempt) == Some(None) && !taken(attempt)) {
            let (id, one, other) = (first.id, &there.key, &missing.key);
            return no(
                "O3",
                format!("of the put of several values from attempt {id} on, {one} is there and {other} not"),
            );
        }
    }
    Ok(())
}

/// Wall clocks and the clock of a run are so far apart at most, over the patience that a removal needs.
const PATIENCE_SLACK: Duration = Duration::from_millis(500);

/// O2: what was used after it had been chosen for eviction stays; and what is past its time goes no sooner than after a
/// patience, which cannot begin before it was put.
pub fn check_forgotten(model: &Model, patience: Duration) -> Verdict {
    for key in model.keys() {
        let Some(history) = model.history(key) else { continue };
        for forgotten in model.forgotten_of(key) {
            let (put_id, began) = (forgotten.name.put_id, forgotten.began);
            let between =
                |span: &Span| span.invoked > forgotten.chosen && span.ended.is_some_and(|ended| ended < began);
            let served = history.served.iter().find(|served| {
                served.put_id == put_id && served.daemon.name == forgotten.daemon && between(&served.span)
            });
            if let (false, Some(served)) = (forgotten.expired, served) {
                let (chosen, used) = (forgotten.chosen.as_secs_f64(), served.span.invoked.as_secs_f64());
                let what = format!("{key}: {put_id} was chosen at {chosen:.6}, used at {used:.6}");
                return no("O2", format!("{what} and evicted at {:.6}", began.as_secs_f64()));
            }
            let put = model.attempt_of(put_id).filter(|_| forgotten.expired);
            if let Some(put) = put.filter(|put| began + PATIENCE_SLACK < put.span.invoked + patience) {
                let (at, asked) = (began.as_secs_f64(), put.span.invoked.as_secs_f64());
                let what = format!("{key}: {put_id}, put at {asked:.6}, was removed as expired at {at:.6}");
                return no("O2", format!("{what}, sooner than after {patience:?}"));
            }
            if let Some(put) = put.filter(|put| put.ttl_ms == 0) {
                return no("O2", format!("{key}: attempt {} never expires and was removed as expired", put.id));
            }
        }
    }
    Ok(())
}

/// O13: what a node lists, it can serve.
pub fn check_listed(seen: Seen<'_>, key: &ValueKey, reason: MissReason) -> Verdict {
    // A value that was only ever in memory may leave it between the listing and the read.
    let volatile = seen.model.possible(key).any(|attempt| attempt.level == Level::Memory);
    // And what is over a budget may go at any time; that an heir has let it go, only a read tells other nodes.
    let forgotten = seen
        .model
        .forgotten_of(key)
        .any(|forgotten| forgotten.daemon == seen.daemon.name || seen.model.forgot_as_heir(forgotten));
    if volatile || forgotten || seen.model.is_damaged(key) {
        return Ok(());
    }
    no("O13", format!("{} lists {key} and cannot serve it: {}", seen.daemon.name, reason.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Daemon;
    use bettong_wire::envelope::Kind;
    use bettong_wire::request::Target;
    use bettong_wire::{Part, PutId};

    const NAMESPACE: NamespaceId = NamespaceId([7; 32]);

    fn daemon() -> Daemon {
        Daemon { name: "store-0".to_owned(), node_id: "store-0".to_owned(), order: 0, since: Duration::ZERO }
    }

    fn key() -> ValueKey {
        ValueKey { namespace: 0, target: Target::Plain("k".to_owned()) }
    }

    fn put(model: &mut Model, at: u64, ending: Ending, stored: Option<PutId>) {
        let (asked, answered) = (Duration::from_secs(at), Duration::from_secs(at + 1));
        let id = model.begin_put(&daemon(), key(), Level::Object, 100, 0, asked);
        model.end_put(id, ending, stored.map(|put_id| (put_id, false)), answered);
    }

    fn object(counter: u64, at: u64, late: bool) -> Stored {
        let hash = *blake3::hash(b"k").as_bytes();
        let put_id = PutId { life: 1, counter };
        let name = PayloadName { namespace: NAMESPACE, kind: Kind::Plain, hash, part: Part(0), put_id };
        let (path, by) = ("path".to_owned(), "store-0".to_owned());
        Stored { path, name, by, at: Duration::from_secs(at), late, alone: true, packs: 0 }
    }

    fn why(model: &Model, orphans: &[Stored], index_lost: &[&str]) -> Result<Vec<(Why, u64)>, String> {
        let index_lost = index_lost.iter().map(|name| (*name).to_owned()).collect();
        let evidence = Evidence { namespaces: &[NAMESPACE], index_lost, scrubbed: None, now: Duration::from_secs(100) };
        let orphans: Vec<_> = orphans.iter().collect();
        explain(model, &orphans, &evidence).map(|reasons| reasons.into_iter().collect()).map_err(|no| no.what)
    }

    #[test]
    fn an_unknown_put_explains_one_orphan_that_came_after_it_was_asked() {
        let mut model = Model::default();
        put(&mut model, 10, Ending::Unknown, None);
        let (after, before) = (object(1, 11, false), object(2, 9, false));
        assert_eq!(why(&model, std::slice::from_ref(&after), &[]), Ok(vec![(Why::UnknownPut, 1)]));
        assert!(why(&model, &[before], &[]).is_err());
        let late = object(2, 30, false);
        assert!(why(&model, &[late.clone(), after.clone()], &[]).is_err());
        put(&mut model, 20, Ending::Unknown, None);
        assert_eq!(why(&model, &[late, after], &[]), Ok(vec![(Why::UnknownPut, 2)]));
        let mut refused = Model::default();
        put(&mut refused, 10, Ending::Refused, None);
        assert!(why(&refused, &[object(1, 11, false)], &[]).is_err());
    }

    #[test]
    fn what_was_replaced_is_removed_unless_something_says_why_not() {
        let mut model = Model::default();
        put(&mut model, 10, Ending::Done, Some(PutId { life: 1, counter: 1 }));
        let held = why(&model, &[object(1, 10, false)], &["store-0"]);
        assert!(held.is_err_and(|what| what.contains("nobody deleted it")));
        put(&mut model, 20, Ending::Done, Some(PutId { life: 1, counter: 2 }));
        assert!(why(&model, &[object(1, 10, false)], &["store-1"]).is_err());
        assert_eq!(why(&model, &[object(1, 10, false)], &["store-0"]), Ok(vec![(Why::IndexLost, 1)]));
        assert_eq!(why(&model, &[object(1, 30, true)], &[]), Ok(vec![(Why::LateOrRepeated, 1)]));
    }
}
