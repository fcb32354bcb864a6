//! The door over an in-memory pipe, with a service that does as its keys say.

mod hostile;
mod serve;

use super::*;
use crate::door::fake::FakeService;
use crate::service::Rights;
use crate::world::Mono;
use bettong_wire::request::{Get, Level, NsHandle, Open, Put, ReadLimits, Target};
use bettong_wire::response::Outcome;
use bettong_wire::tcp::{ClientConnection, ClientEvent};
use bettong_wire::{BlockMemory, ErrorKind, Payload, Request, Response, ServiceError, memory::HeapMemory};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Time stands still, or every sleep is over at once, or with the next tick.
#[derive(Clone)]
enum TestClock {
    Still,
    Rushing,
    Ticking(Arc<Notify>),
}

impl Clock for TestClock {
    fn mono(&self) -> Mono {
        Mono(0)
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _: Duration) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            match clock {
                Self::Still => std::future::pending().await,
                Self::Rushing => tokio::task::yield_now().await,
                Self::Ticking(tick) => tick.notified().await,
            }
        }
    }
}

/// A connection to a door that serves it in the background.
struct Harness {
    pub client: TestClient,
    pub service: Arc<FakeService>,
    pub door: JoinHandle<Closed>,
    pub stop: Option<tokio::sync::oneshot::Sender<()>>,
}

fn limits() -> TcpLimits {
    let frame_bytes_max = bettong_wire::limits::FRAME_BYTES_MIN;
    TcpLimits { connection: ServerLimits { frame_bytes_max, ..ServerLimits::default() }, ..TcpLimits::default() }
}

/// The pipe holds `pipe` bytes, so that reads and writes are cut at any place.
fn connect(pipe: usize, clock: TestClock, limits: TcpLimits) -> Harness {
    let (here, there) = duplex(pipe);
    let (reader, writer) = tokio::io::split(there);
    let service = Arc::new(FakeService::default());
    let authenticate = |tenant: &str, token: &str, _: &str| match token {
        "secret" => Ok(Rights { admin: tenant == "root" }),
        _ => Err(ServiceError::new(ErrorKind::Denied, "the token is not known")),
    };
    let door = TcpDoor::new(service.clone(), clock, authenticate, limits);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move {
        if stopped.await.is_err() {
            std::future::pending().await
        }
    };
    #[expect(clippy::disallowed_methods, reason = "a test of the door alone, which has no world")]
    let door = tokio::spawn(async move { door.serve("test".to_owned(), reader, writer, stopped).await });
    let client = TestClient { wire: ClientConnection::new(), stream: here, answers: BTreeMap::new() };
    Harness { client, service, door, stop: Some(stop) }
}

async fn opened(pipe: usize) -> Harness {
    let mut harness = connect(pipe, TestClock::Still, limits());
    let response = harness.client.call(open("acme", "secret"), vec![]).await;
    assert!(matches!(response.outcome, Outcome::Ok(_)), "{response:?}");
    harness
}

fn open(tenant: &str, token: &str) -> Request {
    let (tenant, token, namespace) = (tenant.into(), token.into(), "chat".into());
    Request::open(Open { protocol_version: 1, tenant, token, namespace, identity: None, payload_crc: true })
}

fn put(key: &str, len: usize) -> (Request, Vec<Payload>) {
    let target = Target::Plain(key.into());
    let request =
        Put { ns: NsHandle(0), target, level: Level::Memory, ttl_ms: 0, parent: None, sequence: 0, len: len as u64 };
    (Request::Put(request), vec![Payload::from(vec![b'x'; len])])
}

fn get(key: &str) -> Request {
    let limits = ReadLimits { deadline_ms: 1500, decline_over_us: 0 };
    Request::Get(Get { ns: NsHandle(0), target: Target::Plain(key.into()), range: None, limits })
}

fn error_of(response: &Response) -> ServiceError {
    match &response.outcome {
        Outcome::Error(error) => error.clone(),
        other => panic!("{other:?} is no error"),
    }
}

struct TestClient {
    pub wire: ClientConnection,
    pub stream: DuplexStream,
    pub answers: BTreeMap<u64, Response>,
}

impl TestClient {
    pub async fn call(&mut self, request: Request, payloads: Vec<Payload>) -> Response {
        let id = self.send(request, payloads).await;
        self.answer(id).await
    }

    /// Writes a request while it reads what comes, since the pipe is small.
    pub async fn send(&mut self, request: Request, payloads: Vec<Payload>) -> u64 {
        let id = self.wire.send(&request, payloads).unwrap();
        while self.wire.has_unsent() {
            let bytes: Vec<u8> = self.wire.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            self.stream.write_all(&bytes).await.unwrap();
            self.wire.advance_written(bytes.len());
        }
        id
    }

    pub async fn answer(&mut self, id: u64) -> Response {
        loop {
            if let Some(response) = self.answers.remove(&id) {
                return response;
            }
            if let Err(error) = self.step().await {
                panic!("the connection ended: {error}");
            }
        }
    }

    /// Why the connection ended, after everything that was still answered.
    pub async fn end(&mut self) -> ServiceError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), ServiceError> {
        match self.wire.next_event() {
            ClientEvent::Response { id, response } => {
                self.answers.insert(id, response);
            }
            ClientEvent::Reserve { lens, .. } => {
                let memory = HeapMemory::new(1 << 30, 1 << 30);
                self.wire.fill(lens.iter().map(|len| memory.reserve(*len).unwrap()).collect());
            }
            ClientEvent::Closed { error } => return Err(error),
            ClientEvent::NeedBytes => {
                let n = self.stream.read_buf(&mut self.wire.read_into()).await.unwrap();
                self.wire.advance_read(n);
                if n == 0 {
                    return Err(ServiceError::new(ErrorKind::Retry, "end of stream"));
                }
            }
        }
        Ok(())
    }
}
