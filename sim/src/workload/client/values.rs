//! Single values: put, read, ask for and delete them.

use super::{Client, Heard, brief, ending_of};
use crate::model::{Daemon, Ending, Span, ValueKey, recognise};
use crate::oracle;
use crate::trace::digest;
use crate::world::elapsed;
use bettong_wire::request::*;
use bettong_wire::response::{Answer, Hit, ItemOutcome, Outcome};
use bettong_wire::{BlockHash, ErrorKind, MissReason, Payload, PutId, Request, Response};
use std::sync::atomic::Ordering;

impl Client {
    pub async fn put(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        target: Target,
        level: Level,
        len: u64,
        ttl_ms: u64,
    ) -> bool {
        let key = Self::key(namespace, &target);
        let id = self.begin_put(daemon, key.clone(), level, len, ttl_ms);
        let payload = self.bytes(id);
        let heard = self
            .ask(daemon, namespace, vec![payload.into()], |ns| match target {
                Target::Sidecar(key) if ttl_ms == 0 => {
                    Request::PutSidecar(PutSidecar { ns, key, tip: BlockHash([1; 32]), level, len })
                }
                target => Request::Put(Put { ns, target, level, ttl_ms, parent: None, sequence: 0, len }),
            })
            .await;
        let (ending, stored) = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Stored(stored)), .. }) => {
                (Ending::Done, Some((stored.put_id, stored.already)))
            }
            heard => (ending_of(heard), None),
        };
        self.trace(
            daemon,
            format_args!("put {key} {level:?} attempt {id} of {len} -> {ending:?} {stored:?}{}", heard.trouble()),
        );
        self.end_put(daemon, id, ending, stored);
        ending == Ending::Done
    }

    pub(super) fn bytes(&self, id: u64) -> Vec<u8> {
        self.shared.model.lock().attempt(id).map(|attempt| attempt.bytes()).unwrap_or_default()
    }

    pub(super) fn end_put(&self, daemon: &Daemon, id: u64, ending: Ending, stored: Option<(PutId, bool)>) {
        if ending == Ending::Unknown && self.may_be_heard_later() {
            // It may still be on its way to the daemon: for the model it never ends.
            return;
        }
        let now = elapsed();
        let (key, span) = {
            let mut model = self.shared.model.lock();
            model.end_put(id, ending, stored, now);
            let Some(attempt) = model.attempt(id) else { return };
            (attempt.key.clone(), attempt.span)
        };
        if let Some((put_id, true)) = stored {
            // What is said to be there already must not be dead.
            self.judge(daemon, span, |seen| oracle::hit::deleted(seen, &key, put_id));
        }
    }

    /// Reads one value. `None` where nothing was heard.
    pub async fn get(
        &mut self,
        daemon: &Daemon,
        namespace: usize,
        target: Target,
        range: Option<(u64, u64)>,
    ) -> Option<Result<(), MissReason>> {
        let key = Self::key(namespace, &target);
        let invoked = elapsed();
        let limits = self.limits();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Get(Get { ns, target, range, limits })).await;
        self.got(daemon, Span { invoked, ended: Some(elapsed()) }, &key, heard, range)
    }

    /// Several reads under way at once: over one connection, where the client comes over the network.
    pub async fn get_at_once(&mut self, daemon: &Daemon, namespace: usize, targets: Vec<Target>) {
        let invoked = elapsed();
        let (limits, asked) = (self.limits(), targets.clone());
        let heard = self
            .ask_at_once(daemon, namespace, |ns| {
                let get = |target: &Target| Request::Get(Get { ns, target: target.clone(), range: None, limits });
                targets.iter().map(|target| (get(target), Vec::new())).collect()
            })
            .await;
        for (target, heard) in asked.iter().zip(heard) {
            let span = Span { invoked, ended: Some(elapsed()) };
            self.got(daemon, span, &Self::key(namespace, target), heard, None);
        }
    }

    /// Several puts under way at once in one session.
    pub async fn put_at_once(&mut self, daemon: &Daemon, namespace: usize, puts: Vec<(Target, Level, u64)>) {
        let begin = |(target, level, len): &(Target, Level, u64)| {
            self.begin_put(daemon, Self::key(namespace, target), *level, *len, 0)
        };
        let ids: Vec<_> = puts.iter().map(begin).collect();
        let bodies: Vec<_> = ids.iter().map(|id| Payload::from(self.bytes(*id))).collect();
        let heard = self
            .ask_at_once(daemon, namespace, |ns| {
                let put = |(target, level, len): &(Target, Level, u64)| {
                    let (target, level, len) = (target.clone(), *level, *len);
                    Request::Put(Put { ns, target, level, ttl_ms: 0, parent: None, sequence: 0, len })
                };
                puts.iter().zip(&bodies).map(|(each, body)| (put(each), vec![body.clone()])).collect()
            })
            .await;
        let unasked = std::iter::repeat_with(|| Heard::Nothing { asked: false });
        for ((id, (target, level, len)), heard) in ids.into_iter().zip(puts).zip(heard.into_iter().chain(unasked)) {
            let (ending, stored) = match &heard {
                Heard::Answer(Response { outcome: Outcome::Ok(Answer::Stored(stored)), .. }) => {
                    (Ending::Done, Some((stored.put_id, stored.already)))
                }
                heard => (ending_of(heard), None),
            };
            let key = Self::key(namespace, &target);
            self.trace(
                daemon,
                format_args!("put at once {key} {level:?} attempt {id} of {len} -> {ending:?}{}", heard.trouble()),
            );
            self.end_put(daemon, id, ending, stored);
        }
    }

    /// Judges what was heard of a read.
    fn got(
        &self,
        daemon: &Daemon,
        span: Span,
        key: &ValueKey,
        heard: Heard,
        range: Option<(u64, u64)>,
    ) -> Option<Result<(), MissReason>> {
        let Heard::Answer(response) = heard else { return None };
        match &response.outcome {
            Outcome::Ok(Answer::Hit(hit)) => {
                let payload = response.payloads.first().cloned().unwrap_or_default();
                self.hit(daemon, span, key, hit, &payload, range);
                Some(Ok(()))
            }
            Outcome::Miss(reason) => {
                self.miss(daemon, span, key, *reason);
                Some(Err(*reason))
            }
            other => {
                self.trace(daemon, format_args!("get {key} -> {}", brief(other)));
                self.expect(other, &[ErrorKind::Invalid], range.is_some(), "get");
                None
            }
        }
    }

    fn hit(
        &self,
        daemon: &Daemon,
        span: Span,
        key: &ValueKey,
        hit: &Hit,
        payload: &Payload,
        range: Option<(u64, u64)>,
    ) {
        let bytes = payload.as_ref();
        self.trace(daemon, format_args!("get {key} -> hit {:?} {} {}", hit.tier, hit.put_id, digest(bytes)));
        self.judge(daemon, span, |seen| oracle::hit::check(seen, key, hit, bytes, range));
        self.saw_hit(daemon, span, key, hit, bytes, range);
        let stale = {
            let mut model = self.shared.model.lock();
            model.served(daemon, key, hit.put_id, span);
            if let Some(attempt) = recognise(bytes).filter(|_| self.shared.settled.load(Ordering::Relaxed)) {
                model.saw_settled(daemon, key, Some(attempt));
            }
            model.dead(hit.put_id).is_some_and(|dead| dead.since < span.invoked)
        };
        if stale {
            self.shared.cluster.run().state_reached("sim stale reader hits what another node deleted");
        }
    }

    fn miss(&self, daemon: &Daemon, span: Span, key: &ValueKey, reason: MissReason) {
        self.trace(daemon, format_args!("get {key} -> miss {}", reason.as_str()));
        let hurried = self.hurry_us > 0;
        self.judge(daemon, span, |seen| oracle::miss::check(seen, key, reason, hurried));
        if reason == MissReason::Absent && self.shared.settled.load(Ordering::Relaxed) {
            self.shared.model.lock().saw_settled(daemon, key, None);
        }
        self.saw_miss(daemon, span, key, reason);
    }

    pub async fn get_many(&mut self, daemon: &Daemon, namespace: usize, targets: Vec<Target>) {
        let invoked = elapsed();
        let (asked, limits) = (targets.clone(), self.limits());
        let heard =
            self.ask(daemon, namespace, Vec::new(), |ns| Request::GetMany(GetMany { ns, targets, limits })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Items(items)), payloads }) = heard {
            let keys = asked.iter().map(|target| Self::key(namespace, target));
            self.items(daemon, span, keys.collect(), &items, &payloads);
        }
    }

    pub(super) fn items(
        &self,
        daemon: &Daemon,
        span: Span,
        keys: Vec<ValueKey>,
        items: &[ItemOutcome],
        payloads: &[Payload],
    ) {
        let mut payloads = payloads.iter();
        for (key, item) in keys.iter().zip(items) {
            match item {
                ItemOutcome::Hit(hit) => {
                    let payload = payloads.next().cloned().unwrap_or_default();
                    self.hit(daemon, span, key, hit, &payload, None);
                }
                ItemOutcome::Miss(reason) => self.miss(daemon, span, key, *reason),
            }
        }
    }

    pub async fn exists(&mut self, daemon: &Daemon, namespace: usize, target: Target) {
        let key = Self::key(namespace, &target);
        let invoked = elapsed();
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Exists(Exists { ns, target })).await;
        let span = Span { invoked, ended: Some(elapsed()) };
        match heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Exists { len, .. }), .. }) => {
                self.trace(daemon, format_args!("exists {key} -> {len}"));
                self.judge(daemon, span, |seen| match seen.model.possible(&key).any(|attempt| attempt.len == len) {
                    true => Ok(()),
                    false => oracle::no("O1", format!("{key} is said to have {len} bytes: no put had")),
                });
                self.saw_len(daemon, span, &key, len);
            }
            Heard::Answer(Response { outcome: Outcome::Miss(reason), .. }) => self.miss(daemon, span, &key, reason),
            _ => {}
        }
    }

    pub async fn delete(&mut self, daemon: &Daemon, namespace: usize, target: Target) {
        let key = Self::key(namespace, &target);
        let at = self.shared.model.lock().begin_delete(daemon, &key, elapsed());
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Delete(Delete { ns, target })).await;
        let ending = match &heard {
            Heard::Answer(Response { outcome: Outcome::Ok(Answer::Removed { .. }), .. }) => Ending::Done,
            heard => ending_of(heard),
        };
        self.trace(daemon, format_args!("delete {key} -> {ending:?}{}", heard.trouble()));
        if ending == Ending::Unknown && self.may_be_heard_later() {
            // It may still be on its way to the daemon: for the model it never ends.
            return;
        }
        let run = self.shared.cluster.run();
        let (life_began, lost) = (run.life_began(&daemon.name), |node: &str| !run.index_lost(node).is_empty());
        self.shared.model.lock().end_delete(&key, at, ending, (life_began, elapsed()), lost);
    }
}
