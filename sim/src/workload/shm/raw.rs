//! A session without the client's own code: frames of any kind, in any order.

use crate::host::{Attached, ClientLine, Ends, Feeder, Host, Meddler, Told};
use bettong_core::door::shm::Heard;
use bettong_shm::pool::SessionId;
use bettong_shm::ring::{HeapSegment, Receiver, Sender};
use bettong_shm::session::MAP_STAGING;
use bettong_shm::session::staging::{HeapStaging, OwnStaging};
use bettong_shm::{Frame, MmapRef, SlotRef};
use bettong_wire::message::{Direction, MessageHead, Status, encode_request};
use bettong_wire::request::{Get, Level, NsHandle, Open, Put, ReadLimits, Target};
use bettong_wire::{Payload, Request};
use futures::future::{Either, select};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Where messages are staged; payloads stand behind them.
const MESSAGES: u64 = 0;
const PAYLOADS: u64 = 4096;
/// The tenant of everybody hostile; no honest client is of it.
const TENANT: &str = "mallory";

pub struct Raw {
    pub host: Arc<Host>,
    pub id: SessionId,
    pub up: Arc<HeapSegment>,
    pub staging: HeapStaging,
    pub meddler: Option<Arc<Meddler>>,
    ends: Arc<Mutex<Ends>>,
    line: ClientLine,
    /// The daemon has said why the session is over.
    told_why: bool,
    /// Slots that were leased to it and that it has not released.
    pub leased: Vec<SlotRef>,
}

/// What an answer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Answer {
        ok: bool,
    },
    /// The session is over.
    Over,
    Nothing,
}

impl Raw {
    pub fn new(attached: Attached) -> Option<Self> {
        let Attached { host, session, down, up, staging, line, meddler, .. } = attached;
        let inline_max = host.limits.inline_max;
        let sender = Sender::new(up.clone(), down.clone(), inline_max).ok()?;
        let receiver = Receiver::new(up.clone(), down, inline_max).ok()?;
        Some(Self {
            host,
            id: session,
            up,
            staging,
            meddler,
            ends: Arc::new(Mutex::new(Ends { sender, receiver, last_id: 0 })),
            line,
            told_why: false,
            leased: Vec::new(),
        })
    }

