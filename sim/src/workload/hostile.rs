//! Hostile clients: they connect to the TCP door and speak in bytes, not through the library.
//!
//! Each strike is one connection with one attack. The honest clients' oracles say whether anybody else noticed; here only
//! the connection itself is judged: what cannot be understood or allowed is answered with an error or closed, in time.

use super::Shared;
use super::client::Client;
use super::remote::PORT;
use crate::faults::{FaultKind, Strike};
use crate::model::Daemon;
use crate::random::Stream;
use bettong_wire::message::{Direction, HEAD_BYTES, MessageHead, Status, encode_request};
use bettong_wire::request::*;
use bettong_wire::tcp::{FRAME_HEADER_BYTES, FrameHeader};
use bettong_wire::{Payload, Request};
use futures::future::{Either, select};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where everybody hostile comes from.
pub const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 3, 1));
/// How often it is asked whether somebody hostile comes.
const TICK: Duration = Duration::from_millis(20);
/// The door cuts a peer off that owes it bytes after one to two times 30 s.
pub const CUT_OFF_WITHIN: Duration = Duration::from_secs(65);
/// An attack that need not be answered is watched for so long.
const WATCHED: Duration = Duration::from_secs(3);
/// Longest answer that is looked at.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const CANCELS: u64 = 3_000;
const UNREAD_GETS: u64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Bytes of no protocol.
    Noise,
    /// Good requests with wrong bits.
    Flipped,
    /// Good requests with wrong bits, under checksums that are right.
    Recomputed,
    /// Lengths beyond every limit.
    Absurd,
    /// The beginning of a frame, and then nothing.
    HalfFrame,
    /// A put without the end of its value, and then nothing.
    HalfValue,
    /// The same, and then the connection is gone.
    Gone,
    /// What was heard on one connection is said again, there and on another.
    Replayed,
    Cancels,
    /// Namespaces that nobody opened here.
    Unopened,
    /// Asks for much, and reads nothing.
    Unread,
}

const ATTACKS: [(&str, Attack); 11] = [
    ("noise", Attack::Noise),
    ("flipped bits", Attack::Flipped),
    ("flipped bits under a right checksum", Attack::Recomputed),
    ("absurd lengths", Attack::Absurd),
    ("half a frame", Attack::HalfFrame),
    ("half a value", Attack::HalfValue),
    ("gone in a value", Attack::Gone),
    ("replayed", Attack::Replayed),
    ("cancels", Attack::Cancels),
    ("unopened namespace", Attack::Unopened),
    ("unread answers", Attack::Unread),
];

/// The tenant of everybody hostile; no honest client is of it.
const TENANT: &str = "mallory";

/// Attacks while faults strike; ends when every connection has.
pub async fn run(shared: Arc<Shared>) {
    let run = shared.cluster.run().clone();
    let mut attacks = Vec::new();
    while !run.faults_stopped() {
        madsim::time::sleep(TICK).await;
        let daemons = shared.daemons.lock().clone();
        for daemon in daemons.into_iter().filter(|daemon| shared.cluster.is_up(&daemon.name)) {
            if let Some(strike) = run.fault_event(&daemon.name, FaultKind::HostileClient) {
                attacks.push(madsim::task::spawn(strike_once(shared.clone(), daemon, strike)));
            }
        }
    }
    for attack in attacks {
        // One that panicked has ended the run already.
        let _ = attack.await;
    }
}

async fn strike_once(shared: Arc<Shared>, daemon: Daemon, strike: Strike) {
    let run = shared.cluster.run();
    let life = || shared.doors.of(&daemon.name).map(|door| door.life);
    let Some(began) = life() else { return };
    let mut random = Stream::new(strike.choice, "hostile");
    let Some((name, attack)) = random.pick(&ATTACKS).copied() else { return };
    run.state_reached(&format!("sim hostile: {name}"));
    let Some(mut line) = Line::connect(&shared, &daemon).await else { return };
    let reaction = line.attack(&shared, &daemon, attack, &mut random).await;
    run.trace("hostile", format_args!("@{} {name} -> {reaction:?}", daemon.name));
    match reaction {
        Some(Reaction::Refused) => run.state_reached("sim hostile request refused"),
        Some(Reaction::Closed) => run.state_reached("sim hostile connection closed"),
        Some(Reaction::Bore | Reaction::Silent) | None => {}
    }
    if matches!(reaction, Some(Reaction::Refused | Reaction::Closed)) {
        run.fault_changed(&strike.key);
    } else if reaction == Some(Reaction::Silent) && life() == Some(began) {
        run.stuck(format!("O8: a hostile connection ({name}) to {} is neither answered nor closed", daemon.name));
    }
    Client::new("watch".to_owned(), shared.clone()).stats(&daemon).await;
}

