//! Requests that look right and must be refused: another model's identity, and a head over a chain that is not there.

use super::{Client, Heard};
use crate::model::Daemon;
use bettong_wire::request::{HeadValue, Open, PublishHead};
use bettong_wire::{BlockHash, ErrorKind, ModelIdentity, Request};
use std::time::Duration;

/// Fields of an identity.
const FIELDS: u64 = 10;
/// Generous: what is refused is refused at once.
const DEADLINE: Duration = Duration::from_secs(10);

/// Changes one field of an identity; answers its name.
fn change(identity: &mut ModelIdentity, field: u64) -> &'static str {
    let other = || Some("other".to_owned());
    match field {
        0 => identity.model.push('x'),
        1 => identity.weights_digest = other(),
        2 => identity.tokenizer = other(),
        3 => identity.kv_dtype = "fp8_e4m3".to_owned(),
        4 => identity.layout = "HND".to_owned(),
        5 => identity.block_tokens += 1,
        6 => identity.parallel = other(),
        7 => identity.adapter = other(),
        8 => identity.engine_layout = other(),
        _ => identity.parts.push(7),
    }
    ModelIdentity::default().fields().get(field as usize).map_or("parts", |(name, _)| name)
}

impl Client {
    /// Opens a namespace that this client has open already, with one field of the identity changed.
    pub async fn impostor(&mut self, daemon: &Daemon, namespace: usize) {
        // The first to open a namespace decides its identity, so that one must have been right.
        let Some(door) = self.shared.doors.of(&daemon.name).filter(|_| self.has_open(daemon, namespace)) else {
            return;
        };
        let (tenant, name) = self.shared.setup.namespace(namespace);
        let mut identity = self.shared.setup.identity();
        let field = change(&mut identity, self.random.below(FIELDS));
        let open = Request::open(Open {
            protocol_version: 1,
            tenant: tenant.clone(),
            token: String::new(),
            namespace: name,
            identity: Some(identity),
            payload_crc: false,
        });
        let answer = self.wait(door.call(&self.name, &tenant, open, Vec::new(), DEADLINE), DEADLINE).await;
        if let Some(response) = answer {
            let what = format!("an open with another {field}");
            self.trace(daemon, format_args!("{what}"));
            self.expect(&response.outcome, &[ErrorKind::IdentityMismatch], true, &what);
        }
    }

    /// Publishes a head over a chain of which nobody ever put a block.
    pub async fn rootless_head(&mut self, daemon: &Daemon, namespace: usize) {
        let tip = BlockHash([9; 32]).child(&self.random.draw().to_le_bytes());
        let heard = self
            .ask(daemon, namespace, Vec::new(), |ns| {
                let value = Some(HeadValue { tip, length: 1, sidecar: None });
                Request::PublishHead(PublishHead {
                    ns,
                    name: "rootless".to_owned(),
                    expected: 0,
                    value,
                    chain: vec![tip],
                })
            })
            .await;
        if let Heard::Answer(response) = heard {
            self.trace(daemon, format_args!("a head without its chain"));
            self.expect(&response.outcome, &[ErrorKind::Invalid], true, "a head without its chain");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_makes_one_difference() {
        for field in 0..FIELDS {
            let held = ModelIdentity { parts: vec![0, 1], block_tokens: 16, ..ModelIdentity::default() };
            let mut offered = held.clone();
            let name = change(&mut offered, field);
            let differences: Vec<_> = offered.differences(&held).iter().map(|difference| difference.field).collect();
            assert_eq!(differences, [name]);
        }
    }
}
