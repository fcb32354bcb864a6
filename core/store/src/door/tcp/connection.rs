//! One connection, driven by polling: answers, requests, writes, reads, in this order, until nothing moves.

use super::stall::Progress;
use super::{Closed, Owes, TcpDoor};
use crate::door::Authenticate;
use crate::door::desk::Desk;
use crate::service::{Peer, Service};
use crate::world::Clock;
use bettong_wire::response::Answer;
use bettong_wire::tcp::{ServerConnection, ServerEvent};
use bettong_wire::{ErrorKind, Payload, Request, Response, ServiceError, WriteBuf};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// A refused peer is listened to for so long, and for so many bytes, until it has heard why.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
const FAREWELL_BYTES_MAX: usize = 16 << 20;

pub(super) struct Connection<'a, S, C, A, R, W> {
    door: &'a TcpDoor<S, C, A>,
    reader: R,
    writer: W,
    wire: ServerConnection,
    desk: Desk<S>,
    /// Runs while the peer owes something.
    stall: Option<BoxFuture<'static, ()>>,
    /// What came, and what was read of the answers, since `stall` began.
    received: Progress,
    sent: Progress,
    needs_flush: bool,
    peer_left: bool,
    stopping: bool,
    closing: Option<String>,
    /// How long, and how many bytes of, a refused peer is still listened to.
    farewell: Option<(BoxFuture<'static, ()>, usize)>,
}

