//! The other process.

use super::{PATIENCE, STAGING_BYTES, VALUE_BYTES, get, hello, put, stored, wait};
use bettong_shm::real::attach::{AttachError, Attached, Heard, Link, RefusalKind, attach};
use bettong_shm::real::{OwnSegment, OwnStagingMapping, PeerSegment, SharedMemoryError};
use bettong_shm::session::ClientSession;
use bettong_shm::session::staging::Reserved;
use bettong_wire::request::Request;
use bettong_wire::response::Response;
use std::path::Path;

struct Client {
    session: ClientSession<OwnSegment, PeerSegment, OwnStagingMapping>,
    link: Link,
}

pub fn client(role: &str, path: &Path) {
    let attached = attach(path, &hello(), PATIENCE);
    if role == "refused" {
        let Err(AttachError::Refused(refusal)) = attached else { panic!("{attached:?}") };
        assert!(refusal.kind == RefusalKind::User && refusal.text.contains("may not attach"), "{refusal}");
        return;
    }
    let wrong = match &attached {
        Err(AttachError::Count { got: 4, must: 5 }) => "count",
        Err(AttachError::Count { got: 6, must: 5 } | AttachError::Descriptors) => "many",
        Err(AttachError::Size { said: 8192, got: 4096, .. }) => "size",
        Err(AttachError::Memory(SharedMemoryError::NotSealed { has: 0, .. })) => "seal",
        Err(AttachError::Memory(SharedMemoryError::NotSealed { .. })) => "writable",
        Err(AttachError::Packet(_)) => "reply",
        _ => "nothing",
    };
    if wrong == role {
        return;
    }
    let Attached { own, peer, pool, staging, link, welcome } = attached.unwrap();
    assert_eq!((welcome.session, welcome.epoch, welcome.staging_bytes), (5, 77, STAGING_BYTES));
    let session = ClientSession::new(own, peer, staging, pool, welcome.inline_max).unwrap();
    let mut client = Client { session, link };
    match role {
        "put and get" => client.puts_and_gets(),
        "hold" => {
            let _held = client.holds();
            wait_for_ever(&client.link);
        }
        "outlive" => {
            let held = client.holds();
            let Client { session, link } = client;
            assert_eq!(wait(&link), Heard::Closed);
            drop((session, link));
            assert_eq!(held.payloads[0].as_ref(), [7; VALUE_BYTES as usize]);
        }
        other => panic!("{other} is no role"),
    }
}

impl Client {
    fn puts_and_gets(&mut self) {
        for round in 0..2000u32 {
            let mut staged = self.session.staging().reserve(VALUE_BYTES).unwrap();
            staged.bytes_mut().fill(round as u8);
            assert_eq!(self.call(&put(), vec![staged]), stored());
            let response = self.call(&get(), vec![]);
            assert_eq!(response.payloads[0].as_ref(), [round as u8; VALUE_BYTES as usize]);
        }
        assert_eq!(self.session.flush_releases(), Ok(0));
        self.link.detach().unwrap();
    }

    /// Holds a value, and tells the daemon.
    fn holds(&mut self) -> Response {
        let held = self.call(&get(), vec![]);
        self.call(&Request::Ping, vec![]);
        held
    }

    fn call(&mut self, request: &Request, body: Vec<Reserved<OwnStagingMapping>>) -> Response {
        let id = self.session.request_staged(request, body).unwrap();
        let mut closed = false;
        loop {
            if let Some((answered, response)) = self.session.recv().unwrap() {
                assert_eq!(answered, id);
                return response;
            }
            assert!(!closed, "the daemon is gone");
            if self.session.must_wake() {
                self.link.wake().unwrap();
            }
            // What it has answered before is in the ring.
            closed = self.session.may_sleep() && wait(&self.link) == Heard::Closed;
            self.session.awake();
        }
    }
}

fn wait_for_ever(link: &Link) {
    panic!("it is to be killed, and heard {:?}", wait(link));
}
