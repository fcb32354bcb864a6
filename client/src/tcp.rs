//! The session's connections over TCP, or over whatever stands in for it.

use crate::call::Body;
use crate::dial::Dial;
use crate::session::wire::{Reach, Unsent, Wire, lost};
use bettong_wire::memory::HeapMemory;
use bettong_wire::tcp::{ClientConnection, ClientEvent};
use bettong_wire::{BlockMemory, ErrorKind, Request, Response, ServiceError};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

/// Dials `HOST:PORT`.
pub(crate) struct TcpReach<D> {
    pub dial: D,
    pub host_port: String,
    /// Where payloads are received, whatever connection they come over.
    pub memory: HeapMemory,
}

impl<D: Dial> Reach for TcpReach<D> {
    type Wire = TcpWire<D::Stream>;

    async fn reach(&mut self, limit: Duration) -> Result<Self::Wire, ServiceError> {
        let unreachable = |why: String| {
            let text = format!("cannot connect to tcp://{}: {why}", self.host_port);
            ServiceError::new(ErrorKind::Unavailable, text)
        };
        let stream = timeout(limit, self.dial.dial(&self.host_port))
            .await
            .map_err(|_| unreachable(format!("no answer within {limit:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (connection, memory) = (ClientConnection::new(), self.memory.clone());
        Ok(TcpWire { stream, connection, memory, needs_flush: false })
    }
}

/// The protocol's state machine, and the stream that it goes by.
pub(crate) struct TcpWire<T> {
    stream: T,
    connection: ClientConnection,
    memory: HeapMemory,
    needs_flush: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for TcpWire<T> {
    fn has_room(&self) -> bool {
        self.connection.has_room()
    }

    fn unanswered(&self) -> usize {
        self.connection.unanswered()
    }

    fn send(&mut self, request: &Request, body: &mut Body) -> Result<u64, Unsent> {
        self.connection.send(request, std::mem::take(body).into_payloads()).map_err(Unsent::Never)
    }

    fn abandon(&mut self, id: u64) {
        self.connection.abandon(id);
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let mut moved = false;
        while self.connection.has_unsent() {
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &self.connection.slices()) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(lost("no byte can be written")),
                Poll::Ready(Ok(n)) => self.connection.advance_written(n),
                Poll::Ready(Err(error)) => return Err(lost(&error.to_string())),
            }
            moved = true;
            self.needs_flush = true;
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => return Err(lost(&error.to_string())),
            }
        }
        Ok(moved)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ServiceError> {
        let mut into = self.connection.read_into();
        let read = pin!(self.stream.read_buf(&mut into)).poll(cx);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(lost("the daemon closed it")),
            Poll::Ready(Ok(n)) => {
                self.connection.advance_read(n);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(lost(&error.to_string())),
        }
    }

    fn next_answer(&mut self) -> Result<Option<(u64, Response)>, ServiceError> {
        loop {
            let event = self.connection.next_event();
            let event = match event {
                ClientEvent::Reserve { id, lens } => match lens.iter().map(|len| self.memory.reserve(*len)).collect() {
                    Ok(buffers) => {
                        self.connection.fill(buffers);
                        continue;
                    }
                    Err(error) => self.connection.refuse(id, error.into()),
                },
                event => event,
            };
            match event {
                ClientEvent::NeedBytes => return Ok(None),
                ClientEvent::Closed { error } => return Err(error),
                ClientEvent::Response { id, response } => return Ok(Some((id, response))),
                ClientEvent::Reserve { .. } => {}
            }
        }
    }
}
