//! What an operator asks: listings, clears, statistics; and what nobody may ask.

use super::{Client, Heard, brief};
use crate::model::{Daemon, Span, ValueKey};
use crate::oracle;
use crate::world::elapsed;
use bettong_wire::request::*;
use bettong_wire::response::{Answer, ListName, Outcome};
use bettong_wire::{BlockHash, BlockKey, ErrorKind, Part, PutId, Request, Response};
use std::time::Duration;

impl Client {
    /// Every entry that LIST shows, over all its pages; `None` where it broke off.
    pub async fn list(&mut self, daemon: &Daemon, namespace: usize, kind: ListKind) -> Option<Vec<(ValueKey, PutId)>> {
        let mut found: Vec<(ValueKey, PutId)> = Vec::new();
        let mut cursor = Vec::new();
        let limit = 1 + self.random.below(20) as u32;
        loop {
            let invoked = elapsed();
            let from = cursor.clone();
            let heard = self
                .ask(daemon, namespace, Vec::new(), |ns| {
                    Request::List(List { ns, kind, prefix: String::new(), cursor: from, limit })
                })
                .await;
            let span = Span { invoked, ended: Some(elapsed()) };
            let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Page(page)), .. }) = heard else { return None };
            self.trace(daemon, format_args!("list ns{namespace} {kind:?} -> {}", page.entries.len()));
            for entry in &page.entries {
                let target = match &entry.name {
                    ListName::Plain(key) => Target::Plain(key.clone()),
                    ListName::Block(key) => Target::Block(*key),
                    ListName::Sidecar(key) => Target::Sidecar(*key),
                };
                let key = ValueKey { namespace, target };
                self.judge(daemon, span, |seen| {
                    oracle::hit::deleted(seen, &key, entry.put_id)?;
                    match seen.model.possible(&key).any(|attempt| attempt.len == entry.len) {
                        true => Ok(()),
                        false => oracle::no("O1", format!("{key} is listed with {} bytes: no put had", entry.len)),
                    }
                });
                self.saw_len(daemon, span, &key, entry.len);
                found.push((key, entry.put_id));
            }
            if page.cursor.is_empty() {
                return Some(found);
            }
            cursor = page.cursor;
        }
    }

    pub async fn clear(&mut self, daemon: &Daemon, namespace: usize, tier: Tier) {
        let heard = self.ask(daemon, namespace, Vec::new(), |ns| Request::Clear(Clear { ns, tier })).await;
        if let Heard::Answer(response) = heard {
            self.trace(daemon, format_args!("clear ns{namespace} {tier:?} -> {}", brief(&response.outcome)));
            if tier == Tier::Object {
                self.expect(
                    &response.outcome,
                    &[ErrorKind::Denied],
                    true,
                    "clear of the object tier without the right",
                );
            }
        }
    }

    pub async fn stats(&mut self, daemon: &Daemon) {
        let heard = self.ask(daemon, 0, Vec::new(), |_| Request::Stats).await;
        if let Heard::Answer(Response { outcome: Outcome::Ok(Answer::Stats), payloads }) = heard {
            let document = payloads.first().map(|payload| serde_json::from_slice(payload.as_ref()));
            let span = Span { invoked: elapsed(), ended: None };
            self.judge(daemon, span, |_| match document {
                Some(Ok(document)) => oracle::budget::check_hidden(&daemon.name, &document),
                _ => oracle::no("O7", "STATS is no JSON document"),
            });
        }
    }

    /// Something that must be refused, and leave no trace.
    pub async fn hostile(&mut self, daemon: &Daemon, namespace: usize, hash: BlockHash) {
        if self.is_remote() {
            // The library would not even send it.
            return;
        }
        let too_long = self.shared.setup.len_max + 1;
        let choice = self.random.below(7);
        let unknown_part = Target::Block(BlockKey { hash, part: Part(999) });
        let limits = ReadLimits::default();
        let body = if choice == 0 { vec![vec![0; too_long as usize].into()] } else { Vec::new() };
        let heard = self
            .ask(daemon, namespace, body, |ns| match choice {
                0 => Request::Put(Put {
                    ns,
                    target: Target::Plain("too-long".into()),
                    level: Level::Object,
                    ttl_ms: 0,
                    parent: None,
                    sequence: 0,
                    len: too_long,
                }),
                1 => Request::Get(Get { ns, target: unknown_part, range: None, limits }),
                2 => Request::Delete(Delete { ns: NsHandle(u32::MAX), target: Target::Plain("x".into()) }),
                3 => Request::Put(Put {
                    ns,
                    target: Target::Plain("x".repeat(1025)),
                    level: Level::Object,
                    ttl_ms: 0,
                    parent: None,
                    sequence: 0,
                    len: 0,
                }),
                5 => Request::Maintain(Maintain {
                    task: Task::Scrub,
                    dry_run: false,
                    cursor: Vec::new(),
                    argument: String::new(),
                    bound_ms: 1000,
                }),
                4 => Request::GetMany(GetMany { ns, targets: vec![Target::Plain("x".into()); 1025], limits }),
                _ => Request::Clear(Clear { ns, tier: Tier::Object }),
            })
            .await;
        if let Heard::Answer(response) = heard {
            let allowed = [ErrorKind::Invalid, ErrorKind::TooLarge, ErrorKind::Denied];
            self.trace(daemon, format_args!("hostile {choice} -> {}", brief(&response.outcome)));
            self.expect(&response.outcome, &allowed, true, "a hostile request");
        }
    }

    /// Opens a contested namespace with one of two identities: whichever was accepted first is the only one ever.
    pub async fn contest(&mut self, daemon: &Daemon) {
        let dtype = if self.random.chance(0.5) { "bf16" } else { "fp8_e4m3" };
        let number = self.random.below(3);
        let Some(door) = self.shared.doors.of(&daemon.name) else { return };
        let (tenant, name, identity) = self.shared.setup.contested(number, dtype);
        let open = Request::open(Open {
            protocol_version: 1,
            tenant: tenant.clone(),
            token: String::new(),
            namespace: name.clone(),
            identity: Some(identity),
            payload_crc: false,
        });
        let deadline = Duration::from_secs(5);
        let heard = self.wait(door.call(&self.name, &tenant, open, Vec::new(), deadline), deadline).await;
        let Some(outcome) = heard.map(|response| response.outcome) else { return };
        self.trace(daemon, format_args!("open {name} as {dtype} -> {}", brief(&outcome)));
        let run = self.shared.cluster.run();
        let first = self.shared.contested.lock().get(&name).cloned();
        match (&outcome, first) {
            (Outcome::Ok(_), None) => {
                self.shared.contested.lock().insert(name, dtype.to_owned());
            }
            (Outcome::Ok(_), Some(first)) if first != dtype => {
                run.fail(
                    "O5",
                    format!("{name} was opened as {first}, and is now opened as {dtype} on {}", daemon.name),
                );
            }
            (Outcome::Error(error), Some(first)) if error.kind == ErrorKind::IdentityMismatch => {
                run.state_reached("sim other model identity refused");
                if first == dtype || !error.message.contains(&first) || !error.message.contains(dtype) {
                    run.fail("O5", format!("{name} holds {first}, and {dtype} is refused with: {}", error.message));
                }
            }
            _ => {}
        }
    }
}