/// What the daemon made of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// Answered with an error.
    Refused,
    Closed,
    /// Nothing of it needed to be refused, and nothing was.
    Bore,
    /// It had to be refused and was not.
    Silent,
}

/// What comes back.
enum Next {
    Answer { ok: bool },
    Closed,
    Nothing,
}

/// One connection.
struct Line {
    stream: TcpStream,
    heard: Vec<u8>,
    last_id: u64,
}

impl Line {
    async fn connect(shared: &Shared, daemon: &Daemon) -> Option<Self> {
        let connect = TcpStream::connect(format!("{}:{PORT}", shared.cluster.address(&daemon.name)));
        match select(pin!(connect), pin!(madsim::time::sleep(WATCHED))).await {
            Either::Left((Ok(stream), _)) => Some(Self { stream, heard: Vec::new(), last_id: 0 }),
            Either::Left((Err(_), _)) | Either::Right(_) => None,
        }
    }

    /// Writes bytes; a connection that is gone already takes none.
    async fn say(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            let _ = self.stream.flush().await;
        }
    }

    /// The next answer within `patience`.
    async fn next(&mut self, patience: Duration) -> Next {
        let mut silence = pin!(madsim::time::sleep(patience));
        loop {
            if let Some(ok) = self.answer() {
                return Next::Answer { ok };
            }
            let mut piece = vec![0; 4096];
            let read = {
                let read = pin!(self.stream.read(&mut piece));
                match select(read, silence.as_mut()).await {
                    Either::Left((read, _)) => read,
                    Either::Right(_) => return Next::Nothing,
                }
            };
            match read {
                Ok(read) if read > 0 => self.heard.extend(piece.iter().take(read)),
                Ok(_) | Err(_) => return Next::Closed,
            }
        }
    }

    /// Takes one whole frame from what was heard: whether it is anything but an error.
    fn answer(&mut self) -> Option<bool> {
        let header = FrameHeader::from_bytes(self.heard.first_chunk()?).ok()?;
        let len = FRAME_HEADER_BYTES + (header.len as usize).min(ANSWER_BYTES_MAX);
        let frame = self.heard.get(..len)?;
        let head = MessageHead::read(frame.get(FRAME_HEADER_BYTES..)?, Direction::Response).ok()?;
        self.heard.drain(..len);
        Some(matches!(Status::from_code(head.status), Some(Status::Ok | Status::Miss)))
    }

    /// Waits for an error or the end, and takes good answers on the way.
    async fn refused(&mut self, patience: Duration, otherwise: Reaction) -> Reaction {
        loop {
            match self.next(patience).await {
                Next::Answer { ok: true } => {}
                Next::Answer { ok: false } => return Reaction::Refused,
                Next::Closed => return Reaction::Closed,
                Next::Nothing => return otherwise,
            }
        }
    }

    fn frame(&mut self, request: &Request, payloads: Vec<Payload>) -> Option<Vec<u8>> {
        self.last_id += 1;
        let message = encode_request(self.last_id, request, payloads).ok()?;
        Some(sealed(&message.head, &message.payloads))
    }

    /// Opens the one namespace that everybody hostile uses.
    async fn open(&mut self, shared: &Shared) -> Option<NsHandle> {
        let open = Request::open(Open {
            protocol_version: 1,
            tenant: TENANT.to_owned(),
            token: String::new(),
            namespace: "den".to_owned(),
            identity: Some(shared.setup.identity()),
            payload_crc: false,
        });
        let frame = self.frame(&open, Vec::new())?;
        self.say(&frame).await;
        // Handles of a session count from its first namespace.
        matches!(self.next(CUT_OFF_WITHIN).await, Next::Answer { ok: true }).then_some(NsHandle(0))
    }

    /// `None` where the connection did not come so far.
    async fn attack(
        &mut self,
        shared: &Shared,
        daemon: &Daemon,
        attack: Attack,
        random: &mut Stream,
    ) -> Option<Reaction> {
        match attack {
            Attack::Noise => {
                let noise: Vec<u8> = (0..random.within(16..3_000)).map(|_| random.draw() as u8).collect();
                self.say(&noise).await;
                return Some(self.refused(CUT_OFF_WITHIN, Reaction::Silent).await);
            }
            Attack::HalfFrame => {
                let frame = self.frame(&Request::Stats, Vec::new())?;
                let half = random.within(1..frame.len() as u64) as usize;
                self.say(frame.get(..half)?).await;
                return Some(self.refused(CUT_OFF_WITHIN, Reaction::Silent).await);
            }
            _ => {}
        }
        let ns = self.open(shared).await?;
        let len = random.within(1..shared.setup.len_max) as usize;
        let put = self.put(ns, len)?;
        let get = self.frame(&get(ns), Vec::new())?;
        Some(match attack {
            Attack::Noise | Attack::HalfFrame => return None,
            Attack::Flipped | Attack::Recomputed => {
                let mut frame = if random.chance(0.5) { put } else { get };
                for _ in 0..random.within(1..6) {
                    let at = random.below(frame.len().min(FRAME_HEADER_BYTES + 200) as u64) as usize;
                    *frame.get_mut(at)? ^= 1 << random.below(8);
                }
                if attack == Attack::Recomputed {
                    frame = resealed(&frame)?;
                }
                self.say(&frame).await;
                self.refused(WATCHED, Reaction::Bore).await
            }
            Attack::Absurd => {
                let frame = match random.below(3) {
                    0 => FrameHeader::seal(0, u32::MAX, &[]).to_bytes().to_vec(),
                    1 => {
                        let head = get.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + HEAD_BYTES)?;
                        let head = MessageHead::from_bytes(head.first_chunk()?);
                        sealed(&MessageHead { archive_len: u32::MAX - random.below(64) as u32, ..head }.to_bytes(), &[])
                    }
                    _ => self.put(ns, shared.setup.len_max as usize + 1)?,
                };
                self.say(&frame).await;
                self.refused(CUT_OFF_WITHIN, Reaction::Silent).await
            }
            Attack::HalfValue => {
                let most = put.len() - len.div_ceil(2);
                self.say(put.get(..most)?).await;
                self.refused(CUT_OFF_WITHIN, Reaction::Silent).await
            }
            Attack::Gone => {
                self.say(put.get(..put.len() - len.div_ceil(2))?).await;
                Reaction::Bore
            }
            Attack::Replayed => {
                self.say(&[put.as_slice(), &put, &get, &get].concat()).await;
                self.refused(WATCHED, Reaction::Bore).await;
                let mut other = Self::connect(shared, daemon).await?;
                other.say(&[put.as_slice(), &get].concat()).await;
                other.refused(CUT_OFF_WITHIN, Reaction::Silent).await
            }
            Attack::Cancels => {
                let mut frames = put;
                for _ in 0..CANCELS {
                    let request_id = random.below(2 * CANCELS);
                    frames.extend(self.frame(&Request::Cancel { request_id }, Vec::new())?);
                }
                self.say(&frames).await;
                self.refused(WATCHED, Reaction::Bore).await
            }
            Attack::Unopened => {
                let ns = NsHandle(random.within(1..u64::from(u32::MAX)) as u32);
                let frame =
                    if random.chance(0.5) { self.frame(&self::get(ns), Vec::new())? } else { self.put(ns, len)? };
                self.say(&frame).await;
                self.refused(CUT_OFF_WITHIN, Reaction::Silent).await
            }
            Attack::Unread => {
                let mut frames = put;
                for _ in 0..UNREAD_GETS {
                    frames.extend(self.frame(&self::get(ns), Vec::new())?);
                }
                self.say(&frames).await;
                madsim::time::sleep(WATCHED).await;
                self.refused(WATCHED, Reaction::Bore).await
            }
        })
    }

    fn put(&mut self, ns: NsHandle, len: usize) -> Option<Vec<u8>> {
        let put = Put {
            ns,
            target: Target::Plain("loot".to_owned()),
            level: Level::Memory,
            ttl_ms: 0,
            parent: None,
            sequence: 0,
            len: len as u64,
        };
        self.frame(&Request::Put(put), vec![vec![0xa5; len].into()])
    }
}

fn get(ns: NsHandle) -> Request {
    let target = Target::Plain("loot".to_owned());
    Request::Get(Get { ns, target, range: None, limits: ReadLimits::default() })
}

/// A frame of these bytes, with the right length and checksum.
fn sealed(message: &[u8], payloads: &[Payload]) -> Vec<u8> {
    let body: usize = payloads.iter().map(Payload::len).sum();
    let header = FrameHeader::seal(0, u32::try_from(message.len() + body).unwrap_or(u32::MAX), message);
    let mut frame = [&header.to_bytes(), message].concat();
    payloads.iter().for_each(|payload| frame.extend_from_slice(payload.as_ref()));
    frame
}

/// The frame with a good header: what is wrong in it is inside.
fn resealed(frame: &[u8]) -> Option<Vec<u8>> {
    let (_, body) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
    let archive = MessageHead::read(body, Direction::Request).ok()?.archive_len as usize;
    let message = body.get(..HEAD_BYTES.saturating_add(archive)).unwrap_or(body);
    let header = FrameHeader::seal(0, u32::try_from(body.len()).unwrap_or(u32::MAX), message);
    Some([&header.to_bytes(), body].concat())
}
