//! A daemon that holds one value.

use super::{POOL_BYTES, VALUE_BYTES, hello, readable, wait};
use bettong_shm::frame::INLINE_BYTES_DEFAULT;
use bettong_shm::pool::{Leases, SessionId, SlotPool};
use bettong_shm::real::attach::{Heard, Link, Listener, Offer, Offered, Peer, Welcome, own_uid};
use bettong_shm::real::{Memfd, OwnSegment, PeerSegment, StagingMapping};
use bettong_shm::session::{ServerEvent, ServerLimits, ServerParts, ServerSession};
use bettong_wire::{BlockMemory, Payload, Request, Response};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

const SESSION: SessionId = SessionId(5);
const RING_WORDS: u32 = 1024;

pub struct Daemon {
    pub listener: Listener,
    pub pool: SlotPool,
    pub leases: Arc<Leases>,
    pool_fd: Memfd,
    _folder: TempDir,
}

/// A client that is attached.
pub struct Attached {
    pub server: ServerSession<OwnSegment, PeerSegment, StagingMapping>,
    pub link: Link,
    pub process: Peer,
    pub child: Child,
    pub id: SessionId,
}

impl Daemon {
    pub fn start() -> Self {
        Self::start_for(BTreeSet::from([own_uid()]))
    }

    pub fn start_for(users: BTreeSet<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&folder.path().join("socket"), users).unwrap();
        let (pool_fd, memory) = Memfd::own(POOL_BYTES).unwrap();
        let pool = SlotPool::new(Arc::new(memory)).unwrap();
        let leases = Arc::new(Leases::new(pool.clone(), POOL_BYTES as u64));
        Self { listener, pool, leases, pool_fd, _folder: folder }
    }

    pub fn spawn(&self, role: &str) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["client", role]).arg(self.listener.path()).stdin(Stdio::null());
        command.spawn().unwrap()
    }

    pub fn put(&self, byte: u8) -> Payload {
        self.pool.adopt(vec![byte; VALUE_BYTES as usize].into()).unwrap()
    }

    /// What is agreed.
    pub fn welcome(&self, staging_bytes: u64) -> Welcome {
        Welcome {
            session: SESSION.0,
            epoch: 77,
            ring_words: RING_WORDS,
            inline_max: INLINE_BYTES_DEFAULT,
            staging_bytes,
            pool_bytes: 0,
            quota_bytes: POOL_BYTES as u64,
        }
    }

    /// Starts a client and attaches it.
    pub fn attach(&self, role: &str) -> Attached {
        let child = self.spawn(role);
        readable(&self.listener);
        let pending = self.listener.accept().unwrap().unwrap();
        readable(&pending);
        let said = pending.hello().unwrap().unwrap();
        assert_eq!(said, hello());
        let offer = Offer { welcome: self.welcome(said.staging_bytes), pool: &self.pool_fd };
        let Offered { own, peer, staging, link, process } = pending.offer(&offer).unwrap();
        let parts = ServerParts {
            own,
            peer,
            staging,
            session: SESSION,
            leases: self.leases.clone(),
            memory: Arc::new(self.pool.clone()),
            pool_bytes: POOL_BYTES as u64,
        };
        let mut server = ServerSession::new(parts, &ServerLimits::default()).unwrap();
        server.set_authenticated();
        Attached { server, link, process, child, id: SESSION }
    }
}

impl Attached {
    /// The next request, with copies of its payloads; `None` once the client has detached.
    pub fn next(&mut self, daemon: &Daemon) -> Option<(u64, Request, Vec<Payload>)> {
        let mut waits = 0;
        loop {
            match self.server.next_event().unwrap() {
                ServerEvent::Request { id, request, body } => {
                    let to = daemon.pool.reserve_all(&request.payload_lens()).unwrap();
                    let body = self.server.copy_body(&body, to).unwrap();
                    assert!(body.iter().all(|payload| daemon.pool.find(payload).is_some()));
                    return Some((id, request, body));
                }
                ServerEvent::More => {}
                ServerEvent::Idle => {
                    self.wake();
                    let heard = if self.server.may_sleep() {
                        waits += 1;
                        assert!(waits < 1000, "it is woken for nothing");
                        wait(&self.link)
                    } else {
                        Heard::Nothing
                    };
                    self.server.awake();
                    match heard {
                        Heard::Nothing | Heard::Woken => {}
                        Heard::Detached => return None,
                        Heard::Closed | Heard::Ended(_) => panic!("the client is gone"),
                    }
                }
            }
        }
    }

    pub fn answer(&mut self, id: u64, response: Response) {
        self.server.answer(id, response);
        self.wake();
    }

    fn wake(&mut self) {
        if self.server.must_wake() {
            self.link.wake().unwrap();
        }
    }

    /// Whether its process is gone.
    pub fn gone(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.process.pidfd, PollFlags::IN)], Some(&at_once)).unwrap() == 1
    }

    pub fn is_closed(&self) -> bool {
        // It may have woken the daemon before.
        (0..100).map(|_| self.link.hear().unwrap()).find(|heard| *heard != Heard::Woken) == Some(Heard::Closed)
    }

    pub fn ends_well(mut self, daemon: &Daemon) {
        assert!(self.child.wait().unwrap().success());
        self.server.detach();
        assert_eq!(daemon.leases.bytes_of(self.id), None);
    }
}
