//! Remote doors: the real client library over the simulated network.

use super::client::Heard;
use crate::model::Daemon;
use crate::network::Dialer;
use crate::run::Run;
use bettong_client::{BlockToPut, ChainAsk, ChainPart, Client, Error, Got, Namespace, Options, Place, Value};
use bettong_wire::request::*;
use bettong_wire::response::{Answer, Chain, Hit, ItemOutcome, MissReason};
use bettong_wire::{ErrorKind, ModelIdentity, Payload, Request, Response};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where every simulated daemon listens.
pub const PORT: u16 = 7450;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What the simulation's own steps may add to a time limit of the library.
const SLACK: Duration = Duration::from_millis(500);

/// The connections of one client, to all daemons. They outlive the daemons' lives: the library connects again.
pub struct Remote {
    run: Run,
    seed: u64,
    call_timeout: Duration,
    clients: BTreeMap<(String, String), Client>,
    namespaces: BTreeMap<(String, usize), Namespace>,
}

/// Which namespace a request is for.
pub struct Opening {
    pub number: usize,
    pub tenant: String,
    pub name: String,
    pub identity: ModelIdentity,
}

impl Remote {
    pub fn new(run: &Run, seed: u64, call_timeout: Duration) -> Self {
        Self { run: run.clone(), seed, call_timeout, clients: BTreeMap::new(), namespaces: BTreeMap::new() }
    }

    /// By when whatever is asked has ended: to connect, to open the namespace, and the call itself.
    pub fn patience(&self) -> Duration {
        CONNECT_TIMEOUT + self.call_timeout * 2 + SLACK
    }

    /// Asks `daemon` at `address`. The handle in `request` has no meaning: the library has its own.
    pub async fn ask(
        &mut self,
        daemon: &Daemon,
        address: &str,
        place: Opening,
        request: Request,
        body: Vec<Payload>,
    ) -> Heard {
        match self.namespace(daemon, address, place).await {
            Ok(namespace) => match answer(&namespace, request, body).await {
                Ok(response) => Heard::Answer(response),
                Err(error) => Heard::Answer(Response::error(error)),
            },
            Err(_) => {
                madsim::time::sleep(Duration::from_millis(50)).await;
                Heard::Nothing { asked: false }
            }
        }
    }

    /// Asks several things at once.
    pub async fn ask_at_once(
        &mut self,
        daemon: &Daemon,
        address: &str,
        place: Opening,
        requests: Vec<Request>,
    ) -> Vec<Heard> {
        let Ok(namespace) = self.namespace(daemon, address, place).await else { return Vec::new() };
        let asked = requests.into_iter().map(|request| answer(&namespace, request, Vec::new()));
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().map(|answer| Heard::Answer(answer.unwrap_or_else(Response::error))).collect()
    }

    async fn namespace(&mut self, daemon: &Daemon, address: &str, place: Opening) -> Result<Namespace, Error> {
        let slot = (daemon.name.clone(), place.number);
        if let Some(namespace) = self.namespaces.get(&slot) {
            return Ok(namespace.clone());
        }
        let to = (daemon.name.clone(), place.tenant.clone());
        let client = match self.clients.get(&to) {
            Some(client) => client.clone(),
            None => {
                let options = Options {
                    tenant: place.tenant,
                    call_timeout: self.call_timeout,
                    connect_timeout: CONNECT_TIMEOUT,
                    seed: self.seed,
                    ..Options::default()
                };
                let client = {
                    let dialer = Dialer::new(&self.run, &daemon.name);
                    Client::connect_by(dialer, &format!("tcp://{address}:{PORT}"), options).await?
                };
                self.clients.insert(to, client.clone());
                client
            }
        };
        let namespace = client.open_namespace(&place.name, Some(place.identity)).await?;
        self.namespaces.insert(slot, namespace.clone());
        Ok(namespace)
    }
}