    /// Writes frames, as far as there is room, and wakes the daemon.
    pub fn say(&mut self, frames: &[Frame<'_>]) {
        // What is full is full: nobody hostile waits.
        let _ = self.ends.lock().sender.send_all(frames);
        self.wake();
    }

    /// From now on something more is asked whenever the daemon looks, so many times.
    pub fn feed(&self, times: u32) -> Option<()> {
        self.meddler.as_ref()?.feed(Feeder::new(self.ends.clone(), times));
        Some(())
    }

    pub fn wake(&self) {
        self.line.say(Heard::Woken, Duration::ZERO);
    }

    pub fn gone(&self, after: Duration) {
        self.line.say(Heard::Gone, after);
    }

    pub fn detach(&self) {
        self.line.say(Heard::Detached, Duration::ZERO);
    }

    /// The message of a request under the next id, in the staging area where it is long.
    pub fn message(&mut self, request: &Request) -> Option<Vec<u8>> {
        let id = {
            let mut ends = self.ends.lock();
            ends.last_id += 1;
            ends.last_id
        };
        let payloads = request.payload_lens().iter().map(|len| Payload::from(vec![0; *len as usize])).collect();
        Some(encode_request(id, request, payloads).ok()?.head.to_vec())
    }

    /// Says a message, whatever it is, and these frames behind it.
    pub fn say_message(&mut self, message: &[u8], behind: &[Frame<'_>]) {
        let first = match message.len() <= usize::from(self.host.limits.inline_max) {
            true => Frame::Inline(message),
            false => {
                self.staging.write(MESSAGES, message);
                staged(MESSAGES, message.len() as u32)
            }
        };
        let frames: Vec<_> = std::iter::once(first).chain(behind.iter().copied()).collect();
        self.say(&frames);
    }

    /// Says a request whose payload stands in the staging area.
    pub fn ask(&mut self, request: &Request) -> Option<()> {
        let message = self.message(request)?;
        let behind: Vec<_> = request.payload_lens().iter().map(|len| staged(PAYLOADS, *len as u32)).collect();
        self.say_message(&message, &behind);
        Some(())
    }

    /// Whether the next answer that is there is a good one; where none is, this side says that it sleeps.
    fn received(&mut self) -> Option<bool> {
        let mut ends = self.ends.lock();
        loop {
            match ends.receiver.recv() {
                Ok(Some(Frame::Inline(message))) => {
                    if let Ok(head) = MessageHead::read(message, Direction::Response) {
                        return Some(matches!(Status::from_code(head.status), Some(Status::Ok | Status::Miss)));
                    }
                }
                Ok(Some(Frame::Slot(slot))) => self.leased.push(slot),
                Ok(Some(Frame::Mmap(_))) => {}
                // Its own lies come back as the daemon's.
                Ok(None) | Err(_) => break,
            }
        }
        ends.receiver.may_sleep();
        None
    }

    /// The beginning of the next answer; the slots of what comes besides are noted.
    pub async fn next(&mut self, patience: Duration) -> Next {
        let mut silence = pin!(madsim::time::sleep(patience));
        loop {
            if let Some(ok) = self.received() {
                return Next::Answer { ok };
            }
            if self.host.ended(self.id).is_some() {
                return Next::Over;
            }
            let told = {
                let told = pin!(self.line.told());
                match select(told, silence.as_mut()).await {
                    Either::Left((told, _)) => told,
                    Either::Right(_) => return Next::Nothing,
                }
            };
            self.ends.lock().receiver.awake();
            match told {
                Some(Told::Wake) => {}
                None => return Next::Over,
                Some(Told::Over(why)) => {
                    self.told_why = !why.is_empty();
                    return Next::Over;
                }
            }
        }
    }

    /// Whether the daemon says in time why the session is over.
    pub async fn is_told_why(&mut self, patience: Duration) -> bool {
        if self.told_why {
            return true;
        }
        let told = async {
            loop {
                match self.line.told().await {
                    Some(Told::Over(why)) => return !why.is_empty(),
                    Some(Told::Wake) => {}
                    None => return false,
                }
            }
        };
        matches!(select(pin!(told), pin!(madsim::time::sleep(patience))).await, Either::Left((true, _)))
    }

    /// Opens the one namespace that everybody hostile uses.
    pub async fn open(&mut self, identity: bettong_wire::ModelIdentity) -> Option<NsHandle> {
        self.ask(&Request::open(Open {
            protocol_version: 1,
            tenant: TENANT.to_owned(),
            token: String::new(),
            namespace: "den".to_owned(),
            identity: Some(identity),
            payload_crc: false,
        }))?;
        match self.next(Duration::from_secs(20)).await {
            Next::Answer { ok: true } => Some(NsHandle(0)),
            _ if !self.leased.is_empty() => Some(NsHandle(0)),
            _ => None,
        }
    }
}

/// A frame that names bytes of the staging area.
pub fn staged(offset: u64, len: u32) -> Frame<'static> {
    Frame::Mmap(MmapRef { map: MAP_STAGING, generation: 0, offset, len })
}

/// Where a payload of `Raw::ask` stands.
pub fn payload(len: u32) -> MmapRef {
    MmapRef { map: MAP_STAGING, generation: 0, offset: PAYLOADS, len }
}

pub fn put(ns: NsHandle, len: u64) -> Request {
    let target = Target::Plain("loot".to_owned());
    Request::Put(Put { ns, target, level: Level::Memory, ttl_ms: 0, parent: None, sequence: 0, len })
}

pub fn get(ns: NsHandle) -> Request {
    let target = Target::Plain("loot".to_owned());
    Request::Get(Get { ns, target, range: None, limits: ReadLimits::default() })
}
