//! The reference model: what was asked, what was answered, and so which answers are allowed next.
//!
//! It knows nothing of how the store works. It sees requests and responses with their virtual times, and remembers every
//! attempt, because a failed or unknown one may turn up whole at any later time.

mod payload;
mod records;

pub use payload::{LEN_MIN, bytes_of, recognise};
pub use records::{
    Attempt, AttemptId, Daemon, Dead, Deletion, Ending, Forgotten, History, LostKey, Observed, Publication, Read,
    Served, Span, ValueKey,
};

use bettong_core::objects::names::PayloadName;
use bettong_wire::request::{HeadValue, Level, Target};
use bettong_wire::{NamespaceId, PutId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What an operator was told about a damaged journal.
#[derive(Debug)]
struct Salvage {
    at: Duration,
    lost: BTreeSet<LostKey>,
}

/// Everything that was asked in one run.
#[derive(Debug, Default)]
pub struct Model {
    attempts: BTreeMap<AttemptId, Attempt>,
    histories: BTreeMap<ValueKey, History>,
    by_put_id: BTreeMap<PutId, AttemptId>,
    dead: BTreeMap<PutId, Dead>,
    heads: BTreeMap<(usize, String), Vec<Publication>>,
    /// Generations that answered reads of heads showed; 0 where there was none.
    head_reads: BTreeMap<(usize, String), Vec<(u64, Span)>>,
    /// By the daemon's name.
    reads: BTreeMap<(String, ValueKey), Vec<Read>>,
    /// Hashes in the names of objects that faults have damaged: nothing certain is known of their values.
    damaged: BTreeSet<String>,
    /// Daemons that never return: what only their journal had is gone for everybody.
    gone: BTreeSet<String>,
    /// Retired nodes and who may answer for them, by node id, with the moment from which on.
    heirs: Vec<(String, String, Duration)>,
    /// When data directories went back to older states, by the daemon's name: what only the journal had may be gone.
    rolled_back: BTreeMap<String, Vec<Duration>>,
    /// Attempts that were asked for together, and are all or nothing.
    batches: Vec<Vec<AttemptId>>,
    /// What the last read of a key showed once everything had settled, by the daemon's name: an attempt's value, where it
    /// says whose it is, or nothing.
    settled: BTreeMap<(String, ValueKey), Option<AttemptId>>,
    /// By the daemon's name.
    salvages: BTreeMap<String, Vec<Salvage>>,
    forgotten: Arc<BTreeMap<PutId, Vec<Forgotten>>>,
    /// The namespaces' ids, by the model's number.
    namespaces: Vec<NamespaceId>,
    /// The node id of each daemon that was asked to put something.
    nodes: BTreeMap<String, String>,
}

impl Model {
    /// A model of namespaces with these ids.
    pub fn of(namespaces: Vec<NamespaceId>) -> Self {
        Self { namespaces, ..Self::default() }
    }

    pub fn begin_put(
        &mut self,
        daemon: &Daemon,
        key: ValueKey,
        level: Level,
        len: u64,
        ttl_ms: u64,
        now: Duration,
    ) -> AttemptId {
        let id = self.attempts.len() as u64 + 1;
        if !self.nodes.contains_key(&daemon.name) {
            self.nodes.insert(daemon.name.clone(), daemon.node_id.clone());
        }
        let span = Span { invoked: now, ended: None };
        self.histories.entry(key.clone()).or_default().puts.push(id);
        let daemon = daemon.clone();
        let attempt =
            Attempt { id, key, daemon, level, len, ttl_ms, span, ending: Ending::Open, repeats: false, stored: None };
        self.attempts.insert(id, attempt);
        id
    }

    /// The attempt is of a client whose library repeats puts of blocks and sidecars.
    pub fn set_repeats(&mut self, id: AttemptId) {
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.repeats = !attempt.key.is_plain();
        }
    }

    /// An answer came; an answer that never comes leaves the attempt open.
    pub fn end_put(&mut self, id: AttemptId, ending: Ending, stored: Option<(PutId, bool)>, now: Duration) {
        let Some(attempt) = self.attempts.get_mut(&id) else { return };
        attempt.span.ended = Some(now);
        attempt.ending = ending;
        attempt.stored = stored;
        if let Some((put_id, false)) = stored {
            self.by_put_id.insert(put_id, id);
        }
    }

    /// These attempts are one put.
    pub fn begin_batch(&mut self, attempts: &[AttemptId]) {
        self.batches.push(attempts.to_vec());
    }

    pub fn batches(&self) -> impl Iterator<Item = impl Iterator<Item = &Attempt>> {
        self.batches.iter().map(|batch| batch.iter().filter_map(|id| self.attempts.get(id)))
    }

    /// A read after everything has settled.
    pub fn saw_settled(&mut self, daemon: &Daemon, key: &ValueKey, value: Option<AttemptId>) {
        self.settled.insert((daemon.name.clone(), key.clone()), value);
    }

    /// What it showed; `None` where nobody looked.
    pub fn settled(&self, daemon: &Daemon, key: &ValueKey) -> Option<Option<AttemptId>> {
        self.settled.get(&(daemon.name.clone(), key.clone())).copied()
    }

    /// Begins a deletion; answers its place in the key's history.
    pub fn begin_delete(&mut self, daemon: &Daemon, key: &ValueKey, now: Duration) -> usize {
        let history = self.histories.entry(key.clone()).or_default();
        let span = Span { invoked: now, ended: None };
        history.deletions.push(Deletion { daemon: daemon.clone(), span, ending: Ending::Open });
        history.deletions.len() - 1
    }

    /// A read was answered with the version `put_id`.
    pub fn served(&mut self, daemon: &Daemon, key: &ValueKey, put_id: PutId, span: Span) {
        if let Some(history) = self.histories.get_mut(key) {
            history.served.push(Served { daemon: daemon.clone(), put_id, span });
        }
    }

    /// An acknowledged deletion names every put id dead that its daemon had acknowledged before, or had served in its
    /// present life, which began at `life_began`, and not forgotten by itself since; but where the index of the node that
    /// put it was `lost` since, nobody may know of the version.
    pub fn end_delete(
        &mut self,
        key: &ValueKey,
        at: usize,
        ending: Ending,
        (life_began, now): (Duration, Duration),
        lost: impl Fn(&str) -> bool,
    ) {
        let Some(history) = self.histories.get_mut(key) else { return };
        let Some(deletion) = history.deletions.get_mut(at) else { return };
        deletion.span.ended = Some(now);
        deletion.ending = ending;
        if ending != Ending::Done {
            return;
        }
        let deletion = deletion.clone();
        let known = history.puts.iter().filter_map(|id| self.attempts.get(id)).filter(|attempt| {
            attempt.daemon == deletion.daemon && attempt.level > Level::Memory && attempt.span.precedes(&deletion.span)
        });
        let gone = |put_id: &PutId, since: Duration| {
            let before = |forgotten: &Forgotten| {
                let done = forgotten.done.is_some_and(|done| since <= done && done < deletion.span.invoked);
                forgotten.daemon == deletion.daemon.name && done
            };
            self.forgotten.get(put_id).is_some_and(|forgotten| forgotten.iter().any(before))
        };
        let acknowledged = known.filter_map(|attempt| attempt.stored).map(|(put_id, _)| put_id);
        let acknowledged = acknowledged.filter(|put_id| !gone(put_id, Duration::ZERO));
        let known = |put_id: &PutId| {
            let by = self.by_put_id.get(put_id).and_then(|id| self.attempts.get(id)).map(|attempt| &attempt.daemon);
            by.is_none_or(|by| by.node_id == deletion.daemon.node_id || !lost(&by.node_id))
        };
        let served = history.served.iter().filter(|served| {
            served.daemon == deletion.daemon
                && known(&served.put_id)
                && served.span.invoked >= life_began
                && served.span.precedes(&deletion.span)
                && !key.is_plain()
                && !gone(&served.put_id, served.span.invoked)
        });
        for put_id in acknowledged.chain(served.map(|served| served.put_id)) {
            self.dead.entry(put_id).or_insert(Dead { daemon: deletion.daemon.clone(), since: now });
        }
    }

    /// A read of a plain key was answered.
    pub fn end_read(&mut self, daemon: &Daemon, key: &ValueKey, span: Span, observed: Observed) {
        self.reads.entry((daemon.name.clone(), key.clone())).or_default().push(Read { span, observed });
    }

    pub fn reads(&self, daemon: &Daemon, key: &ValueKey) -> &[Read] {
        self.reads.get(&(daemon.name.clone(), key.clone())).map(Vec::as_slice).unwrap_or_default()
    }

    /// A read of a head was answered with this generation; 0 where there was none.
    pub fn end_head_read(&mut self, namespace: usize, name: &str, generation: u64, span: Span) {
        self.head_reads.entry((namespace, name.to_owned())).or_default().push((generation, span));
    }

    pub fn head_reads(&self, namespace: usize, name: &str) -> &[(u64, Span)] {
        self.head_reads.get(&(namespace, name.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn begin_publish(
        &mut self,
        namespace: usize,
        name: &str,
        generation: u64,
        value: Option<HeadValue>,
        now: Duration,
    ) -> usize {
        let publications = self.heads.entry((namespace, name.to_owned())).or_default();
        let span = Span { invoked: now, ended: None };
        publications.push(Publication { generation, value, span, ending: Ending::Open });
        publications.len() - 1
    }

    pub fn end_publish(&mut self, namespace: usize, name: &str, at: usize, ending: Ending, now: Duration) {
        let publications = self.heads.entry((namespace, name.to_owned())).or_default();
        if let Some(publication) = publications.get_mut(at) {
            publication.span.ended = Some(now);
            publication.ending = ending;
        }
    }

    pub fn set_damaged(&mut self, damaged: BTreeSet<String>) {
        self.damaged = damaged;
    }

    pub fn set_rolled_back(&mut self, rolled_back: BTreeMap<String, Vec<Duration>>) {
        self.rolled_back = rolled_back;
    }

    pub fn set_heirs(&mut self, heirs: Vec<(String, String, Duration)>) {
        self.heirs = heirs;
    }

    /// Since when `heir` may answer for `of`, directly or for a node that did.
    pub fn heir_since(&self, heir: &str, of: &str) -> Option<Duration> {
        let mut reached: BTreeMap<&str, Duration> = BTreeMap::from([(of, Duration::ZERO)]);
        for _ in 0..=self.heirs.len() {
            for (retired, by, since) in &self.heirs {
                if let Some(at) = reached.get(retired.as_str()).map(|at| *at.max(since)) {
                    let known = reached.entry(by).or_insert(at);
                    *known = at.min(*known);
                }
            }
        }
        if heir == of { None } else { reached.get(heir).copied() }
    }

    /// Whether what was forgotten there was a retired node's write: the index of that one names it for ever.
    pub fn forgot_as_heir(&self, forgotten: &Forgotten) -> bool {
        let heir = self.nodes.get(&forgotten.daemon);
        let of = self.attempt_of(forgotten.name.put_id).map(|attempt| &attempt.daemon.node_id);
        heir.zip(of).is_some_and(|(heir, of)| self.heir_since(heir, of).is_some_and(|since| since <= forgotten.began))
    }

    pub fn set_gone(&mut self, gone: BTreeSet<String>) {
        self.gone = gone;
    }

    /// A damaged journal of the daemon `name` was salvaged: what only it had of these keys may be lost.
    pub fn salvaged(&mut self, name: &str, at: Duration, lost: BTreeSet<LostKey>) {
        self.salvages.entry(name.to_owned()).or_default().push(Salvage { at, lost });
    }

    /// When what only the journal of `daemon` had of `key` may have been lost: the data directory went back to an older
    /// state, or the key was said to be lost.
    pub fn journal_lost(&self, daemon: &Daemon, key: &ValueKey) -> Vec<Duration> {
        let rolled_back = self.rolled_back.get(&daemon.name).into_iter().flatten().copied();
        let Some(salvages) = self.salvages.get(&daemon.name) else { return rolled_back.collect() };
        let lost = LostKey::of(key);
        let salvages = salvages.iter().filter(|salvage| salvage.lost.contains(&lost));
        rolled_back.chain(salvages.map(|salvage| salvage.at)).collect()
    }

    pub fn set_forgotten(&mut self, forgotten: Arc<BTreeMap<PutId, Vec<Forgotten>>>) {
        self.forgotten = forgotten;
    }

    /// How a version was forgotten; several times where the first came to nothing.
    pub fn forgotten(&self, put_id: PutId) -> &[Forgotten] {
        self.forgotten.get(&put_id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The versions of `key` that nodes forgot by themselves.
    pub fn forgotten_of(&self, key: &ValueKey) -> impl Iterator<Item = &Forgotten> {
        let (kind, hash, part) = key.named();
        let namespace = self.namespaces.get(key.namespace).copied();
        let same = move |name: &PayloadName| {
            namespace == Some(name.namespace) && (kind, hash, part) == (name.kind, name.hash, name.part)
        };
        self.forgotten.values().flatten().filter(move |forgotten| same(&forgotten.name))
    }

    /// Whether `daemon` must keep what it acknowledged with this attempt: in the bucket, or in a journal that has not
    /// gone back to before it.
    fn is_kept(&self, attempt: &Attempt, daemon: &Daemon) -> bool {
        match attempt.level {
            Level::Memory => false,
            Level::Journal => {
                let lost = self.journal_lost(&attempt.daemon, &attempt.key);
                let lost = lost.iter().any(|at| *at >= attempt.span.invoked);
                attempt.daemon == *daemon && !lost && !self.gone.contains(&daemon.name)
            }
            Level::Object => true,
        }
    }

    /// Whether a fault has damaged an object of this key, or a body on its way.
    pub fn is_damaged(&self, key: &ValueKey) -> bool {
        let hash = match &key.target {
            Target::Plain(key) => blake3::hash(key.as_bytes()).to_hex().to_string(),
            Target::Block(key) => key.hash.to_hex(),
            Target::Sidecar(key) => key.to_hex(),
        };
        self.damaged.contains(&hash)
    }

    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        self.attempts.get(&id)
    }

    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.values()
    }

    pub fn attempt_of(&self, put_id: PutId) -> Option<&Attempt> {
        self.by_put_id.get(&put_id).and_then(|id| self.attempts.get(id))
    }

    /// Whether the attempt was over before another was asked for that the same life of the node gave a lower put id: such ids
    /// rise, so this one is hardly the attempt's.
    pub fn is_older(&self, attempt: &Attempt, put_id: PutId) -> bool {
        let first = PutId { life: put_id.life, counter: 0 };
        let lower = self.by_put_id.range(first..put_id).filter_map(|(_, id)| self.attempts.get(id));
        lower.into_iter().any(|lower| attempt.span.precedes(&lower.span))
    }

    pub fn dead(&self, put_id: PutId) -> Option<&Dead> {
        self.dead.get(&put_id)
    }

    pub fn history(&self, key: &ValueKey) -> Option<&History> {
        self.histories.get(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &ValueKey> {
        self.histories.keys()
    }

    /// The attempts on `key` that may have left a value: all but the refused.
    pub fn possible(&self, key: &ValueKey) -> impl Iterator<Item = &Attempt> {
        let puts = self.histories.get(key).map(|history| history.puts.as_slice()).unwrap_or_default();
        puts.iter().filter_map(|id| self.attempts.get(id)).filter(|attempt| attempt.ending != Ending::Refused)
    }

    /// Whether anybody asked for a deletion of `key` that was not refused.
    pub fn may_be_deleted(&self, key: &ValueKey) -> bool {
        let deletions = self.histories.get(key).map(|history| history.deletions.as_slice()).unwrap_or_default();
        deletions.iter().any(|deletion| deletion.ending != Ending::Refused)
    }

    pub fn publications(&self, namespace: usize, name: &str) -> &[Publication] {
        self.heads.get(&(namespace, name.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether `key` must be found on `daemon` by a read of this span: acknowledged at level `object` before, by this
    /// daemon or one that it inherits from, and since then neither deleted nor replaced by something that may vanish.
    pub fn surely_present(&self, key: &ValueKey, daemon: &Daemon, read: &Span) -> Option<&Attempt> {
        self.sure(key, daemon, read).into_iter().next()
    }

    /// The attempts any of which is enough for `surely_present`.
    fn sure(&self, key: &ValueKey, daemon: &Daemon, read: &Span) -> Vec<&Attempt> {
        let Some(history) = self.histories.get(key).filter(|_| !self.is_damaged(key)) else { return Vec::new() };
        let forgotten: Vec<&Forgotten> = self.forgotten_of(key).collect();
        let may_vanish = |attempt: &Attempt| attempt.ttl_ms > 0 || (key.is_plain() && attempt.level == Level::Memory);
        let sure = |attempt: &&Attempt| {
            let acknowledged = attempt.ending == Ending::Done
                && self.is_kept(attempt, daemon)
                && attempt.ttl_ms == 0
                && daemon.inherits(&attempt.daemon)
                && attempt.span.precedes(read);
            // Its node, or an heir of it, says that it forgot what it had of the key then: this version, or one that had
            // replaced it.
            let forgotten = forgotten.iter().any(|forgotten| {
                let before = read.ended.is_none_or(|ended| forgotten.began <= ended);
                let same = self.nodes.get(&forgotten.daemon).is_some_and(|by| {
                    let of = &attempt.daemon.node_id;
                    by == of || self.heir_since(by, of).is_some_and(|since| since <= forgotten.began)
                });
                same && before && forgotten.began >= attempt.span.invoked
            });
            let touches = |deletion: &Deletion| {
                let same = deletion.daemon == attempt.daemon;
                let written = if same { Some(attempt.span) } else { self.written(attempt) };
                deletion.ending != Ending::Refused && !written.is_some_and(|written| deletion.span.precedes(&written))
            };
            let replaced = || self.possible(key).any(|later| may_vanish(later) && !later.span.precedes(&attempt.span));
            acknowledged && !forgotten && !history.deletions.iter().any(touches) && !replaced()
        };
        self.possible(key).filter(sure).collect()
    }

    /// When the version that an attempt was acknowledged with was written: with `already`, by an earlier attempt. A
    /// deletion on another node may have named that version dead before this node heard of it.
    fn written(&self, attempt: &Attempt) -> Option<Span> {
        match attempt.stored {
            Some((put_id, true)) => self.attempt_of(put_id).map(|first| first.span),
            _ => Some(attempt.span),
        }
    }

    /// Whether the version `put_id` must still be the one of its key: nothing that may have taken its place was asked.
    pub fn surely_held(&self, put_id: PutId, now: Duration) -> bool {
        let Some(first) = self.attempt_of(put_id) else { return false };
        let read = Span { invoked: now, ended: None };
        // A journaled block gives way to a put at level `object` that finds it not uploaded yet.
        let may_be_replaced = first.key.is_plain() || first.level == Level::Journal;
        let replaced = may_be_replaced
            && self.possible(&first.key).any(|other| other.id != first.id && !other.span.precedes(&first.span));
        !replaced && self.sure(&first.key, &first.daemon, &read).iter().any(|sure| sure.id == first.id)
    }
}