/// Carries one request through the library's typed calls, and puts the answer back into the form of the service.
async fn answer(namespace: &Namespace, request: Request, mut body: Vec<Payload>) -> Result<Response, Error> {
    let first = body.first().cloned().unwrap_or_default();
    Ok(match request {
        Request::Put(Put { target: Target::Plain(key), level, ttl_ms, .. }) => {
            let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
            Response::ok(Answer::Stored(namespace.put_plain(&key, first, level, ttl).await?))
        }
        Request::Put(Put { target: Target::Block(key), level, parent, sequence, .. }) => {
            let place = Place { parent, sequence };
            Response::ok(Answer::Stored(namespace.put_block(key, place, first, level, None).await?))
        }
        Request::PutSidecar(put) => {
            Response::ok(Answer::Stored(namespace.put_sidecar(put.key, put.tip, first, put.level).await?))
        }
        Request::PutBlocks(batch) => {
            let blocks = batch.blocks.into_iter().zip(body.drain(..));
            let blocks = blocks.map(|(block, bytes)| BlockToPut {
                key: block.key,
                place: Place { parent: block.parent, sequence: block.sequence },
                bytes,
            });
            Response::ok(Answer::StoredBatch(namespace.put_blocks(blocks.collect(), batch.level).await?))
        }
        Request::Get(Get { target, range: Some((offset, len)), limits, .. }) => {
            got(namespace.get_range(target, offset, len, limits).await?)
        }
        Request::Get(Get { target: Target::Plain(key), limits, .. }) => got(namespace.get_plain(&key, limits).await?),
        Request::Get(Get { target: Target::Block(key), limits, .. }) => got(namespace.get_block(key, limits).await?),
        Request::Get(Get { target: Target::Sidecar(key), limits, .. }) => {
            got(namespace.get_sidecar(key, limits).await?)
        }
        Request::GetMany(get) => items(namespace.get_many(get.targets, get.limits).await?),
        Request::GetBlocks(get) => match namespace.get_blocks(get.keys, get.leading, get.limits).await? {
            Got::Hit(values) => items(values.into_iter().map(Got::Hit).collect()),
            Got::Miss(reason) => Response::miss(reason),
        },
        Request::Restore(restore) => {
            Response::ok(Answer::Warmed { count: namespace.restore(restore.keys, restore.limits).await? })
        }
        Request::RestoreChain(restore) => {
            let RestoreChain { hashes, parts, from, sidecar, bytes_max: bytes_at_once, limits, .. } = restore;
            let ask = ChainAsk { hashes, parts, from, sidecar, bytes_at_once, limits };
            namespace.restore_chain(ask).next_part().await?.map_or_else(|| Response::miss(MissReason::Absent), part)
        }
        Request::Exists(exists) => match namespace.exists(exists.target).await? {
            Got::Hit(existing) => {
                Response::ok(Answer::Exists { len: existing.len, expires_at_ms: existing.expires_at_ms })
            }
            Got::Miss(reason) => Response::miss(reason),
        },
        Request::Delete(delete) => Response::ok(Answer::Removed { count: namespace.delete(delete.target).await? }),
        Request::LookupBlockPrefix(lookup) => {
            Response::ok(Answer::Prefix { blocks: namespace.lookup_prefix(lookup.hashes, lookup.parts).await? })
        }
        Request::List(list) => {
            Response::ok(Answer::Page(namespace.list(list.kind, &list.prefix, list.cursor, list.limit).await?))
        }
        Request::GetHead(get) => match namespace.get_head(&get.name).await? {
            Got::Hit(head) => Response::ok(Answer::Head(head)),
            Got::Miss(reason) => Response::miss(reason),
        },
        Request::PublishHead(publish) => {
            let PublishHead { name, expected, value, chain, .. } = publish;
            Response::ok(Answer::Published { generation: namespace.publish_head(&name, expected, value, chain).await? })
        }
        Request::Clear(clear) => Response::ok(Answer::Removed { count: namespace.clear(clear.tier).await? }),
        Request::Stats => Response::with_payloads(Answer::Stats, vec![namespace.stats().await?]),
        other => return Err(Error::new(ErrorKind::Invalid, format!("the library has no call for {other:?}"))),
    })
}

fn hit(value: &Value) -> Hit {
    Hit { total_len: value.total_len, put_id: value.put_id, tier: value.tier, expires_at_ms: value.expires_at_ms }
}

fn got(got: Got<Value>) -> Response {
    match got {
        Got::Hit(value) => Response::with_payloads(Answer::Hit(hit(&value)), vec![value.bytes]),
        Got::Miss(reason) => Response::miss(reason),
    }
}

fn part(part: ChainPart) -> Response {
    if let Some(reason) = part.missed {
        return Response::miss(reason);
    }
    let ChainPart { blocks, end, values, sidecar, .. } = part;
    let hits = values.iter().map(|(_, value)| hit(value)).collect();
    let mut payloads: Vec<Payload> = values.into_iter().map(|(_, value)| value.bytes).collect();
    let sidecar = sidecar.map(|got| match got {
        Got::Hit(value) => {
            let outcome = ItemOutcome::Hit(hit(&value));
            payloads.push(value.bytes);
            outcome
        }
        Got::Miss(reason) => ItemOutcome::Miss(reason),
    });
    Response::with_payloads(Answer::Chain(Chain { blocks, end, hits, sidecar }), payloads)
}

fn items(values: Vec<Got<Value>>) -> Response {
    let mut payloads = Vec::new();
    let outcomes = values.into_iter().map(|got| match got {
        Got::Hit(value) => {
            let outcome = ItemOutcome::Hit(hit(&value));
            payloads.push(value.bytes);
            outcome
        }
        Got::Miss(reason) => ItemOutcome::Miss(reason),
    });
    let outcomes = outcomes.collect();
    Response::with_payloads(Answer::Items(outcomes), payloads)
}
