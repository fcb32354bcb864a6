//! Clients without a library between them and the rings: they die, or lie.

use super::value::{Dice, KEYS, is_value, key, value};
use bettong_shm::frame::INLINE_BYTES_DEFAULT;
use bettong_shm::real::attach::{Attached, Hello, Link, attach};
use bettong_shm::real::{OwnSegment, OwnStagingMapping, PeerSegment};
use bettong_shm::ring::{Scribble, Segment};
use bettong_shm::session::ClientSession;
use bettong_wire::limits::PROTOCOL_VERSION;
use bettong_wire::request::{Get, Level, NsHandle, Open, Put, ReadLimits, Target};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{Payload, Request, Response};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that a victim holds at a time, at most.
const HELD_MAX: usize = 12;
/// Fewest bytes of a value that is leased: what is shorter comes in its answer.
const LEASED_BYTES_MIN: usize = INLINE_BYTES_DEFAULT as usize + 1;

/// What a client says of itself, a line each, to who kills it.
pub const ATTACHED: &str = "attached";
pub const HOLDS: &str = "holds a lease";
pub const SCRIBBLES: &str = "scribbles";

struct Raw {
    session: ClientSession<OwnSegment, PeerSegment, OwnStagingMapping>,
    own: OwnSegment,
    link: Link,
    ns: NsHandle,
}

fn hello(name: &str) -> Hello {
    Hello { staging_bytes: 4 << 20, name: name.to_owned() }
}

impl Raw {
    fn open(socket: &Path, name: &str) -> Self {
        let Attached { own, peer, pool, staging, link, welcome } = attach(socket, &hello(name), PATIENCE).unwrap();
        println!("{ATTACHED}");
        let session = ClientSession::new(own.clone(), peer, staging, pool, welcome.inline_max).unwrap();
        let mut raw = Self { session, own, link, ns: NsHandle(0) };
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "default".to_owned(),
            token: String::new(),
            namespace: "default".to_owned(),
            identity: None,
            payload_crc: false,
        };
        let opened = raw.call(&Request::open(open), &[]);
        let Outcome::Ok(Answer::Opened(opened)) = opened.outcome else { panic!("{opened:?}") };
        raw.ns = opened.ns;
        raw
    }

    fn call(&mut self, request: &Request, body: &[&[u8]]) -> Response {
        let asked = self.session.request(request, body).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((id, response)) = self.session.recv().unwrap() {
                assert_eq!(id, asked);
                return response;
            }
            if self.session.must_wake() {
                self.link.wake().unwrap();
            }
            assert!(Instant::now() < until, "no answer");
            std::thread::yield_now();
        }
    }

    fn put(&mut self, number: u64, bytes: &[u8]) -> Response {
        let (target, len) = (Target::Plain(key(number)), bytes.len() as u64);
        let put = Put { ns: self.ns, target, level: Level::Memory, ttl_ms: 0, parent: None, sequence: 0, len };
        self.call(&Request::Put(put), &[bytes])
    }

    fn get(&mut self, number: u64) -> Option<Payload> {
        let target = Target::Plain(key(number));
        let response =
            self.call(&Request::Get(Get { ns: self.ns, target, range: None, limits: ReadLimits::default() }), &[]);
        matches!(response.outcome, Outcome::Ok(_)).then(|| response.payloads.into_iter().next()).flatten()
    }
}

/// Puts, gets and holds until it is killed. Whatever it holds is right all the time.
pub fn victim(socket: &Path, seed: u64) {
    let mut raw = Raw::open(socket, "victim");
    let mut dice = Dice(seed);
    let mut held: Vec<(u64, Payload)> = Vec::new();
    let mut has_said = false;
    loop {
        let number = dice.below(KEYS);
        match dice.below(4) {
            0 => {
                let len = 1 << (4 + dice.below(17));
                drop(raw.put(number, &value(number, dice.next(), len)));
            }
            // Begins something that nobody finishes.
            1 => {
                if let Ok(mut staged) = raw.session.staging().reserve(1 << dice.below(20)) {
                    staged.write(0, &[7; 100]);
                }
            }
            _ => held.extend(raw.get(number).map(|payload| (number, payload))),
        }
        if !has_said && held.iter().any(|(_, payload)| payload.len() >= LEASED_BYTES_MIN) {
            println!("{HOLDS}");
            has_said = true;
        }
        if held.len() > HELD_MAX {
            held.swap_remove(dice.below(held.len() as u64) as usize);
        }
        for (number, payload) in &held {
            assert!(is_value(*number, payload.as_ref()), "what is leased has changed: {number}");
        }
    }
}

/// Opens a session, uses it, and then writes whatever it can wherever it may, until it is killed. The value that it holds
/// stays as it is, whatever it has done.
pub fn scribbler(socket: &Path, seed: u64) {
    let mut raw = Raw::open(socket, "scribbler");
    let mut dice = Dice(seed);
    let (number, held) = loop {
        let number = dice.below(KEYS);
        // There may be no room for it, nor for an answer.
        drop(raw.put(number, &value(number, dice.next(), 16 << 10)));
        if let Some(held) = raw.get(number).filter(|held| held.len() >= LEASED_BYTES_MIN) {
            break (number, held);
        }
    };
    println!("{HOLDS}");
    let is_right = || assert!(is_value(number, held.as_ref()), "what is leased has changed: {number}");
    let Raw { session, own, link, .. } = raw;
    let mut area = session.staging().reserve(1 << 20).unwrap();
    println!("{SCRIBBLES}");
    for _ in 0..dice.below(2000) {
        let words = own.words();
        words[dice.below(words.len() as u64) as usize].store(dice.next() as u32, Ordering::Relaxed);
        area.write(dice.below(area.len()), &dice.next().to_le_bytes());
        if dice.below(200) == 0 {
            let far = |dice: &mut Dice| dice.next() >> dice.below(64);
            own.control().scribble(Scribble {
                tail: far(&mut dice),
                watermark: far(&mut dice),
                head: far(&mut dice),
                waits: dice.next() as u32,
                bell: dice.next() as u32,
            });
            is_right();
        }
        let _ = link.wake();
    }
    // It keeps what it has until it is killed, and its daemon waits for that.
    loop {
        is_right();
        std::thread::sleep(Duration::from_millis(1));
    }
}
