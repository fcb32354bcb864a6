//! A node behind its TCP door: every request and answer crosses the wire.

use super::rig::{Bucket, Node, config, identity};
use bettong_core::door::tcp::{TcpDoor, TcpLimits};
use bettong_core::real::RealWorld;
use bettong_core::service::handler::PROTOCOL_VERSION;
use bettong_core::{Rights, World};
use bettong_wire::memory::HeapMemory;
use bettong_wire::request::{NsHandle, Open};
use bettong_wire::response::{Answer, Outcome};
use bettong_wire::tcp::{ClientConnection, ClientEvent};
use bettong_wire::{BlockMemory, Payload, Request, Response};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// A client's end of some door, of a node that was opened for it.
pub trait Crossing: Sized {
    async fn open(bucket: &Bucket) -> (Node, Self);

    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response;

    fn namespace(&self) -> NsHandle;
}

impl Crossing for Connection {
    async fn open(bucket: &Bucket) -> (Node, Self) {
        let world = bucket.world("a");
        let store = bucket.store_of(world.clone(), config("a"), Duration::MAX).await.unwrap();
        let node = Node::of(store).await;
        let connection = Self::to(&node, &world).await;
        (node, connection)
    }

    async fn call(&mut self, request: Request, body: Vec<Payload>) -> Response {
        self.ask(request, body).await
    }

    fn namespace(&self) -> NsHandle {
        self.ns
    }
}

/// So little fits into the pipe that frames and values are cut anywhere.
const PIPE_BYTES: usize = 700;
const RECEIVED_BYTES_MAX: u64 = 64 << 20;

/// A client's end, with a namespace open.
pub struct Connection {
    wire: ClientConnection,
    stream: DuplexStream,
    memory: HeapMemory,
    ns: NsHandle,
}

impl Connection {
    /// Connects to `node` in its `world`, as an operator, and opens its namespace.
    async fn to(node: &Node, world: &RealWorld) -> Self {
        let (stream, there) = duplex(PIPE_BYTES);
        let (reader, writer) = tokio::io::split(there);
        let operator = |_: &str, _: &str, _: &str| Ok(Rights { admin: true });
        let door = TcpDoor::new(Arc::new(node.service.clone()), *world.clock(), operator, TcpLimits::default());
        world.spawn(async move {
            door.serve("test".to_owned(), reader, writer, std::future::pending()).await;
        });
        let memory = HeapMemory::new(RECEIVED_BYTES_MAX, RECEIVED_BYTES_MAX);
        let mut connection = Self { wire: ClientConnection::new(), stream, memory, ns: NsHandle(0) };
        let open = Open {
            protocol_version: PROTOCOL_VERSION,
            tenant: "tenant".to_owned(),
            token: String::new(),
            namespace: "chat".to_owned(),
            identity: Some(identity()),
            payload_crc: true,
        };
        match connection.ask(Request::open(open), Vec::new()).await.outcome {
            Outcome::Ok(Answer::Opened(opened)) => connection.ns = opened.ns,
            other => panic!("{other:?}"),
        }
        connection
    }

    async fn ask(&mut self, request: Request, body: Vec<Payload>) -> Response {
        let asked = self.wire.send(&request, body).unwrap();
        loop {
            match self.wire.next_event() {
                ClientEvent::NeedBytes => self.move_bytes().await,
                ClientEvent::Reserve { lens, .. } => {
                    self.wire.fill(lens.iter().map(|len| self.memory.reserve(*len).unwrap()).collect());
                }
                ClientEvent::Response { id, response } => {
                    assert_eq!(id, asked);
                    return response;
                }
                ClientEvent::Closed { error } => panic!("the door closed the connection: {error}"),
            }
        }
    }

    /// Writes what there is to write, or reads: the peer may wait for either.
    async fn move_bytes(&mut self) {
        if self.wire.has_unsent() {
            let n = self.stream.write_vectored(&self.wire.slices()).await.unwrap();
            return self.wire.advance_written(n);
        }
        let n = std::future::poll_fn(|cx| {
            let mut into = self.wire.read_into();
            pin!(self.stream.read_buf(&mut into)).poll(cx)
        });
        let n = n.await.unwrap();
        assert!(n > 0, "the door left");
        self.wire.advance_read(n);
    }
}