impl Client {
    /// One slice of a task of upkeep. Answers the cursor of the next; where the slice broke off or was refused, why, as far
    /// as that is known.
    pub async fn maintain(
        &mut self,
        daemon: &Daemon,
        task: Task,
        dry_run: bool,
        cursor: Vec<u8>,
        argument: &str,
    ) -> Result<Vec<u8>, Option<ErrorKind>> {
        let argument = argument.to_owned();
        let bound_ms = self.random.within(1..2_000) as u32;
        let named = format!("{} {argument}{}", task.as_str(), if dry_run { " dry" } else { "" });
        let heard = self
            .ask(daemon, 0, Vec::new(), |_| Request::Maintain(Maintain { task, dry_run, cursor, argument, bound_ms }))
            .await;
        let Heard::Answer(response) = heard else { return Err(None) };
        let cursor = match &response.outcome {
            Outcome::Ok(Answer::Maintained { cursor }) => cursor,
            other => {
                self.trace(daemon, format_args!("{named} -> {}", brief(other)));
                self.expect(other, &[ErrorKind::Invalid, ErrorKind::Denied], true, "a slice of upkeep");
                return Err(match other {
                    Outcome::Error(error) => Some(error.kind),
                    _ => None,
                });
            }
        };
        let payload = response.payloads.first();
        let report = payload.and_then(|text| serde_json::from_slice::<serde_json::Value>(text.as_ref()).ok());
        let counts = report.as_ref().map(|report| report["counts"].to_string()).unwrap_or_default();
        self.trace(daemon, format_args!("{named} -> {counts}, {}", if cursor.is_empty() { "end" } else { "more" }));
        let changed = ["orphans_removed", "dead_removed", "quarantined", "healed", "generations_removed"];
        let changes = |what: &&str| report.as_ref().is_some_and(|report| report["counts"][*what].as_u64() > Some(0));
        if dry_run && changed.iter().any(changes) {
            let run = self.shared.cluster.run();
            run.fail("O14", format!("a dry run of {} on {} changes something: {counts}", task.as_str(), daemon.name));
        }
        Ok(cursor.clone())
    }
}