impl<'a, S, C, A, R, W> Connection<'a, S, C, A, R, W>
where
    S: Service,
    C: Clock,
    A: Authenticate,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    pub fn new(door: &'a TcpDoor<S, C, A>, origin: String, reader: R, writer: W) -> Self {
        Self {
            wire: ServerConnection::new(door.limits.connection.clone()),
            desk: Desk::new(door.service.clone(), origin, door.limits.deadlines),
            door,
            reader,
            writer,
            stall: None,
            received: Progress::default(),
            sent: Progress::default(),
            needs_flush: false,
            peer_left: false,
            stopping: false,
            closing: None,
            farewell: None,
        }
    }

    /// Says why nobody is served here, and nothing else.
    pub fn turn_away(&mut self, error: &ServiceError) {
        self.wire.close(error);
    }

    pub fn poll(&mut self, cx: &mut Context<'_>, stop: Pin<&mut impl Future<Output = ()>>) -> Poll<Closed> {
        if !self.stopping && stop.poll(cx).is_ready() {
            self.stopping = true;
            self.wire.drain();
        }
        loop {
            let mut moved = self.take_answers(cx);
            moved |= self.take_requests(cx);
            match self.poll_write(cx) {
                Ok(written) => moved |= written,
                Err(closed) => return Poll::Ready(closed),
            }
            match self.poll_read(cx) {
                Ok(read) => moved |= read,
                Err(closed) => return Poll::Ready(closed),
            }
            moved |= self.say_goodbye();
            if let Some(closed) = self.at_end() {
                ready!(self.poll_shutdown(cx));
                return self.poll_farewell(cx, &closed).map(|()| closed);
            }
            if !moved {
                return self.poll_stall(cx);
            }
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some((id, response)) = self.desk.poll_answer(cx) {
            self.wire.answer(id, response);
            moved = true;
        }
        moved
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            match self.wire.next_event() {
                ServerEvent::NeedBytes => return moved,
                ServerEvent::Closing { reason } => {
                    self.closing.get_or_insert(reason);
                    return moved;
                }
                ServerEvent::Weigh { id, request } => {
                    let weigh = |peer: &Arc<Peer>| self.door.service.weigh(peer, &request);
                    let bytes = self.desk.peer().map_or(0, weigh);
                    self.wire.weighed(id, request, bytes);
                }
                ServerEvent::ReserveArchive { len } => match self.reserve_archive(len) {
                    Ok(buf) => self.wire.fill_archive(buf),
                    Err(error) => self.wire.refuse_archive(error),
                },
                ServerEvent::Reserve { id, lens } => match self.reserve(&lens) {
                    Ok(buffers) => self.wire.fill(buffers),
                    Err(error) => self.wire.refuse(id, error),
                },
                ServerEvent::Request { id, request, body } => self.dispatch(cx, id, request, body),
            }
            moved = true;
            if !self.wire.wants_bytes() && self.wire.has_unsent() {
                // The peer has many answers to read first.
                return moved;
            }
        }
    }

    fn reserve(&self, lens: &[u64]) -> Result<Vec<Box<dyn WriteBuf>>, ServiceError> {
        self.door.service.reserve(self.desk.known_peer()?, lens)
    }

    fn reserve_archive(&self, len: u32) -> Result<Box<dyn WriteBuf>, ServiceError> {
        self.door.service.reserve_archive(self.desk.known_peer()?, len)
    }

    fn dispatch(&mut self, cx: &mut Context<'_>, id: u64, request: Request, body: Vec<Payload>) {
        match request {
            Request::Ping => self.wire.answer(id, Response::ok(Answer::Pong)),
            Request::Cancel { request_id } => {
                if !self.wire.withdraw(request_id) {
                    self.desk.cancel(request_id);
                }
                self.wire.answer(id, Response::ok(Answer::Cancelled));
            }
            Request::Open(open) => match self.desk.let_in(&open, &self.door.authenticate) {
                Ok(()) => {
                    self.wire.set_authenticated();
                    self.call(cx, id, Request::Open(open), body);
                }
                Err(error) => {
                    self.wire.answer(id, Response::error(error.clone()));
                    if self.desk.peer().is_none() {
                        self.wire.close(&error);
                    }
                }
            },
            request => self.call(cx, id, request, body),
        }
    }

    fn call(&mut self, cx: &mut Context<'_>, id: u64, request: Request, body: Vec<Payload>) {
        if let Some(response) = self.desk.call(cx, id, request, body) {
            self.wire.answer(id, response);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        let mut moved = false;
        while self.wire.has_unsent() {
            let slices = self.wire.slices();
            match Pin::new(&mut self.writer).poll_write_vectored(cx, &slices) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(Closed::Transport("no byte can be written".to_owned())),
                Poll::Ready(Ok(n)) => {
                    self.wire.advance_written(n);
                    self.sent.moved(n);
                }
                Poll::Ready(Err(error)) => return Err(Closed::Transport(error.to_string())),
            }
            moved = true;
            self.needs_flush = true;
        }
        if self.needs_flush {
            match Pin::new(&mut self.writer).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => return Err(Closed::Transport(error.to_string())),
            }
        }
        Ok(moved)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Closed> {
        if self.peer_left || !self.wire.wants_bytes() {
            return Ok(false);
        }
        let mut into = self.wire.read_into();
        let read = pin!(self.reader.read_buf(&mut into)).poll(cx);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(Closed::Transport(error.to_string())),
            Poll::Ready(Ok(0)) if !self.wire.is_between_requests() => Err(Closed::CutShort),
            Poll::Ready(Ok(0)) => {
                self.peer_left = true;
                Ok(true)
            }
            Poll::Ready(Ok(n)) => {
                self.wire.advance_read(n);
                self.received.moved(n);
                Ok(true)
            }
        }
    }

    /// Why the connection is at its end, once everything that is owed has been written.
    fn at_end(&self) -> Option<Closed> {
        if self.wire.has_unsent() || self.needs_flush {
            return None;
        }
        if let Some(reason) = &self.closing {
            return Some(if self.stopping { Closed::Stopped } else { Closed::Refused(reason.clone()) });
        }
        if self.wire.unanswered() > 0 {
            return None;
        }
        self.peer_left.then_some(Closed::PeerLeft)
    }

    /// Once a stopping daemon owes this peer nothing more, it says so.
    fn say_goodbye(&mut self) -> bool {
        let due = self.stopping && self.closing.is_none() && self.wire.unanswered() == 0;
        if due {
            self.wire.close(&ServiceError::new(ErrorKind::Unavailable, "the daemon is shutting down"));
        }
        due
    }

    /// Tells the transport that nothing more comes; what it says to that makes no difference any more.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = ready!(Pin::new(&mut self.writer).poll_shutdown(cx));
        Poll::Ready(())
    }

    /// A peer that is refused while it still sends would lose the reason with the connection: what it sends is thrown
    /// away for a while.
    fn poll_farewell(&mut self, cx: &mut Context<'_>, closed: &Closed) -> Poll<()> {
        if self.peer_left || !matches!(closed, Closed::Refused(_)) {
            return Poll::Ready(());
        }
        let clock = &self.door.clock;
        let (over, left) =
            self.farewell.get_or_insert_with(|| (Box::pin(clock.sleep(FAREWELL_MAX)), FAREWELL_BYTES_MAX));
        let mut piece = [0; 16 << 10];
        while *left > 0 && over.poll_unpin(cx).is_pending() {
            match ready!(pin!(self.reader.read(&mut piece)).poll(cx)) {
                Ok(n) if n > 0 => *left = left.saturating_sub(n),
                Ok(_) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }

    /// Bytes that the peer has to send for this connection to go on; `None` where it need not send any, or nothing is
    /// read from it until it has read.
    fn owed(&self) -> Option<u64> {
        let owes = !self.wire.is_between_requests() || self.desk.peer().is_none();
        (owes && self.wire.wants_bytes()).then(|| self.wire.owed_bytes())
    }

    /// Bytes that the peer has to read for this connection to go on.
    fn unread(&self) -> Option<u64> {
        self.wire.has_unsent().then(|| self.wire.unsent_bytes())
    }

    /// A peer that owes something all the time must move some of it, and the more, the more it owes.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let within = self.door.limits.stall;
        loop {
            let (owed, unread) = (self.owed(), self.unread());
            self.received.note(owed.is_some());
            self.sent.note(unread.is_some());
            if self.stall.is_none() && (owed.is_some() || unread.is_some()) {
                (self.received, self.sent) = (Progress::begin(owed, within), Progress::begin(unread, within));
                self.stall = Some(Box::pin(self.door.clock.sleep(within)));
            }
            let Some(stall) = &mut self.stall else { return Poll::Pending };
            ready!(stall.poll_unpin(cx));
            self.stall = None;
            for (owes, progress) in [(Owes::Request, &self.received), (Owes::Reading, &self.sent)] {
                if let Some((moved, least)) = progress.too_little() {
                    return Poll::Ready(Closed::Stalled { owes, moved, least, within });
                }
            }
        }
    }
}
