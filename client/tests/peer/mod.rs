//! A daemon that a test drives step by step, over connections in memory.

use bettong_client::{Dial, MissReason};
use bettong_wire::request::NsHandle;
use bettong_wire::response::{Answer, Opened, SessionLimits};
use bettong_wire::tcp::{ServerConnection, ServerEvent, ServerLimits};
use bettong_wire::{NamespaceId, Request, Response};
use std::future::Future;
use std::io;
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// What a connection holds that nobody has read yet.
const UNREAD_BYTES_MAX: usize = 64 << 10;

pub const URL: &str = "tcp://peer.example:1";

/// Connects a client to whoever holds `Peers`.
pub struct Dialer(mpsc::UnboundedSender<DuplexStream>);

/// The far ends of a client's connections, in order.
pub struct Peers(mpsc::UnboundedReceiver<DuplexStream>);

pub fn dialer() -> (Dialer, Peers) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Dialer(sender), Peers(receiver))
}

impl Dial for Dialer {
    type Stream = DuplexStream;

    async fn dial(&self, _: &str) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(UNREAD_BYTES_MAX);
        self.0.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

impl Peers {
    /// The next connection; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<Peer> {
        let stream = self.0.recv().await?;
        Some(Peer { stream, wire: ServerConnection::new(ServerLimits::default()) })
    }
}

/// The far end of one connection. Drop it to lose the connection.
pub struct Peer {
    stream: DuplexStream,
    wire: ServerConnection,
}

impl Peer {
    /// The next request; `None` once the client has given the connection up.
    pub async fn asked(&mut self) -> Option<(u64, Request)> {
        loop {
            match self.wire.next_event() {
                ServerEvent::Request { id, request, .. } => return Some((id, request)),
                ServerEvent::Weigh { id, request } => self.wire.weighed(id, request, 0),
                ServerEvent::NeedBytes => {
                    let read = std::future::poll_fn(|cx| {
                        let mut into = self.wire.read_into();
                        pin!(self.stream.read_buf(&mut into)).poll(cx)
                    });
                    match read.await {
                        Ok(n) if n > 0 => self.wire.advance_read(n),
                        _ => return None,
                    }
                }
                other => unreachable!("no test sends what makes for {other:?}"),
            }
        }
    }

    /// Answers at once where the client leaves room for it.
    pub async fn answer(&mut self, id: u64, response: Response) {
        if matches!(response.outcome, bettong_wire::response::Outcome::Ok(Answer::Opened(_))) {
            self.wire.set_authenticated();
        }
        self.wire.answer(id, response);
        while self.wire.has_unsent() {
            // Where the client is gone, it finds no answer missing.
            let Ok(n) = self.stream.write_vectored(&self.wire.slices()).await else { return };
            self.wire.advance_written(n);
        }
    }

    /// Waits for an OPEN of `namespace`. Answers its id.
    pub async fn asked_to_open(&mut self, namespace: &str) -> u64 {
        match self.asked().await {
            Some((id, Request::Open(open))) if open.namespace == namespace => id,
            other => panic!("an OPEN of `{namespace}` is due, but this was asked: {other:?}"),
        }
    }

    /// Waits for an OPEN of `namespace`, and answers it with `handle`.
    pub async fn open(&mut self, namespace: &str, handle: u32) {
        let id = self.asked_to_open(namespace).await;
        self.answer(id, opened(handle)).await;
    }
}

/// The answer to an OPEN.
pub fn opened(handle: u32) -> Response {
    Response::ok(Answer::Opened(Opened {
        ns: NsHandle(handle),
        namespace_id: NamespaceId::derive("default", "any"),
        protocol_version: 1,
        parts: vec![],
        payload_crc: false,
        limits: SessionLimits::default(),
    }))
}

/// What a daemon without values answers.
pub fn empty_handed(request: &Request) -> Response {
    match request {
        Request::Ping => Response::ok(Answer::Pong),
        Request::Open(_) => opened(0),
        Request::Cancel { .. } => Response::ok(Answer::Cancelled),
        Request::Close { .. } => Response::ok(Answer::Closed),
        Request::Get(_) => Response::miss(MissReason::Absent),
        other => unreachable!("no test sends {other:?}"),
    }
}
