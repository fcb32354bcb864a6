//! A client of bettong's shared-memory door, as near to the rings as its library is.

use bettong_shm::real::attach::{Attached, Hello, Link, attach};
use bettong_shm::real::{GiveWay, OwnSegment, OwnStagingMapping, PeerSegment};
use bettong_shm::session::staging::Reserved;
use bettong_shm::session::{ALONE, ClientSession, look};
use bettong_wire::limits::PROTOCOL_VERSION;
use bettong_wire::request::{BlockPut, Get, GetBlocks, Level, NsHandle, Open, Put, PutBlocks, ReadLimits, Target};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::{BlockHash, BlockKey, ModelIdentity, Part, Payload, Request, Response};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
/// Longest sleep on the bell, as the library's.
const DOZE_MAX: Duration = Duration::from_millis(1);

pub struct Client {
    session: ClientSession<OwnSegment, PeerSegment, OwnStagingMapping>,
    link: Link,
    way: GiveWay,
    ns: NsHandle,
    /// Looks for an answer for so long before it sleeps.
    spin: Duration,
}

/// Of any model.
fn identity() -> ModelIdentity {
    ModelIdentity {
        model: "bench".to_owned(),
        kv_dtype: "bf16".to_owned(),
        layout: "NHD".to_owned(),
        block_tokens: 16,
        parts: vec![0],
        ..ModelIdentity::default()
    }
}

impl Client {
    pub fn open(socket: &Path, spin: Duration) -> Self {
        let hello = Hello { staging_bytes: 64 << 20, name: "bench".to_owned() };
        let Attached { own, peer, pool, staging, link, welcome } =
            attach(socket, &hello, PATIENCE).expect("the daemon lets this in");
        let session = ClientSession::new(own, peer, staging, pool, welcome.inline_max).expect("a session");
        let mut client = Self { session, link, way: GiveWay::default(), ns: NsHandle(0), spin };
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "default".to_owned(),
            token: String::new(),
            namespace: "bench".to_owned(),
            identity: Some(identity()),
            payload_crc: false,
        };
        match client.ask(&Request::open(open), Vec::new()).outcome {
            Outcome::Ok(Answer::Opened(opened)) => client.ns = opened.ns,
            other => panic!("{other:?}"),
        }
        client
    }

    fn ask(&mut self, request: &Request, body: Vec<Reserved<OwnStagingMapping>>) -> Response {
        let asked = self.session.request_staged(request, body).expect("there is room");
        let (mut since, mut dozed) = (None, false);
        loop {
            if let Some((id, response)) = self.session.recv().expect("an honest daemon") {
                assert_eq!(id, asked);
                return response;
            }
            if self.session.must_wake() {
                self.link.wake().expect("a daemon that lives");
            }
            let now = Instant::now();
            let spun = now - *since.get_or_insert(now);
            if spun < self.spin {
                if spun >= ALONE {
                    std::thread::yield_now();
                }
                look(|| self.session.has_news());
                continue;
            }
            if !dozed && self.way.give_way() && self.session.has_news() {
                continue;
            }
            if !std::mem::replace(&mut dozed, true) {
                if self.session.may_sleep_on_bell() {
                    self.session.wait_on_bell(DOZE_MAX).expect("a bell");
                }
            } else if self.session.may_sleep() {
                self.link.sleep(None).expect("a daemon that lives");
            }
            self.session.awake();
        }
    }

    pub fn ping(&mut self) {
        let pong = self.ask(&Request::Ping, Vec::new());
        assert!(matches!(pong.outcome, Outcome::Ok(Answer::Pong)));
    }

    /// A staged payload, as a device would have left it there.
    pub fn staged(&self, len: usize) -> Reserved<OwnStagingMapping> {
        let mut staged = self.session.staging().reserve(len as u64).expect("staging has room");
        staged.bytes_mut().fill(7);
        staged
    }

    pub fn put(&mut self, key: &str, staged: Reserved<OwnStagingMapping>) {
        let (target, len) = (Target::Plain(key.to_owned()), staged.len());
        let put = Put { ns: self.ns, target, level: Level::Memory, ttl_ms: 0, parent: None, sequence: 0, len };
        let stored = self.ask(&Request::Put(put), vec![staged]);
        assert!(matches!(stored.outcome, Outcome::Ok(_)), "{stored:?}");
    }

    pub fn get(&mut self, key: &str) -> Payload {
        let target = Target::Plain(key.to_owned());
        let get = Get { ns: self.ns, target, range: None, limits: ReadLimits::default() };
        let mut hit = self.ask(&Request::Get(get), Vec::new());
        assert!(matches!(hit.outcome, Outcome::Ok(_)), "{hit:?}");
        hit.payloads.remove(0)
    }

    pub fn put_blocks(&mut self, first: u64, staged: Vec<Reserved<OwnStagingMapping>>) {
        let blocks = staged.iter().enumerate().map(|(at, staged)| BlockPut {
            key: key(first + at as u64),
            parent: None,
            sequence: at as u32,
            len: staged.len(),
        });
        let put = PutBlocks { ns: self.ns, level: Level::Memory, blocks: blocks.collect() };
        let stored = self.ask(&Request::PutBlocks(put), staged);
        assert!(matches!(stored.outcome, Outcome::Ok(_)), "{stored:?}");
    }

    pub fn get_blocks(&mut self, first: u64, count: u64) -> Vec<Payload> {
        let keys = (first..first + count).map(key).collect();
        let get = GetBlocks { ns: self.ns, keys, leading: false, limits: ReadLimits::default() };
        let hits = self.ask(&Request::GetBlocks(get), Vec::new());
        assert!(matches!(hits.outcome, Outcome::Ok(_)), "{hits:?}");
        hits.payloads
    }
}

fn key(number: u64) -> BlockKey {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    BlockKey { hash: BlockHash(hash), part: Part(0) }
}

/// Gets for so many seconds, and says how many there were.
pub fn load(socket: &str, key: &str, seconds: &str) {
    let mut client = Client::open(Path::new(socket), Duration::from_micros(50));
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse().expect("a number of seconds"));
    let mut gets = 0u64;
    while Instant::now() < until {
        drop(client.get(key));
        gets += 1;
    }
    println!("{gets}");
}
